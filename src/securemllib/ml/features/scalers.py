"""Fitted features of numbers and vectors: scaling, gaps, quantile buckets and nominal slots."""

from typing import Any, ClassVar

from pyspark.ml import feature as original
from pyspark.ml.feature import _ImputerParams, _MaxAbsScalerParams, _MinMaxScalerParams, _RobustScalerParams, _VectorIndexerParams
from pyspark.ml.param.shared import HasHandleInvalid, HasInputCol, HasInputCols, HasOutputCol, HasOutputCols, HasRelativeError
from pyspark.sql.types import DataType, DoubleType

from securemllib.errors import UsageError
from securemllib.ml.base import SecureModel
from securemllib.ml.features.base import NUMBER, SecureFeatureEstimator, SecureFeatureModel, columns_of
from securemllib.ml.features.buckets import Bucketizer
from securemllib.ml.features.plain import (
    PlainImputerModel,
    PlainMaxAbsScalerModel,
    PlainMinMaxScalerModel,
    PlainRobustScalerModel,
    PlainVectorIndexerModel,
)
from securemllib.ml.mirror import mirrors
from securemllib.spark.dataframe import SecureDataFrame
from securemllib.spark.jobs import Outcome
from securemllib.spark.session import SecureSession
from securemllib.wire.result import SealedModel

__all__ = [
    "Imputer",
    "ImputerModel",
    "MaxAbsScaler",
    "MaxAbsScalerModel",
    "MinMaxScaler",
    "MinMaxScalerModel",
    "QuantileDiscretizer",
    "QuantileDiscretizerModel",
    "RobustScaler",
    "RobustScalerModel",
    "VectorIndexer",
    "VectorIndexerModel",
]


@mirrors(original.MinMaxScalerModel)
class MinMaxScalerModel(SecureFeatureModel, _MinMaxScalerParams):
    """A sealed model of `MinMaxScaler`."""

    CHANGEABLE = ("min", "max")

    def _plain(self, model: Any) -> PlainMinMaxScalerModel:
        return PlainMinMaxScalerModel(model)


@mirrors(original.MinMaxScaler)
class MinMaxScaler(SecureFeatureEstimator, _MinMaxScalerParams):
    """Slots moved and stretched to a range, as ``pyspark.ml.feature.MinMaxScaler``."""

    MODEL = MinMaxScalerModel


@mirrors(original.MaxAbsScalerModel)
class MaxAbsScalerModel(SecureFeatureModel, _MaxAbsScalerParams):
    """A sealed model of `MaxAbsScaler`."""

    def _plain(self, model: Any) -> PlainMaxAbsScalerModel:
        return PlainMaxAbsScalerModel(model)


@mirrors(original.MaxAbsScaler)
class MaxAbsScaler(SecureFeatureEstimator, _MaxAbsScalerParams):
    """Slots over their largest absolute value, as ``pyspark.ml.feature.MaxAbsScaler``."""

    MODEL = MaxAbsScalerModel


@mirrors(original.RobustScalerModel)
class RobustScalerModel(SecureFeatureModel, _RobustScalerParams):
    """A sealed model of `RobustScaler`."""

    CHANGEABLE = ("withCentering", "withScaling")

    def _plain(self, model: Any) -> PlainRobustScalerModel:
        return PlainRobustScalerModel(model)


@mirrors(original.RobustScaler)
class RobustScaler(SecureFeatureEstimator, _RobustScalerParams):
    """Slots centred and scaled by quantiles, as ``pyspark.ml.feature.RobustScaler``."""

    MODEL = RobustScalerModel


@mirrors(original.ImputerModel)
class ImputerModel(SecureFeatureModel, _ImputerParams):
    """A sealed model of `Imputer`."""

    ACCEPTS = NUMBER
    CHANGEABLE = ("missingValue",)
    REPLACES = True

    def _output_type(self, kind: DataType | None) -> DataType:
        return DoubleType() if kind is None else kind

    def _plain(self, model: Any) -> PlainImputerModel:
        return PlainImputerModel(model, columns_of(self)[0])


