r"""Isotonic regression: the monotone curve that is nearest to weighted labels.

Objective: :math:`\sum_i w_i (y_i - f(x_i))^2` over all increasing functions f of one feature, or all decreasing ones.

Equivalence: ``pyspark.ml.regression.IsotonicRegression``. Rows of one feature value become one point, the mean of their labels; the points
are pooled while a neighbour is not larger (adjacent violators), and what is pooled is pooled once more, as in MLlib's two passes, so that
ties end as there: each block of equal predictions keeps its first and its last feature, and between two of these predictions are on the
line. MLlib of no rows, and of none that has a weight, is a curve without points; here it is an error. Features are read to their last bit,
whatever the job's type.

Cost: one pass; as many points as the feature has distinct values, at most `MOST_POINTS`, sorted, then pooled.

Reveals: both modes, the size of the sealed points, which is the number of distinct values; points are added in enclaves only.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.columns import labels_of, weights_of
from securemllib.algorithms.feature.values import inputs_of, numbers_of, vector_of
from securemllib.algorithms.kernels.pooling import pooled
from securemllib.algorithms.params import require_bool, require_integer
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.transformer import Column, Transformed
from securemllib.algorithms.vectors import Vector, is_stored_vector
from securemllib.errors import DataError, UsageError

__all__ = ["MOST_POINTS", "IsotonicRegression", "IsotonicRegressionModel", "IsotonicState", "IsotonicStatistics"]

Floats = NDArray[np.float64]

# Points of three numbers are 100 MB in the aggregator.
MOST_POINTS = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class IsotonicStatistics:
    """The rows of each distinct feature value.

    Attributes:
        features: ``(p,)`` distinct values of rows of positive weight, ascending.
        weights: ``(p,)`` their weights.
        sums: ``(p,)`` sums of weight times label.
    """

    features: Floats
    weights: Floats
    sums: Floats

    def __add__(self, other: Self) -> Self:
        return type(self)._of(*(np.concatenate(pair) for pair in zip(self._columns, other._columns, strict=True)))

    @classmethod
    def _of(cls, features: Floats, weights: Floats, sums: Floats) -> Self:
        distinct, index = np.unique(features, return_inverse=True)
        if len(distinct) > MOST_POINTS:
            raise DataError(f"The feature has over {MOST_POINTS} distinct values.", code="data.distinct")
        added = [np.bincount(index, weights=values, minlength=len(distinct)).astype(np.float64) for values in (weights, sums)]
        return cls(features=distinct, weights=added[0], sums=added[1])

    @property
    def _columns(self) -> tuple[Floats, Floats, Floats]:
        return self.features, self.weights, self.sums


@dataclass(frozen=True, slots=True, kw_only=True)
class IsotonicState:
    """All points, None before the only round."""

    total: IsotonicStatistics | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IsotonicRegressionModel:
    """A monotone curve of straight pieces.

    Attributes:
        boundaries: ``(b,)`` features where predictions are known, ascending.
        predictions: ``(b,)`` what is predicted there.
        feature_index: The slot that is read where features are vectors.
    """

    SUMMARY: ClassVar[tuple[str, ...]] = ()
    CHANGEABLE: ClassVar[tuple[str, ...]] = ("feature_index",)

    boundaries: Floats
    predictions: Floats
    feature_index: int = 0

    def __post_init__(self) -> None:
        require_integer(self, "feature_index", 0)
        if self.boundaries.shape != self.predictions.shape or self.boundaries.ndim != 1 or not len(self.boundaries):
            raise UsageError("a curve has as many boundaries as predictions, and at least one", code="usage.param")

    def predict(self, features: Floats) -> dict[str, Floats]:
        """Return ``prediction`` of shape ``(n,)`` for ``(n, d)`` features."""
        return {"prediction": self.curve(_feature(Column(Vector.of(features)), self.feature_index))}

    def curve(self, values: Floats) -> Floats:
        """Return the predictions ``(n,)`` for single features ``(n,)``."""
        after = np.searchsorted(self.boundaries, values, side="left")
        last = len(self.boundaries) - 1
        right = np.minimum(after, last)
        left = np.maximum(right - 1, 0)
        (x1, y1), (x2, y2) = ((self.boundaries[side], self.predictions[side]) for side in (left, right))
        # Beyond the ends, and at a boundary, nothing is interpolated, as in MLlib; NaN sorts beyond the last.
        inner = (after > 0) & (after <= last) & (values != x2)
        ratio = np.divide((y2 - y1) * (values - x1), x2 - x1, out=np.zeros(len(values)), where=inner)
        return np.where(inner, y1 + ratio, y2)

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return the predictions for a column of numbers, or of vectors, of which one slot is read."""
        return Transformed(columns={"prediction": Column(pa.array(self.curve(_feature(columns[0], self.feature_index))))})


