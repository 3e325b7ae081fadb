"""Texts to category indices and back, and indices to one-hot vectors."""

from typing import Any, Self

from pyspark.ml import feature as original
from pyspark.ml.feature import _OneHotEncoderParams, _StringIndexerParams, _TargetEncoderParams
from pyspark.ml.param import Params
from pyspark.sql.types import DataType, DoubleType

from securemllib.errors import UsageError
from securemllib.ml.checks import require_sealed
from securemllib.ml.features.base import CATEGORY, NUMBER, SecureFeatureEstimator, SecureFeatureModel, columns_of, require_kind
from securemllib.ml.features.plain import PlainOneHotEncoderModel, PlainStringIndexerModel, PlainTargetEncoderModel
from securemllib.ml.mirror import converted, frozen, mirrors
from securemllib.spark.dataframe import SecureDataFrame

__all__ = [
    "OneHotEncoder",
    "OneHotEncoderModel",
    "StringIndexer",
    "StringIndexerModel",
    "TargetEncoder",
    "TargetEncoderModel",
]


@mirrors(original.StringIndexerModel)
class StringIndexerModel(SecureFeatureModel, _StringIndexerParams):
    """A sealed model of `StringIndexer`; input columns that the rows lack are passed over, as in pyspark.ml."""

    ACCEPTS = CATEGORY
    CHANGEABLE = ("handleInvalid",)
    # Of given labels; learned ones are sealed.
    labels: list[str]
    labelsArray: list[list[str]]

    @classmethod
    def from_labels(cls, labels: list[str], inputCol: str, outputCol: str | None = None, handleInvalid: str | None = None) -> Self:
        """Return the model of given labels, which nothing is trained for; they become part of jobs, which the host sees."""
        return cls._of([labels], inputCol=inputCol, outputCol=outputCol, handleInvalid=handleInvalid)

    @classmethod
    def from_arrays_of_labels(
        cls, arrayOfLabels: list[list[str]], inputCols: list[str], outputCols: list[str] | None = None, handleInvalid: str | None = None
    ) -> Self:
        """Return the model of given labels of several columns, which nothing is trained for; the host sees them."""
        return cls._of(arrayOfLabels, inputCols=inputCols, outputCols=outputCols, handleInvalid=handleInvalid)

    @classmethod
    def _of(cls, labels: list[list[str]], **params: Any) -> Self:
        model = cls()._set(**{name: value for name, value in params.items() if value is not None})
        return model._give({"labels": frozen(labels)})

    def _give(self, given: dict[str, Any]) -> Self:
        self.labelsArray = [list(labels) for labels in given["labels"]]
        self.labels = self.labelsArray[0]
        return super()._give(given)

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


def _encoded(params: Params) -> dict[str, str]:
    """Return the outputs by the inputs of a target encoding, named after these where nothing else is set, as in pyspark.ml."""
    found = []
    for single, multiple in (("inputCol", "inputCols"), ("outputCol", "outputCols")):
        if params.isSet(single) and params.isSet(multiple):
            raise UsageError(f"{single} does not go with {multiple}.", code="usage.param")
        several = converted(params, multiple) if params.isSet(multiple) else ()
        found.append((converted(params, single),) if params.isSet(single) else several)
    inputs, outputs = found
    outputs = outputs or tuple(f"{name}_indexed" for name in inputs)
    if not inputs or len({*inputs}) != len(inputs) or len({*outputs}) != len(inputs) or len(outputs) != len(inputs):
        raise UsageError(
            f"A target encoding has {len(inputs)} input columns and {len({*outputs})} distinct output columns.", code="usage.param"
        )
    return dict(zip(inputs, outputs, strict=True))


@mirrors(original.TargetEncoderModel)
class TargetEncoderModel(SecureFeatureModel, _TargetEncoderParams):
    """A sealed model of `TargetEncoder`."""

    ACCEPTS = NUMBER
    CHANGEABLE = ("handleInvalid", "smoothing")
    REPLACES = True

    @classmethod
    def _outputs(cls, params: Params) -> dict[str, str]:
        return {f"output{index}": name for index, name in enumerate(_encoded(params).values())}

    def _transform(self, dataset: Any) -> Any:
        frame = require_sealed(dataset, "TargetEncoderModel.transform")
        return self._applied(frame, list(_encoded(self)), self._outputs(self), {})

    def _output_type(self, kind: DataType | None) -> DataType:
        del kind
        return DoubleType()

    def _plain(self, model: Any) -> PlainTargetEncoderModel:
        return PlainTargetEncoderModel(model)


@mirrors(original.TargetEncoder)
class TargetEncoder(SecureFeatureEstimator, _TargetEncoderParams):
    """Category indices to the mean label of their rows, as ``pyspark.ml.feature.TargetEncoder``."""

    MODEL = TargetEncoderModel

    def _inputs(self, frame: SecureDataFrame) -> dict[str, str]:
        names = [*_encoded(self), converted(self, "labelCol")]
        require_kind(frame, names, NUMBER)
        return {f"input{index}": name for index, name in enumerate(names)}
