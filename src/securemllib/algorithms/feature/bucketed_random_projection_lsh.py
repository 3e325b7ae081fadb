"""Locality-sensitive hashing for Euclidean distance: close vectors share buckets.

Objective: with random unit vectors ``r[t]``, one a table, the hash ``floor(r[t] x / bucket_length)``.

Equivalence: ``pyspark.ml.feature.BucketedRandomProjectionLSH``, its random vectors of a seed included. ``approxNearestNeighbors`` is a
job of its own, `NearestNeighbors`; ``approxSimilarityJoin`` is refused.

Cost: one pass over the sizes of vectors; a transform ``num_hash_tables`` products a slot, and of a search one more.

Reveals: with mode="enclave" the number of rows and columns. With mode="partitioned" the same: nothing is added up. The random vectors
follow from the seed, which the job tells: whoever is given hashes knows where each vector lies, to within a bucket in each direction.
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
from securemllib.algorithms.params import require_number
from securemllib.algorithms.transformer import Column, Transformed
from securemllib.algorithms.vectors import AnyVector, SparseVector, Vector
from securemllib.errors import DataError, UsageError

__all__ = ["BucketedRandomProjectionLSH", "BucketedRandomProjectionLSHModel"]

_MOST_TABLES = 1 << 10
# Numbers of all random vectors: beyond, they no longer fit a round's message.
_MOST_NUMBERS = 1 << 24


def _require_length(params: object) -> None:
    require_number(params, "bucket_length", low=0.0)
    if not params.bucket_length > 0.0:  # type: ignore[attr-defined]
        raise UsageError("bucket_length must be above 0", code="usage.param")


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketedRandomProjectionLSHModel:
    """The random unit vectors ``(t, d)``, how long a bucket is, and the key of a search."""

    SUMMARY: ClassVar[tuple[str, ...]] = ()
    CHANGEABLE: ClassVar[tuple[str, ...]] = ("bucket_length", "key")

    directions: NDArray[np.float64]
    bucket_length: float
    key: Key = ()

    def __post_init__(self) -> None:
        _require_length(self)
        require_key(self.key)

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return what `outputs_of` does."""
        (column,) = columns
        return outputs_of(self, of_width(vector_of(column, "input"), self.directions.shape[1], "The model"))

    def hashes(self, vector: AnyVector) -> NDArray[np.float64]:
        """Return ``(n, t)`` the hashes of vectors."""
        rows = vector.matrix() if isinstance(vector, Vector) else vector.values
        return np.asarray(np.floor((rows @ self.directions.T) * (1.0 / self.bucket_length)))

    def distances(self, vector: AnyVector, key: SparseVector) -> NDArray[np.float64]:
        """Return ``(n,)`` Euclidean distances, the squares added slot by slot as MLlib adds them, so that equal ones are equal here too."""
        if isinstance(vector, Vector):
            total = np.zeros(vector.rows)
            for values, value in zip(vector.columns, key.matrix()[0], strict=True):
                total += (values - value) ** 2
            return np.sqrt(total)
        size, rows = key.values.nnz, vector.rows
        repeated = np.tile(key.values.data, rows), np.tile(key.values.indices, rows), np.arange(rows + 1) * size
        apart = sparse.csr_array(vector.values - sparse.csr_array(repeated, shape=vector.values.shape))
        row = np.repeat(np.arange(rows), np.diff(apart.indptr))
        return np.sqrt(np.bincount(row, weights=apart.data**2, minlength=rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketedRandomProjectionLSH(WidthPass):
    """Params of ``pyspark.ml.feature.BucketedRandomProjectionLSH``."""

    bucket_length: float = 0.0
    num_hash_tables: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        _require_length(self)
        require_tables(self, _MOST_TABLES)

    def to_model(self, state: WidthState) -> BucketedRandomProjectionLSHModel:
        """Return the model; `DataError` where there is no row, or too many slots for the tables."""
        shape = self.num_hash_tables, state.columns
        if shape[0] * shape[1] > _MOST_NUMBERS:
            raise DataError(f"{shape[0]} tables of {shape[1]} slots have over {_MOST_NUMBERS} numbers.", code="data.length")
        drawn = JavaRandom(self.seed).gaussians(shape[0] * shape[1]).reshape(shape)
        size = np.sqrt((drawn**2).sum(axis=1, keepdims=True))
        return BucketedRandomProjectionLSHModel(directions=drawn / np.where(size > 0, size, 1.0), bucket_length=self.bucket_length)
