"""Classifiers, named as in ``pyspark.ml.classification``."""

from typing import Any, ClassVar

from pyspark.ml import classification as original
from pyspark.ml.classification import _LogisticRegressionParams

from securemllib.ml.base import SecureEstimator, SecureModel
from securemllib.ml.mirror import mirrors
from securemllib.ml.plain import PlainLogisticRegressionModel
from securemllib.ml.summaries import LogisticRegressionTrainingSummary

__all__ = ["LogisticRegression", "LogisticRegressionModel", "LogisticRegressionTrainingSummary"]


@mirrors(original.LogisticRegressionModel)
class LogisticRegressionModel(SecureModel, _LogisticRegressionParams):
    """A sealed model of `LogisticRegression`."""

    OUTPUTS: ClassVar[dict[str, str]] = {
        "rawPrediction": "rawPredictionCol",
        "probability": "probabilityCol",
        "prediction": "predictionCol",
    }
    SUMMARY = LogisticRegressionTrainingSummary
    CHANGEABLE = ("threshold", "thresholds")

    def _plain(self, model: Any) -> PlainLogisticRegressionModel:
        return PlainLogisticRegressionModel(model)


@mirrors(original.LogisticRegression)
class LogisticRegression(SecureEstimator, _LogisticRegressionParams):
    """Logistic regression, binomial and multinomial, as ``pyspark.ml.classification.LogisticRegression``."""

    MODEL = LogisticRegressionModel
