"""Clusterings, named as in ``pyspark.ml.clustering``."""

import warnings
from typing import Any, ClassVar

from pyspark.ml import clustering as original
from pyspark.ml.clustering import _BisectingKMeansParams, _GaussianMixtureParams, _KMeansParams
from pyspark.sql.types import DoubleType, IntegerType

from securemllib.ml.base import SecureEstimator, SecureModel
from securemllib.ml.checks import inputs_of, require_columns, require_sealed
from securemllib.ml.mirror import mirrors
from securemllib.ml.plain import PlainGaussianMixtureModel, PlainKMeansModel
from securemllib.ml.power_iteration import PowerIterationClustering
from securemllib.ml.stat import summarised
from securemllib.ml.summaries import BisectingKMeansSummary, GaussianMixtureSummary, KMeansSummary
from securemllib.ml.topics import LDA, DistributedLDAModel, LDAModel, LocalLDAModel
from securemllib.ml.updating import UpdatingEstimator
from securemllib.wire.plan import ApplyModel

__all__ = [
    "LDA",
    "BisectingKMeans",
    "BisectingKMeansModel",
    "BisectingKMeansSummary",
    "DistributedLDAModel",
    "GaussianMixture",
    "GaussianMixtureModel",
    "GaussianMixtureSummary",
    "KMeans",
    "KMeansModel",
    "KMeansSummary",
    "LDAModel",
    "LocalLDAModel",
    "PowerIterationClustering",
]


@mirrors(original.KMeansModel)
class KMeansModel(SecureModel, _KMeansParams):
    """A sealed model of `KMeans`."""

    SUMMARY = KMeansSummary

    def _type_of(self, stem: str) -> Any:
        del stem
        return IntegerType()

    def _plain(self, model: Any) -> PlainKMeansModel:
        return PlainKMeansModel(model)


@mirrors(original.KMeans)
class KMeans(UpdatingEstimator, _KMeansParams):
    """K-Means with k-means||, as ``pyspark.ml.clustering.KMeans``."""

    MODEL = KMeansModel

    def update(self, model: SecureModel | None, dataset: Any, *, decayFactor: float = 1.0) -> KMeansModel:
        """Return the clusters moved by a batch, with ``maxIter=1`` as ``pyspark.mllib.clustering.StreamingKMeans`` moves them.

        Args:
            model: See `UpdatingEstimator.update`; ``k`` is that of the model.
            dataset: See there.
            decayFactor: What the rows so far count, from 0 (nothing) to 1 (as much as the batch's).
        """
        moved: KMeansModel = self._updated(model, dataset, {"decayFactor": float(decayFactor)})
        return moved


@mirrors(original.BisectingKMeansModel)
class BisectingKMeansModel(SecureModel, _BisectingKMeansParams):
    """A sealed model of `BisectingKMeans`."""

    SUMMARY = BisectingKMeansSummary

    def computeCost(self, dataset: Any) -> float:
        """Return the sum of squared distances of rows to the centres of their clusters, weights or not; deprecated in pyspark.ml.

        The policy must have the output ``summary`` for the operation ``Summarizer``.
        """
        warnings.warn("Deprecated in 3.0.0. Use ClusteringEvaluator, or trainingCost of the summary.", FutureWarning, stacklevel=2)
        frame = require_sealed(dataset, f"{type(self).__name__}.computeCost")
        inputs, column = inputs_of(self, {"featuresCol": "features"}), f"cost_{self.uid}"
        require_columns(frame, inputs)
        step = ApplyModel(model=self.sealed.reference, input_columns=(inputs["features"],), outputs={"cost": column}, params={"cost": True})
        scored = frame.apply(step, {column: DoubleType()}, self.sealed, self._pieces)
        return float(summarised(scored, column).sum[0])

    def _type_of(self, stem: str) -> Any:
        del stem
        return IntegerType()

    def _plain(self, model: Any) -> PlainKMeansModel:
        return PlainKMeansModel(model)


@mirrors(original.BisectingKMeans)
class BisectingKMeans(SecureEstimator, _BisectingKMeansParams):
    """Clusters divided in two, level by level, as ``pyspark.ml.clustering.BisectingKMeans``."""

    MODEL = BisectingKMeansModel


@mirrors(original.GaussianMixtureModel)
class GaussianMixtureModel(SecureModel, _GaussianMixtureParams):
    """A sealed model of `GaussianMixture`."""

    OUTPUTS: ClassVar[dict[str, str]] = {"probability": "probabilityCol", "prediction": "predictionCol"}
    SUMMARY = GaussianMixtureSummary

    def _type_of(self, stem: str) -> Any:
        return IntegerType() if stem == "prediction" else super()._type_of(stem)

    def _plain(self, model: Any) -> PlainGaussianMixtureModel:
        return PlainGaussianMixtureModel(model)


@mirrors(original.GaussianMixture)
class GaussianMixture(SecureEstimator, _GaussianMixtureParams):
    """Expectation maximisation, as ``pyspark.ml.clustering.GaussianMixture``."""

    MODEL = GaussianMixtureModel
