"""Summaries of linear regressions: metrics of the errors, and the significance of coefficients where the training released it."""

from functools import cached_property
from typing import Any

from pyspark.ml import regression

from securemllib.algorithms.evaluation.regression import RegressionEvaluation
from securemllib.errors import UsageError
from securemllib.ml.evaluation import RegressionEvaluator
from securemllib.ml.mirror import converted
from securemllib.ml.stat import summarised
from securemllib.ml.summaries import Summary, TrainingSummary
from securemllib.ml.widths import features_of
from securemllib.spark.column import Column
from securemllib.spark.dataframe import SecureDataFrame
from securemllib.spark.functions import col, sqrt

__all__ = ["LinearRegressionSummary", "LinearRegressionTrainingSummary"]


class LinearRegressionSummary(Summary):
    """A linear regression on a dataset, as ``pyspark.ml.regression.LinearRegressionSummary``.

    The first metric runs one `RegressionEvaluator` job, whose summary holds them all. A policy that does not release it makes the
    attribute raise `PolicyError`, whose reason names each rule and what it lacks.
    """

    ORIGINAL = regression.LinearRegressionSummary

    @property
    def labelCol(self) -> str:
        """The label column."""
        return str(converted(self._model, "labelCol"))

    @property
    def explainedVariance(self) -> float:
        """The mean square of predictions around the labels' mean."""
        return self._errors.explained_variance

    @property
    def meanAbsoluteError(self) -> float:
        """The mean size of an error."""
        return self._errors.mean_absolute_error

    @property
    def meanSquaredError(self) -> float:
        """The mean square of an error."""
        return self._errors.mean_squared_error

    @property
    def rootMeanSquaredError(self) -> float:
        """The root of `meanSquaredError`."""
        return self._errors.root_mean_squared_error

    @property
    def r2(self) -> float:
        """The share of the labels' variance that is explained; through the origin where the model has no intercept."""
        return self._errors.r2

    @property
    def r2adj(self) -> float:
        """`r2` adjusted for the number of features."""
        intercept = int(self._fits_intercept)
        return 1 - (1 - self.r2) * (self.numInstances - intercept) / (self.numInstances - self._features - intercept)

    @property
    def residuals(self) -> SecureDataFrame:
        """The column ``residuals``, label less prediction, sealed; its rows leave by `release`, where the policy names its origins."""
        return self.predictions.select(self._residual.alias("residuals"))

    @property
    def numInstances(self) -> int:
        """The number of rows."""
        return self._errors.rows

    @property
    def degreesOfFreedom(self) -> int:
        """Rows less coefficients; `SealedError` where neither training nor plan tell how many features there are."""
        return self.numInstances - self._features - int(self._fits_intercept)

    @cached_property
    def devianceResiduals(self) -> list[float]:
        """The smallest and the largest residual, each times the root of its row's weight: the values of two single rows.

        They are no part of the errors' summary, but the extremes of a `Summarizer` job of their own: a policy that releases errors does
        not release them, and `PolicyError` says so. A minimum group size counts the rows behind both, and hides neither.
        """
        residual, weight = self._residual, self._columns().get("weightCol")
        rows = self.predictions.select((residual * sqrt(weight) if weight else residual).alias("residuals"))
        found = summarised(rows, "residuals")
        return [float(found.min[0]), float(found.max[0])]

    @property
    def coefficientStandardErrors(self) -> list[float]:
        """Standard errors of the coefficients, the intercept's last; of a training that released them."""
        return self._significance("coefficient_standard_errors")

    @property
    def tValues(self) -> list[float]:
        """T-statistics of the coefficients, the intercept's last; of a training that released them."""
        return self._significance("t_values")

    @property
    def pValues(self) -> list[float]:
        """Two-sided p-values of the coefficients, the intercept's last; of a training that released them."""
        return self._significance("p_values")

    def _significance(self, name: str) -> list[float]:
        del name
        raise UsageError(
            "The significance of coefficients belongs to the rows of the training.",
            next_step="Read it from the `summary` of the model that a fit returned.",
            code="usage.summary",
        )

    @property
    def _residual(self) -> Column:
        return col(self.labelCol) - col(self.predictionCol)

    @property
    def _fits_intercept(self) -> bool:
        return bool(converted(self._model, "fitIntercept"))

    @property
    def _features(self) -> int:
        return features_of(self._model, self._dataset)

    def _truth(self) -> dict[str, str]:
        return {name.removesuffix("Col"): column for name, column in self._columns().items()}

    def _columns(self) -> dict[str, str]:
        weight = converted(self._model, "weightCol")
        return {"labelCol": self.labelCol, "weightCol": weight} if weight else {"labelCol": self.labelCol}

    @cached_property
    def _errors(self) -> RegressionEvaluation:
        columns = {"predictionCol": self.predictionCol, **self._columns()}
        evaluator = RegressionEvaluator()._set(throughOrigin=not self._fits_intercept, **columns)
        evaluation: RegressionEvaluation = evaluator.summarise(self.predictions)
        return evaluation


class LinearRegressionTrainingSummary(LinearRegressionSummary, TrainingSummary):
    """A linear regression on the rows of its training."""

    ORIGINAL = regression.LinearRegressionTrainingSummary

    def _significance(self, name: str) -> list[float]:
        values: Any = self._released(name)
        if values is None:
            raise UsageError(
                "This training has no significance of its coefficients.",
                next_step='Fit with solver="normal" and without an L1 penalty.',
                code="usage.summary",
            )
        return [float(value) for value in values]
