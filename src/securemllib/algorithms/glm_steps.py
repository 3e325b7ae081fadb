"""The steps of iteratively reweighted least squares: each solves weighted normal equations for a change of the coefficients."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lstsq

from securemllib.algorithms.base import Array, Block
from securemllib.algorithms.columns import labels_of, offsets_of, weights_of
from securemllib.algorithms.glm_families import Distribution
from securemllib.algorithms.glm_sums import GeneralizedLinearStatistics, reweighted_sums
from securemllib.algorithms.normal_equations import NormalEquations
from securemllib.algorithms.summary import Summary
from securemllib.errors import DataError, UsageError

__all__ = ["GeneralizedLinearState", "ReweightedSteps"]

# MLlib's WeightedLeastSquares.MAX_NUM_FEATURES.
_MOST_FEATURES = 4096

# Its root, and what a few such numbers add up to, are numbers.
_LARGEST = 2.0**1000

# A deviation below this part of the size of the numbers is rounding.
_ROUNDING = 1e-7

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneralizedLinearState:
    """Where a training stands.

    Attributes:
        mean: ``(d,)`` means of the features, which are taken from the rows.
        used: ``(d,)`` features that are not constant.
        coefficients: ``(d,)``.
        constant: The intercept of rows less the mean; 0 without intercept.
        variances: ``(d,)`` or ``(d + 1,)`` with the intercept last, for a dispersion of 1; None where the last matrix was singular.
        iterations: Reweighted steps made; None before the first step, which is not one of them.
        converged: Whether the last step moved nothing by ``tol``.
    """

    mean: Floats
    used: NDArray[np.bool_]
    coefficients: Floats
    constant: float
    variances: Floats | None = None
    iterations: int | None = None
    converged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReweightedSteps:
    """The steps of one training.

    Attributes:
        distribution: Of the labels.
        reg_param: The penalty.
        max_iter: Reweighted steps at most.
        tol: What no coefficient moves by in the last step.
        fit_intercept: Whether there is an intercept.
    """

    distribution: Distribution
    reg_param: float
    max_iter: int
    tol: float
    fit_intercept: bool

    def initial(self, summary: Summary) -> GeneralizedLinearState:
        """Return the state before the first round.

        Raises:
            DataError: There are no rows, or a label is NaN or infinite.
            UsageError: There are more features than the normal equations take, or none and no intercept.
        """
        summary.require_rows()
        if summary.invalid_labels:
            raise DataError(f"{summary.invalid_labels} rows have a NaN or infinite label", code="data.label")
        if summary.columns > _MOST_FEATURES:
            raise UsageError(f"the normal equations take {_MOST_FEATURES} features, not {summary.columns}", code="usage.param")
        if not summary.columns and not self.fit_intercept:
            raise UsageError("without features there must be an intercept: fit_intercept must be True", code="usage.param")
        return GeneralizedLinearState(
            mean=summary.mean,
            used=summary.deviation > 0.0,
            coefficients=np.zeros(summary.columns),
            constant=summary.label_mean if self.fit_intercept and self.distribution.is_least_squares else 0.0,
        )

    def is_done(self, state: GeneralizedLinearState) -> bool:
        """Return whether the last step has been made."""
        return state.iterations is not None and (state.converged or state.iterations >= self.max_iter)

    def statistics(self, state: GeneralizedLinearState, block: Block) -> GeneralizedLinearStatistics:
        """Return the sums of one block at the state's coefficients."""
        label, weight, offset = labels_of(block), weights_of(block), offsets_of(block)
        distribution, shift = self.distribution, block.offset - state.mean
        if state.iterations is None:
            start = label if distribution.is_least_squares else distribution.start(label, weight)
            return reweighted_sums(block, shift, lambda rows, _: (weight[rows], start[rows] - offset[rows] - state.constant))
        moved = self._constant(state) + float(state.coefficients @ shift)
        small = state.coefficients.astype(block.features.dtype)

        def working(rows: slice, features: Array) -> tuple[Floats, Floats]:
            predictor = (features @ small).astype(np.float64) + moved + offset[rows]
            return distribution.working(label[rows], weight[rows], predictor)

        return reweighted_sums(block, shift, working)

    def update(self, state: GeneralizedLinearState, total: GeneralizedLinearStatistics) -> GeneralizedLinearState:
        """Return the state after one step.

        Raises:
            DataError: The steps left the numbers that have a mean, or a constant label cannot be regularised.
        """
        if not (total.weight > 0.0 and np.isfinite(total.gram).all() and np.isfinite([total.weight, total.square]).all()):
            raise DataError("the rows have no finite working weights: the model does not fit them", code="data.diverged")
        first = state.iterations is None
        mean_residual = total.slope / total.weight
        scatter = max(total.square / total.weight - mean_residual**2, 0.0)
        if first and scatter <= _ROUNDING**2 * (total.square / total.weight + state.constant**2):
            if self.fit_intercept or total.square == 0.0:
                return self._counted(replace(state, constant=state.constant + mean_residual * self.fit_intercept), moved=np.inf)
            if self.reg_param > 0:
                raise DataError("the label is constant: a model without intercept cannot be regularised", code="data.constant_label")
            scatter = mean_residual**2
        change, constant, variances = self._solved(state, total, penalty=self.reg_param / np.sqrt(scatter) if first else None)
        moved = max(float(np.abs(change).max(initial=0.0)), abs(constant - float(change @ state.mean)) if self.fit_intercept else 0.0)
        coefficients = state.coefficients + change
        return self._counted(
            replace(state, coefficients=coefficients, constant=state.constant + constant, variances=variances), moved=moved
        )

    def _constant(self, state: GeneralizedLinearState) -> float:
        """Return the linear predictor of a row that is the mean."""
        return state.constant if self.fit_intercept else float(state.coefficients @ state.mean)

    def _counted(self, state: GeneralizedLinearState, *, moved: float) -> GeneralizedLinearState:
        if state.iterations is None:
            return replace(state, iterations=0, converged=self.distribution.is_least_squares)
        return replace(state, iterations=state.iterations + 1, converged=moved < self.tol)

    def _solved(
        self, state: GeneralizedLinearState, total: GeneralizedLinearStatistics, *, penalty: float | None
    ) -> tuple[Floats, float, Floats | None]:
        """Return the changes of the coefficients and of the constant, and the variances.

        Args:
            state: The coefficients.
            total: The sums.
            penalty: On scaled coefficients; None for ``reg_param`` on the coefficients themselves.
        """
        mean, residual = total.sums / total.weight, total.slope / total.weight
        moments = total.gram / total.weight - np.outer(mean, mean)
        variance = np.maximum(np.diag(moments), 0.0)
        used = state.used & (variance > 0.0)
        scale = np.divide(1.0, np.sqrt(variance), out=np.zeros_like(variance), where=used)
        middle, target = state.mean + mean, total.gradient / total.weight - mean * residual
        if not self.fit_intercept:
            moments, target = moments + np.outer(middle, middle), target + middle * residual
        with np.errstate(over="ignore"):
            # A column too small for its squares has the coefficient 0 of a large penalty.
            weights = np.full_like(scale, penalty) if penalty is not None else np.minimum(self.reg_param * scale * scale, _LARGEST)
        equations = NormalEquations(
            # One after the other: the product of two scales may be no number where that of the columns is.
            moments=moments * scale * scale[:, np.newaxis],
            target=target * scale - weights * np.divide(state.coefficients, scale, out=np.zeros_like(scale), where=used),
            square=total.square / total.weight,
        )
        solved = equations.solved(weights, used)
        if solved is None:
            change = lstsq(equations.moments + np.diag(weights * used), equations.target, cond=_ROUNDING**2 * len(scale))[0]
            variances = None
        else:
            change, root = solved
            variances = None
            if (used | (weights > 0.0)).all():
                variances = np.full(len(used), np.inf)
                with np.errstate(over="ignore"):
                    variances[used] = np.einsum("ij,ij->j", root, root) * scale[used] ** 2
                if self.fit_intercept:
                    lean = root @ (middle * scale)[used]
                    variances = np.append(variances, 1.0 + float(lean @ lean))
                variances = variances / total.weight
        change = change * scale
        return change, residual - float(mean @ change) if self.fit_intercept else 0.0, variances
