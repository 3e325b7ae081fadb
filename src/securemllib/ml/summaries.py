"""Summaries under pyspark.ml's names: sealed predictions, and metrics that enclaves compute when they are asked for.

What is released is for the analyst, and Spark is the host: metrics are numbers, lists and pandas frames, never Spark data frames. The
rows of a summary (`predictions`, `cluster`, `residuals`) stay sealed, as a `SecureDataFrame`.
"""

from typing import Any, ClassVar

from pyspark.ml import clustering

from securemllib.errors import SealedError
from securemllib.ml.checks import require_columns
from securemllib.ml.mirror import converted, refuse_sealed
from securemllib.spark.dataframe import SecureDataFrame

__all__ = ["BisectingKMeansSummary", "ClusteringSummary", "GaussianMixtureSummary", "KMeansSummary", "Summary", "TrainingSummary"]


class Summary:
    """What a model does to a dataset, each metric by a job of its own kind, run once and only when it is asked for.

    Args:
        model: The sealed model; the summary keeps it, so that nobody else may change its Params.
        dataset: The rows.
        values: What the policy released of the training, by the names in the algorithm's model; None where it released nothing, or
            the rows are not those of the training.

    Raises:
        UsageError: The dataset lacks a column, or has one of the model's output columns already.
    """

    ORIGINAL: ClassVar[type[Any]]
    # Output columns that are made even where the model's Param is empty, as in pyspark.ml.
    NEEDS: ClassVar[tuple[str, ...]] = ("predictionCol",)

    def __init__(self, model: Any, dataset: SecureDataFrame, values: dict[str, Any] | None = None) -> None:
        for name in self.NEEDS:
            if not converted(model, name):
                model._set(**{name: f"{name.removesuffix('Col')}_{model.uid}"})
        self._model = model
        self._dataset = dataset
        self._values = values
        require_columns(dataset, self._truth())
        self._predictions: SecureDataFrame = model.transform(dataset)

    @property
    def predictions(self) -> SecureDataFrame:
        """The rows with the model's output columns, sealed."""
        return self._predictions

    @property
    def featuresCol(self) -> str:
        """The features column."""
        return str(converted(self._model, "featuresCol"))

    @property
    def predictionCol(self) -> str:
        """The prediction column."""
        return str(converted(self._model, "predictionCol"))

    def _truth(self) -> dict[str, str]:
        """Return the columns, by role, that the dataset must have beside the features."""
        return {}

    def _released(self, name: str) -> Any:
        if self._values is None:
            raise SealedError(
                f"No training summary of this {type(self._model).__name__} was released.",
                next_step="Ask the owner for a policy with the output `summary`, and leave spark.securemllib.summary on.",
            )
        return self._values.get(name)

    def __getattr__(self, name: str) -> Any:
        return refuse_sealed(self, name, type(self).ORIGINAL)


class TrainingSummary(Summary):
    """What minimisations tell of themselves."""

    @property
    def objectiveHistory(self) -> list[float]:
        """The objective at the start and after each iteration; `SealedError` where the policy did not release it."""
        return list(self._released("objective_history"))

    @property
    def totalIterations(self) -> int:
        """Iterations of the minimisation; `SealedError` where the policy did not release them."""
        return max(len(self.objectiveHistory) - 1, 0)


class ClusteringSummary(Summary):
    """What the trainings of clusterings tell of themselves."""

    ORIGINAL = clustering.ClusteringSummary

    @property
    def cluster(self) -> SecureDataFrame:
        """The column of predicted clusters, sealed."""
        return self.predictions.select(self.predictionCol)

    @property
    def k(self) -> int:
        """How many clusters were asked for."""
        return int(self._model.getOrDefault("k"))

    @property
    def clusterSizes(self) -> list[int]:
        """Training rows of each cluster, 0 of each that was not found; `SealedError` where the policy did not release them."""
        sizes = [int(size) for size in self._released("cluster_sizes")]
        return sizes + [0] * (self.k - len(sizes))

    @property
    def numIter(self) -> int:
        """Steps; `SealedError` where the policy did not release them."""
        return int(self._released("num_iter"))


class KMeansSummary(ClusteringSummary):
    """Of the training of a `KMeans`."""

    ORIGINAL: ClassVar[type[Any]] = clustering.KMeansSummary

    @property
    def trainingCost(self) -> float:
        """The sum of squared distances to the nearest centre before the last step; `SealedError` where it was not released."""
        return float(self._released("training_cost"))


class BisectingKMeansSummary(KMeansSummary):
    """Of the training of a `BisectingKMeans`, whose cost is that of its leaves."""

    ORIGINAL = clustering.BisectingKMeansSummary


class GaussianMixtureSummary(ClusteringSummary):
    """Of the training of a `GaussianMixture`."""

    ORIGINAL = clustering.GaussianMixtureSummary
    NEEDS: ClassVar[tuple[str, ...]] = ("predictionCol", "probabilityCol")

    @property
    def probabilityCol(self) -> str:
        """The column of the clusters' probabilities."""
        return str(converted(self._model, "probabilityCol"))

    @property
    def probability(self) -> SecureDataFrame:
        """The column of the clusters' probabilities, sealed."""
        return self.predictions.select(self.probabilityCol)

    @property
    def logLikelihood(self) -> float:
        """The log likelihood before the last step; `SealedError` where the policy did not release it."""
        return float(self._released("log_likelihood"))
