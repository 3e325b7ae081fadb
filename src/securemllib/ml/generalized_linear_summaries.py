"""Summaries of generalized linear regressions: deviances, dispersion, and the significance of coefficients where it was released."""

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.ml import regression
from pyspark.sql.types import DoubleType
from scipy.special import ndtr, stdtr

from securemllib.algorithms.codec import from_tree
from securemllib.algorithms.evaluation.generalized_linear import GeneralizedLinearEvaluation
from securemllib.errors import UsageError
from securemllib.ml.mirror import converted
from securemllib.ml.summaries import Summary
from securemllib.ml.widths import features_of
from securemllib.spark.dataframe import SecureDataFrame
from securemllib.spark.functions import col
from securemllib.spark.jobs import Request
from securemllib.wire.job import OutputKind
from securemllib.wire.plan import Transform

__all__ = ["GeneralizedLinearRegressionSummary", "GeneralizedLinearRegressionTrainingSummary"]

# Families whose dispersion is 1, by the name that was given: a Tweedie family of power 1 is not among them, as in MLlib.
_UNIT_DISPERSION = frozenset({"binomial", "poisson"})

# The model's Params that the evaluation reads, and its column Params by role.
_DISTRIBUTION = ("family", "link", "variancePower", "linkPower")
_PARAMS = (*_DISTRIBUTION, "maxIter", "tol", "fitIntercept")
_TRUTH = {"label": "labelCol", "weight": "weightCol", "offset": "offsetCol"}

_RESIDUALS = ("deviance", "pearson", "working", "response")


class GeneralizedLinearRegressionSummary(Summary):
    """A generalized linear regression on a dataset, as ``pyspark.ml.regression.GeneralizedLinearRegressionSummary``.

    The first statistic runs one job, whose summary holds what all of them need. A policy that does not release it makes the attribute
    raise `PolicyError`, whose reason names each rule and what it lacks.
    """

    ORIGINAL = regression.GeneralizedLinearRegressionSummary

    @property
    def numInstances(self) -> int:
        """The number of rows."""
        return self._evaluation.rows

    @property
    def rank(self) -> int:
        """The coefficients, the intercept included; `SealedError` where the plan does not tell how many features there are."""
        return features_of(self._model, self._dataset) + self._intercepts

    @property
    def degreesOfFreedom(self) -> int:
        """Rows less coefficients."""
        return self.numInstances - self.rank

    @property
    def residualDegreeOfFreedom(self) -> int:
        """The same."""
        return self.degreesOfFreedom

    @property
    def residualDegreeOfFreedomNull(self) -> int:
        """Rows less the intercept."""
        return self.numInstances - self._intercepts

    @property
    def deviance(self) -> float:
        """The deviance of the predictions."""
        return self._evaluation.deviance

    @property
    def nullDeviance(self) -> float:
        """The deviance of a model of an intercept and the offsets alone."""
        return self._evaluation.null_deviance

    @property
    def dispersion(self) -> float:
        """1 for the binomial and Poisson families, else Pearson's statistic over the degrees of freedom."""
        if self._has_unit_dispersion:
            return 1.0
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.float64(self._evaluation.pearson) / self.degreesOfFreedom)

    @property
    def aic(self) -> float:
        """Akaike's criterion; `UsageError` for a Tweedie family whose density has no closed form."""
        if self._evaluation.aic is None:
            raise UsageError("No AIC available for the tweedie family.", code="usage.summary")
        return self._evaluation.aic + 2 * self.rank

    def residuals(self, residualsType: str = "deviance") -> SecureDataFrame:
        """Return the column of residuals, sealed; its rows leave by `release`, where the policy names their origins.

        Args:
            residualsType: ``deviance``, ``pearson``, ``working`` or ``response``; the column's name begins with it.

        Raises:
            UsageError: The type is none of these.
        """
        if residualsType not in _RESIDUALS:
            raise UsageError(f"There are no residuals of the type {residualsType!r}.", code="usage.param")
        truth, name = self._truth(), f"{residualsType}Residuals"
        if residualsType == "response":
            return self.predictions.select((col(truth["label"]) - col(self.predictionCol)).alias(name))
        columns = [truth["label"], self.predictionCol, *([truth["weight"]] if "weight" in truth else [])]
        step = Transform(
            operation="GeneralizedLinearResiduals",
            params={"residualsType": residualsType, **{param: converted(self._model, param) for param in _DISTRIBUTION}},
            input_columns=tuple(columns),
            outputs={"output": name},
        )
        return self.predictions.select(*columns).apply(step, {name: DoubleType()}).select(name)

    @property
    def _intercepts(self) -> int:
        return int(bool(converted(self._model, "fitIntercept")))

    @property
    def _has_unit_dispersion(self) -> bool:
        return str(converted(self._model, "family")).lower() in _UNIT_DISPERSION

    def _truth(self) -> dict[str, str]:
        found = {role: converted(self._model, name) for role, name in _TRUTH.items()}
        return {role: column for role, column in found.items() if column}

    @cached_property
    def _evaluation(self) -> GeneralizedLinearEvaluation:
        truth = self._truth()
        request = Request(
            operation="GeneralizedLinearEvaluator",
            params={**{name: converted(self._model, name) for name in _PARAMS}, "hasOffset": "offset" in truth},
            inputs={"prediction": self.predictionCol, **truth},
            plan=self.predictions.plan,
            outputs=((OutputKind.SUMMARY, None, ()),),
            # Statistics are compared between models that may differ in the last digits.
            dtype="float64",
        )
        released = self._dataset.session.run(self.predictions, request).trees.get(OutputKind.SUMMARY)
        return from_tree(GeneralizedLinearEvaluation, released)


class GeneralizedLinearRegressionTrainingSummary(GeneralizedLinearRegressionSummary):
    """A generalized linear regression on the rows of its training."""

    ORIGINAL = regression.GeneralizedLinearRegressionTrainingSummary

    @property
    def numIterations(self) -> int:
        """Reweighted steps; `SealedError` where the policy did not release them."""
        return int(self._released("num_iterations"))

    @property
    def solver(self) -> str:
        """The solver."""
        return str(converted(self._model, "solver"))

    @property
    def coefficientStandardErrors(self) -> list[float]:
        """Standard errors of the coefficients, the intercept's last; of a training that released them."""
        return self._list(np.sqrt(self._significance("coefficient_variances") * self.dispersion))

    @property
    def tValues(self) -> list[float]:
        """Coefficients over their standard errors, the intercept's last; of a training that released them."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self._list(self._significance("unit_t_values") / np.sqrt(self.dispersion))

    @property
    def pValues(self) -> list[float]:
        """Two-sided p-values: of the normal distribution for a dispersion that is 1, else of Student's."""
        least = -np.abs(np.array(self.tValues))
        return self._list(2.0 * (ndtr(least) if self._has_unit_dispersion else stdtr(self.degreesOfFreedom, least)))

    def _significance(self, name: str) -> NDArray[np.float64]:
        values: Any = self._released(name)
        if values is None:
            raise UsageError(
                "This training has no significance of its coefficients: the matrix of its last step was singular.", code="usage.summary"
            )
        return np.array(values, dtype=np.float64)

    @staticmethod
    def _list(values: NDArray[np.float64]) -> list[float]:
        return [float(value) for value in values]
