"""Training summaries: what a policy released of a training, under pyspark.ml's names."""

from typing import Any

from pyspark.ml import classification, clustering, regression

from securemllib.ml.mirror import refuse_sealed

__all__ = ["KMeansSummary", "LinearRegressionTrainingSummary", "LogisticRegressionTrainingSummary"]


class _Summary:
    """A summary.

    Args:
        model: The sealed model.
        values: The released values, by their names in the algorithm's model.
    """

    ORIGINAL: type[Any]

    def __init__(self, model: Any, values: dict[str, Any]) -> None:
        self._model = model
        self._values = values

    @property
    def featuresCol(self) -> str:
        """The features column."""
        return str(self._model.getOrDefault("featuresCol"))

    @property
    def predictionCol(self) -> str:
        """The prediction column."""
        return str(self._model.getOrDefault("predictionCol"))

    def __getattr__(self, name: str) -> Any:
        return refuse_sealed(self, name, type(self).ORIGINAL)


class _IterativeSummary(_Summary):
    @property
    def labelCol(self) -> str:
        """The label column."""
        return str(self._model.getOrDefault("labelCol"))

    @property
    def objectiveHistory(self) -> list[float]:
        """The objective at the start and after each iteration."""
        return list(self._values["objective_history"])

    @property
    def totalIterations(self) -> int:
        """Iterations of the minimisation."""
        return max(len(self.objectiveHistory) - 1, 0)


class LogisticRegressionTrainingSummary(_IterativeSummary):
    """Of a `LogisticRegression`."""

    ORIGINAL = classification.BinaryLogisticRegressionTrainingSummary

    @property
    def probabilityCol(self) -> str:
        """The probability column."""
        return str(self._model.getOrDefault("probabilityCol"))


class LinearRegressionTrainingSummary(_IterativeSummary):
    """Of a `LinearRegression`."""

    ORIGINAL = regression.LinearRegressionTrainingSummary


class KMeansSummary(_Summary):
    """Of a `KMeans`."""

    ORIGINAL = clustering.KMeansSummary

    @property
    def k(self) -> int:
        """How many clusters were asked for."""
        return int(self._model.getOrDefault("k"))

    @property
    def clusterSizes(self) -> list[int]:
        """Training rows of each cluster."""
        return [int(size) for size in self._values["cluster_sizes"]]

    @property
    def trainingCost(self) -> float:
        """The sum of squared distances to the nearest centre before the last step."""
        return float(self._values["training_cost"])

    @property
    def numIter(self) -> int:
        """Lloyd steps."""
        return int(self._values["num_iter"])
