"""Terms and columns hashed to the slots of a sparse vector.

Objective: HashingTF counts each term at slot ``hash(term) mod n``; FeatureHasher adds each number at the slot of its column's name, and 1
at the slot of ``column=value`` for texts, booleans and the columns named as categorical.

Equivalence: ``pyspark.ml.feature.HashingTF`` over lists of texts and ``FeatureHasher``: MurmurHash3 with Spark's seed, so that the slots
are MLlib's.

Reveals: nothing: a plan's step computes them inside enclaves.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from securemllib.algorithms.feature.murmur import indices_of
from securemllib.algorithms.feature.values import boolean, decoded, java_text, numbers_of, tokens_of
from securemllib.algorithms.params import require_bool, require_integer
from securemllib.algorithms.transformer import Column, Transformed
from securemllib.algorithms.vectors import SparseVector, Vector
from securemllib.errors import DataError, UsageError

__all__ = ["FeatureHasher", "HashingTF"]

_FEATURES = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class HashingTF:
    """Params of ``pyspark.ml.feature.HashingTF``."""

    num_features: int = _FEATURES
    binary: bool = False

    def __post_init__(self) -> None:
        require_integer(self, "num_features", 1)
        require_bool(self, "binary")

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return ``output``: how often each slot's terms occur in a list, or 1 where they do."""
        (column,) = columns
        lists = tokens_of(column, "input")
        encoded = lists.flatten().dictionary_encode()
        slots = (
            indices_of(encoded.dictionary, self.num_features)[np.asarray(encoded.indices.fill_null(0))] if len(encoded.dictionary) else None
        )
        ends = np.concatenate([[0], np.cumsum(np.asarray(lists.value_lengths(), dtype=np.int64))])
        slots = np.zeros(int(ends[-1]), dtype=np.int64) if slots is None else slots
        missing = boolean(encoded.indices.is_null())
        if missing.any():
            slots[missing] = indices_of(pa.array([None], pa.string()), self.num_features)[0]
        rows = sparse.csr_array((np.ones(len(slots)), slots, ends), shape=(len(lists), self.num_features))
        rows.sum_duplicates()
        if self.binary:
            rows.data[:] = 1.0
        return Transformed(columns={"output": Column(SparseVector(rows))})


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureHasher:
    """Params of ``pyspark.ml.feature.FeatureHasher``; the names of columns are hashed, so they are Params here."""

    input_cols: tuple[str, ...]
    num_features: int = _FEATURES
    categorical_cols: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        require_integer(self, "num_features", 1)
        if not self.input_cols:
            raise UsageError("input_cols must name a column", code="usage.param")

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return ``output``: the sum of the columns' slots; a null has none."""
        if len(columns) != len(self.input_cols):
            raise DataError(f"There are {len(columns)} columns for {len(self.input_cols)} names.", code="data.length")
        made = [self._slots(name, column) for name, column in zip(self.input_cols, columns, strict=True)]
        rows, slots, values = (np.concatenate(parts) for parts in zip(*made, strict=True))
        shape = (columns[0].rows, self.num_features)
        summed = sparse.csr_array(sparse.coo_array((values, (rows, slots)), shape=shape))
        summed.sum_duplicates()
        return Transformed(columns={"output": Column(SparseVector(summed))})

    def _slots(self, name: str, column: Column) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Return rows, slots and values of one column."""
        if isinstance(column.values, Vector | SparseVector):
            raise DataError(f"The column {name!r} is a vector, which cannot be hashed.", code="data.type")
        array = decoded(column.values)
        kind = array.type
        rows = np.flatnonzero(boolean(array.is_valid()))
        real = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        if real and name not in (self.categorical_cols or ()):
            slot = indices_of(pa.array([name]), self.num_features)
            return rows, np.repeat(slot, len(rows)), numbers_of(Column(array), name)[rows]
        encoded = array.drop_null().dictionary_encode()
        labels = pa.array([f"{name}={text}" for text in _written(encoded.dictionary)], pa.string())
        slots = indices_of(labels, self.num_features)[np.asarray(encoded.indices)] if len(labels) else np.zeros(0, np.int64)
        return rows, slots, np.ones(len(rows))


def _written(distinct: pa.Array) -> list[str]:
    """Return distinct values as Java writes them."""
    if pa.types.is_floating(distinct.type):
        return [java_text(value) for value in distinct.to_numpy(zero_copy_only=False)]
    return [str(text) for text in distinct.cast(pa.string()).to_pylist()]