@dataclass(frozen=True, slots=True, kw_only=True)
class IsotonicRegression:
    """Params of ``pyspark.ml.regression.IsotonicRegression``, with its defaults."""

    isotonic: bool = True
    feature_index: int = 0

    def __post_init__(self) -> None:
        require_bool(self, "isotonic")
        require_integer(self, "feature_index", 0)

    def initial(self, summary: Summary, seed: Seed) -> IsotonicState:
        """Return the state before the only round; `DataError` where there are no rows."""
        del seed
        summary.require_rows()
        return IsotonicState()

    def is_done(self, state: IsotonicState) -> bool:
        """Return whether `to_model` may be called."""
        return state.total is not None

    def statistics(self, state: IsotonicState, block: Block) -> IsotonicStatistics:
        """Return the points of one block.

        Raises:
            DataError: A feature or label is NaN or infinite, or there are too many distinct features.
            UsageError: The features have no such slot.
        """
        del state
        column = inputs_of(block)[0]
        features = _feature(column, self.feature_index)
        if vector_of(column, "features").invalid().any() or not np.isfinite(features).all():
            raise DataError(f"A feature of part {block.ordinal} is NaN or infinite.", code="data.features")
        weights, labels = weights_of(block), labels_of(block)
        used = weights > 0.0
        return IsotonicStatistics._of(features[used], weights[used], weights[used] * labels[used])

    def update(self, state: IsotonicState, total: IsotonicStatistics) -> IsotonicState:
        """Return the state after the only round."""
        del state
        return IsotonicState(total=total)

    def to_model(self, state: IsotonicState) -> IsotonicRegressionModel:
        """Return the curve."""
        total, sign = state.total, 1.0 if self.isotonic else -1.0
        if total is None:
            raise UsageError("the model exists after the round only")
        points = total.features, sign * total.sums / total.weights, total.weights
        features, labels, _ = _ends(*_ends(*points))
        return IsotonicRegressionModel(boundaries=features, predictions=sign * labels, feature_index=self.feature_index)


def _feature(column: Column | pa.Array, index: int) -> Floats:
    """Return a column of numbers, or one slot of a column of vectors, whatever their width where there are none."""
    values = column.values if isinstance(column, Column) else column
    if isinstance(values, pa.Array) and not is_stored_vector(values.type):
        return numbers_of(values, "features")
    vector = vector_of(column, "features")
    if not vector.rows:
        return np.zeros(0)
    if index >= vector.width:
        raise UsageError(f"feature_index is {index}, the vectors have {vector.width} slots", code="usage.param")
    found: Floats = vector.columns[index] if isinstance(vector, Vector) else vector.values[:, [index]].toarray()[:, 0]
    return found


def _ends(features: Floats, labels: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the ends of each block of pooled points, with the block's mean and half of its weight each, all of it for a single point."""
    starts, mass, sums = pooled(weights, weights * labels)
    means = sums / mass
    ends = np.append(starts[1:], len(features)) - 1
    wide = features[ends] > features[starts]
    copies = 1 + wide
    # Of a block of two ends the first copy is its start, and the last its end.
    found = np.repeat(features[ends], copies)
    found[np.cumsum(copies) - copies] = features[starts]
    return found, np.repeat(means, copies), np.repeat(np.where(wide, mass / 2.0, mass), copies)
