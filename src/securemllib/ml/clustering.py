"""Clusterings, named as in ``pyspark.ml.clustering``."""

from typing import Any, ClassVar

from pyspark.ml import clustering as original
from pyspark.ml.clustering import _GaussianMixtureParams, _KMeansParams
from pyspark.sql.types import IntegerType

from securemllib.ml.base import SecureEstimator, SecureModel
from securemllib.ml.mirror import mirrors
from securemllib.ml.plain import PlainGaussianMixtureModel, PlainKMeansModel
from securemllib.ml.summaries import GaussianMixtureSummary, KMeansSummary
from securemllib.ml.topics import LDA, DistributedLDAModel, LDAModel, LocalLDAModel

__all__ = [
    "LDA",
    "DistributedLDAModel",
    "GaussianMixture",
    "GaussianMixtureModel",
    "GaussianMixtureSummary",
    "KMeans",
    "KMeansModel",
    "KMeansSummary",
    "LDAModel",
    "LocalLDAModel",
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
class KMeans(SecureEstimator, _KMeansParams):
    """K-Means with k-means||, as ``pyspark.ml.clustering.KMeans``."""

    MODEL = KMeansModel


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
