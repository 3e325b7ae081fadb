"""Feature transformers, named as in ``pyspark.ml.feature``."""

from typing import Any, ClassVar

from pyspark.ml import feature as original
from pyspark.ml.base import Transformer
from pyspark.ml.feature import _PCAParams, _StandardScalerParams
from pyspark.ml.param.shared import HasHandleInvalid, HasInputCols, HasOutputCol

from securemllib.errors import UsageError
from securemllib.ml.base import SecureEstimator, SecureModel
from securemllib.ml.checks import require_new, require_sealed
from securemllib.ml.features.buckets import Binarizer, Bucketizer, IndexToString
from securemllib.ml.features.categories import (
    OneHotEncoder,
    OneHotEncoderModel,
    StringIndexer,
    StringIndexerModel,
    TargetEncoder,
    TargetEncoderModel,
)
from securemllib.ml.features.formula import RFormula, RFormulaModel
from securemllib.ml.features.hashing import (
    BucketedRandomProjectionLSH,
    BucketedRandomProjectionLSHModel,
    MinHashLSH,
    MinHashLSHModel,
)
from securemllib.ml.features.scalers import (
    Imputer,
    ImputerModel,
    MaxAbsScaler,
    MaxAbsScalerModel,
    MinMaxScaler,
    MinMaxScalerModel,
    QuantileDiscretizer,
    RobustScaler,
    RobustScalerModel,
    VectorIndexer,
    VectorIndexerModel,
)
from securemllib.ml.features.selectors import (
    ChiSqSelector,
    ChiSqSelectorModel,
    UnivariateFeatureSelector,
    UnivariateFeatureSelectorModel,
    VarianceThresholdSelector,
    VarianceThresholdSelectorModel,
)
from securemllib.ml.features.statements import SQLTransformer
from securemllib.ml.features.text import FeatureHasher, HashingTF, NGram, RegexTokenizer, StopWordsRemover, Tokenizer
from securemllib.ml.features.vectors import (
    DCT,
    ElementwiseProduct,
    Interaction,
    Normalizer,
    PolynomialExpansion,
    VectorSizeHint,
    VectorSlicer,
)
from securemllib.ml.features.words import IDF, CountVectorizer, CountVectorizerModel, IDFModel, Word2Vec, Word2VecModel
from securemllib.ml.mirror import mirrors
from securemllib.ml.persistence import Persistent
from securemllib.ml.plain import PlainPCAModel, PlainStandardScalerModel
from securemllib.spark.column_types import VECTOR, is_number, is_vector
from securemllib.spark.dataframe import SecureDataFrame
from securemllib.wire.plan import Assemble, HandleInvalid

__all__ = [
    "DCT",
    "IDF",
    "PCA",
    "Binarizer",
    "BucketedRandomProjectionLSH",
    "BucketedRandomProjectionLSHModel",
    "Bucketizer",
    "ChiSqSelector",
    "ChiSqSelectorModel",
    "CountVectorizer",
    "CountVectorizerModel",
    "ElementwiseProduct",
    "FeatureHasher",
    "HashingTF",
    "IDFModel",
    "Imputer",
    "ImputerModel",
    "IndexToString",
    "Interaction",
    "MaxAbsScaler",
    "MaxAbsScalerModel",
    "MinHashLSH",
    "MinHashLSHModel",
    "MinMaxScaler",
    "MinMaxScalerModel",
    "NGram",
    "Normalizer",
    "OneHotEncoder",
    "OneHotEncoderModel",
    "PCAModel",
    "PolynomialExpansion",
    "QuantileDiscretizer",
    "RFormula",
    "RFormulaModel",
    "RegexTokenizer",
    "RobustScaler",
    "RobustScalerModel",
    "SQLTransformer",
    "StandardScaler",
    "StandardScalerModel",
    "StopWordsRemover",
    "StringIndexer",
    "StringIndexerModel",
    "TargetEncoder",
    "TargetEncoderModel",
    "Tokenizer",
    "UnivariateFeatureSelector",
    "UnivariateFeatureSelectorModel",
    "VarianceThresholdSelector",
    "VarianceThresholdSelectorModel",
    "VectorAssembler",
    "VectorIndexer",
    "VectorIndexerModel",
    "VectorSizeHint",
    "VectorSlicer",
    "Word2Vec",
    "Word2VecModel",
]


@mirrors(original.VectorAssembler)
class VectorAssembler(Transformer, HasInputCols, HasOutputCol, HasHandleInvalid, Persistent):
    """Columns side by side in one vector column, as ``pyspark.ml.feature.VectorAssembler``."""

    handleInvalid = original.VectorAssembler.handleInvalid

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(handleInvalid="error")

    def _transform(self, dataset: Any) -> Any:
        frame = require_sealed(dataset, "VectorAssembler.transform")
        if not self.isDefined(self.inputCols) or not self.isDefined(self.outputCol):
            raise UsageError("A VectorAssembler needs inputCols and outputCol.", code="usage.param")
        names, mode = self.getInputCols(), self.getHandleInvalid()
        if mode not in {choice.value for choice in HandleInvalid}:
            raise UsageError(f"handleInvalid must be skip, keep or error, not {mode!r}.", code="usage.param")
        self._check_types(frame, names)
        require_new(frame, self.getOutputCol())
        step = Assemble(input_columns=tuple(names), output_column=self.getOutputCol(), handle_invalid=HandleInvalid(mode))
        return frame.apply(step, {self.getOutputCol(): VECTOR})

    @staticmethod
    def _check_types(frame: SecureDataFrame, names: list[str]) -> None:
        if not frame.has_schema:
            return
        kinds = {field.name: field.dataType for field in frame.schema}
        for name in names:
            if name not in kinds:
                raise UsageError(f"{name} does not exist. Available: {', '.join(frame.columns)}", code="usage.column")
            kind = kinds[name]
            if not is_number(kind) and not is_vector(kind):
                raise UsageError(f"Data type {kind.simpleString()} of column {name} is not supported.", code="usage.column")


class _VectorModel(SecureModel):
    OUTPUTS: ClassVar[dict[str, str]] = {"output": "outputCol"}


@mirrors(original.StandardScalerModel)
class StandardScalerModel(_VectorModel, _StandardScalerParams):
    """A sealed model of `StandardScaler`."""

    CHANGEABLE = ("withMean", "withStd")

    def _plain(self, model: Any) -> PlainStandardScalerModel:
        return PlainStandardScalerModel(model)


@mirrors(original.StandardScaler)
class StandardScaler(SecureEstimator, _StandardScalerParams):
    """Scaling by mean and standard deviation, as ``pyspark.ml.feature.StandardScaler``."""

    MODEL = StandardScalerModel


@mirrors(original.PCAModel)
class PCAModel(_VectorModel, _PCAParams):
    """A sealed model of `PCA`."""

    def _plain(self, model: Any) -> PlainPCAModel:
        return PlainPCAModel(model)


@mirrors(original.PCA)
class PCA(SecureEstimator, _PCAParams):
    """Principal components, as ``pyspark.ml.feature.PCA``."""

    MODEL = PCAModel
