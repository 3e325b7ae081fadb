"""Released regressions of lifetimes and of monotone curves in the clear, with the attributes that pyspark.ml's have."""

import numpy as np
from pyspark.ml.linalg import DenseVector, Vector, Vectors

from securemllib.ml.plain import Plain

__all__ = ["PlainAFTSurvivalRegressionModel", "PlainIsotonicRegressionModel"]


class PlainAFTSurvivalRegressionModel(Plain):
    """Coefficients, intercept, scale and predictions of an accelerated failure time regression."""

    @property
    def numFeatures(self) -> int:
        """Features."""
        return len(self.model.coefficients)

    @property
    def coefficients(self) -> DenseVector:
        """``(d,)``."""
        return Vectors.dense(self.model.coefficients)

    @property
    def intercept(self) -> float:
        """The constant of the linear predictor."""
        return float(self.model.intercept)

    @property
    def scale(self) -> float:
        """The scale of the logarithm of lifetimes."""
        return float(self.model.scale)

    def predict(self, value: Vector) -> float:
        """Return the predicted lifetime of one row."""
        return float(self._output(value, "prediction"))

    def predictQuantiles(self, value: Vector) -> DenseVector:
        """Return the quantiles of the lifetime of one row, one for each of the model's quantile probabilities."""
        return Vectors.dense(self._output(value, "quantiles"))


class PlainIsotonicRegressionModel(Plain):
    """Boundaries and predictions of a monotone curve."""

    @property
    def numFeatures(self) -> int:
        """Always 1."""
        return 1

    @property
    def boundaries(self) -> DenseVector:
        """Features where predictions are known, ascending."""
        return Vectors.dense(self.model.boundaries)

    @property
    def predictions(self) -> DenseVector:
        """What is predicted at each boundary."""
        return Vectors.dense(self.model.predictions)

    def predict(self, value: float) -> float:
        """Return the prediction for one feature."""
        return float(self.model.curve(np.array([value], dtype=np.float64))[0])
