"""Texts to category indices and back, and indices to one-hot vectors."""

from typing import Any

from pyspark.ml import feature as original
from pyspark.ml.feature import _OneHotEncoderParams, _StringIndexerParams
from pyspark.sql.types import DataType, DoubleType

from securemllib.ml.checks import require_sealed
from securemllib.ml.features.base import CATEGORY, NUMBER, SecureFeatureEstimator, SecureFeatureModel, columns_of
from securemllib.ml.features.plain import PlainOneHotEncoderModel, PlainStringIndexerModel
from securemllib.ml.mirror import mirrors

__all__ = ["OneHotEncoder", "OneHotEncoderModel", "StringIndexer", "StringIndexerModel"]


@mirrors(original.StringIndexerModel)
class StringIndexerModel(SecureFeatureModel, _StringIndexerParams):
    """A sealed model of `StringIndexer`; input columns that the rows lack are passed over, as in pyspark.ml."""

    ACCEPTS = CATEGORY
    CHANGEABLE = ("handleInvalid",)

    def _transform(self, dataset: Any) -> Any:
        frame = require_sealed(dataset, "StringIndexerModel.transform")
        inputs, outputs = columns_of(self)[0], self._outputs(self)
        present = [index for index, name in enumerate(inputs) if not frame.has_schema or name in frame.columns]
        if not present:
            return frame
        stems = {f"output{index}": outputs[f"output{index}"] for index in present}
        return self._applied(frame, [inputs[index] for index in present], stems, {"present": tuple(present)})

    def _output_type(self, kind: DataType | None) -> DataType:
        del kind
        return DoubleType()

    def _plain(self, model: Any) -> PlainStringIndexerModel:
        return PlainStringIndexerModel(model)


@mirrors(original.StringIndexer)
class StringIndexer(SecureFeatureEstimator, _StringIndexerParams):
    """Texts to indices by frequency or alphabet, as ``pyspark.ml.feature.StringIndexer``."""

    MODEL = StringIndexerModel


@mirrors(original.OneHotEncoderModel)
class OneHotEncoderModel(SecureFeatureModel, _OneHotEncoderParams):
    """A sealed model of `OneHotEncoder`."""

    ACCEPTS = NUMBER
    CHANGEABLE = ("dropLast", "handleInvalid")

    def _plain(self, model: Any) -> PlainOneHotEncoderModel:
        return PlainOneHotEncoderModel(model)


@mirrors(original.OneHotEncoder)
class OneHotEncoder(SecureFeatureEstimator, _OneHotEncoderParams):
    """Indices to sparse vectors with a single 1, as ``pyspark.ml.feature.OneHotEncoder``."""

    MODEL = OneHotEncoderModel
