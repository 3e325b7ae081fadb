"""A released topic model in the clear, with the attributes that pyspark.ml's has."""

from typing import TYPE_CHECKING, Any

import numpy as np
from pyspark.ml.linalg import DenseMatrix, DenseVector, SparseVector, Vectors
from scipy.sparse import csr_array

from securemllib.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PlainLDAModel"]


class PlainLDAModel:
    """Topics, concentrations and mixtures of an LDA.

    Args:
        model: The algorithm's own model.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    def vocabSize(self) -> int:
        """Return the number of terms."""
        return len(self.model.topics)

    def isDistributed(self) -> bool:
        """Return whether the optimizer em trained it."""
        return bool(self.model.distributed)

    def topicsMatrix(self) -> DenseMatrix:
        """Return the topics, ``(vocabSize, k)``, not normalised."""
        topics = self.model.topics
        return DenseMatrix(topics.shape[0], topics.shape[1], topics.ravel(order="F"))

    def estimatedDocConcentration(self) -> DenseVector:
        """Return the document concentration, ``(k,)``."""
        return Vectors.dense(self.model.alpha)

    def describeTopics(self, maxTermsPerTopic: int = 10) -> "pd.DataFrame":
        """Return the heaviest terms of each topic: a frame with columns topic, termIndices and termWeights."""
        import pandas as pd

        weights = self.model.topics / self.model.topics.sum(axis=0)
        order = np.argsort(-weights, axis=0, kind="stable")[:maxTermsPerTopic]
        return pd.DataFrame(
            {
                "topic": range(weights.shape[1]),
                "termIndices": order.T.tolist(),
                "termWeights": np.take_along_axis(weights, order, axis=0).T.tolist(),
            }
        )

    def topicDistribution(self, document: DenseVector | SparseVector) -> DenseVector:
        """Return the mixture of one document."""
        if isinstance(document, SparseVector):
            row = csr_array((document.values, document.indices, [0, len(document.indices)]), shape=(1, document.size))
        else:
            row = csr_array(document.toArray()[None, :])
        return Vectors.dense(self.model.predict(row)["topicDistribution"][0])

    def trainingLogLikelihood(self) -> float:
        """Return the log likelihood of the training documents; `UsageError` for a model of the optimizer online."""
        return self._of_em("training_log_likelihood")

    def logPrior(self) -> float:
        """Return the log prior of topics and mixtures after the training; `UsageError` for a model of the optimizer online."""
        return self._of_em("log_prior")

    def _of_em(self, name: str) -> float:
        if not self.model.distributed:
            raise UsageError("Only a model of the optimizer em has a likelihood of its training documents.")
        return float(getattr(self.model, name))
