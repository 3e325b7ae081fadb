"""Evaluators, named as in ``pyspark.ml.evaluation``: the metric leaves the enclave if the policy has the output ``metric``."""

from collections.abc import Sequence
from typing import Any, ClassVar, cast

from pyspark.ml import evaluation as original
from pyspark.ml.evaluation import Evaluator
from pyspark.ml.param.shared import (
    HasFeaturesCol,
    HasLabelCol,
    HasPredictionCol,
    HasProbabilityCol,
    HasRawPredictionCol,
    HasWeightCol,
)
from pyspark.sql.types import ArrayType, DoubleType

from securemllib.algorithms.registry import ALGORITHMS, types_of
from securemllib.errors import FormatError
from securemllib.ml.checks import inputs_of, job_params, require_columns, require_sealed
from securemllib.ml.features.base import Kind, require_kind
from securemllib.ml.mirror import mirrors
from securemllib.ml.persistence import Persistent
from securemllib.ml.release import summary_values
from securemllib.spark.dataframe import SecureDataFrame
from securemllib.spark.jobs import Request
from securemllib.wire.encoding import Value
from securemllib.wire.job import OutputKind

__all__ = [
    "BinaryClassificationEvaluator",
    "ClusteringEvaluator",
    "MulticlassClassificationEvaluator",
    "MultilabelClassificationEvaluator",
    "RankingEvaluator",
    "RegressionEvaluator",
]

_LISTS = Kind("of type array<double>", lambda kind: isinstance(kind, ArrayType) and isinstance(kind.elementType, DoubleType))


class SecureEvaluator(Evaluator, Persistent):
    """An evaluator whose metric is computed in enclaves."""

    ORIGINAL: ClassVar[type[Any]]
    ROLES: ClassVar[dict[str, str]]
    DEFAULTS: ClassVar[dict[str, Any]]
    SMALLER_IS_BETTER: ClassVar[frozenset[str]] = frozenset()

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(**self.DEFAULTS)

    def isLargerBetter(self) -> bool:
        """Return whether a larger metric is better."""
        return self.getOrDefault("metricName") not in self.SMALLER_IS_BETTER

    def _roles(self) -> dict[str, str]:
        return self.ROLES

    def summarise(self, dataset: Any) -> Any:
        """Return the evaluation with all of its metrics and curves; the policy must have the output ``summary``.

        Raises:
            PolicyError: No rule allows it; the reason names each rule and what it lacks.
        """
        model = types_of(ALGORITHMS[type(self).__name__])[2]
        return model(**summary_values(type(self).__name__, self._run([dataset], OutputKind.SUMMARY)[0]))

    def evaluate_together(self, datasets: Sequence[Any]) -> list[float]:
        """Return the metric of each dataset; those of one source are read once for all."""
        found = self._run(datasets, OutputKind.METRIC)
        if not all(type(value) is float for value in found):
            raise FormatError(f"A metric of {type(self).__name__} is no number.")
        return cast("list[float]", found)

    def _evaluate(self, dataset: Any) -> float:
        return self.evaluate_together([dataset])[0]

    def _run(self, datasets: Sequence[Any], output: OutputKind) -> list[Value]:
        frames = [require_sealed(dataset, f"{type(self).__name__}.evaluate") for dataset in datasets]
        outcomes = frames[0].session.run_together([(frame, self._request(frame, output)) for frame in frames]) if frames else []
        return [outcome.trees.get(output) for outcome in outcomes]

    def _request(self, frame: SecureDataFrame, output: OutputKind) -> Request:
        operation, inputs = type(self).__name__, inputs_of(self, self._roles())
        params = job_params(operation, self)
        self._require(frame, inputs)
        # A metric is compared between models that may differ in the last digits.
        return Request(operation=operation, params=params, inputs=inputs, plan=frame.plan, outputs=((output, None, ()),), dtype="float64")

    def _require(self, frame: SecureDataFrame, inputs: dict[str, str]) -> None:
        """Raise unless each column exists and is of its kind; where the owner hides columns the enclave checks."""
        require_columns(frame, inputs)


