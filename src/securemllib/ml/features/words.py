"""Fitted features of words: count vectors and their weights."""

from typing import Any, Self

from pyspark.ml import feature as original
from pyspark.ml.feature import _CountVectorizerParams, _IDFParams

from securemllib.errors import UsageError
from securemllib.ml.features.base import TOKENS, SecureFeatureEstimator, SecureFeatureModel
from securemllib.ml.features.plain import PlainCountVectorizerModel, PlainIDFModel
from securemllib.ml.mirror import mirrors

__all__ = ["IDF", "CountVectorizer", "CountVectorizerModel", "IDFModel"]


@mirrors(original.CountVectorizerModel)
class CountVectorizerModel(SecureFeatureModel, _CountVectorizerParams):
    """A sealed model of `CountVectorizer`."""

    ACCEPTS = TOKENS
    CHANGEABLE = ("minTF", "binary")
    # Of a given vocabulary; a learned one is sealed.
    vocabulary: list[str]

    @classmethod
    def from_vocabulary(
        cls, vocabulary: list[str], inputCol: str, outputCol: str | None = None, minTF: float | None = None, binary: bool | None = None
    ) -> Self:
        """Return the model of a given vocabulary, which nothing is trained for; it becomes part of jobs, which the host sees."""
        if not vocabulary:
            raise UsageError("Vocabulary list cannot be empty.", code="usage.param")
        params = {"inputCol": inputCol, "outputCol": outputCol, "minTF": minTF, "binary": binary}
        model = cls()._set(**{name: value for name, value in params.items() if value is not None})
        return model._give({"vocabulary": tuple(vocabulary)})

    def _give(self, given: dict[str, Any]) -> Self:
        self.vocabulary = list(given["vocabulary"])
        return super()._give(given)

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
