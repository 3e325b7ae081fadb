"""Vector columns, dense and sparse, and how stored Arrow columns become them."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from securemllib.algorithms.kernels.matrix import Empty, centred_rows, column_sums
from securemllib.errors import CapacityError, DataError, FormatError

__all__ = [
    "MOST_COLUMNS",
    "PACKED",
    "VECTOR",
    "AnyVector",
    "SparseVector",
    "Vector",
    "beside",
    "is_stored_vector",
    "numbers",
    "of_columns",
    "stored_vector",
    "to_stored",
    "type_text",
    "unpacked",
]

# How Spark stores a vector: sparse rows (type 0: size, indices, values) and dense ones (type 1: values) in one column.
VECTOR = pa.struct({"type": pa.int8(), "size": pa.int32(), "indices": pa.list_(pa.int32()), "values": pa.list_(pa.float64())})

# How a part holds it: Parquet reads bytes at three times the speed of lists.
PACKED = pa.struct({"type": pa.int8(), "size": pa.int32(), "indices": pa.binary(), "values": pa.binary()})

_FLOAT64 = pa.float64()
_NESTED = frozenset(kind.id for kind in (VECTOR, pa.list_(pa.int8()), pa.large_list(pa.int8()), pa.list_(pa.int8(), 1)))
# Every statistic of a column takes 8 bytes a column, in an enclave that other owners use, too.
MOST_COLUMNS = 2**26
# What is transposed at once stays in a core's second-level cache.
_TILE_BYTES = 512 << 10
_FEWEST_ROWS = 16
# What sums and differences of equal numbers leave, of the numbers.
_ROUNDING = 2.0**-50

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Vector:
    """A vector column, kept as its columns until an algorithm asks for the matrix.

    Attributes:
        columns: ``d`` arrays of shape ``(n,)`` float64.
        whole: The matrix, read-only, where the columns are views of one.
    """

    columns: tuple[NDArray[np.float64], ...]
    whole: NDArray[np.float64] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, matrix: NDArray[np.float64]) -> "Vector":
        """Return the vector column of an ``(n, d)`` matrix."""
        return cls(tuple(np.ascontiguousarray(column) for column in matrix.T))

    def together(self) -> "Vector":
        """Return the same columns in one piece of memory, so that their matrix needs no copy."""
        matrix = self.matrix()
        matrix.flags.writeable = False
        return Vector(tuple(matrix.T), matrix)

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.columns[0]) if self.columns else 0

    @property
    def width(self) -> int:
        """The number of columns."""
        return len(self.columns)

    @cached_property
    def sums(self) -> NDArray[np.float64]:
        """The sums of the columns: ``(d,)``."""
        return column_sums(self.columns)

    def invalid(self) -> NDArray[np.bool_]:
        """Return which rows hold a NaN: ``(n,)``."""
        found = np.zeros(self.rows, dtype=bool)
        for index in np.flatnonzero(np.isnan(self.sums)):
            found |= np.isnan(self.columns[index])
        return found

    def take(self, mask: NDArray[np.bool_]) -> "Vector":
        """Return the rows where the mask is true."""
        return Vector(tuple(column[mask] for column in self.columns))

    def matrix(self) -> NDArray[np.float64]:
        """Return the ``(n, d)`` float64 matrix, column by column in memory: nothing is transposed."""
        return np.array(self.columns, dtype=np.float64).reshape(self.width, self.rows).T if self.whole is None else self.whole

    @property
    def spreads(self) -> NDArray[np.float64]:
        """How far the values of each column lie apart; 0 where only rounding tells them apart."""
        found = ((np.ptp(column), abs(column[0]) * _ROUNDING) for column in self.columns if self.rows)
        return np.array([spread if spread > rounding else 0.0 for spread, rounding in found])

    def centred(self, dtype: str, empty: Empty = np.empty, used: Mask | None = None) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Return the ``(n, d)`` matrix of one dtype minus the means of the used rows, in memory that ``empty`` gives, and the means."""
        means = _means(self, used)
        return centred_rows(self.columns, means, dtype, empty), means


