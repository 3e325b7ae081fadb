"""Summaries of classifiers: metrics by label and, for two classes, the curves."""

from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.ml import classification

from securemllib.algorithms.evaluation.binary import BinaryEvaluation
from securemllib.algorithms.evaluation.multiclass import MulticlassEvaluation
from securemllib.ml.evaluation import BinaryClassificationEvaluator, MulticlassClassificationEvaluator
from securemllib.ml.mirror import converted
from securemllib.ml.summaries import Summary, TrainingSummary

__all__ = [
    "BinaryClassificationSummary",
    "BinaryLogisticRegressionSummary",
    "BinaryLogisticRegressionTrainingSummary",
    "ClassificationSummary",
    "FMClassificationSummary",
    "FMClassificationTrainingSummary",
    "LinearSVCSummary",
    "LinearSVCTrainingSummary",
    "LogisticRegressionSummary",
    "LogisticRegressionTrainingSummary",
    "MultilayerPerceptronClassificationSummary",
    "MultilayerPerceptronClassificationTrainingSummary",
]

Floats = NDArray[np.float64]


class ClassificationSummary(Summary):
    """A classifier on a dataset: metrics by label.

    The first metric runs one `MulticlassClassificationEvaluator` job, whose summary holds them all. A policy that does not release it
    makes the attribute raise `PolicyError`, whose reason names each rule and what it lacks.
    """

    @property
    def labelCol(self) -> str:
        """The label column."""
        return str(converted(self._model, "labelCol"))

    @property
    def weightCol(self) -> str:
        """The weight column; ``weightCol``, as in pyspark.ml, where the model has none."""
        return converted(self._model, "weightCol") or "weightCol"

    @property
    def labels(self) -> list[float]:
        """The labels of the dataset, ascending: the order of all metrics by label."""
        return self._by_label.labels.tolist()

    @property
    def accuracy(self) -> float:
        """The share of the weight that is predicted right."""
        return self._by_label.accuracy

    @property
    def truePositiveRateByLabel(self) -> list[float]:
        """True positive rate of each label."""
        return self._by_label.recall_by_label.tolist()

    @property
    def falsePositiveRateByLabel(self) -> list[float]:
        """False positive rate of each label."""
        return self._by_label.false_positive_rate_by_label.tolist()

    @property
    def precisionByLabel(self) -> list[float]:
        """Precision of each label."""
        return self._by_label.precision_by_label.tolist()

    @property
    def recallByLabel(self) -> list[float]:
        """Recall of each label."""
        return self._by_label.recall_by_label.tolist()

    def fMeasureByLabel(self, beta: float = 1.0) -> list[float]:
        """Return the F-measure of each label."""
        return self._by_label.f_measure_by_label(beta).tolist()

    @property
    def weightedTruePositiveRate(self) -> float:
        """True positive rate averaged over the labels by their weight."""
        return self._by_label.weighted_recall

    @property
    def weightedFalsePositiveRate(self) -> float:
        """False positive rate averaged over the labels by their weight."""
        return self._by_label.weighted_false_positive_rate

    @property
    def weightedRecall(self) -> float:
        """Recall averaged over the labels by their weight."""
        return self._by_label.weighted_recall

    @property
    def weightedPrecision(self) -> float:
        """Precision averaged over the labels by their weight."""
        return self._by_label.weighted_precision

    def weightedFMeasure(self, beta: float = 1.0) -> float:
        """Return the F-measure averaged over the labels by their weight."""
        return self._by_label.weighted_f_measure(beta)

    @cached_property
    def _by_label(self) -> MulticlassEvaluation:
        evaluator = MulticlassClassificationEvaluator()._set(predictionCol=self.predictionCol, **self._columns())
        evaluation: MulticlassEvaluation = evaluator.summarise(self.predictions)
        return evaluation

    def _truth(self) -> dict[str, str]:
        return {name.removesuffix("Col"): column for name, column in self._columns().items()}

    def _columns(self) -> dict[str, str]:
        weight = converted(self._model, "weightCol")
        # A dataset without the weights of the training weighs its rows alike, as in pyspark.ml.
        absent = not weight or (self._dataset.has_schema and weight not in self._dataset.schema.names)
        return {"labelCol": self.labelCol} if absent else {"labelCol": self.labelCol, "weightCol": weight}


