"""Numbers to 0 and 1 by a threshold, or to the index of their bucket.

Objective: Binarizer ``x > threshold``; Bucketizer the ``i`` with ``splits[i] <= x < splits[i + 1]``.

Equivalence: ``pyspark.ml.feature.Binarizer`` and ``Bucketizer``. A sparse vector stays sparse unless the threshold is negative. The
bucket that ``handleInvalid="keep"`` adds is none of the column's categories, so that a OneHotEncoder behind it needs "keep", too.

Reveals: nothing: a plan's step computes them inside enclaves.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy import sparse

from securemllib.algorithms.feature.bucketing import INVALID, bucketed, require_splits
from securemllib.algorithms.feature.values import numbers_of
from securemllib.algorithms.params import require_choice, require_number
from securemllib.algorithms.transformer import Column, Transformed
from securemllib.algorithms.vectors import SparseVector, Vector, stored_vector
from securemllib.errors import DataError, UsageError

__all__ = ["Binarizer", "Bucketizer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Binarizer:
    """Params of ``pyspark.ml.feature.Binarizer``; ``thresholds`` are those of several columns."""

    threshold: float = 0.0
    thresholds: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        require_number(self, "threshold")
        if self.thresholds is not None and any(np.isnan(self.thresholds)):
            raise UsageError("thresholds must be numbers, not NaN", code="usage.param")

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return ``output0``, ``output1``...: 1 where a number exceeds the threshold."""
        thresholds = (self.threshold,) * len(columns) if self.thresholds is None else self.thresholds
        if len(thresholds) != len(columns):
            raise DataError(f"There are {len(thresholds)} thresholds for {len(columns)} columns.", code="data.length")
        pairs = enumerate(zip(columns, thresholds, strict=True))
        return Transformed(columns={f"output{index}": _binarized(column, threshold, index) for index, (column, threshold) in pairs})


def _binarized(column: Column, threshold: float, index: int) -> Column:
    values = column.values
    if isinstance(values, pa.Array) and not (pa.types.is_nested(values.type)):
        return Column(pa.array((numbers_of(column, f"input{index}") > threshold).astype(np.float64)), arity=np.array([2]))
    vector = stored_vector(values, f"input{index}") if isinstance(values, pa.Array) else values
    if isinstance(vector, Vector):
        return Column(Vector(tuple((each > threshold).astype(np.float64) for each in vector.columns)))
    if threshold < 0:
        return Column(Vector.of((vector.matrix() > threshold).astype(np.float64)))
    rows = sparse.csr_array(vector.values, copy=True)
    rows.data = (rows.data > threshold).astype(np.float64)
    rows.eliminate_zeros()
    return Column(SparseVector(rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucketizer:
    """Params of ``pyspark.ml.feature.Bucketizer``; ``splits_array`` are the splits of several columns."""

    splits: tuple[float, ...] | None = None
    splits_array: tuple[tuple[float, ...], ...] | None = None
    handle_invalid: str = "error"

    def __post_init__(self) -> None:
        require_choice(self, "handle_invalid", INVALID)
        if (self.splits is None) == (self.splits_array is None):
            raise UsageError("Exactly one of splits and splits_array must be set", code="usage.param")
        for splits in self._all:
            require_splits(splits)

    @property
    def _all(self) -> tuple[tuple[float, ...], ...]:
        if self.splits_array is not None:
            return self.splits_array
        return (self.splits,) if self.splits is not None else ()

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return ``output0``, ``output1``...: the index of each number's bucket."""
        return bucketed(columns, self._all, self.handle_invalid)
