r"""Linear regression: least squares with elastic net, or the Huber loss with L2.

Objective of least squares, over coefficients :math:`\beta` of :math:`z = (x - \mu) / \sigma` and the label
:math:`t = (y - \bar y) / s`:

.. math:: \frac{1}{2 W} \sum_i w_i (\beta^T z_i - t_i)^2
          + \frac{\lambda}{s} \left( \frac{1 - \alpha}{2} \|\beta\|_2^2 + \alpha \|\beta\|_1 \right)

with :math:`\lambda` = ``reg_param`` and :math:`\alpha` = ``elastic_net_param``; without intercept :math:`\mu` and
:math:`\bar y` are 0. That of ``huber`` takes the loss of `linear_loss`, with a scale that is fitted too, unscaled labels
and :math:`\lambda` instead of :math:`\lambda / s`; it is minimised in labels over :math:`s`, where it is as well
conditioned, and over the logarithm of the scale, which keeps the scale positive.

Spark MLlib: the same objective with MLlib's own deviations, of the population for ``normal`` (its WeightedLeastSquares)
and unbiased for ``l-bfgs`` and ``huber``. ``normal`` solves by Cholesky; with an L1 part, or where the matrix is
singular, by quasi-Newton steps on the normal equations. ``auto`` is ``normal`` up to 4096 features. A constant column
gets the coefficient 0, and a constant label needs no training. Up to 512 features ``l-bfgs`` minimises the same
function on the normal equations instead of on the rows, because that costs one round instead of thirty. ``huber``
starts at the coefficients 0 instead of 1. Standard errors are those of MLlib's summary, with its degrees of freedom:
the rows of positive weight less the coefficients, whatever the weights are.

Cost: ``normal`` one pass of :math:`O(n d^2)` and :math:`O(d^2)` of statistics, and one of :math:`O(n d)` where the
residuals are less than the rounding of those; ``l-bfgs`` on rows and ``huber`` :math:`O(n d)` a round. A training that
goes on from the sums behind a model is one pass over the new rows, whatever the solver, and keeps :math:`8 d^2` bytes.

Reveals: enclave mode, whether one, two or many rounds were needed, and their number. Partitioned mode, the same: sums
leave as masked integers; never a Gram matrix, because the one of two rows gives both rows. Sums behind a model are
sealed beside it under a key of their own: the host learns their size, and whoever the model is released to, nothing.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.linear_loss import LinearStatistics, huber_loss, normal_equations, squared_loss
from securemllib.algorithms.linear_sums import LinearSums
from securemllib.algorithms.normal_equations import CoefficientErrors, NormalEquations
from securemllib.algorithms.optimizers import QuasiNewton
from securemllib.algorithms.params import require_bool, require_choice, require_integer, require_number
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.vectors import of_columns
from securemllib.errors import DataError, UsageError

__all__ = ["LinearRegression", "LinearRegressionModel", "LinearState"]

# MLlib's WeightedLeastSquares.MAX_NUM_FEATURES.
_MOST_FEATURES_OF_NORMAL = 4096

# Thirty rounds of 4 n d operations cost as much as n d^2 / 2 of a faster kind at about this d.
_MOST_FEATURES_OF_LOCAL_LBFGS = 512

# Its root, and what a few such numbers add up to, are numbers.
_LARGEST = 2.0**1000

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearState:
    """Where a training stands.

    Attributes:
        mean: ``(d,)`` means of the features.
        deviation: ``(d,)`` deviations that scale them; 0 for a constant column.
        label_mean: Mean of the label.
        label_deviation: What scales the label.
        weight_sum: Sum of weights.
        freedom: Degrees of freedom of the residuals.
        search: The minimisation, over rows or over normal equations; None where none was needed yet. Of the Huber loss, the point
            holds the coefficients, the intercept, if there is one, and the logarithm of the scale.
        solution: The point that was searched: ``(d,)`` scaled coefficients, and more for the Huber loss.
        errors: What the coefficients' standard errors are computed from, where they exist.
        summary: Of all rows, where the model is to carry its sums; else None.
        sums: What it then carries, after the one round.
    """

    mean: Vector
    deviation: Vector
    label_mean: float
    label_deviation: float
    weight_sum: float
    freedom: int
    search: QuasiNewton | None = None
    solution: Vector | None = None
    errors: CoefficientErrors | None = None
    summary: Summary | None = None
    sums: LinearSums | None = None

    @property
    def scale(self) -> Vector:
        """``(d,)`` inverse deviations; 0 for a constant column."""
        return np.divide(1.0, self.deviation, out=np.zeros_like(self.deviation), where=self.deviation > 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearRegressionModel:
    """Coefficients on true features.

    Attributes:
        coefficients: ``(d,)``.
        intercept: The constant.
        scale: The residuals' scale that the Huber loss fits; 1 for least squares.
        objective_history: The objective at the start and after each iteration; ``(0.0,)`` where none was needed.
        coefficient_standard_errors: Of the coefficients and, last, the intercept, if there is one. None unless a Cholesky factorisation
            solved for all of them, with at least one degree of freedom.
        t_values: Estimates over their standard errors, or None.
        p_values: Two-sided, by Student's t distribution, or None.
    """

    SPARSE: ClassVar[bool] = True
    SUMMARY: ClassVar[tuple[str, ...]] = ("objective_history", "coefficient_standard_errors", "t_values", "p_values", "num_features")

    coefficients: Vector
    intercept: float
    scale: float = 1.0
    objective_history: tuple[float, ...] = (0.0,)
    coefficient_standard_errors: tuple[float, ...] | None = None
    t_values: tuple[float, ...] | None = None
    p_values: tuple[float, ...] | None = None

    @property
    def total_iterations(self) -> int:
        """Iterations of the minimisation."""
        return max(len(self.objective_history) - 1, 0)

    @property
    def num_features(self) -> int:
        """Features, those of coefficient 0 included."""
        return len(self.coefficients)

    def predict(self, features: Vector) -> dict[str, Vector]:
        """Return ``prediction`` of shape ``(n,)``."""
        return {"prediction": of_columns(features, len(self.coefficients)) @ self.coefficients + self.intercept}


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearRegression:
    """The params of ``pyspark.ml.regression.LinearRegression`` that matter to the arithmetic, with its defaults.

    ``decay_factor`` is what the rows behind a model count from which the training goes on, None as much as the new ones.
    """

    SPARSE: ClassVar[bool] = True

    solver: str = "auto"
    loss: str = "squaredError"
    reg_param: float = 0.0
    elastic_net_param: float = 0.0
    max_iter: int = 100
    tol: float = 1e-6
    fit_intercept: bool = True
    standardization: bool = True
    epsilon: float = 1.35
    decay_factor: float | None = None

    def __post_init__(self) -> None:
        require_choice(self, "solver", ("auto", "normal", "l-bfgs"))
        require_choice(self, "loss", ("squaredError", "huber"))
        require_number(self, "reg_param", 0.0, np.finfo(np.float64).max)
        require_number(self, "elastic_net_param", 0.0, 1.0)
        require_integer(self, "max_iter", 0)
        require_number(self, "tol", 0.0)
        require_bool(self, "fit_intercept", "standardization")
        require_number(self, "epsilon", np.nextafter(1.0, 2.0), np.finfo(np.float64).max)
        if self.decay_factor is not None:
            require_number(self, "decay_factor", 0.0, 1.0)
        if self._is_huber and self.solver == "normal":
            raise UsageError("the Huber loss has no normal equations: solver must be 'auto' or 'l-bfgs'", code="usage.param")
        if self._is_huber and self.elastic_net_param > 0:
            raise UsageError("the Huber loss goes with L2 regularisation only: elastic_net_param must be 0", code="usage.param")

    def initial(self, summary: Summary, seed: Seed) -> LinearState:  # noqa: ARG002 - the start is not random
        """Return the state before the first round.

        Raises:
            DataError: There are no rows, a label is NaN or infinite, or a constant label cannot be regularised.
            UsageError: ``normal`` was asked for with more features than it takes.
        """
        summary.require_rows()
        if summary.invalid_labels:
            raise DataError(f"{summary.invalid_labels} rows have a NaN or infinite label", code="data.label")
        normal = self._is_normal(summary.columns)
        if normal and summary.columns > _MOST_FEATURES_OF_NORMAL:
            raise UsageError(f"solver='normal' takes {_MOST_FEATURES_OF_NORMAL} features, not {summary.columns}", code="usage.param")
        label_variance = summary.label_m2 / summary.weight_sum if normal else summary.label_variance
        constant = not label_variance > 0.0
        needless = constant and (self.fit_intercept or summary.label_mean == 0.0)
        if constant and not needless and self.reg_param > 0:
            raise DataError("the label is constant: a model without intercept cannot be regularised", code="data.constant_label")
        state = LinearState(
            mean=summary.mean,
            deviation=np.where(summary.deviation > 0, np.sqrt(summary.m2 / summary.weight_sum), 0.0) if normal else summary.deviation,
            label_mean=summary.label_mean,
            label_deviation=float(np.sqrt(label_variance)) if not constant else abs(summary.label_mean) or 1.0,
            weight_sum=summary.weight_sum,
            freedom=summary.used_rows - summary.columns - self.fit_intercept,
            solution=np.zeros(summary.columns) if needless else None,
        )
        return state if needless or self._is_one_pass(summary.columns) else replace(state, search=self._search(state))

    def going_on(self, summary: Summary, seed: Seed, behind: LinearSums | None) -> LinearState:
        """Return the state before the one round of a training whose model carries its sums.

        Raises:
            UsageError: The objective is no function of second moments, or there are more features than ``normal`` takes.
        """
        if self._is_huber or summary.columns > _MOST_FEATURES_OF_NORMAL:
            raise UsageError(f"only squaredError of up to {_MOST_FEATURES_OF_NORMAL} features goes on from sums", code="usage.param")
        whole = summary if behind is None else summary + behind.summary
        return replace(self.initial(whole, seed), search=None, summary=whole)

    def behind(self, state: LinearState, sums: LinearSums) -> LinearStatistics:
        """Return the statistics of the rows behind a model."""
        return sums.about(state.mean, state.label_mean, state.label_deviation)

    def sums(self, state: LinearState) -> LinearSums:
        """Return what the model carries."""
        if state.sums is None:
            raise UsageError("the training does not carry its sums")
        return state.sums

    def is_done(self, state: LinearState) -> bool:
        """Return whether `to_model` may be called."""
        if state.summary is not None:
            return state.sums is not None
        return state.solution is not None and (state.errors is None or state.errors.square is not None)

    def statistics(self, state: LinearState, block: Block) -> LinearStatistics:
        """Return the sums of one block: with the Gram matrix, of a search at its proposed point, or of the residuals of a solution."""
        if block.label is None:
            raise DataError(f"block {block.ordinal} has no label", code="data.label")
        point = state.solution if state.search is None else state.search.propose()
        if state.summary is not None:
            # Also where the label was constant so far: the next batch's may not be.
            point = None
        centred = point is None or self.fit_intercept
        shift = block.offset - state.mean if centred else block.offset
        label = (block.label - state.label_mean * centred) / state.label_deviation
        if point is None:
            return normal_equations(block, label, shift)
        vector = point[: block.columns] * state.scale
        if self._is_huber:
            constant = float(point[-2]) if self.fit_intercept else 0.0
            return huber_loss(block, label, vector, constant, shift, scale=float(np.exp(point[-1])), epsilon=self.epsilon)
        return squared_loss(block, label, vector, 0.0, shift)

    def update(self, state: LinearState, total: LinearStatistics) -> LinearState:
        """Return the state after one round."""
        if state.summary is not None:
            return self._carrying(state, state.summary, total)
        if state.search is None:
            return self._solved(state, total) if state.errors is None else _with_square(state, 2.0 * total.loss)
        point, penalty, gradient = state.search.propose(), self._l2(state), total.gradient * state.scale
        if self._is_huber:
            slopes = [total.slope] * self.fit_intercept + [total.scale_slope * float(np.exp(point[-1]))]
            penalty, gradient = np.append(penalty, np.zeros(len(slopes))), np.append(gradient, slopes)
        value = total.loss / state.weight_sum + 0.5 * float(penalty @ (point * point))
        search = state.search.observe(value, gradient / state.weight_sum + penalty * point)
        return replace(state, search=search, solution=search.point if search.is_done else None)

    def to_model(self, state: LinearState) -> LinearRegressionModel:
        """Return the model in the space of the true features."""
        point = np.zeros_like(state.mean) if state.solution is None else state.solution
        coefficients = point[: len(state.mean)] * state.scale * state.label_deviation
        history = (0.0,) if state.search is None else state.search.history
        fitted = self._is_huber and state.search is not None
        constant = float(point[-2]) * state.label_deviation if fitted and self.fit_intercept else 0.0
        model = LinearRegressionModel(
            coefficients=coefficients,
            intercept=state.label_mean + constant - float(coefficients @ state.mean) if self.fit_intercept else 0.0,
            scale=float(np.exp(point[-1])) * state.label_deviation if fitted else 1.0,
            objective_history=tuple(value * state.label_deviation for value in history) if fitted else history,
        )
        if state.errors is None:
            return model
        estimates = np.append(coefficients, model.intercept) if self.fit_intercept else coefficients
        return replace(
            model,
            coefficient_standard_errors=tuple(state.errors.standard_errors.tolist()),
            t_values=tuple(state.errors.t_values(estimates).tolist()),
            p_values=tuple(state.errors.p_values(estimates).tolist()),
        )

    def _carrying(self, state: LinearState, summary: Summary, total: LinearStatistics) -> LinearState:
        sums = LinearSums.of(summary, total, state.label_deviation)
        solved = state if state.solution is not None else self._solved(state, total)
        # Residuals below the rounding of sums are summed over rows otherwise, and the rows behind a model are gone.
        vanished = solved.errors is not None and solved.errors.square is None
        return replace(solved, sums=sums, errors=None if vanished else solved.errors)

    @property
    def _is_huber(self) -> bool:
        return self.loss == "huber"

    def _is_normal(self, columns: int) -> bool:
        return self.solver == "normal" or (self.solver == "auto" and not self._is_huber and columns <= _MOST_FEATURES_OF_NORMAL)

    def _is_one_pass(self, columns: int) -> bool:
        return self._is_normal(columns) or (not self._is_huber and columns <= _MOST_FEATURES_OF_LOCAL_LBFGS)

    def _solved(self, state: LinearState, total: LinearStatistics) -> LinearState:
        """Solve the normal equations, scaled to a correlation matrix."""
        means = np.zeros_like(state.mean) if self.fit_intercept else state.mean * state.scale
        label = 0.0 if self.fit_intercept else state.label_mean / state.label_deviation
        equations = NormalEquations(
            # One after the other: the product of two scales may be no number where that of the columns is.
            moments=total.gram / state.weight_sum * state.scale * state.scale[:, np.newaxis] + np.outer(means, means),
            # The residual of the prediction 0 is minus the label.
            target=means * label - total.gradient * state.scale / state.weight_sum,
            square=2.0 * total.loss / state.weight_sum + label * label,
        )
        penalty, used = self._l2(state), state.deviation > 0
        if self._is_normal(len(state.mean)) and not self.reg_param * self.elastic_net_param > 0:
            solved = equations.solved(penalty, used)
            if solved is not None:
                solution, root = solved
                errors = self._errors(state, root) if state.freedom > 0 and (used | (penalty > 0)).all() else None
                found, residual = replace(state, solution=solution, errors=errors), equations.residual(solution)
                return found if errors is None or residual is None else _with_square(found, residual * state.weight_sum)
        search = self._search(state)
        while not search.is_done:
            point = search.propose()
            slope = equations.moments @ point + penalty * point
            value = 0.5 * (equations.square + float(point @ slope)) - float(equations.target @ point)
            search = search.observe(value, slope - equations.target)
        return replace(state, search=search, solution=search.point)

    def _errors(self, state: LinearState, root: Vector) -> CoefficientErrors:
        """Return the variances that the inverse of the matrix's root gives."""
        used = state.deviation > 0
        variances = np.full(len(used), np.inf)
        with np.errstate(over="ignore"):
            variances[used] = np.einsum("ij,ij->j", root, root) * state.scale[used] ** 2
        if self.fit_intercept:
            means = root @ (state.mean * state.scale)[used]
            variances = np.append(variances, 1.0 + float(means @ means))
        return CoefficientErrors(variances=variances / state.weight_sum, freedom=state.freedom)

    def _search(self, state: LinearState) -> QuasiNewton:
        weight = self.reg_param / state.label_deviation * self.elastic_net_param
        l1 = weight * (np.ones_like(state.scale) if self.standardization else state.scale)
        start = np.zeros(len(state.mean) + (1 + self.fit_intercept if self._is_huber else 0))
        return QuasiNewton.start(start, tol=self.tol, max_iter=self.max_iter, l1=l1 if weight > 0 else None)

    def _l2(self, state: LinearState) -> Vector:
        weight = self.reg_param * (1.0 - self.elastic_net_param)
        weight = weight * state.label_deviation if self._is_huber else weight / state.label_deviation
        with np.errstate(over="ignore"):
            # A column too small for its squares has the coefficient 0 of a large penalty.
            return np.full_like(state.scale, weight) if self.standardization else np.minimum(weight * state.scale * state.scale, _LARGEST)


def _with_square(state: LinearState, square: float) -> LinearState:
    """Return a solved state that knows the sum of its squared residuals, which are scaled as the label."""
    if state.errors is None:
        return state
    return replace(state, errors=replace(state.errors, square=square * state.label_deviation**2))
