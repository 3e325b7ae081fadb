"""Topic models; `securemllib.ml.clustering` offers them under pyspark.ml's names."""

from typing import Any, ClassVar, Self

from pyspark.ml import clustering as original
from pyspark.ml.clustering import _LDAParams

from securemllib.errors import FormatError, SealedError
from securemllib.ml.base import SecureEstimator, SecureModel
from securemllib.ml.checks import inputs_of, require_columns, require_sealed
from securemllib.ml.mirror import mirrors
from securemllib.ml.plain_topics import PlainLDAModel
from securemllib.spark.column_types import VECTOR
from securemllib.spark.dataframe import SecureDataFrame
from securemllib.spark.jobs import Request
from securemllib.wire.encoding import Value
from securemllib.wire.job import OutputKind
from securemllib.wire.plan import ApplyModel

__all__ = ["LDA", "DistributedLDAModel", "LDAModel", "LocalLDAModel"]

_LIKELIHOOD = "likelihood"


@mirrors(original.LDAModel)
class LDAModel(SecureModel, _LDAParams):
    """A sealed model of `LDA`."""

    OUTPUTS: ClassVar[dict[str, str]] = {"topicDistribution": "topicDistributionCol"}

    def isDistributed(self) -> bool:
        """Return whether the optimizer em trained it."""
        return isinstance(self, DistributedLDAModel)

    def logLikelihood(self, dataset: Any) -> float:
        """Return a lower bound on the log likelihood of documents; the policy must have the output ``metric``."""
        return self._score(dataset, "logLikelihood")

    def logPerplexity(self, dataset: Any) -> float:
        """Return an upper bound on the log perplexity of documents; lower is better; the policy must have the output ``metric``."""
        return self._score(dataset, "logPerplexity")

    def _score(self, dataset: Any, metric: str) -> float:
        frame = require_sealed(dataset, f"{type(self).__name__}.{metric}")
        inputs = inputs_of(self, {"featuresCol": "features"})
        require_columns(frame, inputs)
        column = f"{_LIKELIHOOD}_{self.uid}"
        step = ApplyModel(
            model=self.sealed.reference,
            input_columns=(inputs["features"],),
            outputs={_LIKELIHOOD: column},
            params={_LIKELIHOOD: True},
        )
        scored = frame.apply(step, {column: VECTOR}, self.sealed, self._pieces)
        request = Request(
            operation="TopicEvaluator",
            params={"metricName": metric},
            inputs={"features": column},
            plan=scored.plan,
            outputs=((OutputKind.METRIC, None, ()),),
            dtype="float64",
        )
        value = self.session.run(scored, request).trees.get(OutputKind.METRIC)
        if type(value) is not float:
            raise FormatError(f"The {metric} of documents is no number.")
        return value

    def _plain(self, model: Any) -> PlainLDAModel:
        return PlainLDAModel(model)


@mirrors(original.LocalLDAModel)
class LocalLDAModel(LDAModel):
    """A sealed model of `LDA` with the optimizer online."""


@mirrors(original.DistributedLDAModel)
class DistributedLDAModel(LDAModel):
    """A sealed model of `LDA` with the optimizer em."""

    _released: dict[str, Any] | None = None

    def trainingLogLikelihood(self) -> float:
        """Return the log likelihood of the training documents; `SealedError` where the policy did not release it."""
        return self._value("training_log_likelihood")

    def logPrior(self) -> float:
        """Return the log prior of topics and mixtures after the training; `SealedError` where the policy did not release it."""
        return self._value("log_prior")

    def getCheckpointFiles(self) -> list[str]:
        """Return no path: checkpoints here are sealed states of jobs, none a file of this model's graph."""
        return []

    def toLocal(self) -> LocalLDAModel:
        """Return the same topics as a model that forgot its training."""
        local = LocalLDAModel(self.sealed, self._session)
        local._pieces = self._pieces
        self._copyValues(local)
        return local

    def _value(self, name: str) -> float:
        if self._released is None:
            raise SealedError(
                f"No training summary of this {type(self).__name__} was released.",
                next_step="Ask the owner for a policy with the output `summary`, and leave spark.securemllib.summary on.",
            )
        return float(self._released[name])

    def _trained_on(self, frame: SecureDataFrame, released: Value) -> Self:
        del frame
        self._released = released if isinstance(released, dict) else None
        return self


@mirrors(original.LDA)
class LDA(SecureEstimator, _LDAParams):
    """Latent Dirichlet allocation, as ``pyspark.ml.clustering.LDA``."""

    MODEL = LDAModel

    def _model_type(self) -> type[LDAModel]:
        return DistributedLDAModel if self.getOptimizer().lower() == "em" else LocalLDAModel
