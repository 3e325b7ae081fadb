"""Classifiers, named as in ``pyspark.ml.classification``."""

from typing import Any, ClassVar

from pyspark.ml import classification as original
from pyspark.ml.classification import _LogisticRegressionParams

from securemllib.ml.base import SecureEstimator, SecureModel
from securemllib.ml.checks import require_sealed
from securemllib.ml.classification_summaries import (
    BinaryLogisticRegressionSummary,
    BinaryLogisticRegressionTrainingSummary,
    LogisticRegressionSummary,
    LogisticRegressionTrainingSummary,
)
from securemllib.ml.mirror import converted, mirrors
from securemllib.ml.plain import PlainLogisticRegressionModel
from securemllib.ml.summaries import Summary

__all__ = [
    "BinaryLogisticRegressionSummary",
    "BinaryLogisticRegressionTrainingSummary",
    "LogisticRegression",
    "LogisticRegressionModel",
    "LogisticRegressionSummary",
    "LogisticRegressionTrainingSummary",
]


@mirrors(original.LogisticRegressionModel)
class LogisticRegressionModel(SecureModel, _LogisticRegressionParams):
    """A sealed model of `LogisticRegression`."""

    OUTPUTS: ClassVar[dict[str, str]] = {
        "rawPrediction": "rawPredictionCol",
        "probability": "probabilityCol",
        "prediction": "predictionCol",
    }
    CHANGEABLE = ("threshold", "thresholds")

    def evaluate(self, dataset: Any) -> LogisticRegressionSummary:
        """Return the summary of this model on a dataset; its metrics are computed when they are asked for."""
        frame = require_sealed(dataset, "LogisticRegressionModel.evaluate")
        kind = BinaryLogisticRegressionSummary if self._may_be_binary else LogisticRegressionSummary
        return kind(self.copy(), frame)

    def _summary_type(self) -> type[Summary]:
        return BinaryLogisticRegressionTrainingSummary if self._may_be_binary else LogisticRegressionTrainingSummary

    @property
    def _may_be_binary(self) -> bool:
        # The number of classes is sealed; thresholds, one a class, are the only thing outside that can rule two of them out.
        return len(converted(self, "thresholds") or ()) <= 2

    def _plain(self, model: Any) -> PlainLogisticRegressionModel:
        return PlainLogisticRegressionModel(model)


@mirrors(original.LogisticRegression)
class LogisticRegression(SecureEstimator, _LogisticRegressionParams):
    """Logistic regression, binomial and multinomial, as ``pyspark.ml.classification.LogisticRegression``."""

    MODEL = LogisticRegressionModel