@dataclass(frozen=True, slots=True)
class SparseVector:
    """A vector column of which most values are 0.

    Attributes:
        values: ``(n, d)`` float64, in compressed rows, with sorted indices.
    """

    values: sparse.csr_array

    def __post_init__(self) -> None:
        if self.width > MOST_COLUMNS:
            raise CapacityError(f"A sparse vector has {self.width} columns, more than {MOST_COLUMNS}.", code="unavailable.capacity.columns")

    @property
    def rows(self) -> int:
        """The number of rows."""
        return int(self.values.shape[0])

    @property
    def width(self) -> int:
        """The number of columns."""
        return int(self.values.shape[1])

    def invalid(self) -> NDArray[np.bool_]:
        """Return which rows hold a NaN: ``(n,)``."""
        found = np.zeros(self.rows, dtype=bool)
        holds = np.flatnonzero(np.isnan(self.values.data))
        found[np.searchsorted(self.values.indptr, holds, side="right") - 1] = True
        return found

    def take(self, mask: NDArray[np.bool_]) -> "SparseVector":
        """Return the rows where the mask is true."""
        return SparseVector(self.values[np.flatnonzero(mask)])

    def matrix(self) -> NDArray[np.float64]:
        """Return the ``(n, d)`` float64 matrix, zeros included."""
        return self.values.toarray()

    @property
    def sums(self) -> NDArray[np.float64]:
        """The sums of the columns: ``(d,)``."""
        return np.asarray(self.values.sum(axis=0), dtype=np.float64)

    @property
    def spreads(self) -> NDArray[np.float64]:
        """How far stored values lie from zero, at most and at least."""
        sizes = np.abs(self.values.data)
        found = sizes if sizes.all() else sizes[sizes > 0]
        return np.array([found.max(), found.min()]) if len(found) else found

    def centred(self, dtype: str, empty: Empty = np.empty, used: Mask | None = None) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Return what `Vector.centred` does, zeros included."""
        means = _means(self, used)
        out = empty((self.rows, self.width), dtype)
        size = max(_TILE_BYTES // (8 * max(self.width, 1)), _FEWEST_ROWS)
        for start in range(0, self.rows, size):
            np.subtract(self.values[start : start + size].toarray(), means, out=out[start : start + size], casting="same_kind")
        return out, means


AnyVector = Vector | SparseVector


def _means(vector: AnyVector, used: Mask | None) -> NDArray[np.float64]:
    found = vector if used is None or used.all() else vector.take(used)
    means = found.sums / max(found.rows, 1)
    # A column with an infinite value has no centre; the algorithm refuses the row or treats it as MLlib does.
    return np.asarray(np.where(np.isfinite(means), means, 0.0))


def of_columns(features: Any, columns: int) -> Any:
    """Return the rows that a model of so many columns reads; no rows, whose vectors tell no width, are as many of that one.

    Raises:
        DataError: The rows have another number of columns.
    """
    if features.shape[1] != columns and features.shape[0]:
        raise DataError(f"The model has {columns} columns, the rows have {features.shape[1]}.", code="data.width")
    return features if features.shape[1] == columns else np.zeros((0, columns))


def beside(vectors: list[AnyVector]) -> AnyVector:
    """Return the vector column of all columns side by side: sparse as soon as one of them is."""
    dense = [vector for vector in vectors if isinstance(vector, Vector)]
    if len(dense) == len(vectors):
        return Vector(tuple(column for vector in dense for column in vector.columns))
    parts = [vector.values if isinstance(vector, SparseVector) else sparse.csr_array(vector.matrix()) for vector in vectors]
    return SparseVector(sparse.csr_array(sparse.hstack(parts, format="csr")))


def type_text(kind: pa.DataType) -> str:
    """Return the text that a manifest names a type by: ``int64``, ``double``, ``timestamp[us, tz=UTC]``, ``list<double>``, ``vector``..."""
    if kind == VECTOR:
        return "vector"
    if pa.types.is_list(kind):
        return f"list<{type_text(kind.value_type)}>"
    return str(kind)


def is_stored_vector(kind: pa.DataType) -> bool:
    """Return whether a stored column of this type is a vector column: a list of numbers, or Spark's vector."""
    return kind.id in _NESTED


def stored_vector(array: pa.Array, name: str) -> AnyVector:
    """Return a stored column of lists, of Spark's vectors or of numbers as a vector column.

    Raises:
        DataError: A vector is null, the vectors differ in length, or their values are no numbers.
    """
    if not is_stored_vector(array.type):
        return Vector((numbers(array, name),))
    return _from_spark(array, name) if pa.types.is_struct(array.type) else _from_lists(array, name)


def to_stored(vector: AnyVector) -> pa.Array:
    """Return the Arrow array that `stored_vector` reads as the same vectors: lists of one length, or Spark's sparse vectors."""
    if isinstance(vector, Vector):
        # Arrow has no lists of a fixed size of 0, and vectors without slots have no rows.
        return pa.FixedSizeListArray.from_arrays(pa.array(vector.matrix().ravel()), max(vector.width, 1))
    rows = vector.values
    ends = pa.array(rows.indptr.astype(np.int32))
    kinds, sizes = pa.array(np.zeros(vector.rows, dtype=np.int8)), pa.array(np.full(vector.rows, vector.width, dtype=np.int32))
    indices = pa.ListArray.from_arrays(ends, pa.array(rows.indices.astype(np.int32)))
    values = pa.ListArray.from_arrays(ends, pa.array(rows.data.astype(np.float64)))
    return pa.StructArray.from_arrays([kinds, sizes, indices, values], fields=list(VECTOR))


