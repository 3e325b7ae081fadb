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

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.feature.values import vector_of
from securemllib.algorithms.glm_families import FAMILY_NAMES, LINK_NAMES, distribution_of, supports
from securemllib.algorithms.glm_steps import GeneralizedLinearState, ReweightedSteps
from securemllib.algorithms.glm_sums import GeneralizedLinearStatistics
from securemllib.algorithms.params import require_bool, require_choice, require_integer, require_number
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.transformer import Column, Transformed
from securemllib.algorithms.vectors import of_columns
from securemllib.errors import UsageError

__all__ = ["GeneralizedLinearRegression", "GeneralizedLinearRegressionModel"]

Floats = NDArray[np.float64]


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

    SUMMARY: ClassVar[tuple[str, ...]] = ("num_iterations", "coefficient_variances", "unit_t_values", "num_features")

    coefficients: Floats
    intercept: float
    family: str
    link: str | None
    variance_power: float
    link_power: float | None
    num_iterations: int = 0
    coefficient_variances: tuple[float, ...] | None = None
    unit_t_values: tuple[float, ...] | None = None

    @property
    def num_features(self) -> int:
        """Features, those of coefficient 0 included."""
        return len(self.coefficients)

    def predict(self, features: Floats, offset: Floats | None = None) -> dict[str, Floats]:
        """Return ``linkPrediction``, the linear predictors, and ``prediction``, the means, of shape ``(n,)``."""
        features = of_columns(features, len(self.coefficients))
        predictor = features @ self.coefficients + self.intercept
        predictor = predictor if offset is None else predictor + offset
        distribution = distribution_of(self.family, self.link, self.variance_power, self.link_power)
        return {"linkPrediction": predictor, "prediction": distribution.fitted(predictor)}

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

    def initial(self, summary: Summary, seed: Seed) -> GeneralizedLinearState:
        """Return the state before the first round.

        Raises:
            DataError: There are no rows, or a label is NaN or infinite.
            UsageError: There are more features than the normal equations take, or none and no intercept.
        """
        del seed
        return self._steps.initial(summary)

    def is_done(self, state: GeneralizedLinearState) -> bool:
        """Return whether `to_model` may be called."""
        return self._steps.is_done(state)

    def statistics(self, state: GeneralizedLinearState, block: Block) -> GeneralizedLinearStatistics:
        """Return the sums of one block at the state's coefficients."""
        return self._steps.statistics(state, block)

    def update(self, state: GeneralizedLinearState, total: GeneralizedLinearStatistics) -> GeneralizedLinearState:
        """Return the state after one step.

        Raises:
            DataError: The steps left the numbers that have a mean, or a constant label cannot be regularised.
        """
        return self._steps.update(state, total)

    def to_model(self, state: GeneralizedLinearState) -> GeneralizedLinearRegressionModel:
        """Return the model in the space of the true features."""
        model = GeneralizedLinearRegressionModel(
            coefficients=state.coefficients,
            intercept=state.constant - float(state.coefficients @ state.mean) if self.fit_intercept else 0.0,
            family=self.family,
            link=self.link,
            variance_power=self.variance_power,
            link_power=self.link_power,
            num_iterations=1 if self._steps.distribution.is_least_squares else state.iterations or 0,
        )
        if state.variances is None:
            return model
        estimates = np.append(state.coefficients, [model.intercept] * self.fit_intercept)
        ratios = np.divide(estimates, np.sqrt(state.variances), out=np.zeros_like(estimates), where=estimates != 0)
        return replace(model, coefficient_variances=tuple(state.variances.tolist()), unit_t_values=tuple(ratios.tolist()))

    @property
    def _steps(self) -> ReweightedSteps:
        return ReweightedSteps(
            distribution=distribution_of(self.family, self.link, self.variance_power, self.link_power),
            reg_param=self.reg_param,
            max_iter=self.max_iter,
            tol=self.tol,
            fit_intercept=self.fit_intercept,
        )


def _matrix(column: Column) -> Floats:
    return vector_of(column, "an input").matrix()
