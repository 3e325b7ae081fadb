"""Regressions, named as in ``pyspark.ml.regression``."""

from typing import Any

from pyspark.ml import regression as original
from pyspark.ml.regression import _LinearRegressionParams

from securemllib.ml.base import SecureEstimator, SecureModel
from securemllib.ml.checks import require_sealed
from securemllib.ml.mirror import mirrors
from securemllib.ml.plain import PlainLinearRegressionModel
from securemllib.ml.regression_summaries import LinearRegressionSummary, LinearRegressionTrainingSummary

__all__ = ["LinearRegression", "LinearRegressionModel", "LinearRegressionSummary", "LinearRegressionTrainingSummary"]


@mirrors(original.LinearRegressionModel)
class LinearRegressionModel(SecureModel, _LinearRegressionParams):
    """A sealed model of `LinearRegression`."""

    SUMMARY = LinearRegressionTrainingSummary

    def evaluate(self, dataset: Any) -> LinearRegressionSummary:
        """Return the summary of this model on a dataset; its metrics are computed when they are asked for."""
        return LinearRegressionSummary(self.copy(), require_sealed(dataset, "LinearRegressionModel.evaluate"))

    def _plain(self, model: Any) -> PlainLinearRegressionModel:
        return PlainLinearRegressionModel(model)


@mirrors(original.LinearRegression)
class LinearRegression(SecureEstimator, _LinearRegressionParams):
    """Least squares with elastic net, or the Huber loss with L2, as ``pyspark.ml.regression.LinearRegression``."""

    MODEL = LinearRegressionModel