def unpacked(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of a part as datasets have it: indices and values of vectors lie there as bytes, of little-endian numbers.

    Raises:
        FormatError: The bytes of a row are no whole number of numbers.
    """
    if column.type != PACKED:
        return column
    return pa.chunked_array([_unpacked(chunk) for chunk in column.chunks], VECTOR)


def numbers(array: pa.Array, name: str) -> NDArray[np.float64]:
    """Return a column as float64, NaN for null.

    Raises:
        DataError: The column holds neither numbers nor booleans.
    """
    kind = array.type
    if pa.types.is_boolean(kind):
        array = array.cast(pa.int8())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise DataError(f"The column {name!r} is of type {kind}, not a number.", code="data.not_numeric")
    if array.type != _FLOAT64:
        array = array.cast(_FLOAT64, safe=False)
    return np.asarray(array.to_numpy(zero_copy_only=array.null_count == 0), dtype=np.float64)


def _unpacked(array: pa.StructArray) -> pa.StructArray:
    lists = [_listed(array.field(index), VECTOR.field(index).type) for index in (2, 3)]
    return pa.StructArray.from_arrays([array.field(0), array.field(1), *lists], fields=list(VECTOR), mask=array.is_null())


def _listed(array: pa.BinaryArray, kind: pa.ListType) -> pa.ListArray:
    """Return the numbers of every row, which are not copied."""
    valid, places, held = array.buffers()
    ends, rest = np.divmod(np.frombuffer(places, np.int32)[: array.offset + len(array) + 1], kind.value_type.bit_width // 8)
    if rest.any():
        raise FormatError("The bytes of a vector are no whole number of numbers.")
    flat = pa.Array.from_buffers(kind.value_type, int(ends[-1]), [None, held])
    return pa.Array.from_buffers(kind, len(array), [valid, pa.py_buffer(ends)], array.null_count, array.offset, [flat])


def _from_lists(array: pa.Array, name: str) -> AnyVector:
    if array.null_count:
        raise DataError(f"{array.null_count} rows of the vector column {name!r} are null.", code="data.null")
    flat = numbers(array.flatten(), name)
    width = len(flat) // len(array) if len(array) else 0
    lengths = np.asarray(array.value_lengths()) if not pa.types.is_fixed_size_list(array.type) else np.full(len(array), width)
    if len(array) and (lengths != width).any():
        raise DataError(f"The vectors of column {name!r} differ in length.", code="data.length")
    # Vectors without slots are sparse: no column would tell how many they are.
    return Vector.of(flat.reshape(len(array), width)) if width or not len(array) else SparseVector(sparse.csr_array((len(array), 0)))


def _from_spark(array: pa.StructArray, name: str) -> AnyVector:
    """Return a column of Spark's VectorUDT: rows of type 0 are sparse (size, indices, values), rows of type 1 dense (values)."""
    # Exactly Spark's: of other integers, and of fractions, the numbers that become indices would not be the ones that were compared.
    if array.type != VECTOR:
        raise DataError(f"The column {name!r} is of type {array.type}, not a vector.", code="data.not_numeric")
    if array.null_count:
        raise DataError(f"{array.null_count} rows of the vector column {name!r} are null.", code="data.null")
    kinds, sizes, indices, values = (array.field(field) for field in ("type", "size", "indices", "values"))
    dense = np.asarray(kinds.to_numpy(zero_copy_only=False)) == 1
    if dense.all():
        return _from_lists(values, name)
    counts = np.asarray(values.value_lengths().fill_null(0))
    flat, stored = numbers(values.flatten(), name), np.asarray(indices.flatten())
    widths = np.where(dense, counts, np.asarray(sizes.fill_null(0)))
    if (widths != widths[0]).any() or widths[0] < 0:
        raise DataError(f"The vectors of column {name!r} differ in length.", code="data.length")
    # Arrow's lists have offsets of 4 bytes.
    starts, of_sparse = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32), int(counts[~dense].sum())
    if of_sparse != len(stored) or (len(stored) and not 0 <= stored.min() <= stored.max() < widths[0]):
        raise DataError(f"The vectors of column {name!r} have indices that do not fit their values.", code="data.length")
    columns = stored.astype(np.int32, copy=False)
    if of_sparse < len(flat):
        of_dense = np.repeat(dense, counts)
        columns = (np.arange(len(flat)) - np.repeat(starts[:-1], counts)).astype(np.int32)
        columns[~of_dense] = stored
    matrix = sparse.csr_array((flat, columns, starts), shape=(len(array), int(widths[0])))
    if not matrix.has_canonical_format:
        # What Arrow holds is not to be written to.
        matrix = matrix.copy()
        matrix.sum_duplicates()
    return SparseVector(matrix)
