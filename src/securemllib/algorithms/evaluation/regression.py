"""Metrics of a regression: how far predictions lie from labels.

Objective: with ``e_i = y_i - p_i`` and W the sum of weights, ``mse = sum w e^2 / W``, ``rmse = sqrt(mse)``, ``mae = sum w |e| /
W``, ``r2 = 1 - SSerr / SStot`` (``1 - SSerr / sum w y^2`` through the origin) and ``var = sum w (p - mean(y))^2 / W``.

Equivalence: ``pyspark.ml.evaluation.RegressionEvaluator``. ``SStot`` is MLlib's, the unbiased weighted variance times ``W - 1``; it
is the usual sum of squares where every row weighs 1. A NaN label or prediction is refused, where MLlib's metrics become NaN.

Cost: one pass over two or three columns.

Reveals: with mode="enclave" the number of rows and one round; the metric if the policy releases it. With mode="partitioned" the
same: the merge of means is not a plain sum, so that it stays sealed.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, Self, get_args

import numpy as np

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.columns import labels_of, predictions_of, weights_of
from securemllib.algorithms.summary import Summary
from securemllib.errors import DataError, UsageError

__all__ = ["RegressionEvaluation", "RegressionEvaluator", "RegressionState", "RegressionStatistics"]

Metric = Literal["rmse", "mse", "r2", "mae", "var"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionStatistics:
    """Weighted moments of labels, predictions and errors.

    Attributes:
        rows: Rows whose weight is not 0.
        weight: Sum of the weights.
        weight_squares: Sum of their squares.
        mean: Weighted mean of the labels.
        squares: Weighted squares of the labels around their mean.
        label_squares: Weighted squares of the labels.
        prediction_mean: Weighted mean of the predictions.
        prediction_squares: Weighted squares of the predictions around their mean.
        error_squares: Weighted squares of the errors.
        error_sizes: Weighted absolute errors.
    """

    rows: int
    weight: float
    weight_squares: float
    mean: float
    squares: float
    label_squares: float
    prediction_mean: float
    prediction_squares: float
    error_squares: float
    error_sizes: float

    def __add__(self, other: Self) -> Self:
        weight = self.weight + other.weight
        share = other.weight / weight if weight > 0 else 0.0
        label_shift, prediction_shift = other.mean - self.mean, other.prediction_mean - self.prediction_mean
        return type(self)(
            rows=self.rows + other.rows,
            weight=weight,
            weight_squares=self.weight_squares + other.weight_squares,
            mean=self.mean + label_shift * share,
            squares=self.squares + other.squares + label_shift * label_shift * (self.weight * share),
            label_squares=self.label_squares + other.label_squares,
            prediction_mean=self.prediction_mean + prediction_shift * share,
            prediction_squares=self.prediction_squares
            + other.prediction_squares
            + prediction_shift * prediction_shift * (self.weight * share),
            error_squares=self.error_squares + other.error_squares,
            error_sizes=self.error_sizes + other.error_sizes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionState:
    """The merged moments, None before the only round."""

    total: RegressionStatistics | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionEvaluation:
    """The metric asked for and every other one of MLlib's regression metrics."""

    SUMMARY: ClassVar[tuple[str, ...]] = (
        "value",
        "rows",
        "weight_sum",
        "explained_variance",
        "mean_absolute_error",
        "mean_squared_error",
        "root_mean_squared_error",
        "r2",
    )

    value: float
    rows: int
    weight_sum: float
    explained_variance: float
    mean_absolute_error: float
    mean_squared_error: float
    root_mean_squared_error: float
    r2: float


def _over(numerator: float, denominator: float) -> float:
    """Return the quotient as IEEE 754 has it, so that an undefined metric is NaN or infinite as in MLlib."""
    if denominator != 0:
        return numerator / denominator
    return math.nan if numerator == 0 else math.copysign(math.inf, numerator)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionEvaluator:
    """Params of ``pyspark.ml.evaluation.RegressionEvaluator``."""

    metric_name: Metric = "rmse"
    through_origin: bool = False

    def __post_init__(self) -> None:
        if self.metric_name not in get_args(Metric):
            raise UsageError(f"metric_name must be one of {', '.join(get_args(Metric))}, not {self.metric_name!r}.")

    def initial(self, summary: Summary, seed: Seed) -> RegressionState:
        """Return the empty state."""
        del summary, seed
        return RegressionState()

    def is_done(self, state: RegressionState) -> bool:
        """Return whether the pass has been made."""
        return state.total is not None

    @np.errstate(over="ignore", invalid="ignore")
    def statistics(self, state: RegressionState, block: Block) -> RegressionStatistics:
        """Return the block's moments."""
        del state
        label, prediction, weight = labels_of(block), predictions_of(block), weights_of(block)
        total = float(weight.sum())
        mean = float(weight @ label) / total if total > 0 else 0.0
        prediction_mean = float(weight @ prediction) / total if total > 0 else 0.0
        error = label - prediction
        return RegressionStatistics(
            rows=int(np.count_nonzero(weight)),
            weight=total,
            weight_squares=float(weight @ weight),
            mean=mean,
            squares=float(weight @ (label - mean) ** 2),
            label_squares=float(weight @ label**2),
            prediction_mean=prediction_mean,
            prediction_squares=float(weight @ (prediction - prediction_mean) ** 2),
            error_squares=float(weight @ error**2),
            error_sizes=float(weight @ np.abs(error)),
        )

    def update(self, state: RegressionState, total: RegressionStatistics) -> RegressionState:
        """Return the state with the moments of all rows."""
        del state
        return RegressionState(total=total)

    def to_model(self, state: RegressionState) -> RegressionEvaluation:
        """Return the metrics; an empty dataset raises DataError."""
        total = state.total
        if total is None:
            raise UsageError("The evaluation has not finished: its only round is missing.")
        if not total.weight > 0:
            raise DataError("The dataset has no row with a positive weight.", code="data.no_rows")
        freedom = total.weight - total.weight_squares / total.weight
        squares = total.squares / freedom * (total.weight - 1) if freedom > 0 else 0.0
        r2 = 1 - _over(total.error_squares, total.label_squares if self.through_origin else squares)
        mse = total.error_squares / total.weight
        mae = total.error_sizes / total.weight
        # Unlike a power, a product that is too large is infinite, as in MLlib.
        shift = total.prediction_mean - total.mean
        explained = total.prediction_squares / total.weight + shift * shift
        values = {"rmse": math.sqrt(mse), "mse": mse, "r2": r2, "mae": mae, "var": explained}
        return RegressionEvaluation(
            value=values[self.metric_name], rows=total.rows, weight_sum=total.weight, explained_variance=explained, mean_absolute_error=mae,
            mean_squared_error=mse, root_mean_squared_error=math.sqrt(mse), r2=r2,
        )  # fmt: skip
