"""Selectors: the slots of a vector that are worth keeping."""

from typing import Any, ClassVar

from pyspark.ml import feature as original
from pyspark.ml.feature import _SelectorParams, _UnivariateFeatureSelectorParams, _VarianceThresholdSelectorParams

from securemllib.errors import UsageError
from securemllib.ml.base import SecureEstimator, SecureModel
from securemllib.ml.checks import inputs_of, require_columns
from securemllib.ml.features.base import VECTORS, require_kind
from securemllib.ml.features.plain import PlainSelectorModel
from securemllib.ml.mirror import mirrors
from securemllib.spark.dataframe import SecureDataFrame

__all__ = [
    "ChiSqSelector",
    "ChiSqSelectorModel",
    "UnivariateFeatureSelector",
    "UnivariateFeatureSelectorModel",
    "VarianceThresholdSelector",
    "VarianceThresholdSelectorModel",
]


class SecureSelectorModel(SecureModel):
    """A sealed model that keeps some slots of vectors."""

    OUTPUTS: ClassVar[dict[str, str]] = {"output": "outputCol"}

    def _plain(self, model: Any) -> PlainSelectorModel:
        return PlainSelectorModel(model)


class SecureSelector(SecureEstimator):
    """An estimator whose enclaves read vectors to their last bit, and perhaps a label."""

    def _inputs(self, frame: SecureDataFrame) -> dict[str, str]:
        inputs = inputs_of(self, {"featuresCol": "input0", "labelCol": "label"})
        if "input0" not in inputs:
            raise UsageError(f"{type(self).__name__} needs featuresCol.", code="usage.param")
        require_kind(frame, [inputs["input0"]], VECTORS)
        require_columns(frame, {role: name for role, name in inputs.items() if role == "label"})
        return inputs


@mirrors(original.VarianceThresholdSelectorModel)
class VarianceThresholdSelectorModel(SecureSelectorModel, _VarianceThresholdSelectorParams):
    """A sealed model of `VarianceThresholdSelector`."""


@mirrors(original.VarianceThresholdSelector)
class VarianceThresholdSelector(SecureSelector, _VarianceThresholdSelectorParams):
    """Slots whose variance is large enough, as ``pyspark.ml.feature.VarianceThresholdSelector``."""

    MODEL = VarianceThresholdSelectorModel

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(varianceThreshold=0.0)


@mirrors(original.ChiSqSelectorModel)
class ChiSqSelectorModel(SecureSelectorModel, _SelectorParams):
    """A sealed model of `ChiSqSelector`."""


@mirrors(original.ChiSqSelector)
class ChiSqSelector(SecureSelector, _SelectorParams):
    """Slots that depend on a label by Pearson's test, as ``pyspark.ml.feature.ChiSqSelector``."""

    MODEL = ChiSqSelectorModel


@mirrors(original.UnivariateFeatureSelectorModel)
class UnivariateFeatureSelectorModel(SecureSelectorModel, _UnivariateFeatureSelectorParams):
    """A sealed model of `UnivariateFeatureSelector`."""


@mirrors(original.UnivariateFeatureSelector)
class UnivariateFeatureSelector(SecureSelector, _UnivariateFeatureSelectorParams):
    """Slots that depend on a label by the test of their kind, as ``pyspark.ml.feature.UnivariateFeatureSelector``."""

    MODEL = UnivariateFeatureSelectorModel
