r"""Column summaries of weighted rows: the first round of every training.

For rows :math:`x_i` of weight :math:`w_i` a summary holds :math:`W = \sum w_i`, :math:`\sum w_i^2`, the means and the
centred second moments :math:`M_2 = \sum w_i (x_i - \bar x)^2`. Two summaries merge by the pairwise rule of Chan, Golub
and LeVeque (1979): :math:`M_2 = M_2^a + M_2^b + \delta^2 W_a W_b / W`, :math:`\delta = \bar x_b - \bar x_a`, in
float64.

Spark MLlib: the numbers are those of ``pyspark.ml.stat.Summarizer``, on which its estimators build. The variance
divides by :math:`W - \sum w_i^2 / W` and rows of weight 0 count for nothing.

Cost: one pass; memory of a few thousand rows in float64.

Reveals: enclave mode, nothing but the size :math:`O(d)` of sealed messages. Partitioned mode, the same: a summary of
few rows nearly is those rows, so it leaves only as masked integers, or where the owner's policy names it as an output.
"""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from securemllib.algorithms.base import Block
from securemllib.algorithms.kernels.matrix import moments
from securemllib.algorithms.kernels.sparse import column_moments
from securemllib.errors import DataError

__all__ = ["MAX_CLASSES", "Summary"]

# A label column with more distinct integers than this is a regression target; MLlib's automatic class detection stops at 100.
MAX_CLASSES = 1000

