"""Rows inside the enclave: Arrow scalars beside vector columns, which Arrow would store badly."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from securemllib.errors import DataError

__all__ = ["Rows", "Vector", "numbers"]

# What is transposed at once stays in a core's second-level cache.
_TILE_BYTES = 512 << 10
_FEWEST_ROWS = 16


@dataclass(frozen=True, slots=True)
class Vector:
    """A vector column, kept as its columns until an algorithm asks for the matrix.

    Attributes:
        columns: ``d`` arrays of shape ``(n,)`` float64.
    """

    columns: tuple[NDArray[np.float64], ...]

    @classmethod
    def of(cls, matrix: NDArray[np.float64]) -> "Vector":
        """Return the vector column of an ``(n, d)`` matrix."""
        return cls(tuple(np.ascontiguousarray(column) for column in matrix.T))

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.columns[0]) if self.columns else 0

    def take(self, mask: NDArray[np.bool_]) -> "Vector":
        """Return the rows where the mask is true."""
        return Vector(tuple(column[mask] for column in self.columns))

    def matrix(self) -> NDArray[np.float64]:
        """Return the ``(n, d)`` float64 matrix."""
        return self._assemble(np.zeros(len(self.columns)), "float64")

    def centred(self, dtype: str) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Return the ``(n, d)`` matrix of one dtype minus the columns' means, and the means."""
        means = np.array([np.add.reduce(column) for column in self.columns]) / max(self.rows, 1)
        # A column with an infinite value has no centre; the algorithm refuses the row or treats it as MLlib does.
        means = np.where(np.isfinite(means), means, 0.0)
        return self._assemble(means, dtype), means

    def _assemble(self, offsets: NDArray[np.float64], dtype: str) -> NDArray[Any]:
        out = np.empty((self.rows, len(self.columns)), dtype=dtype)
        size = max(_TILE_BYTES // (8 * max(len(self.columns), 1)), _FEWEST_ROWS)
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, self.rows, size):
                tile = np.array([column[start : start + size] for column in self.columns])
                np.subtract(tile.T, offsets, out=out[start : start + size], casting="same_kind")
        return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The rows of one part between two steps of a plan.

    Attributes:
        count: Their number.
        scalars: Arrow arrays by column name.
        vectors: Vector columns by name.
        positions: ``(n,)`` positions of the rows in the part as it was stored, which draw random splits.
    """

    count: int
    scalars: dict[str, pa.Array]
    vectors: dict[str, Vector]
    positions: NDArray[np.int64]

    def __post_init__(self) -> None:
        lengths = {len(array) for array in self.scalars.values()} | {vector.rows for vector in self.vectors.values() if vector.columns}
        if lengths - {self.count}:
            raise DataError("The columns of a part have different lengths.", code="data.length")

    @property
    def names(self) -> frozenset[str]:
        """All columns."""
        return frozenset(self.scalars) | frozenset(self.vectors)

    def take(self, mask: NDArray[np.bool_]) -> "Rows":
        """Return the rows where the mask is true."""
        if mask.all():
            return self
        selection = pa.array(mask)
        return Rows(
            count=int(mask.sum()),
            scalars={name: array.filter(selection) for name, array in self.scalars.items()},
            vectors={name: vector.take(mask) for name, vector in self.vectors.items()},
            positions=self.positions[mask],
        )

    def scalar(self, name: str) -> pa.Array:
        """Return one scalar column; `DataError` when there is none."""
        if name not in self.scalars:
            raise DataError(f"The rows have no scalar column {name!r}.", code="data.column")
        return self.scalars[name]

    def vector(self, name: str) -> Vector:
        """Return one vector column; a scalar column is a vector of one."""
        if name in self.vectors:
            return self.vectors[name]
        if name not in self.scalars:
            raise DataError(f"The rows have no column {name!r}.", code="data.column")
        array = self.scalars[name]
        if pa.types.is_list(array.type) or pa.types.is_large_list(array.type) or pa.types.is_fixed_size_list(array.type):
            return _from_lists(array, name)
        return Vector((numbers(array, name),))


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
    if array.type != pa.float64():
        array = array.cast(pa.float64(), safe=False)
    return np.asarray(array.to_numpy(zero_copy_only=array.null_count == 0), dtype=np.float64)


def _from_lists(array: pa.Array, name: str) -> Vector:
    if array.null_count:
        raise DataError(f"{array.null_count} rows of the vector column {name!r} are null.", code="data.null")
    flat = numbers(array.flatten(), name)
    width = len(flat) // len(array) if len(array) else 0
    lengths = np.asarray(array.value_lengths()) if not pa.types.is_fixed_size_list(array.type) else np.full(len(array), width)
    if len(array) and (lengths != width).any():
        raise DataError(f"The vectors of column {name!r} differ in length.", code="data.length")
    return Vector.of(flat.reshape(len(array), width))
