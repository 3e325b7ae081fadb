"""Released models in the clear, with the attributes that pyspark.ml's models have."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.ml.linalg import DenseMatrix, DenseVector, Vector, Vectors
from pyspark.ml.stat import MultivariateGaussian

from securemllib.errors import UsageError

__all__ = [
    "Plain",
    "PlainGaussianMixtureModel",
    "PlainGeneralizedLinearRegressionModel",
    "PlainKMeansModel",
    "PlainLinearRegressionModel",
    "PlainLinearSVCModel",
    "PlainLogisticRegressionModel",
    "PlainNaiveBayesModel",
    "PlainPCAModel",
    "PlainStandardScalerModel",
]


def _row(value: Vector) -> NDArray[np.float64]:
    return np.asarray(value.toArray(), dtype=np.float64)[None, :]


def _matrix(values: NDArray[np.float64]) -> DenseMatrix:
    return DenseMatrix(values.shape[0], values.shape[1], values.ravel(order="F"))


class Plain:
    """A released model.

    Args:
        model: The algorithm's own model.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    def _output(self, value: Vector, stem: str) -> NDArray[np.float64]:
        output: NDArray[np.float64] = self.model.predict(_row(value))[stem][0]
        return output


class PlainLogisticRegressionModel(Plain):
    """Coefficients, intercepts and predictions of a logistic regression."""

    @property
    def numClasses(self) -> int:
        """Classes of the labels."""
        return int(self.model.num_classes)

    @property
    def numFeatures(self) -> int:
        """Features."""
        return int(self.model.coefficients.shape[1])

    @property
    def coefficientMatrix(self) -> DenseMatrix:
        """``(1, d)`` for a binomial model, else ``(classes, d)``."""
        return _matrix(self.model.coefficients)

    @property
    def interceptVector(self) -> DenseVector:
        """``(1,)`` for a binomial model, else ``(classes,)``."""
        return Vectors.dense(self.model.intercepts)

    @property
    def coefficients(self) -> DenseVector:
        """Of a binomial model; `UsageError` for a multinomial one."""
        self._require_binomial("coefficientMatrix")
        return Vectors.dense(self.model.coefficients[0])

    @property
    def intercept(self) -> float:
        """Of a binomial model; `UsageError` for a multinomial one."""
        self._require_binomial("interceptVector")
        return float(self.model.intercepts[0])

    def predict(self, value: Vector) -> float:
        """Return the predicted class of one row."""
        return float(self._output(value, "prediction"))

    def predictProbability(self, value: Vector) -> DenseVector:
        """Return the probabilities of the classes of one row."""
        return Vectors.dense(self._output(value, "probability"))

    def predictRaw(self, value: Vector) -> DenseVector:
        """Return the margins of the classes of one row."""
        return Vectors.dense(self._output(value, "rawPrediction"))

    def _require_binomial(self, instead: str) -> None:
        if self.model.multinomial:
            raise UsageError(f"A multinomial model has a {instead} instead.")


class PlainLinearSVCModel(Plain):
    """Coefficients, intercept and predictions of a linear support vector classifier."""

    @property
    def numClasses(self) -> int:
        """Always 2."""
        return 2

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
        """The constant."""
        return float(self.model.intercept)

    def predict(self, value: Vector) -> float:
        """Return the predicted class of one row."""
        return float(self._output(value, "prediction"))

    def predictRaw(self, value: Vector) -> DenseVector:
        """Return the margins of both classes of one row."""
        return Vectors.dense(self._output(value, "rawPrediction"))


