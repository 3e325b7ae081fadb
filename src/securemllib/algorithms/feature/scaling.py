"""Vectors scaled by their own norm or by a constant vector, and their discrete cosine transform.

Objective: Normalizer ``x / ||x||_p``; ElementwiseProduct ``x * w``; DCT the orthonormal type-II transform of each row, or its inverse.

Equivalence: ``pyspark.ml.feature.Normalizer``, ``ElementwiseProduct`` and ``DCT``. A vector of norm 0 stays as it is. Sparse vectors
stay sparse, but for the cosine transform, which has no zeros. The vectors of a column may differ in length, as there.

Reveals: nothing: a plan's step computes them inside enclaves.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.fft import dct, idct

from securemllib.algorithms.feature.lengths import by_length
from securemllib.algorithms.feature.values import of_width, scaled, vector_of
from securemllib.algorithms.params import require_bool, require_number
from securemllib.algorithms.transformer import Column, Transformed
from securemllib.algorithms.vectors import AnyVector, SparseVector, Vector

__all__ = ["DCT", "ElementwiseProduct", "Normalizer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalizer:
    """Params of ``pyspark.ml.feature.Normalizer``."""

    p: float = 2.0

    def __post_init__(self) -> None:
        require_number(self, "p", low=1.0)

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return ``output``: each vector over its norm."""
        (column,) = columns
        return Transformed(columns={"output": by_length(column, self._normalised)})

    def _normalised(self, vector: AnyVector) -> AnyVector:
        norm = _norm(vector, self.p)
        factor = 1.0 / np.where(norm == 0, 1.0, norm)
        if isinstance(vector, Vector):
            return Vector(tuple(values * factor for values in vector.columns))
        rows = vector.values
        data = rows.data * np.repeat(factor, np.diff(rows.indptr))
        return SparseVector(sparse.csr_array((data, rows.indices, rows.indptr), shape=rows.shape))


def _norm(vector: AnyVector, p: float) -> NDArray[np.float64]:
    """Return the p-norm of each row: ``(n,)``."""
    if isinstance(vector, SparseVector):
        sizes, of_value = np.abs(vector.values.data), np.repeat(np.arange(vector.rows), np.diff(vector.values.indptr))
        if math.isinf(p):
            largest = np.zeros(vector.rows)
            np.maximum.at(largest, of_value, sizes)
            return largest
        return np.bincount(of_value, weights=sizes**p, minlength=vector.rows).astype(np.float64) ** (1.0 / p)
    total = np.zeros(vector.rows)
    for values in vector.columns:
        total = np.maximum(total, np.abs(values)) if math.isinf(p) else total + np.abs(values) ** p
    return total if math.isinf(p) else total ** (1.0 / p)


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementwiseProduct:
    """Params of ``pyspark.ml.feature.ElementwiseProduct``."""

    scaling_vec: tuple[float, ...]

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return ``output``: each vector times the scaling vector; `DataError` where their sizes differ."""
        (column,) = columns
        weights = np.array(self.scaling_vec, dtype=np.float64)
        vector = of_width(vector_of(column, "input"), len(weights), "The scaling vector")
        return Transformed(columns={"output": Column(scaled(vector, weights))})


@dataclass(frozen=True, slots=True, kw_only=True)
class DCT:
    """Params of ``pyspark.ml.feature.DCT``."""

    inverse: bool = False

    def __post_init__(self) -> None:
        require_bool(self, "inverse")

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return ``output``: the transform of each vector."""
        (column,) = columns
        return Transformed(columns={"output": by_length(column, self._changed)})

    def _changed(self, vector: AnyVector) -> AnyVector:
        matrix = vector.matrix()
        return Vector.of((idct if self.inverse else dct)(matrix, axis=1, norm="ortho") if matrix.size else matrix)
