"""Texts to words, words to others, and terms and columns hashed to slots."""

from typing import Any, ClassVar

from pyspark import SparkContext
from pyspark.ml import feature as original
from pyspark.ml.param.shared import HasInputCol, HasInputCols, HasNumFeatures, HasOutputCol, HasOutputCols
from pyspark.sql.types import ArrayType, DataType, StringType

from securemllib.ml.features.base import ANYTHING, TEXT, TOKENS, SecureTransformer
from securemllib.ml.mirror import mirrors
from securemllib.spark.column_types import VECTOR

__all__ = ["FeatureHasher", "HashingTF", "NGram", "RegexTokenizer", "StopWordsRemover", "Tokenizer"]

_FEATURES = 1 << 18


class SecureWordTransformer(SecureTransformer):
    """A transformer whose output is lists of words."""

    ACCEPTS = TOKENS

    def _output_type(self, kind: DataType | None) -> DataType:
        del kind
        return ArrayType(StringType())


@mirrors(original.Tokenizer)
class Tokenizer(SecureWordTransformer, HasInputCol, HasOutputCol):
    """Texts to their words in lower case, as ``pyspark.ml.feature.Tokenizer``."""

    ACCEPTS = TEXT


@mirrors(original.RegexTokenizer)
class RegexTokenizer(SecureWordTransformer, HasInputCol, HasOutputCol):
    """Texts to words by a pattern, as ``pyspark.ml.feature.RegexTokenizer``; patterns that RE2 cannot match are refused."""

    ACCEPTS = TEXT
    DEFAULTS: ClassVar[dict[str, Any]] = {"minTokenLength": 1, "gaps": True, "pattern": "\\s+", "toLowercase": True}


@mirrors(original.StopWordsRemover)
class StopWordsRemover(SecureWordTransformer, HasInputCol, HasOutputCol, HasInputCols, HasOutputCols):
    """Words without stop words, as ``pyspark.ml.feature.StopWordsRemover``."""

    def __init__(self) -> None:
        super().__init__()
        words = original.StopWordsRemover.loadDefaultStopWords("english")
        self._setDefault(stopWords=words, caseSensitive=False, locale=_default_locale())

    loadDefaultStopWords = staticmethod(original.StopWordsRemover.loadDefaultStopWords)


def _default_locale() -> str:
    context = SparkContext._active_spark_context
    machine: Any = None if context is None else context._jvm
    return "en_US" if machine is None else str(machine.java.util.Locale.getDefault().toString())


@mirrors(original.NGram)
class NGram(SecureWordTransformer, HasInputCol, HasOutputCol):
    """Neighbouring words joined, as ``pyspark.ml.feature.NGram``."""

    DEFAULTS: ClassVar[dict[str, Any]] = {"n": 2}


@mirrors(original.HashingTF)
class HashingTF(SecureTransformer, HasInputCol, HasOutputCol, HasNumFeatures):
    """Words counted at hashed slots of a sparse vector, as ``pyspark.ml.feature.HashingTF``."""

    ACCEPTS = TOKENS
    DEFAULTS: ClassVar[dict[str, Any]] = {"numFeatures": _FEATURES, "binary": False}

    def indexOf(self, term: str) -> int:
        """Return the slot of a term."""
        import pyarrow as pa

        from securemllib.algorithms.feature.murmur import indices_of

        return int(indices_of(pa.array([term], pa.string()), self.getNumFeatures())[0])


@mirrors(original.FeatureHasher)
class FeatureHasher(SecureTransformer, HasInputCols, HasOutputCol, HasNumFeatures):
    """Columns of numbers, texts and booleans at hashed slots of a sparse vector, as ``pyspark.ml.feature.FeatureHasher``."""

    ACCEPTS = ANYTHING
    DEFAULTS: ClassVar[dict[str, Any]] = {"numFeatures": _FEATURES}

    def _output_type(self, kind: DataType | None) -> DataType:
        del kind
        return VECTOR
