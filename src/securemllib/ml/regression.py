"""Regressions, named as in ``pyspark.ml.regression``."""

from typing import Any

from pyspark.ml import regression as original
from pyspark.ml.regression import _LinearRegressionParams

from securemllib.ml.base import SecureEstimator, SecureModel
from securemllib.ml.mirror import mirrors
from securemllib.ml.plain import PlainLinearRegressionModel
from securemllib.ml.summaries import LinearRegressionTrainingSummary

__all__ = ["LinearRegression", "LinearRegressionModel", "LinearRegressionTrainingSummary"]


@mirrors(original.LinearRegressionModel)
class LinearRegressionModel(SecureModel, _LinearRegressionParams):
    """A sealed model of `LinearRegression`."""

    SUMMARY = LinearRegressionTrainingSummary

    def _plain(self, model: Any) -> PlainLinearRegressionModel:
        return PlainLinearRegressionModel(model)


@mirrors(original.LinearRegression)
class LinearRegression(SecureEstimator, _LinearRegressionParams):
    """Least squares with elastic net, as ``pyspark.ml.regression.LinearRegression``; the Huber loss is refused."""

    MODEL = LinearRegressionModel