class BinaryClassificationSummary(ClassificationSummary):
    """A classifier of two classes on a dataset: metrics by label and curves.

    The first curve or area runs one `BinaryClassificationEvaluator` job. Curves are pandas frames with pyspark.ml's column names, not
    Spark's: what a policy releases is for the analyst, and Spark is the host.
    """

    @property
    def scoreCol(self) -> str:
        """The column whose second entry is the score: the raw predictions."""
        return str(converted(self._model, "rawPredictionCol"))

    @property
    def roc(self) -> pd.DataFrame:
        """The ROC curve: ``FPR`` and ``TPR``, from (0, 0) to (1, 1)."""
        return pd.DataFrame(self._curves.roc, columns=["FPR", "TPR"], copy=True)

    @property
    def areaUnderROC(self) -> float:
        """The area under the ROC curve."""
        return self._curves.area_under_roc

    @property
    def pr(self) -> pd.DataFrame:
        """The precision-recall curve: ``recall`` and ``precision``."""
        return pd.DataFrame(self._curves.pr, columns=["recall", "precision"], copy=True)

    @property
    def fMeasureByThreshold(self) -> pd.DataFrame:
        """``threshold`` and ``F-Measure``, with beta 1."""
        return self._by_threshold("F-Measure", self._curves.f_measure())

    @property
    def precisionByThreshold(self) -> pd.DataFrame:
        """``threshold`` and ``precision``."""
        return self._by_threshold("precision", self._curves.precision)

    @property
    def recallByThreshold(self) -> pd.DataFrame:
        """``threshold`` and ``recall``."""
        return self._by_threshold("recall", self._curves.recall)

    def _by_threshold(self, name: str, values: Floats) -> pd.DataFrame:
        return pd.DataFrame({"threshold": self._curves.thresholds, name: values}, copy=True)

    @cached_property
    def _curves(self) -> BinaryEvaluation:
        evaluator = BinaryClassificationEvaluator()._set(rawPredictionCol=self.scoreCol, **self._columns())
        evaluation: BinaryEvaluation = evaluator.summarise(self.predictions)
        return evaluation


class LogisticRegressionSummary(ClassificationSummary):
    """A logistic regression on a dataset, as ``pyspark.ml.classification.LogisticRegressionSummary``."""

    ORIGINAL = classification.LogisticRegressionSummary
    NEEDS = ("probabilityCol", "predictionCol")

    @property
    def probabilityCol(self) -> str:
        """The probability column."""
        return str(converted(self._model, "probabilityCol"))


class BinaryLogisticRegressionSummary(LogisticRegressionSummary, BinaryClassificationSummary):
    """A logistic regression of two classes, as ``pyspark.ml.classification.BinaryLogisticRegressionSummary``.

    The number of classes is in the summary of the training. Where that was not released, and of a loaded model, it is sealed: unless
    `thresholds` tell, this is the summary, and a curve of more than two classes is refused.
    """

    ORIGINAL = classification.BinaryLogisticRegressionSummary

    @property
    def scoreCol(self) -> str:
        """The column whose second entry is the score: the probabilities."""
        return self.probabilityCol


class LogisticRegressionTrainingSummary(LogisticRegressionSummary, TrainingSummary):
    """A logistic regression on the rows of its training."""

    ORIGINAL = classification.LogisticRegressionTrainingSummary


class BinaryLogisticRegressionTrainingSummary(BinaryLogisticRegressionSummary, LogisticRegressionTrainingSummary):
    """A logistic regression of two classes on the rows of its training."""

    ORIGINAL = classification.BinaryLogisticRegressionTrainingSummary


class LinearSVCSummary(BinaryClassificationSummary):
    """A linear support vector classifier on a dataset, as ``pyspark.ml.classification.LinearSVCSummary``."""

    ORIGINAL = classification.LinearSVCSummary
    NEEDS = ("rawPredictionCol", "predictionCol")


class LinearSVCTrainingSummary(LinearSVCSummary, TrainingSummary):
    """A linear support vector classifier on the rows of its training."""

    ORIGINAL = classification.LinearSVCTrainingSummary


class FMClassificationSummary(BinaryClassificationSummary):
    """A factorization machine on a dataset, as ``pyspark.ml.classification.FMClassificationSummary``."""

    ORIGINAL = classification.FMClassificationSummary
    NEEDS = ("probabilityCol", "predictionCol")

    @property
    def scoreCol(self) -> str:
        """The column whose second entry is the score: the probabilities."""
        return str(converted(self._model, "probabilityCol"))


class FMClassificationTrainingSummary(FMClassificationSummary, TrainingSummary):
    """A factorization machine on the rows of its training."""

    ORIGINAL = classification.FMClassificationTrainingSummary


class MultilayerPerceptronClassificationSummary(ClassificationSummary):
    """A network on a dataset, as ``pyspark.ml.classification.MultilayerPerceptronClassificationSummary``."""

    ORIGINAL = classification.MultilayerPerceptronClassificationSummary


class MultilayerPerceptronClassificationTrainingSummary(MultilayerPerceptronClassificationSummary, TrainingSummary):
    """A network on the rows of its training."""

    ORIGINAL = classification.MultilayerPerceptronClassificationTrainingSummary