class PlainNaiveBayesModel(Plain):
    """Priors, terms and predictions of a naive Bayes."""

    @property
    def numClasses(self) -> int:
        """Classes of the labels."""
        return len(self.model.pi)

    @property
    def numFeatures(self) -> int:
        """Features."""
        return int(self.model.theta.shape[1])

    @property
    def pi(self) -> DenseVector:
        """``(classes,)`` logarithms of the priors."""
        return Vectors.dense(self.model.pi)

    @property
    def theta(self) -> DenseMatrix:
        """``(classes, d)`` logarithms of the terms' probabilities; of a Gaussian model the means."""
        return _matrix(self.model.theta)

    @property
    def sigma(self) -> DenseMatrix:
        """``(classes, d)`` variances of a Gaussian model, ``(0, 0)`` of the others."""
        return _matrix(self.model.sigma)

    def predict(self, value: Vector) -> float:
        """Return the predicted class of one row."""
        return float(self._output(value, "prediction"))

    def predictProbability(self, value: Vector) -> DenseVector:
        """Return the probabilities of the classes of one row."""
        return Vectors.dense(self._output(value, "probability"))

    def predictRaw(self, value: Vector) -> DenseVector:
        """Return the logarithms of the joint probabilities of one row and each class, as the type of model has them."""
        return Vectors.dense(self._output(value, "rawPrediction"))


class PlainLinearRegressionModel(Plain):
    """Coefficients, intercept and predictions of a linear regression."""

    @property
    def scale(self) -> float:
        """The residuals' scale that the Huber loss fitted; 1 for least squares."""
        return float(self.model.scale)

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
        """The constant."""
        return float(self.model.intercept)

    def predict(self, value: Vector) -> float:
        """Return the prediction for one row."""
        return float(self._output(value, "prediction"))


class PlainGeneralizedLinearRegressionModel(Plain):
    """Coefficients, intercept and predictions of a generalized linear regression; predictions are for rows without offset."""

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

    def predict(self, value: Vector) -> float:
        """Return the predicted mean of one row."""
        return float(self._output(value, "prediction"))


class PlainKMeansModel(Plain):
    """Centres and predictions of a K-Means."""

    @property
    def numFeatures(self) -> int:
        """Features."""
        return int(self.model.cluster_centers.shape[1])

    def clusterCenters(self) -> list[NDArray[np.float64]]:
        """Return the centres."""
        return [np.array(center) for center in self.model.cluster_centers]

    def predict(self, value: Vector) -> int:
        """Return the cluster of one row."""
        return int(self._output(value, "prediction"))


class PlainGaussianMixtureModel(Plain):
    """Weights, Gaussians and predictions of a Gaussian mixture."""

    @property
    def numFeatures(self) -> int:
        """Features."""
        return int(self.model.means.shape[1])

    @property
    def weights(self) -> list[float]:
        """Of each Gaussian; they add up to 1."""
        return [float(weight) for weight in self.model.weights]

    @property
    def gaussians(self) -> list[MultivariateGaussian]:
        """Mean and covariance of each."""
        pairs = zip(self.model.means, self.model.covariances, strict=True)
        return [MultivariateGaussian(Vectors.dense(mean), _matrix(covariance)) for mean, covariance in pairs]

    @property
    def gaussiansDF(self) -> pd.DataFrame:
        """The same as a pandas frame with columns mean and cov: Spark is the host."""
        return pd.DataFrame([{"mean": gaussian.mean, "cov": gaussian.cov} for gaussian in self.gaussians])

    def predict(self, value: Vector) -> int:
        """Return the likeliest Gaussian of one row."""
        return int(self._output(value, "prediction"))

    def predictProbability(self, value: Vector) -> DenseVector:
        """Return the probabilities of the Gaussians for one row."""
        return Vectors.dense(self._output(value, "probability"))


class PlainStandardScalerModel(Plain):
    """Mean and standard deviation of a scaling."""

    @property
    def mean(self) -> DenseVector:
        """Of each column."""
        return Vectors.dense(self.model.mean)

    @property
    def std(self) -> DenseVector:
        """Unbiased, of each column."""
        return Vectors.dense(self.model.std)


class PlainPCAModel(Plain):
    """Principal components."""

    @property
    def pc(self) -> DenseMatrix:
        """``(d, k)``, one component a column."""
        return _matrix(self.model.pc)

    @property
    def explainedVariance(self) -> DenseVector:
        """Each component's share of the variance."""
        return Vectors.dense(self.model.explained_variance)
