"""Fitted features of words: count vectors and their weights."""

from typing import Any

from pyspark.ml import feature as original
from pyspark.ml.feature import _CountVectorizerParams, _IDFParams

from securemllib.ml.features.base import TOKENS, SecureFeatureEstimator, SecureFeatureModel
from securemllib.ml.features.plain import PlainCountVectorizerModel, PlainIDFModel
from securemllib.ml.mirror import mirrors

__all__ = ["IDF", "CountVectorizer", "CountVectorizerModel", "IDFModel"]


@mirrors(original.CountVectorizerModel)
class CountVectorizerModel(SecureFeatureModel, _CountVectorizerParams):
    """A sealed model of `CountVectorizer`."""

    ACCEPTS = TOKENS
    CHANGEABLE = ("minTF", "binary")

    def _plain(self, model: Any) -> PlainCountVectorizerModel:
        return PlainCountVectorizerModel(model)


@mirrors(original.CountVectorizer)
class CountVectorizer(SecureFeatureEstimator, _CountVectorizerParams):
    """Words counted over a learned vocabulary, as ``pyspark.ml.feature.CountVectorizer``."""

    MODEL = CountVectorizerModel


@mirrors(original.IDFModel)
class IDFModel(SecureFeatureModel, _IDFParams):
    """A sealed model of `IDF`."""

    def _plain(self, model: Any) -> PlainIDFModel:
        return PlainIDFModel(model)


@mirrors(original.IDF)
class IDF(SecureFeatureEstimator, _IDFParams):
    """Slots weighed by how few documents have them, as ``pyspark.ml.feature.IDF``."""

    MODEL = IDFModel