@mirrors(original.Imputer)
class Imputer(SecureFeatureEstimator, _ImputerParams):
    """Gaps filled with mean, median or mode, as ``pyspark.ml.feature.Imputer``."""

    MODEL = ImputerModel


@mirrors(original.VectorIndexerModel)
class VectorIndexerModel(SecureFeatureModel, _VectorIndexerParams):
    """A sealed model of `VectorIndexer`."""

    CHANGEABLE = ("handleInvalid",)

    def _plain(self, model: Any) -> PlainVectorIndexerModel:
        return PlainVectorIndexerModel(model)


@mirrors(original.VectorIndexer)
class VectorIndexer(SecureFeatureEstimator, _VectorIndexerParams):
    """Slots with few values to categories, as ``pyspark.ml.feature.VectorIndexer``."""

    MODEL = VectorIndexerModel


class QuantileDiscretizerModel(  # noqa: N818 - HasRelativeError is no exception
    SecureFeatureModel, HasInputCol, HasOutputCol, HasInputCols, HasOutputCols, HasHandleInvalid, HasRelativeError
):
    """A sealed model of `QuantileDiscretizer`: a `Bucketizer` whose splits, quantiles of the data, are read from what `release` gives."""

    ORIGINAL = original.Bucketizer
    handleInvalid = original.QuantileDiscretizer.handleInvalid
    numBuckets = original.QuantileDiscretizer.numBuckets
    numBucketsArray = original.QuantileDiscretizer.numBucketsArray
    ACCEPTS = NUMBER
    CHANGEABLE = ("handleInvalid",)

    def __init__(self, sealed: SealedModel | None = None, session: SecureSession | None = None) -> None:
        super().__init__(sealed, session)
        # That of the estimator, which a saved model does not name.
        self._setDefault(handleInvalid="error")

    def setHandleInvalid(self, value: str) -> "QuantileDiscretizerModel":
        """Sets the value of `handleInvalid`."""
        return self._set(handleInvalid=value)

    def _output_type(self, kind: DataType | None) -> DataType:
        del kind
        return DoubleType()

    def _plain(self, model: Any) -> Bucketizer:
        inputs, outputs = columns_of(self)
        splits = [list(found) for found in model.splits]
        if self.isSet("inputCol"):
            given: dict[str, Any] = {"inputCol": inputs[0], "outputCol": outputs[0], "splits": splits[0]}
        else:
            given = {"inputCols": inputs, "outputCols": outputs, "splitsArray": splits}
        return Bucketizer()._set(handleInvalid=self.getOrDefault("handleInvalid"), **given)


Bucketizer.register(QuantileDiscretizerModel)


@mirrors(original.QuantileDiscretizer)
class QuantileDiscretizer(  # noqa: N818 - HasRelativeError is no exception
    SecureFeatureEstimator, HasInputCol, HasOutputCol, HasInputCols, HasOutputCols, HasHandleInvalid, HasRelativeError
):
    """Numbers to buckets between quantiles, as ``pyspark.ml.feature.QuantileDiscretizer``; its model is sealed."""

    MODEL = QuantileDiscretizerModel
    handleInvalid = original.QuantileDiscretizer.handleInvalid
    DEFAULTS: ClassVar[dict[str, Any]] = {"numBuckets": 2, "relativeError": 0.001, "handleInvalid": "error"}

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(**self.DEFAULTS)

    def _inputs(self, frame: SecureDataFrame) -> dict[str, str]:
        inputs = super()._inputs(frame)
        several = self.getOrDefault("numBucketsArray") if self.isSet("numBucketsArray") else None
        if several is not None and (not self.isSet("inputCols") or len(several) != len(inputs)):
            raise UsageError(f"numBucketsArray has {len(several)} numbers for {len(inputs)} inputCols.", code="usage.param")
        return inputs

    def _trained(self, frame: SecureDataFrame, outcome: Outcome) -> SecureModel:
        # As in MLlib the model is a Bucketizer by its name, too.
        model = super()._trained(frame, outcome)
        model._resetUid(Bucketizer().uid)
        return model
