"""A released network in the clear, with the attributes that pyspark.ml's has."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.ml.linalg import DenseVector, Vector, Vectors

__all__ = ["PlainMultilayerPerceptronClassificationModel"]


class PlainMultilayerPerceptronClassificationModel:
    """Weights and predictions of a multilayer perceptron.

    Args:
        model: The algorithm's own model.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    @property
    def numClasses(self) -> int:
        """Outputs of the last layer."""
        return int(self.model.layers[-1])

    @property
    def numFeatures(self) -> int:
        """Inputs of the first layer."""
        return int(self.model.layers[0])

    @property
    def weights(self) -> DenseVector:
        """Of each layer its matrix by columns, then its biases."""
        return Vectors.dense(self.model.weights)

    def predict(self, value: Vector) -> float:
        """Return the predicted class of one row."""
        return float(self._output(value, "prediction"))

    def predictProbability(self, value: Vector) -> DenseVector:
        """Return the probabilities of the classes of one row."""
        return Vectors.dense(self._output(value, "probability"))

    def predictRaw(self, value: Vector) -> DenseVector:
        """Return the outputs of the last layer for one row, before the softmax."""
        return Vectors.dense(self._output(value, "rawPrediction"))

    def _output(self, value: Vector, stem: str) -> NDArray[np.float64]:
        found: NDArray[np.float64] = self.model.predict(value.toArray()[None, :])[stem][0]
        return found
