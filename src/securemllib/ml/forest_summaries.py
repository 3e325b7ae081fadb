"""Summaries of random forests that classify: those of any classifier."""

from typing import Any, ClassVar

from pyspark.ml import classification

from securemllib.ml.classification_summaries import BinaryClassificationSummary, ClassificationSummary
from securemllib.ml.mirror import converted

__all__ = [
    "BinaryRandomForestClassificationSummary",
    "BinaryRandomForestClassificationTrainingSummary",
    "RandomForestClassificationSummary",
    "RandomForestClassificationTrainingSummary",
]


class RandomForestClassificationSummary(ClassificationSummary):
    """A random forest on a dataset, as ``pyspark.ml.classification.RandomForestClassificationSummary``."""

    ORIGINAL: ClassVar[type[Any]] = classification.RandomForestClassificationSummary


class BinaryRandomForestClassificationSummary(BinaryClassificationSummary, RandomForestClassificationSummary):
    """A random forest of two classes, as ``pyspark.ml.classification.BinaryRandomForestClassificationSummary``.

    The number of classes is in the summary of the training. Where that was not released, and of a loaded model, it is sealed: unless
    `thresholds` tell, this is the summary, and a curve of more than two classes is refused.
    """

    ORIGINAL: ClassVar[type[Any]] = classification.BinaryRandomForestClassificationSummary
    NEEDS = ("probabilityCol", "predictionCol")

    @property
    def scoreCol(self) -> str:
        """The column whose second entry is the score: the probabilities."""
        return str(converted(self._model, "probabilityCol"))


class RandomForestClassificationTrainingSummary(RandomForestClassificationSummary):
    """A random forest on the rows of its training. A forest minimises nothing step by step: pyspark.ml reports one objective, 0."""

    ORIGINAL: ClassVar[type[Any]] = classification.RandomForestClassificationTrainingSummary

    @property
    def objectiveHistory(self) -> list[float]:
        """``[0.0]``."""
        return [0.0]

    @property
    def totalIterations(self) -> int:
        """0."""
        return 0


class BinaryRandomForestClassificationTrainingSummary(BinaryRandomForestClassificationSummary, RandomForestClassificationTrainingSummary):
    """A random forest of two classes on the rows of its training."""

    ORIGINAL: ClassVar[type[Any]] = classification.BinaryRandomForestClassificationTrainingSummary
