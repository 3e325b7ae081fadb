"""Classifiers, named as in ``pyspark.ml.classification``."""

from typing import Any, ClassVar

from pyspark.ml import classification as original
from pyspark.ml.classification import (
    _LinearSVCParams,
    _LogisticRegressionParams,
    _MultilayerPerceptronParams,
    _NaiveBayesParams,
    _ProbabilisticClassifierParams,
)

from securemllib.ml.base import SecureClassifierModel, SecureEstimator, SecureModel
from securemllib.ml.checks import require_sealed
from securemllib.ml.classification_summaries import (
    BinaryLogisticRegressionSummary,
    BinaryLogisticRegressionTrainingSummary,
    FMClassificationSummary,
    FMClassificationTrainingSummary,
    LinearSVCSummary,
    LinearSVCTrainingSummary,
    LogisticRegressionSummary,
    LogisticRegressionTrainingSummary,
    MultilayerPerceptronClassificationSummary,
    MultilayerPerceptronClassificationTrainingSummary,
)
from securemllib.ml.factorization import FMClassificationModel, FMClassifier
from securemllib.ml.forest_summaries import (
    BinaryRandomForestClassificationSummary,
    BinaryRandomForestClassificationTrainingSummary,
    RandomForestClassificationSummary,
    RandomForestClassificationTrainingSummary,
)
from securemllib.ml.mirror import mirrors
from securemllib.ml.one_vs_rest import OneVsRest, OneVsRestModel
from securemllib.ml.plain import PlainLinearSVCModel, PlainLogisticRegressionModel, PlainNaiveBayesModel
from securemllib.ml.plain_networks import PlainMultilayerPerceptronClassificationModel
from securemllib.ml.summaries import Summary
from securemllib.ml.trees import (
    DecisionTreeClassificationModel,
    DecisionTreeClassifier,
    GBTClassificationModel,
    GBTClassifier,
    RandomForestClassificationModel,
    RandomForestClassifier,
)
from securemllib.ml.updating import CarryingEstimator, UpdatingEstimator

__all__ = [
    "BinaryLogisticRegressionSummary",
    "BinaryLogisticRegressionTrainingSummary",
    "BinaryRandomForestClassificationSummary",
    "BinaryRandomForestClassificationTrainingSummary",
    "DecisionTreeClassificationModel",
    "DecisionTreeClassifier",
    "FMClassificationModel",
    "FMClassificationSummary",
    "FMClassificationTrainingSummary",
    "FMClassifier",
    "GBTClassificationModel",
    "GBTClassifier",
    "LinearSVC",
    "LinearSVCModel",
    "LinearSVCSummary",
    "LinearSVCTrainingSummary",
    "LogisticRegression",
    "LogisticRegressionModel",
    "LogisticRegressionSummary",
    "LogisticRegressionTrainingSummary",
    "MultilayerPerceptronClassificationModel",
    "MultilayerPerceptronClassificationSummary",
    "MultilayerPerceptronClassificationTrainingSummary",
    "MultilayerPerceptronClassifier",
    "NaiveBayes",
    "NaiveBayesModel",
    "OneVsRest",
    "OneVsRestModel",
    "RandomForestClassificationModel",
    "RandomForestClassificationSummary",
    "RandomForestClassificationTrainingSummary",
    "RandomForestClassifier",
]


@mirrors(original.LogisticRegressionModel)
class LogisticRegressionModel(SecureClassifierModel, _LogisticRegressionParams):
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

    def _plain(self, model: Any) -> PlainLogisticRegressionModel:
        return PlainLogisticRegressionModel(model)


@mirrors(original.LogisticRegression)
class LogisticRegression(UpdatingEstimator, _LogisticRegressionParams):
    """Logistic regression, binomial and multinomial, as ``pyspark.ml.classification.LogisticRegression``."""

    MODEL = LogisticRegressionModel


@mirrors(original.LinearSVCModel)
class LinearSVCModel(SecureModel, _LinearSVCParams):
    """A sealed model of `LinearSVC`."""

    OUTPUTS: ClassVar[dict[str, str]] = {"rawPrediction": "rawPredictionCol", "prediction": "predictionCol"}
    SUMMARY = LinearSVCTrainingSummary
    CHANGEABLE = ("threshold",)

    def evaluate(self, dataset: Any) -> LinearSVCSummary:
        """Return the summary of this model on a dataset; its metrics are computed when they are asked for."""
        return LinearSVCSummary(self.copy(), require_sealed(dataset, "LinearSVCModel.evaluate"))

    def summary(self) -> LinearSVCTrainingSummary:
        """Return the summary of the training, by a call as in pyspark.ml; `UsageError` where there is none."""
        found: LinearSVCTrainingSummary = super().summary
        return found

    def _plain(self, model: Any) -> PlainLinearSVCModel:
        return PlainLinearSVCModel(model)


@mirrors(original.LinearSVC)
class LinearSVC(SecureEstimator, _LinearSVCParams):
    """A linear support vector classifier, as ``pyspark.ml.classification.LinearSVC``."""

    MODEL = LinearSVCModel


@mirrors(original.NaiveBayesModel)
class NaiveBayesModel(SecureModel, _NaiveBayesParams, _ProbabilisticClassifierParams):
    """A sealed model of `NaiveBayes`."""

    OUTPUTS: ClassVar[dict[str, str]] = {
        "rawPrediction": "rawPredictionCol",
        "probability": "probabilityCol",
        "prediction": "predictionCol",
    }
    CHANGEABLE = ("thresholds",)

    def _plain(self, model: Any) -> PlainNaiveBayesModel:
        return PlainNaiveBayesModel(model)


@mirrors(original.NaiveBayes)
class NaiveBayes(CarryingEstimator, _NaiveBayesParams, _ProbabilisticClassifierParams):
    """Naive Bayes of all four types, as ``pyspark.ml.classification.NaiveBayes``."""

    MODEL = NaiveBayesModel


@mirrors(original.MultilayerPerceptronClassificationModel)
class MultilayerPerceptronClassificationModel(SecureModel, _MultilayerPerceptronParams):
    """A sealed model of `MultilayerPerceptronClassifier`."""

    OUTPUTS: ClassVar[dict[str, str]] = {
        "rawPrediction": "rawPredictionCol",
        "probability": "probabilityCol",
        "prediction": "predictionCol",
    }
    SUMMARY = MultilayerPerceptronClassificationTrainingSummary
    CHANGEABLE = ("thresholds",)

    def evaluate(self, dataset: Any) -> MultilayerPerceptronClassificationSummary:
        """Return the summary of this model on a dataset; its metrics are computed when they are asked for."""
        frame = require_sealed(dataset, "MultilayerPerceptronClassificationModel.evaluate")
        return MultilayerPerceptronClassificationSummary(self.copy(), frame)

    def summary(self) -> MultilayerPerceptronClassificationTrainingSummary:
        """Return the summary of the training, by a call as in pyspark.ml; `UsageError` where there is none."""
        found: MultilayerPerceptronClassificationTrainingSummary = super().summary
        return found

    def _plain(self, model: Any) -> PlainMultilayerPerceptronClassificationModel:
        return PlainMultilayerPerceptronClassificationModel(model)


@mirrors(original.MultilayerPerceptronClassifier)
class MultilayerPerceptronClassifier(SecureEstimator, _MultilayerPerceptronParams):
    """A network of sigmoids and a softmax, as ``pyspark.ml.classification.MultilayerPerceptronClassifier``."""

    MODEL = MultilayerPerceptronClassificationModel
