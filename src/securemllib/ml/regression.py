"""Regressions, named as in ``pyspark.ml.regression``."""

from dataclasses import replace
from typing import Any, ClassVar, Self

from pyspark.ml import regression as original
from pyspark.ml.regression import (
    _AFTSurvivalRegressionParams,
    _GeneralizedLinearRegressionParams,
    _IsotonicRegressionParams,
    _LinearRegressionParams,
)
from pyspark.sql.types import DoubleType

from securemllib.ml.base import SecureEstimator, SecureModel
from securemllib.ml.checks import require_sealed
from securemllib.ml.factorization import FMRegressionModel, FMRegressor
from securemllib.ml.generalized_linear_summaries import GeneralizedLinearRegressionSummary, GeneralizedLinearRegressionTrainingSummary
from securemllib.ml.mirror import converted, mirrors
from securemllib.ml.plain import PlainGeneralizedLinearRegressionModel, PlainLinearRegressionModel
from securemllib.ml.plain_curves import PlainAFTSurvivalRegressionModel, PlainIsotonicRegressionModel
from securemllib.ml.regression_summaries import LinearRegressionSummary, LinearRegressionTrainingSummary
from securemllib.ml.trees import (
    DecisionTreeRegressionModel,
    DecisionTreeRegressor,
    GBTRegressionModel,
    GBTRegressor,
    RandomForestRegressionModel,
    RandomForestRegressor,
)
from securemllib.ml.updating import CarryingEstimator
from securemllib.spark.dataframe import SecureDataFrame
from securemllib.wire.encoding import Value

__all__ = [
    "AFTSurvivalRegression",
    "AFTSurvivalRegressionModel",
    "DecisionTreeRegressionModel",
    "DecisionTreeRegressor",
    "FMRegressionModel",
    "FMRegressor",
    "GBTRegressionModel",
    "GBTRegressor",
    "GeneralizedLinearRegression",
    "GeneralizedLinearRegressionModel",
    "GeneralizedLinearRegressionSummary",
    "GeneralizedLinearRegressionTrainingSummary",
    "IsotonicRegression",
    "IsotonicRegressionModel",
    "LinearRegression",
    "LinearRegressionModel",
    "LinearRegressionSummary",
    "LinearRegressionTrainingSummary",
    "RandomForestRegressionModel",
    "RandomForestRegressor",
]


class SecureRegressionModel(SecureModel):
    """A sealed model whose training tells how many features there are, where the policy releases its summary."""

    # What the training's summary told; a loaded model has none.
    _features: int | None = None

    def _trained_on(self, frame: SecureDataFrame, released: Value) -> Self:
        if isinstance(released, dict) and isinstance(told := released.get("num_features"), int):
            self._features = told
        return super()._trained_on(frame, released)


@mirrors(original.LinearRegressionModel)
class LinearRegressionModel(SecureRegressionModel, _LinearRegressionParams):
    """A sealed model of `LinearRegression`."""

    SUMMARY = LinearRegressionTrainingSummary

    def evaluate(self, dataset: Any) -> LinearRegressionSummary:
        """Return the summary of this model on a dataset; its metrics are computed when they are asked for."""
        return LinearRegressionSummary(self.copy(), require_sealed(dataset, "LinearRegressionModel.evaluate"))

    def _plain(self, model: Any) -> PlainLinearRegressionModel:
        return PlainLinearRegressionModel(model)


@mirrors(original.LinearRegression)
class LinearRegression(CarryingEstimator, _LinearRegressionParams):
    """Least squares with elastic net, or the Huber loss with L2, as ``pyspark.ml.regression.LinearRegression``."""

    MODEL = LinearRegressionModel


@mirrors(original.GeneralizedLinearRegressionModel)
class GeneralizedLinearRegressionModel(SecureRegressionModel, _GeneralizedLinearRegressionParams):
    """A sealed model of `GeneralizedLinearRegression`."""

    OUTPUTS: ClassVar[dict[str, str]] = {"linkPrediction": "linkPredictionCol", "prediction": "predictionCol"}
    ROLES: ClassVar[dict[str, str]] = {"offsetCol": "offset"}
    SUMMARY = GeneralizedLinearRegressionTrainingSummary

    def evaluate(self, dataset: Any) -> GeneralizedLinearRegressionSummary:
        """Return the summary of this model on a dataset; its statistics are computed when they are asked for."""
        return GeneralizedLinearRegressionSummary(self.copy(), require_sealed(dataset, "GeneralizedLinearRegressionModel.evaluate"))

    def _type_of(self, stem: str) -> Any:
        del stem
        return DoubleType()

    def _plain(self, model: Any) -> PlainGeneralizedLinearRegressionModel:
        return PlainGeneralizedLinearRegressionModel(model)


@mirrors(original.GeneralizedLinearRegression)
class GeneralizedLinearRegression(SecureEstimator, _GeneralizedLinearRegressionParams):
    """Families and links by reweighted least squares, as ``pyspark.ml.regression.GeneralizedLinearRegression``."""

    MODEL = GeneralizedLinearRegressionModel
    ROLES: ClassVar[dict[str, str]] = {"offsetCol": "offset"}


@mirrors(original.AFTSurvivalRegressionModel)
class AFTSurvivalRegressionModel(SecureModel, _AFTSurvivalRegressionParams):
    """A sealed model of `AFTSurvivalRegression`."""

    OUTPUTS: ClassVar[dict[str, str]] = {"prediction": "predictionCol", "quantiles": "quantilesCol"}
    CHANGEABLE = ("quantileProbabilities",)

    def _plain(self, model: Any) -> PlainAFTSurvivalRegressionModel:
        return PlainAFTSurvivalRegressionModel(replace(model, quantile_probabilities=converted(self, "quantileProbabilities")))


@mirrors(original.AFTSurvivalRegression)
class AFTSurvivalRegression(SecureEstimator, _AFTSurvivalRegressionParams):
    """Weibull regression of censored lifetimes, as ``pyspark.ml.regression.AFTSurvivalRegression``."""

    MODEL = AFTSurvivalRegressionModel
    ROLES: ClassVar[dict[str, str]] = {"censorCol": "censor"}


@mirrors(original.IsotonicRegressionModel)
class IsotonicRegressionModel(SecureModel, _IsotonicRegressionParams):
    """A sealed model of `IsotonicRegression`."""

    CHANGEABLE = ("featureIndex",)

    def _plain(self, model: Any) -> PlainIsotonicRegressionModel:
        return PlainIsotonicRegressionModel(model)


@mirrors(original.IsotonicRegression)
class IsotonicRegression(SecureEstimator, _IsotonicRegressionParams):
    """Monotone regression on one feature, as ``pyspark.ml.regression.IsotonicRegression``."""

    MODEL = IsotonicRegressionModel

    def _inputs(self, frame: SecureDataFrame) -> dict[str, str]:
        # Features are read as they are stored: distinct ones stay distinct.
        inputs = super()._inputs(frame)
        return {"input0": inputs.pop("features"), **inputs}
