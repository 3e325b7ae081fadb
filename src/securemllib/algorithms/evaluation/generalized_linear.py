r"""What a generalized linear model's predictions say of it: deviance, dispersion and Akaike's criterion.

Objective: the deviances :math:`\sum w_i d(y_i, \mu_i)` of the predictions and of a model that has only an intercept and the offsets,
Pearson's :math:`\sum w_i (y_i - \mu_i)^2 / V(\mu_i)`, and the sums that the likelihood is computed from.

Equivalence: ``pyspark.ml.regression.GeneralizedLinearRegressionSummary``. As there rows of weight 0 count as rows, the dispersion is 1 for
the families named binomial and poisson, and the model of only an intercept is fitted by the estimator itself where there are offsets.

Cost: one pass over two to four columns, and with offsets one more for each step of the model of only an intercept.

Reveals: with mode="enclave" the number of rows and of rounds, which with offsets is that of the steps; the summary if the policy
releases it. With mode="partitioned" the same; the sums never leave enclaves.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.columns import labels_of, offsets_of, predictions_of, weights_of
from securemllib.algorithms.glm_families import FAMILY_NAMES, LINK_NAMES, distribution_of
from securemllib.algorithms.glm_steps import GeneralizedLinearState, ReweightedSteps
from securemllib.algorithms.glm_sums import GeneralizedLinearStatistics
from securemllib.algorithms.summary import Summary
from securemllib.errors import UsageError

__all__ = ["GeneralizedLinearEvaluation", "GeneralizedLinearEvaluator", "GeneralizedLinearMeasures"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneralizedLinearMeasures:
    """Sums over rows.

    Attributes:
        rows: The number of rows.
        weight: Of the weights.
        deviance: Of the predictions' weighted deviances.
        null_deviance: Of those of a model without features.
        pearson: Of the weighted squared errors over their variances.
        likelihood: ``(t,)`` the family's sums.
        null: The sums of a step of the model without features; every other field is then 0.
    """

    rows: int = 0
    weight: float = 0.0
    deviance: float = 0.0
    null_deviance: float = 0.0
    pearson: float = 0.0
    likelihood: NDArray[np.float64]
    null: GeneralizedLinearStatistics | None = None

    def __add__(self, other: Self) -> Self:
        null = self.null if other.null is None else other.null if self.null is None else self.null + other.null
        return type(self)(
            rows=self.rows + other.rows,
            weight=self.weight + other.weight,
            deviance=self.deviance + other.deviance,
            null_deviance=self.null_deviance + other.null_deviance,
            pearson=self.pearson + other.pearson,
            likelihood=self.likelihood + other.likelihood,
            null=null,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneralizedLinearEvaluationState:
    """Where an evaluation stands.

    Attributes:
        null: The fit of the model without features.
        fitted: Whether that model is known.
        total: The merged sums, None before the last round.
    """

    null: GeneralizedLinearState
    fitted: bool
    total: GeneralizedLinearMeasures | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneralizedLinearEvaluation:
    """The measures of a model on rows.

    Attributes:
        value: The deviance.
        rows: The number of rows.
        deviance: The same.
        null_deviance: That of the model without features.
        pearson: Pearson's statistic.
        aic: Akaike's criterion without the term of the coefficients; None where the family has none.
    """

    SUMMARY: ClassVar[tuple[str, ...]] = ("value", "rows", "deviance", "null_deviance", "pearson", "aic")

    value: float
    rows: int
    deviance: float
    null_deviance: float
    pearson: float
    aic: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneralizedLinearEvaluator:
    """The params of the estimator, and whether there are offsets."""

    family: str = "gaussian"
    link: str | None = None
    variance_power: float = 0.0
    link_power: float | None = None
    max_iter: int = 25
    tol: float = 1e-6
    fit_intercept: bool = True
    has_offset: bool = False

    def __post_init__(self) -> None:
        for name, choices in (("family", FAMILY_NAMES), ("link", (*LINK_NAMES, None))):
            value = getattr(self, name)
            object.__setattr__(self, name, value.lower() if isinstance(value, str) else value)
            if getattr(self, name) not in choices:
                raise UsageError(f"{name} must be one of {', '.join(filter(None, choices))}, not {value!r}", code="usage.param")

    @property
    def _null(self) -> ReweightedSteps:
        return ReweightedSteps(
            distribution=distribution_of(self.family, self.link, self.variance_power, self.link_power),
            reg_param=0.0,
            max_iter=self.max_iter,
            tol=self.tol,
            fit_intercept=True,
        )

    def initial(self, summary: Summary, seed: Seed) -> GeneralizedLinearEvaluationState:
        """Return the state before the first round, where the mean of the labels is the model without features and offsets."""
        del seed
        null = self._null.initial(summary)
        fitted = not (self.fit_intercept and self.has_offset)
        if fitted:
            with np.errstate(all="ignore"):
                constant = float(self._null.distribution.link.link(np.array([summary.label_mean]))[0])
            null = replace(null, constant=constant if self.fit_intercept else 0.0)
        return GeneralizedLinearEvaluationState(null=null, fitted=fitted)

    def is_done(self, state: GeneralizedLinearEvaluationState) -> bool:
        """Return whether the last pass has been made."""
        return state.total is not None

    def statistics(self, state: GeneralizedLinearEvaluationState, block: Block) -> GeneralizedLinearMeasures:
        """Return the sums of a step of the model without features, or the measures."""
        if not state.fitted:
            return GeneralizedLinearMeasures(likelihood=np.zeros(0), null=self._null.statistics(state.null, block))
        label, prediction, weight = labels_of(block), predictions_of(block), weights_of(block)
        used = weight > 0.0

        def weighed(measures: NDArray[np.float64]) -> float:
            return float(weight[used] @ measures[used])

        distribution = self._null.distribution
        family = distribution.family
        # What is not defined is NaN or infinite, as in MLlib.
        with np.errstate(all="ignore"):
            null = distribution.link.unlink(state.null.constant + offsets_of(block))
            return GeneralizedLinearMeasures(
                rows=block.rows,
                weight=float(weight.sum()),
                deviance=weighed(family.deviance(label, prediction)),
                null_deviance=weighed(family.deviance(label, null)),
                pearson=weighed((label - prediction) ** 2 / family.variance(prediction)),
                likelihood=family.likelihood(label, prediction, weight),
            )

    def update(self, state: GeneralizedLinearEvaluationState, total: GeneralizedLinearMeasures) -> GeneralizedLinearEvaluationState:
        """Return the state after a round."""
        if total.null is None:
            return replace(state, total=total)
        null = self._null.update(state.null, total.null)
        return replace(state, null=null, fitted=self._null.is_done(null))

    def to_model(self, state: GeneralizedLinearEvaluationState) -> GeneralizedLinearEvaluation:
        """Return the measures."""
        total = state.total
        if total is None:
            raise UsageError("The evaluation has not finished: its last round is missing.")
        aic = self._null.distribution.family.aic(total.likelihood, deviance=total.deviance, rows=total.rows, weight=total.weight)
        return GeneralizedLinearEvaluation(
            value=total.deviance,
            rows=total.rows,
            deviance=total.deviance,
            null_deviance=total.null_deviance,
            pearson=total.pearson,
            aic=aic,
        )
