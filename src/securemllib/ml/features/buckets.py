"""Numbers to 0 and 1, to buckets, and indices to labels."""

from typing import Any, ClassVar

from pyspark.ml import feature as original
from pyspark.ml.param.shared import HasHandleInvalid, HasInputCol, HasInputCols, HasOutputCol, HasOutputCols, HasThreshold, HasThresholds
from pyspark.sql.types import DataType, DoubleType, StringType

from securemllib.ml.features.base import NUMBER, NUMBER_OR_VECTOR, SecureTransformer
from securemllib.ml.mirror import mirrors
from securemllib.spark.column_types import VECTOR, is_vector

__all__ = ["Binarizer", "Bucketizer", "IndexToString"]


@mirrors(original.Binarizer)
class Binarizer(SecureTransformer, HasThreshold, HasThresholds, HasInputCol, HasOutputCol, HasInputCols, HasOutputCols):
    """Numbers to 0 and 1 by a threshold, as ``pyspark.ml.feature.Binarizer``."""

    threshold = original.Binarizer.threshold
    thresholds = original.Binarizer.thresholds
    ACCEPTS = NUMBER_OR_VECTOR
    DEFAULTS: ClassVar[dict[str, Any]] = {"threshold": 0.0}

    def _output_type(self, kind: DataType | None) -> DataType:
        return VECTOR if kind is not None and is_vector(kind) else DoubleType()


@mirrors(original.Bucketizer)
class Bucketizer(SecureTransformer, HasInputCol, HasOutputCol, HasInputCols, HasOutputCols, HasHandleInvalid):
    """Numbers to the index of their bucket, as ``pyspark.ml.feature.Bucketizer``."""

    handleInvalid = original.Bucketizer.handleInvalid
    ACCEPTS = NUMBER
    SINGLE = ("splits",)
    MULTIPLE = ("splitsArray",)
    DEFAULTS: ClassVar[dict[str, Any]] = {"handleInvalid": "error"}

    def _output_type(self, kind: DataType | None) -> DataType:
        del kind
        return DoubleType()


@mirrors(original.IndexToString)
class IndexToString(SecureTransformer, HasInputCol, HasOutputCol):
    """Indices to their labels, as ``pyspark.ml.feature.IndexToString``."""

    ACCEPTS = NUMBER

    def _output_type(self, kind: DataType | None) -> DataType:
        del kind
        return StringType()
