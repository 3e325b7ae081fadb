"""Column statistics of vectors: count, mean, variance, extremes, norms and non-zeros.

Objective: of rows ``x`` with weights ``w``: ``mean = sum w x / W``, the unbiased ``variance``, ``sum w |x|``, ``sqrt(sum w x^2)``, and
extremes and non-zeros of the rows whose weight is positive.

Equivalence: ``pyspark.ml.stat.Summarizer``. NaN is refused.

Cost: one pass.

Reveals: with mode="enclave" the number of rows and columns, and the statistics where the policy has the output ``summary``: of few rows
they nearly are the rows. With mode="partitioned" the same: moments and extremes are merged inside enclaves.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.columns import weights_of
from securemllib.algorithms.feature.quantiles import columns_of
from securemllib.algorithms.feature.values import inputs_of, vector_of
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.vectors import Vector
from securemllib.errors import DataError, UsageError

__all__ = ["Summarizer", "SummarizerResult", "SummarizerState", "SummarizerStatistics"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SummarizerStatistics:
    """Of some rows; the arrays are ``(d,)``.

    Attributes:
        count: Rows of positive weight.
        weight: Sum of weights.
        weight_squares: Sum of their squares.
        mean: Weighted means.
        squares: Weighted squares around the mean.
        absolute: Weighted absolute values.
        norms: Weighted squares.
        non_zeros: Rows that are not 0.
        minimum: Smallest values.
        maximum: Largest values.
    """

    count: int
    weight: float
    weight_squares: float
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]
    absolute: NDArray[np.float64]
    norms: NDArray[np.float64]
    non_zeros: NDArray[np.int64]
    minimum: NDArray[np.float64]
    maximum: NDArray[np.float64]

    def __add__(self, other: Self) -> Self:
        if not self.count or not other.count:
            return self if self.count else other
        if len(self.mean) != len(other.mean):
            raise DataError("The vectors of two parts differ in length.", code="data.length")
        weight = self.weight + other.weight
        share, shift = other.weight / weight, other.mean - self.mean
        return type(self)(
            count=self.count + other.count,
            weight=weight,
            weight_squares=self.weight_squares + other.weight_squares,
            mean=self.mean + shift * share,
            squares=self.squares + other.squares + shift**2 * (self.weight * share),
            absolute=self.absolute + other.absolute,
            norms=self.norms + other.norms,
            non_zeros=self.non_zeros + other.non_zeros,
            minimum=np.minimum(self.minimum, other.minimum),
            maximum=np.maximum(self.maximum, other.maximum),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SummarizerState:
    """The statistics of all rows, None before the only round."""

    total: SummarizerStatistics | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SummarizerResult:
    """MLlib's metrics; the arrays are ``(d,)``."""

    SUMMARY: ClassVar[tuple[str, ...]] = (
        "count", "weight_sum", "mean", "sum", "variance", "std", "num_non_zeros", "max", "min", "norm_l1", "norm_l2",
    )  # fmt: skip

    count: int
    weight_sum: float
    mean: NDArray[np.float64]
    sum: NDArray[np.float64]
    variance: NDArray[np.float64]
    std: NDArray[np.float64]
    num_non_zeros: NDArray[np.float64]
    max: NDArray[np.float64]
    min: NDArray[np.float64]
    norm_l1: NDArray[np.float64]
    norm_l2: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summarizer:
    """``pyspark.ml.stat.Summarizer``, which has no Params but its columns."""

    def initial(self, summary: Summary, seed: Seed) -> SummarizerState:
        """Return the empty state."""
        del summary, seed
        return SummarizerState()

    def is_done(self, state: SummarizerState) -> bool:
        """Return whether the pass has been made."""
        return state.total is not None

    def statistics(self, state: SummarizerState, block: Block) -> SummarizerStatistics:
        """Return the statistics of the block; `DataError` where a value is NaN or a weight negative."""
        del state
        weight = weights_of(block)
        used = weight > 0
        vector = vector_of(inputs_of(block)[0], "input").take(used)
        if vector.invalid().any():
            raise DataError(f"{int(vector.invalid().sum())} rows of part {block.ordinal} have a NaN.", code="data.features")
        weight = weight[used]
        total = float(weight.sum())
        rows: Any = vector.matrix() if isinstance(vector, Vector) else vector.values
        mean = np.asarray(weight @ rows, dtype=np.float64) / (total or 1.0)
        columns = columns_of(vector)
        return SummarizerStatistics(
            count=len(weight),
            weight=total,
            weight_squares=float(weight @ weight),
            mean=mean,
            squares=_squares(rows, weight, mean),
            absolute=np.asarray(weight @ abs(rows), dtype=np.float64),
            norms=np.asarray(weight @ (rows * rows), dtype=np.float64),
            non_zeros=np.array([np.count_nonzero(values) for values, _ in columns], dtype=np.int64),
            minimum=np.array([np.min(values, initial=0.0 if zeros else np.inf) for values, zeros in columns], dtype=np.float64),
            maximum=np.array([np.max(values, initial=0.0 if zeros else -np.inf) for values, zeros in columns], dtype=np.float64),
        )

    def update(self, state: SummarizerState, total: SummarizerStatistics) -> SummarizerState:
        """Return the finished state."""
        del state
        return SummarizerState(total=total)

    def to_model(self, state: SummarizerState) -> SummarizerResult:
        """Return the metrics; `DataError` where no row has a positive weight."""
        total = state.total
        if total is None:
            raise UsageError("The job has not finished: its only round is missing.")
        if not total.count:
            raise DataError("There is no row of positive weight.", code="data.no_rows")
        freedom = total.weight - total.weight_squares / total.weight
        variance = np.maximum(total.squares / freedom, 0.0) if freedom > 0 else np.zeros_like(total.squares)
        return SummarizerResult(
            count=total.count, weight_sum=total.weight, mean=total.mean, sum=total.mean * total.weight, variance=variance,
            std=np.sqrt(variance), num_non_zeros=total.non_zeros.astype(np.float64), max=total.maximum, min=total.minimum,
            norm_l1=total.absolute, norm_l2=np.sqrt(total.norms),
        )  # fmt: skip


def _squares(rows: Any, weight: NDArray[np.float64], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weighted squares around the mean; the zeros of sparse rows have those of the mean."""
    if isinstance(rows, np.ndarray):
        return np.asarray(weight @ (rows - mean) ** 2, dtype=np.float64)
    of_value = np.repeat(weight, np.diff(rows.indptr))
    stored = np.bincount(rows.indices, of_value * (rows.data - mean[rows.indices]) ** 2, len(mean))
    absent = np.maximum(weight.sum() - np.bincount(rows.indices, of_value, len(mean)), 0.0)
    return np.asarray(stored + absent * mean**2, dtype=np.float64)
