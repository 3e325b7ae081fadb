"""Trees and their ensembles, as ``pyspark.ml.classification`` and ``pyspark.ml.regression`` name them."""

from typing import Any, ClassVar

from pyspark.ml import classification, regression
from pyspark.ml.base import _PredictorParams
from pyspark.ml.classification import (
    _DecisionTreeClassifierParams,
    _GBTClassifierParams,
    _ProbabilisticClassifierParams,
    _RandomForestClassifierParams,
)
from pyspark.ml.regression import _DecisionTreeRegressorParams, _GBTRegressorParams, _RandomForestRegressorParams
from pyspark.sql.types import DoubleType

from securemllib.errors import FormatError
from securemllib.ml.base import SecureClassifierModel, SecureEstimator, SecureModel
from securemllib.ml.checks import inputs_of, require_columns, require_sealed
from securemllib.ml.forest_summaries import (
    BinaryRandomForestClassificationSummary,
    BinaryRandomForestClassificationTrainingSummary,
    RandomForestClassificationSummary,
    RandomForestClassificationTrainingSummary,
)
from securemllib.ml.mirror import mirrors, refuse_sealed
from securemllib.ml.plain_trees import (
    PlainDecisionTreeClassificationModel,
    PlainDecisionTreeRegressionModel,
    PlainGBTClassificationModel,
    PlainGBTRegressionModel,
    PlainRandomForestClassificationModel,
    PlainRandomForestRegressionModel,
    regression_loss,
)
from securemllib.ml.summaries import Summary
from securemllib.spark.column_types import VECTOR
from securemllib.spark.jobs import Request
from securemllib.wire.job import OutputKind
from securemllib.wire.plan import ApplyModel

__all__ = [
    "DecisionTreeClassificationModel",
    "DecisionTreeClassifier",
    "DecisionTreeRegressionModel",
    "DecisionTreeRegressor",
    "GBTClassificationModel",
    "GBTClassifier",
    "GBTRegressionModel",
    "GBTRegressor",
    "RandomForestClassificationModel",
    "RandomForestClassifier",
    "RandomForestRegressionModel",
    "RandomForestRegressor",
]

_CLASSES = {"rawPrediction": "rawPredictionCol", "probability": "probabilityCol", "prediction": "predictionCol", "leaf": "leafCol"}
_ONE_NUMBER = DoubleType()
_ITERATIONS = "iterations"


class _SecureTreesModel(SecureModel):
    """A sealed model of trees."""

    OUTPUTS: ClassVar[dict[str, str]] = {"prediction": "predictionCol", "leaf": "leafCol"}
    CHANGEABLE: ClassVar[tuple[str, ...]] = ("leafCol",)
    PLAIN: ClassVar[type[Any]]

    def _plain(self, model: Any) -> Any:
        return type(self).PLAIN(model, self.uid)


class _SecureForestModel(_SecureTreesModel):
    """A sealed model of a forest."""

    @property
    def getNumTrees(self) -> int:
        """Trees, which is a Param and no secret; a property as in pyspark.ml."""
        return int(self.getOrDefault("numTrees"))


class _SecureBoostedModel(_SecureTreesModel):
    """A sealed model of boosted trees."""

    COLUMNS: ClassVar[dict[str, str]] = {"featuresCol": "features", "labelCol": "label", "weightCol": "weight"}

    @property
    def getNumTrees(self) -> int:
        """Trees; `SealedError`, because early stopping makes their number tell of the rows."""
        return int(refuse_sealed(self, "getNumTrees", type(self).ORIGINAL))

    def _plain(self, model: Any) -> Any:
        return type(self).PLAIN(model, self.uid, inputs_of(self, self.COLUMNS))

    def _losses(self, dataset: Any, loss: str) -> list[float]:
        """Return the mean loss of the first 1, 2, ... trees; the policy must have the output ``metric``."""
        frame = require_sealed(dataset, f"{type(self).__name__}.evaluateEachIteration")
        inputs = inputs_of(self, self.COLUMNS)
        require_columns(frame, inputs)
        column = f"{_ITERATIONS}_{self.uid}"
        step = ApplyModel(
            model=self.sealed.reference,
            input_columns=(inputs["features"],),
            outputs={_ITERATIONS: column},
            params={_ITERATIONS: True},
        )
        scored = frame.apply(step, {column: VECTOR}, self.sealed, self._pieces)
        request = Request(
            operation="BoostingEvaluator",
            params={"lossType": loss},
            inputs=inputs | {"features": column},
            plan=scored.plan,
            outputs=((OutputKind.METRIC, None, ()),),
            dtype="float64",
        )
        values = self.session.run(scored, request).trees.get(OutputKind.METRIC)
        if not isinstance(values, list) or not all(type(value) is float for value in values):
            raise FormatError("The losses of trees are no numbers.")
        return [float(value) for value in values if type(value) is float]


@mirrors(classification.DecisionTreeClassificationModel)
class DecisionTreeClassificationModel(_SecureTreesModel, _ProbabilisticClassifierParams, _DecisionTreeClassifierParams):
    """A sealed model of `DecisionTreeClassifier`."""

    OUTPUTS = _CLASSES
    CHANGEABLE: ClassVar[tuple[str, ...]] = ("thresholds", "leafCol")
    PLAIN = PlainDecisionTreeClassificationModel

    def _type_of(self, stem: str) -> Any:
        return _ONE_NUMBER if stem == "leaf" else super()._type_of(stem)


