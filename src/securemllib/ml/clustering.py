"""Clusterings, named as in ``pyspark.ml.clustering``."""

from typing import Any

from pyspark.ml import clustering as original
from pyspark.ml.clustering import _KMeansParams
from pyspark.sql.types import IntegerType

from securemllib.ml.base import SecureEstimator, SecureModel
from securemllib.ml.mirror import mirrors
from securemllib.ml.plain import PlainKMeansModel
from securemllib.ml.summaries import KMeansSummary
from securemllib.ml.topics import LDA, DistributedLDAModel, LDAModel, LocalLDAModel

__all__ = ["LDA", "DistributedLDAModel", "KMeans", "KMeansModel", "KMeansSummary", "LDAModel", "LocalLDAModel"]


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
