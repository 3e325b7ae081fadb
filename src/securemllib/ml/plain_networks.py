"""A released network in the clear, with the attributes that pyspark.ml's has."""

from pyspark.ml.linalg import DenseVector, Vector, Vectors

from securemllib.ml.plain import Plain

__all__ = ["PlainMultilayerPerceptronClassificationModel"]


class PlainMultilayerPerceptronClassificationModel(Plain):
    """Weights and predictions of a multilayer perceptron."""

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