@mirrors(classification.DecisionTreeClassifier)
class DecisionTreeClassifier(SecureEstimator, _ProbabilisticClassifierParams, _DecisionTreeClassifierParams):
    """A classification tree, as ``pyspark.ml.classification.DecisionTreeClassifier``."""

    MODEL = DecisionTreeClassificationModel


@mirrors(regression.DecisionTreeRegressionModel)
class DecisionTreeRegressionModel(_SecureTreesModel, _PredictorParams, _DecisionTreeRegressorParams):
    """A sealed model of `DecisionTreeRegressor`."""

    OUTPUTS: ClassVar[dict[str, str]] = {"prediction": "predictionCol", "leaf": "leafCol", "variance": "varianceCol"}
    PLAIN = PlainDecisionTreeRegressionModel

    def _type_of(self, stem: str) -> Any:
        del stem
        return _ONE_NUMBER


@mirrors(regression.DecisionTreeRegressor)
class DecisionTreeRegressor(SecureEstimator, _PredictorParams, _DecisionTreeRegressorParams):
    """A regression tree, as ``pyspark.ml.regression.DecisionTreeRegressor``."""

    MODEL = DecisionTreeRegressionModel


@mirrors(classification.RandomForestClassificationModel)
class RandomForestClassificationModel(  # type: ignore[misc]
    SecureClassifierModel, _SecureForestModel, _ProbabilisticClassifierParams, _RandomForestClassifierParams
):
    """A sealed model of `RandomForestClassifier`."""

    OUTPUTS = _CLASSES
    CHANGEABLE: ClassVar[tuple[str, ...]] = ("thresholds", "leafCol")
    PLAIN = PlainRandomForestClassificationModel

    def evaluate(self, dataset: Any) -> RandomForestClassificationSummary:
        """Return the summary of this model on a dataset; its metrics are computed when they are asked for."""
        frame = require_sealed(dataset, "RandomForestClassificationModel.evaluate")
        kind = BinaryRandomForestClassificationSummary if self._may_be_binary else RandomForestClassificationSummary
        return kind(self.copy(), frame)

    def _summary_type(self) -> type[Summary]:
        return BinaryRandomForestClassificationTrainingSummary if self._may_be_binary else RandomForestClassificationTrainingSummary


@mirrors(classification.RandomForestClassifier)
class RandomForestClassifier(SecureEstimator, _ProbabilisticClassifierParams, _RandomForestClassifierParams):
    """A forest of classification trees, as ``pyspark.ml.classification.RandomForestClassifier``."""

    MODEL = RandomForestClassificationModel


@mirrors(regression.RandomForestRegressionModel)
class RandomForestRegressionModel(_SecureForestModel, _PredictorParams, _RandomForestRegressorParams):  # type: ignore[misc]
    """A sealed model of `RandomForestRegressor`."""

    PLAIN = PlainRandomForestRegressionModel


@mirrors(regression.RandomForestRegressor)
class RandomForestRegressor(SecureEstimator, _PredictorParams, _RandomForestRegressorParams):
    """A forest of regression trees, as ``pyspark.ml.regression.RandomForestRegressor``."""

    MODEL = RandomForestRegressionModel


@mirrors(classification.GBTClassificationModel)
class GBTClassificationModel(_SecureBoostedModel, _ProbabilisticClassifierParams, _GBTClassifierParams):
    """A sealed model of `GBTClassifier`."""

    OUTPUTS = _CLASSES
    CHANGEABLE: ClassVar[tuple[str, ...]] = ("thresholds", "leafCol")
    PLAIN = PlainGBTClassificationModel

    def evaluateEachIteration(self, dataset: Any) -> list[float]:
        """Return the logistic loss of the first 1, 2, ... trees; the policy must have the output ``metric``."""
        return self._losses(dataset, "logistic")


@mirrors(classification.GBTClassifier)
class GBTClassifier(SecureEstimator, _ProbabilisticClassifierParams, _GBTClassifierParams):
    """Boosted trees that tell two classes apart, as ``pyspark.ml.classification.GBTClassifier``."""

    ROLES: ClassVar[dict[str, str]] = {"validationIndicatorCol": "validation"}
    MODEL = GBTClassificationModel


@mirrors(regression.GBTRegressionModel)
class GBTRegressionModel(_SecureBoostedModel, _PredictorParams, _GBTRegressorParams):
    """A sealed model of `GBTRegressor`."""

    PLAIN = PlainGBTRegressionModel

    def evaluateEachIteration(self, dataset: Any, loss: str) -> list[float]:
        """Return the loss, ``squared`` or ``absolute``, of the first 1, 2, ... trees; the policy must have the output ``metric``."""
        return self._losses(dataset, regression_loss(loss))


@mirrors(regression.GBTRegressor)
class GBTRegressor(SecureEstimator, _PredictorParams, _GBTRegressorParams):
    """Boosted regression trees, as ``pyspark.ml.regression.GBTRegressor``."""

    ROLES: ClassVar[dict[str, str]] = {"validationIndicatorCol": "validation"}
    MODEL = GBTRegressionModel