@mirrors(original.BinaryClassificationEvaluator)
class BinaryClassificationEvaluator(SecureEvaluator, HasLabelCol, HasRawPredictionCol, HasWeightCol):
    """Areas under the ROC and precision-recall curves, as ``pyspark.ml.evaluation.BinaryClassificationEvaluator``."""

    ROLES: ClassVar[dict[str, str]] = {"rawPredictionCol": "features", "labelCol": "label", "weightCol": "weight"}
    DEFAULTS: ClassVar[dict[str, Any]] = {"metricName": "areaUnderROC", "numBins": 1000}


@mirrors(original.MulticlassClassificationEvaluator)
class MulticlassClassificationEvaluator(SecureEvaluator, HasLabelCol, HasPredictionCol, HasWeightCol, HasProbabilityCol):
    """Metrics of a classification, as ``pyspark.ml.evaluation.MulticlassClassificationEvaluator``."""

    ROLES: ClassVar[dict[str, str]] = {"predictionCol": "prediction", "labelCol": "label", "weightCol": "weight"}
    DEFAULTS: ClassVar[dict[str, Any]] = {"metricName": "f1", "metricLabel": 0.0, "beta": 1.0, "eps": 1e-15}
    SMALLER_IS_BETTER = frozenset({"weightedFalsePositiveRate", "falsePositiveRateByLabel", "logLoss", "hammingLoss"})

    def _roles(self) -> dict[str, str]:
        needs_probability = self.getOrDefault("metricName") == "logLoss"
        return {**self.ROLES, "probabilityCol": "features"} if needs_probability else self.ROLES


@mirrors(original.RegressionEvaluator)
class RegressionEvaluator(SecureEvaluator, HasLabelCol, HasPredictionCol, HasWeightCol):
    """Metrics of a regression, as ``pyspark.ml.evaluation.RegressionEvaluator``."""

    ROLES: ClassVar[dict[str, str]] = {"predictionCol": "prediction", "labelCol": "label", "weightCol": "weight"}
    DEFAULTS: ClassVar[dict[str, Any]] = {"metricName": "rmse", "throughOrigin": False}
    SMALLER_IS_BETTER = frozenset({"rmse", "mse", "mae"})


@mirrors(original.ClusteringEvaluator)
class ClusteringEvaluator(SecureEvaluator, HasPredictionCol, HasFeaturesCol, HasWeightCol):
    """The silhouette, as ``pyspark.ml.evaluation.ClusteringEvaluator``."""

    ROLES: ClassVar[dict[str, str]] = {"featuresCol": "features", "predictionCol": "prediction", "weightCol": "weight"}
    DEFAULTS: ClassVar[dict[str, Any]] = {"metricName": "silhouette", "distanceMeasure": "squaredEuclidean"}


class SecureListsEvaluator(SecureEvaluator, HasLabelCol, HasPredictionCol):
    """An evaluator of lists of predictions and of labels, which enclaves read as they are."""

    ROLES: ClassVar[dict[str, str]] = {"predictionCol": "input0", "labelCol": "input1"}

    def _require(self, frame: SecureDataFrame, inputs: dict[str, str]) -> None:
        require_kind(frame, list(inputs.values()), _LISTS)


@mirrors(original.MultilabelClassificationEvaluator)
class MultilabelClassificationEvaluator(SecureListsEvaluator):
    """Metrics of a classification with several labels a row, as ``pyspark.ml.evaluation.MultilabelClassificationEvaluator``."""

    DEFAULTS: ClassVar[dict[str, Any]] = {"metricName": "f1Measure", "metricLabel": 0.0}
    SMALLER_IS_BETTER = frozenset({"hammingLoss"})


@mirrors(original.RankingEvaluator)
class RankingEvaluator(SecureListsEvaluator):
    """Metrics of rankings, as ``pyspark.ml.evaluation.RankingEvaluator``."""

    DEFAULTS: ClassVar[dict[str, Any]] = {"metricName": "meanAveragePrecision", "k": 10}