# About what a core's second-level cache holds: 4096 rows of 50 features in float64.
_SLICE_BYTES = 1600 << 10
_FEWEST_ROWS = 64
_ROUNDING = 1e-9
# Distances and weighted products of rows, a few times as large as what is summed here, stay numbers of float64.
_LARGEST = 2.0**1000

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a training knows of its rows before its first round.

    Attributes:
        rows: Rows, those of weight 0 included.
        used_rows: Rows whose weight is not 0.
        weight_sum: Sum of weights.
        weight_square_sum: Sum of squared weights.
        heaviest: Largest weight; 1 without weights, 0 without rows.
        mean: ``(d,)`` weighted means of the true rows.
        m2: ``(d,)`` weighted centred second moments.
        minimum: ``(d,)`` smallest values among rows of positive weight; infinity when there is none.
        maximum: ``(d,)`` largest values.
        label_mean: Weighted mean of the label; 0 without labels.
        label_m2: Weighted centred second moment of the label.
        label_weights: ``(K,)`` weight of each class, K = largest label + 1, or the label's declared classes where these are more; None
            unless every label is an integer in [0, MAX_CLASSES) and K is no more.
        invalid_features: Rows with a NaN or infinite feature.
        invalid_labels: Rows with a NaN or infinite label.
        invalid_weights: Rows whose weight is negative, NaN or infinite.
    """

    rows: int
    weight_sum: float
    weight_square_sum: float
    mean: Vector
    m2: Vector
    minimum: Vector
    maximum: Vector
    label_mean: float = 0.0
    label_m2: float = 0.0
    label_weights: Vector | None = None
    used_rows: int = 0
    heaviest: float = 0.0
    invalid_features: int = 0
    invalid_labels: int = 0
    invalid_weights: int = 0

    @classmethod
    def of(cls, block: Block) -> Self:
        """Return the summary of one block."""
        # NaN and infinity are counted, and refused where rows are required.
        with np.errstate(invalid="ignore", over="ignore"):
            if block.sparse is not None:
                return replace(cls._of_sparse(block, block.sparse), label_weights=_class_weights(block))
            size = max(_SLICE_BYTES // (8 * max(block.columns, 1)), _FEWEST_ROWS)
            total = cls._of_rows(block, slice(0, size))
            for start in range(size, block.rows, size):
                total = total + cls._of_rows(block, slice(start, start + size))
        return replace(total, label_weights=_class_weights(block))

    @classmethod
    def _of_rows(cls, block: Block, rows: slice) -> Self:
        features, weight = block.features[rows], None if block.weight is None else block.weight[rows]
        known = _known(len(features), None if block.label is None else block.label[rows], weight)
        mean, m2, minimum, maximum = moments(features, weight, _inverse(known["weight_sum"]))
        return cls(
            mean=mean + block.offset,
            m2=m2,
            minimum=minimum + block.offset,
            maximum=maximum + block.offset,
            invalid_features=0 if np.isfinite(m2).all() else int((~np.isfinite(features).all(axis=1)).sum()),
            **known,
        )

    @classmethod
    def _of_sparse(cls, block: Block, rows: csr_array) -> Self:
        """Return the same of sparse rows, whose zeros cost nothing: ``m2 = sum w (x - mean)^2 + (W - sum w) mean^2`` over the non-zeros."""
        known = _known(block.rows, block.label, block.weight)
        found, mean, squares = column_moments(rows, block.weight)
        stored_weight, _, stored, minimum, maximum = found.T
        # A column with fewer stored values than rows holds zeros.
        zeros = stored < known["used_rows"]
        invalid = np.flatnonzero(~np.isfinite(rows.data))
        return cls(
            mean=mean,
            m2=squares + np.maximum(known["weight_sum"] - stored_weight, 0.0) * mean**2,
            minimum=np.where(zeros, np.minimum(minimum, 0.0), minimum),
            maximum=np.where(zeros, np.maximum(maximum, 0.0), maximum),
            invalid_features=len(np.unique(np.searchsorted(rows.indptr, invalid, side="right"))),
            **known,
        )

    @np.errstate(invalid="ignore", over="ignore")
    def __add__(self, other: Self) -> Self:
        # One column would be broadcast to any number.
        if self.columns != other.columns:
            wider, narrower = (self, other) if self.columns else (other, self)
            if not (narrower.columns or narrower.rows):
                return wider  # of a part whose vectors are all null and left out, none tells how wide it is
            raise DataError(f"Some parts have {self.columns} features, others {other.columns}.", code="data.length")
        weight_sum = self.weight_sum + other.weight_sum
        share = other.weight_sum / weight_sum if weight_sum else 0.0
        delta, label_delta = other.mean - self.mean, other.label_mean - self.label_mean
        # A side without weight has no mean of its own.
        mean = self.mean if share == 0.0 else other.mean if share == 1.0 else self.mean + delta * share
        label_mean = other.label_mean if share == 1.0 else self.label_mean + label_delta * share
        return replace(
            self,
            rows=self.rows + other.rows,
            used_rows=self.used_rows + other.used_rows,
            weight_sum=weight_sum,
            weight_square_sum=self.weight_square_sum + other.weight_square_sum,
            heaviest=max(self.heaviest, other.heaviest),
            mean=mean,
            m2=self.m2 + other.m2 + delta * delta * (self.weight_sum * share),
            minimum=np.minimum(self.minimum, other.minimum),
            maximum=np.maximum(self.maximum, other.maximum),
            label_mean=label_mean,
            label_m2=self.label_m2 + other.label_m2 + label_delta * label_delta * (self.weight_sum * share),
            label_weights=_merged(self.label_weights, other.label_weights),
            invalid_features=self.invalid_features + other.invalid_features,
            invalid_labels=self.invalid_labels + other.invalid_labels,
            invalid_weights=self.invalid_weights + other.invalid_weights,
        )

    def decayed(self, factor: float) -> Self:
        """Return the summary of the same rows with each weight times a factor above 0."""
        return replace(
            self,
            weight_sum=self.weight_sum * factor,
            weight_square_sum=self.weight_square_sum * factor * factor,
            heaviest=self.heaviest * factor,
            m2=self.m2 * factor,
            label_m2=self.label_m2 * factor,
            label_weights=None if self.label_weights is None else self.label_weights * factor,
        )

    @property
    def columns(self) -> int:
        """The number of features."""
        return len(self.mean)

    @property
    def group_size(self) -> float:
        """How many rows the summary is of, none of which counts for more than its share: the weight over the heaviest row's.

        It is at most `used_rows`, and 0 where a weight is no weight. Rows that weigh next to nothing do not hide the others.
        """
        if self.invalid_weights or not self.heaviest > 0.0:
            return 0.0
        # The sum of equal weights may be rounded down.
        return min(self.weight_sum / self.heaviest * (1.0 + _ROUNDING), float(self.used_rows))

    @property
    def variance(self) -> Vector:
        """``(d,)`` unbiased variances for reliability weights, as ``pyspark.ml.stat.Summarizer`` gives them."""
        return np.maximum(self.m2 * self._unbiased, 0.0)

    @property
    def deviation(self) -> Vector:
        """``(d,)`` standard deviations; exactly 0 for a constant column."""
        # Centring and adding the centre back may cost the last two bits.
        size = np.maximum(np.abs(self.minimum), np.abs(self.maximum))
        with np.errstate(invalid="ignore"):
            constant = ~(self.maximum - self.minimum > 4 * np.finfo(np.float64).eps * size)
        return np.where(constant, 0.0, np.sqrt(self.variance))

    @property
    def label_variance(self) -> float:
        """Unbiased variance of the label."""
        return max(self.label_m2 * self._unbiased, 0.0)

    @property
    def has_invalid_label(self) -> bool:
        """Whether some label is NaN or infinite, or the labels are no class indices."""
        return self.invalid_labels > 0 or self.label_weights is None

    @property
    def _unbiased(self) -> float:
        if not self.weight_sum > 0.0:
            return 0.0
        freedom = self.weight_sum - self.weight_square_sum / self.weight_sum
        return 1.0 / freedom if freedom > 0.0 else 0.0

    def require_rows(self, *, squares: bool = True, columns: bool = False) -> None:
        """Raise unless there are rows to learn from and every feature and weight is usable.

        Args:
            squares: Whether squares of features, and of their differences, have to be numbers, too.
            columns: Whether there has to be a feature.

        Raises:
            DataError: There is no row of positive weight, a feature is NaN or infinite, or a weight is negative, NaN or infinite.
        """
        if self.invalid_weights:
            raise DataError(f"{self.invalid_weights} rows have a negative, NaN or infinite weight", code="data.weight")
        if self.invalid_features:
            raise DataError(f"{self.invalid_features} rows have a NaN or infinite feature", code="data.features")
        if not self.weight_sum > 0.0:
            raise DataError("there is no row of positive weight to learn from", code="data.no_rows")
        if columns and not self.columns:
            raise DataError("there is no feature to learn from", code="data.no_columns")
        label_m2 = 0.0 if self.invalid_labels else self.label_m2
        if not (float(self.m2.sum()) if squares else 0.0) + label_m2 + self.weight_square_sum < _LARGEST:
            raise DataError("the squares of features, labels or weights are no numbers of float64", code="data.large")


def _inverse(number: float) -> float:
    return 1.0 / number if number > 0 else 0.0


def _known(rows: int, label: Vector | None, weight: Vector | None) -> dict[str, Any]:
    """Return what a summary knows of labels and weights alone."""
    label, weight = np.zeros(rows) if label is None else label, np.ones(rows) if weight is None else weight
    weight_sum = float(weight.sum())
    mean = float((weight * label).sum()) * _inverse(weight_sum)
    return {
        "rows": rows,
        "used_rows": int(np.count_nonzero(weight)),
        "weight_sum": weight_sum,
        "weight_square_sum": float(weight @ weight),
        "heaviest": float(weight.max(initial=0.0)),
        "label_mean": mean,
        "label_m2": float((weight * (label - mean) ** 2).sum()),
        "invalid_labels": int((~np.isfinite(label)).sum()),
        "invalid_weights": int((~(np.isfinite(weight) & (weight >= 0))).sum()),
    }


def _class_weights(block: Block) -> Vector | None:
    label = block.label
    if label is None:
        return None
    # A class that only rows of weight 0 have is none, unless it is declared.
    used = slice(None) if block.weight is None else block.weight != 0
    if not (label.min(initial=0.0) >= 0 and label[used].max(initial=block.classes - 1.0) < MAX_CLASSES and (np.rint(label) == label).all()):
        return None
    weight = None if block.weight is None else block.weight[used]
    return np.bincount(label[used].astype(np.int64), weights=weight, minlength=block.classes).astype(np.float64)


def _merged(one: Vector | None, other: Vector | None) -> Vector | None:
    if one is None or other is None:
        return None
    longer, shorter = (one, other) if len(one) >= len(other) else (other, one)
    return longer + np.pad(shorter, (0, len(longer) - len(shorter)))
