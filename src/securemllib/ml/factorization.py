"""Factorization machines; `securemllib.ml.classification` and `securemllib.ml.regression` offer them under pyspark.ml's names."""

from typing import Any, ClassVar

from pyspark.ml import classification, regression
from pyspark.ml.classification import _ProbabilisticClassifierParams
from pyspark.ml.linalg import DenseMatrix, DenseVector, Vector, Vectors
from pyspark.ml.regression import _FactorizationMachinesParams

from securemllib.errors import UsageError
from securemllib.ml.base import SecureEstimator, SecureModel
from securemllib.ml.checks import require_sealed
from securemllib.ml.classification_summaries import FMClassificationSummary, FMClassificationTrainingSummary
from securemllib.ml.mirror import mirrors
from securemllib.ml.plain import Plain
from securemllib.spark.dataframe import SecureDataFrame

__all__ = ["FMClassificationModel", "FMClassifier", "FMRegressionModel", "FMRegressor"]


class PlainFMRegressionModel(Plain):
    """Coefficients and predictions of a regression by a factorization machine."""

    @property
    def numFeatures(self) -> int:
        """Features."""
        return len(self.model.linear)

    @property
    def intercept(self) -> float:
        """The constant."""
        return float(self.model.intercept)

    @property
    def linear(self) -> DenseVector:
        """``(d,)``, zeros where they are not fitted."""
        return Vectors.dense(self.model.linear)

    @property
    def factors(self) -> DenseMatrix:
        """``(d, k)``."""
        rows, columns = self.model.factors.shape
        return DenseMatrix(rows, columns, self.model.factors.ravel(order="F"))

    def predict(self, value: Vector) -> float:
        """Return the prediction for one row."""
        return float(self._output(value, "prediction"))


class PlainFMClassificationModel(PlainFMRegressionModel):
    """Coefficients and predictions of a classification by a factorization machine."""

    @property
    def numClasses(self) -> int:
        """Always 2."""
        return 2

    def predictRaw(self, value: Vector) -> DenseVector:
        """Return the margins of both classes of one row."""
        return Vectors.dense(self._output(value, "rawPrediction"))

    def predictProbability(self, value: Vector) -> DenseVector:
        """Return the probabilities of both classes of one row."""
        return Vectors.dense(self._output(value, "probability"))


class SecureMachine(SecureEstimator):
    """An estimator whose `weightCol` MLlib's trainings ignore, which is refused here."""

    def _inputs(self, frame: SecureDataFrame) -> dict[str, str]:
        inputs = super()._inputs(frame)
        if "weight" in inputs:
            raise UsageError(
                f"A {type(self).__name__} does not take weights: MLlib's ignores weightCol.",
                next_step="Leave weightCol empty.",
                code="usage.unsupported",
            )
        return inputs


@mirrors(regression.FMRegressionModel)
class FMRegressionModel(SecureModel, _FactorizationMachinesParams):
    """A sealed model of `FMRegressor`."""

    def _plain(self, model: Any) -> PlainFMRegressionModel:
        return PlainFMRegressionModel(model)


@mirrors(regression.FMRegressor)
class FMRegressor(SecureMachine, _FactorizationMachinesParams):
    """Regression by a factorization machine, as ``pyspark.ml.regression.FMRegressor``."""

    MODEL = FMRegressionModel


@mirrors(classification.FMClassificationModel)
class FMClassificationModel(SecureModel, _FactorizationMachinesParams, _ProbabilisticClassifierParams):
    """A sealed model of `FMClassifier`."""

    OUTPUTS: ClassVar[dict[str, str]] = {
        "rawPrediction": "rawPredictionCol",
        "probability": "probabilityCol",
        "prediction": "predictionCol",
    }
    SUMMARY = FMClassificationTrainingSummary
    CHANGEABLE = ("thresholds",)

    def evaluate(self, dataset: Any) -> FMClassificationSummary:
        """Return the summary of this model on a dataset; its metrics are computed when they are asked for."""
        return FMClassificationSummary(self.copy(), require_sealed(dataset, "FMClassificationModel.evaluate"))

    def summary(self) -> FMClassificationTrainingSummary:
        """Return the summary of the training, by a call as in pyspark.ml; `UsageError` where there is none."""
        found: FMClassificationTrainingSummary = super().summary
        return found

    def _plain(self, model: Any) -> PlainFMClassificationModel:
        return PlainFMClassificationModel(model)


@mirrors(classification.FMClassifier)
class FMClassifier(SecureMachine, _FactorizationMachinesParams, _ProbabilisticClassifierParams):
    """Classification of two classes by a factorization machine, as ``pyspark.ml.classification.FMClassifier``."""

    MODEL = FMClassificationModel
