"""Fitted features of words: count vectors and their weights, and vectors of words."""

from typing import Any, Self

from pyspark.ml import feature as original
from pyspark.ml.feature import _CountVectorizerParams, _IDFParams, _Word2VecParams

from securemllib.errors import UsageError
from securemllib.ml.features.base import TOKENS, SecureFeatureEstimator, SecureFeatureModel
from securemllib.ml.features.plain import PlainCountVectorizerModel, PlainIDFModel, PlainWord2VecModel
from securemllib.ml.mirror import mirrors

__all__ = ["IDF", "CountVectorizer", "CountVectorizerModel", "IDFModel", "Word2Vec", "Word2VecModel"]


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


@mirrors(original.Word2VecModel)
class Word2VecModel(SecureFeatureModel, _Word2VecParams):
    """A sealed model of `Word2Vec`."""

    ACCEPTS = TOKENS

    @property
    def getVectors(self) -> Any:
        """Refuse: vectors are sealed, and there is no Param of that name, of which `mirrors` would take the getter."""
        # What has no attribute is asked for by `__getattr__`, which says that it is sealed.
        raise AttributeError("getVectors")

    def _plain(self, model: Any) -> PlainWord2VecModel:
        return PlainWord2VecModel(model)


@mirrors(original.Word2Vec)
class Word2Vec(SecureFeatureEstimator, _Word2VecParams):
    """Vectors of words by those that stand near them, as ``pyspark.ml.feature.Word2Vec``."""

    MODEL = Word2VecModel
