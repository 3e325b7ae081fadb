r"""Accelerated failure time regression: the Weibull likelihood of lifetimes, some of which are censored.

Objective, over coefficients :math:`\beta` of :math:`z = (x - \mu) / \sigma_x`, an intercept :math:`b` and the logarithm of a scale
:math:`\sigma`, for lifetimes :math:`t_i` that ended (:math:`\delta_i = 1`) or were cut off (:math:`\delta_i = 0`):

.. math:: \frac{1}{n} \sum_i \delta_i \log \sigma - \delta_i \epsilon_i + e^{\epsilon_i},
          \quad \epsilon_i = (\log t_i - \beta^T z_i - b) / \sigma

The prediction is :math:`\lambda = e^{\beta^T z + b}`, and the quantile of probability q is
:math:`\lambda (-\log(1 - q))^\sigma`.

Spark MLlib: the same objective, start at zeros, scaling and stopping rule, and L-BFGS with a strong Wolfe search, so both end at the one
minimum that there is; after few steps they may stand elsewhere. A constant column gets the coefficient 0. Rows are centred only where
there is an intercept, as in MLlib. There are no weights.

Cost: one pass of :math:`O(n d)` a round, about 20 rounds.

Reveals: enclave mode, the number of rounds. Partitioned mode, the number of rounds and the size of masked sums; never a gradient, because
that of two rows is a combination of both.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.columns import labels_of
from securemllib.algorithms.optimizers import QuasiNewton
from securemllib.algorithms.params import require_bool, require_integer, require_number
from securemllib.algorithms.slices import product_type, row_pieces
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.vectors import of_columns
from securemllib.errors import DataError, UsageError

__all__ = ["AFTSurvivalRegression", "AFTSurvivalRegressionModel", "SurvivalState", "SurvivalStatistics"]

Vector = NDArray[np.float64]

# What pyspark.ml predicts where nothing else is asked for.
_PROBABILITIES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)


@dataclass(frozen=True, slots=True, kw_only=True)
class SurvivalState:
    """Where a training stands.

    Attributes:
        search: The minimisation over ``(d,)`` scaled coefficients, the intercept, if there is one, and the logarithm of the scale.
        centre: ``(d,)`` what is subtracted from features; zeros without intercept.
        inverse: ``(d,)`` inverse deviations; 0 for a constant column.
        rows: Rows.
    """

    search: QuasiNewton
    centre: Vector
    inverse: Vector
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SurvivalStatistics:
    """Sums over rows at the proposed point.

    Attributes:
        loss: Sum of losses.
        gradient: ``(d,)`` sum of slope times centred row.
        slope: Sum of the slopes by the linear predictor.
        scale_slope: Sum of the slopes by the logarithm of the scale.
    """

    ADDITIVE: ClassVar[tuple[str, ...]] = ("loss", "gradient", "slope", "scale_slope")

    loss: float
    gradient: Vector
    slope: float
    scale_slope: float

    def __add__(self, other: Self) -> Self:
        return replace(
            self,
            loss=self.loss + other.loss,
            gradient=self.gradient + other.gradient,
            slope=self.slope + other.slope,
            scale_slope=self.scale_slope + other.scale_slope,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AFTSurvivalRegressionModel:
    """Coefficients on true features, and the scale of the logarithm of lifetimes.

    Attributes:
        coefficients: ``(d,)``.
        intercept: The constant of the linear predictor.
        scale: The Weibull distribution's scale parameter, as MLlib calls it: the inverse of its shape.
        quantile_probabilities: Whose quantiles are predicted.
    """

    SPARSE: ClassVar[bool] = True
    SUMMARY: ClassVar[tuple[str, ...]] = ()
    CHANGEABLE: ClassVar[tuple[str, ...]] = ("quantile_probabilities",)

    coefficients: Vector
    intercept: float
    scale: float
    quantile_probabilities: tuple[float, ...] = _PROBABILITIES

    def __post_init__(self) -> None:
        _require_probabilities(self.quantile_probabilities)

    def predict(self, features: Vector) -> dict[str, Vector]:
        """Return ``prediction`` of shape ``(n,)`` and ``quantiles`` of shape ``(n, q)``."""
        features = of_columns(features, len(self.coefficients))
        # What is too long for a double is infinite, as in MLlib.
        with np.errstate(over="ignore", invalid="ignore"):
            prediction = np.exp(features @ self.coefficients + self.intercept)
            factors = np.exp(np.log(-np.log1p(-np.array(self.quantile_probabilities))) * self.scale)
            return {"prediction": prediction, "quantiles": prediction[:, None] * factors}


@dataclass(frozen=True, slots=True, kw_only=True)
class AFTSurvivalRegression:
    """The params of ``pyspark.ml.regression.AFTSurvivalRegression`` that matter to the arithmetic, with its defaults."""

    SPARSE: ClassVar[bool] = True

    max_iter: int = 100
    tol: float = 1e-6
    fit_intercept: bool = True
    quantile_probabilities: tuple[float, ...] = _PROBABILITIES

    def __post_init__(self) -> None:
        require_integer(self, "max_iter", 0)
        require_number(self, "tol", 0.0)
        require_bool(self, "fit_intercept")
        _require_probabilities(self.quantile_probabilities)

    def initial(self, summary: Summary, seed: Seed) -> SurvivalState:
        """Return the state before the first round.

        Raises:
            DataError: There are no rows, or a label is NaN or infinite.
        """
        del seed
        summary.require_rows()
        if summary.invalid_labels:
            raise DataError(f"{summary.invalid_labels} rows have a NaN or infinite label", code="data.label")
        deviation = summary.deviation
        return SurvivalState(
            search=QuasiNewton.start(np.zeros(summary.columns + self.fit_intercept + 1), tol=self.tol, max_iter=self.max_iter),
            centre=summary.mean if self.fit_intercept else np.zeros(summary.columns),
            inverse=np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0),
            rows=summary.rows,
        )

    def is_done(self, state: SurvivalState) -> bool:
        """Return whether `to_model` may be called."""
        return state.search.is_done

    def statistics(self, state: SurvivalState, block: Block) -> SurvivalStatistics:
        """Return loss and gradient of one block at the proposed point.

        Raises:
            DataError: A lifetime is not above 0, or a censor is neither 0 nor 1.
        """
        point, (logarithm, ended) = state.search.propose(), block.scratch.get("lifetimes", None, partial(_lifetimes, block))
        shift, dtype = block.offset - state.centre, product_type(block)
        vector = point[: block.columns] * state.inverse
        constant = float(vector @ shift) + (float(point[-2]) if self.fit_intercept else 0.0)
        small, log_scale = vector.astype(dtype), float(point[-1])
        loss, slope, scale_slope, gradient = 0.0, 0.0, 0.0, np.zeros(block.columns)
        # A trial step may go where a loss is infinite; the search then takes a shorter one.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            scale = np.exp(log_scale)
            for rows, features in row_pieces(block):
                delta = ended[rows]
                error = (logarithm[rows] - constant - (features @ small).astype(np.float64)) / scale
                hazard = np.exp(error)
                excess = delta - hazard
                loss += float((delta * (log_scale - error) + hazard).sum())
                scale_slope += float((delta + excess * error).sum())
                slope += float((excess / scale).sum())
                gradient += (excess / scale).astype(dtype) @ features
            return SurvivalStatistics(loss=loss, gradient=gradient + slope * shift, slope=slope, scale_slope=scale_slope)

    def update(self, state: SurvivalState, total: SurvivalStatistics) -> SurvivalState:
        """Return the state after one round."""
        slopes = [total.slope] * self.fit_intercept + [total.scale_slope]
        with np.errstate(invalid="ignore"):
            gradient = np.append(total.gradient * state.inverse, slopes) / state.rows
        return replace(state, search=state.search.observe(total.loss / state.rows, gradient))

    def to_model(self, state: SurvivalState) -> AFTSurvivalRegressionModel:
        """Return the model in the space of the true features."""
        point = state.search.point
        coefficients = point[: len(state.inverse)] * state.inverse
        return AFTSurvivalRegressionModel(
            coefficients=coefficients,
            intercept=float(point[-2]) - float(coefficients @ state.centre) if self.fit_intercept else 0.0,
            scale=float(np.exp(point[-1])),
            quantile_probabilities=self.quantile_probabilities,
        )


def _lifetimes(block: Block) -> tuple[Vector, Vector]:
    """Return the logarithms of a block's lifetimes, and 1 where a lifetime ended, 0 where it was cut off."""
    label, ended = labels_of(block), block.extras.get("censor")
    if label.min(initial=1.0) <= 0.0:
        raise DataError(f"A lifetime of part {block.ordinal} is not greater than 0.", code="data.label")
    if ended is None:
        raise DataError(f"The censor column is missing in part {block.ordinal}.", code="data.missing_column")
    if not ((ended == 0.0) | (ended == 1.0)).all():
        raise DataError(f"A censor of part {block.ordinal} is neither 0 nor 1.", code="data.censor")
    return np.log(label), ended


def _require_probabilities(values: object) -> None:
    found = values if isinstance(values, tuple) else ()
    if not found or not all(isinstance(value, float) and 0.0 < value < 1.0 for value in found):
        raise UsageError("quantile_probabilities must be one or more numbers above 0 and below 1", code="usage.param")
