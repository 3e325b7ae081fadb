r"""Generalized linear regression by iteratively reweighted least squares.

Objective: the likelihood of labels of the family around means :math:`\mu_i = g^{-1}(x_i \beta + b + o_i)` with the link :math:`g` and
offsets :math:`o_i`, less :math:`W \lambda |\beta|^2 / 2`, where W is the sum of the last working weights.

Equivalence: ``pyspark.ml.regression.GeneralizedLinearRegression``, with its families, links, starting means, bounds of means and stopping
rule (no coefficient moved by ``tol`` or more). The first step solves for the linked starting means with a penalty on scaled coefficients
and, as in MLlib, over the deviation of those means; every other one has the penalty ``reg_param`` on the coefficients themselves. The
Gaussian family with the identity link is that first step alone, for the labels less their offsets. A step here solves for the change of
the coefficients and not for the coefficients: the same iterates, but the rounding of a float32 matrix has no part in where they end. Of a
singular matrix the smallest change is taken, to which MLlib's quasi-Newton search tends too, and there are no standard errors.

Cost: a pass of :math:`O(n d^2)` a step, :math:`O(d^2)` of statistics; in exact arithmetic a handful of steps.

Reveals: enclave mode, the number of rounds, which is the number of steps. Partitioned mode, the same and the size of masked sums; never
a Gram matrix, because the one of two rows gives both rows.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.linalg import lstsq

from securemllib.algorithms.base import Array, Block, Seed
from securemllib.algorithms.columns import labels_of, offsets_of, weights_of
from securemllib.algorithms.glm_families import FAMILY_NAMES, LINK_NAMES, Distribution, family_of, link_of, supports
from securemllib.algorithms.glm_sums import GeneralizedLinearStatistics, reweighted_sums
from securemllib.algorithms.normal_equations import NormalEquations
from securemllib.algorithms.params import require_bool, require_choice, require_integer, require_number
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.transformer import Column, Transformed
from securemllib.algorithms.vectors import SparseVector, Vector, numbers
from securemllib.errors import DataError, UsageError

__all__ = ["GeneralizedLinearRegression", "GeneralizedLinearRegressionModel", "GeneralizedLinearState"]

# MLlib's WeightedLeastSquares.MAX_NUM_FEATURES.
_MOST_FEATURES = 4096

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
class GeneralizedLinearRegressionModel:
    """Coefficients on true features, and how the linear predictor becomes a mean.

    Attributes:
        coefficients: ``(d,)``.
        intercept: The constant of the linear predictor.
        family: In lower case.
        link: In lower case; None is the family's own.
        variance_power: Of the Tweedie family.
        link_power: Of the Tweedie family's link; None is its own.
        num_iterations: Reweighted steps made; 1 where one problem was the whole of it.
        coefficient_variances: Of the coefficients and, last, the intercept, for a dispersion of 1; None where they do not exist.
        unit_t_values: Estimates over the roots of those; 0 of an estimate 0.
    """

    SUMMARY: ClassVar[tuple[str, ...]] = ("num_iterations", "coefficient_variances", "unit_t_values")

    coefficients: Floats
    intercept: float
    family: str
    link: str | None
    variance_power: float
    link_power: float | None
    num_iterations: int = 0
    coefficient_variances: tuple[float, ...] | None = None
    unit_t_values: tuple[float, ...] | None = None

    def predict(self, features: Floats, offset: Floats | None = None) -> dict[str, Floats]:
        """Return ``linkPrediction``, the linear predictors, and ``prediction``, the means, of shape ``(n,)``."""
        if features.shape[1] != len(self.coefficients):
            raise DataError(f"The model has {len(self.coefficients)} columns, the rows have {features.shape[1]}.")
        predictor = features @ self.coefficients + self.intercept
        predictor = predictor if offset is None else predictor + offset
        power, link = self.variance_power, link_of(self.family, self.link, self.link_power, self.variance_power)
        return {"linkPrediction": predictor, "prediction": Distribution(family_of(self.family, power), link).fitted(predictor)}

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return the predictions for the features and, where there is a second column, their offsets."""
        features, *offsets = [_matrix(column) for column in columns]
        outputs = self.predict(features, offsets[0][:, 0] if offsets else None)
        return Transformed(columns={stem: Column(pa.array(values)) for stem, values in outputs.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneralizedLinearRegression:
    """The params of ``pyspark.ml.regression.GeneralizedLinearRegression`` that matter to the arithmetic, with its defaults.

    Names may be in upper or lower case. As in MLlib ``link`` counts for every family but ``tweedie``, the two powers for that one.
    """

    family: str = "gaussian"
    link: str | None = None
    variance_power: float = 0.0
    link_power: float | None = None
    reg_param: float = 0.0
    max_iter: int = 25
    tol: float = 1e-6
    fit_intercept: bool = True
    solver: str = "irls"

    def __post_init__(self) -> None:
        for name, choices in (("family", FAMILY_NAMES), ("link", LINK_NAMES), ("solver", ("irls",))):
            value = getattr(self, name)
            if isinstance(value, str):
                object.__setattr__(self, name, value.lower())
            if value is not None or name != "link":
                require_choice(self, name, choices)
        require_number(self, "variance_power", 0.0, np.finfo(np.float64).max)
        if 0.0 < self.variance_power < 1.0:
            raise UsageError(f"variance_power must be 0 or at least 1, not {self.variance_power}", code="usage.param")
        if self.link_power is not None:
            require_number(self, "link_power", np.finfo(np.float64).min, np.finfo(np.float64).max)
        require_number(self, "reg_param", 0.0, np.finfo(np.float64).max)
        require_integer(self, "max_iter", 0)
        require_number(self, "tol", 0.0)
        require_bool(self, "fit_intercept")
        if self.link is not None and self.family != "tweedie" and not supports(self.family, self.link):
            raise UsageError(f"the {self.family} family does not go with the {self.link} link", code="usage.param")

    @property
    def distribution(self) -> Distribution:
        """The family with its link."""
        link = link_of(self.family, self.link, self.link_power, self.variance_power)
        return Distribution(family_of(self.family, self.variance_power), link)

    def initial(self, summary: Summary, seed: Seed) -> GeneralizedLinearState:  # noqa: ARG002 - the start is not random
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
        """Return whether `to_model` may be called."""
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

    def to_model(self, state: GeneralizedLinearState) -> GeneralizedLinearRegressionModel:
        """Return the model in the space of the true features."""
        model = GeneralizedLinearRegressionModel(
            coefficients=state.coefficients,
            intercept=state.constant - float(state.coefficients @ state.mean) if self.fit_intercept else 0.0,
            family=self.family,
            link=self.link,
            variance_power=self.variance_power,
            link_power=self.link_power,
            num_iterations=1 if self.distribution.is_least_squares else state.iterations or 0,
        )
        if state.variances is None:
            return model
        estimates = np.append(state.coefficients, [model.intercept] * self.fit_intercept)
        ratios = np.divide(estimates, np.sqrt(state.variances), out=np.zeros_like(estimates), where=estimates != 0)
        return replace(model, coefficient_variances=tuple(state.variances.tolist()), unit_t_values=tuple(ratios.tolist()))

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
        weights = np.full_like(scale, penalty) if penalty is not None else self.reg_param * scale**2
        equations = NormalEquations(
            moments=moments * np.outer(scale, scale),
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
                variances[used] = np.einsum("ij,ij->j", root, root) * scale[used] ** 2
                if self.fit_intercept:
                    lean = root @ (middle * scale)[used]
                    variances = np.append(variances, 1.0 + float(lean @ lean))
                variances = variances / total.weight
        change = change * scale
        return change, residual - float(mean @ change) if self.fit_intercept else 0.0, variances


def _matrix(column: Column) -> Floats:
    values = column.values
    return values.matrix() if isinstance(values, Vector | SparseVector) else numbers(values, "an input")[:, np.newaxis]
