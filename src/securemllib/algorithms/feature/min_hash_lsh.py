"""Locality-sensitive hashing for Jaccard distance: sets with much in common share hashes.

Objective: a vector is the set of its slots ``i`` that are not 0; with random ``a[t]`` and ``b[t]``, one pair a table, the hash
``min_i ((1 + i) a[t] + b[t]) mod 2038074743``.

Equivalence: ``pyspark.ml.feature.MinHashLSH``, its random numbers of a seed included. ``approxNearestNeighbors`` is a job of its own,
`NearestNeighbors`; ``approxSimilarityJoin`` is refused. A vector of zeros alone is refused, as there.

Cost: one pass over the sizes of vectors; a transform ``num_hash_tables`` products a stored value, and of a search one more.

Reveals: with mode="enclave" the number of rows and columns. With mode="partitioned" the same: nothing is added up. The random numbers
follow from the seed, which the job tells: each hash names a slot that is not 0, to whoever is given it.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from securemllib.algorithms.feature.hash_tables import (
    JavaRandom,
    Key,
    WidthPass,
    WidthState,
    outputs_of,
    require_key,
    require_tables,
)
from securemllib.algorithms.feature.values import of_width, vector_of
from securemllib.algorithms.transformer import Column, Transformed
from securemllib.algorithms.vectors import AnyVector, SparseVector, Vector
from securemllib.errors import DataError

__all__ = ["MinHashLSH", "MinHashLSHModel"]

# MLlib's: a prime below the square root of 2**63.
_PRIME = 2038074743
_MOST_TABLES = 1 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class MinHashLSHModel:
    """The slots of the vectors, the factors and summands of all tables ``(t, 2)``, and the key of a search."""

    SUMMARY: ClassVar[tuple[str, ...]] = ()
    CHANGEABLE: ClassVar[tuple[str, ...]] = ("key",)

    columns: int
    coefficients: NDArray[np.int64]
    key: Key = ()

    def __post_init__(self) -> None:
        require_key(self.key)

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return what `outputs_of` does; `DataError` where a vector has no value but 0."""
        (column,) = columns
        return outputs_of(self, of_width(vector_of(column, "input"), self.columns, "The model"))

    def hashes(self, vector: AnyVector) -> NDArray[np.float64]:
        """Return ``(n, t)`` the hashes of vectors; `DataError` where one has no value but 0."""
        rows = _sets(vector)
        if not np.diff(rows.indptr).all():
            raise DataError(f"{int((np.diff(rows.indptr) == 0).sum())} rows have no value but 0.", code="data.invalid")
        found = np.empty((vector.rows, len(self.coefficients)))
        for table, (factor, summand) in enumerate(self.coefficients) if vector.rows else ():
            found[:, table] = np.minimum.reduceat(((1 + rows.indices.astype(np.int64)) * factor + summand) % _PRIME, rows.indptr[:-1])
        return found

    def distances(self, vector: AnyVector, key: SparseVector) -> NDArray[np.float64]:
        """Return ``(n,)`` what share of the slots of a vector or the key is not of both."""
        rows, wanted = _sets(vector), _sets(key)
        slots = np.zeros(vector.width)
        slots[wanted.indices] = 1.0
        ones = sparse.csr_array((np.ones(rows.nnz), rows.indices, rows.indptr), shape=rows.shape)
        common: NDArray[np.float64] = np.asarray(ones @ slots)
        either: NDArray[np.float64] = np.diff(rows.indptr) + wanted.nnz - common
        return 1.0 - common / either


@dataclass(frozen=True, slots=True, kw_only=True)
class MinHashLSH(WidthPass):
    """Params of ``pyspark.ml.feature.MinHashLSH``."""

    num_hash_tables: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        require_tables(self, _MOST_TABLES)

    def to_model(self, state: WidthState) -> MinHashLSHModel:
        """Return the model; `DataError` where there is no row."""
        drawn = JavaRandom(self.seed).integers(2 * self.num_hash_tables, _PRIME - 1).reshape(-1, 2)
        return MinHashLSHModel(columns=state.columns, coefficients=drawn + np.array([1, 0]))


def _sets(vector: AnyVector) -> sparse.csr_array:
    """Return vectors without their zeros."""
    rows = sparse.csr_array(vector.matrix()) if isinstance(vector, Vector) else vector.values.copy()
    rows.eliminate_zeros()
    return rows
