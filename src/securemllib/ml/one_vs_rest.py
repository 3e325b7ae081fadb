"""One class against the rest, as ``pyspark.ml.classification`` has it: a binary classifier for each class, each a job of its own."""

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import numpy as np
from pyspark.ml import classification as original
from pyspark.ml.base import Estimator, Model
from pyspark.ml.classification import _OneVsRestParams
from pyspark.ml.linalg import DenseVector, Vector, Vectors
from pyspark.ml.param import Params
from pyspark.ml.param.shared import HasParallelism
from pyspark.sql.types import DoubleType

from securemllib.algorithms.summary import MAX_CLASSES
from securemllib.errors import FormatError, PolicyError, UsageError
from securemllib.ml.base import SecureEstimator, SecureModel, train
from securemllib.ml.checks import inputs_of, require_columns, require_new, require_sealed
from securemllib.ml.mirror import mirrors
from securemllib.ml.persistence import Persistent
from securemllib.ml.release import summary_values
from securemllib.spark.column_types import VECTOR
from securemllib.spark.dataframe import SecureDataFrame
from securemllib.spark.jobs import Request
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.job import OutputKind
from securemllib.wire.plan import Transform

__all__ = ["OneVsRest", "OneVsRestModel", "PlainOneVsRestModel"]

_COUNTER = "ClassCounter"
_SCORES, _PREDICTION = "rawPrediction", "prediction"
_POSITIVE = 1


class PlainOneVsRestModel:
    """The released models of all classes.

    Attributes:
        models: One for each class.
    """

    def __init__(self, models: list[Any]) -> None:
        self.models = models

    def predictRaw(self, value: Vector) -> DenseVector:
        """Return the scores of the classes of one row."""
        raw = [model.predictRaw(value).toArray() for model in self.models]
        return Vectors.dense([scores[_POSITIVE] if len(scores) > _POSITIVE else -np.inf for scores in raw])

    def predict(self, value: Vector) -> float:
        """Return the predicted class of one row."""
        return float(np.argmax(self.predictRaw(value).toArray()))


@mirrors(original.OneVsRestModel)
class OneVsRestModel(Model, Persistent, _OneVsRestParams):
    """The sealed models of all classes.

    Args:
        models: One for each class, in their order.
    """

    def __init__(self, models: list[Any]) -> None:
        super().__init__()
        if not models or not all(isinstance(model, SecureModel) and _SCORES in model.OUTPUTS for model in models):
            raise UsageError("A OneVsRestModel has sealed models of classifiers, one for each class.", code="usage.param")
        self.models = models

    def _transform(self, dataset: Any) -> Any:
        frame = require_sealed(dataset, "OneVsRestModel.transform")
        outputs = inputs_of(self, {"rawPredictionCol": _SCORES, "predictionCol": _PREDICTION})
        require_columns(frame, {"features": self.getFeaturesCol()})
        require_new(frame, *outputs.values())
        scores = [f"{self.uid}_{index}" for index in range(len(self.models))]
        scored = frame
        for model, column in zip(self.models, scores, strict=True):
            scored = _only_scores(model, self.getFeaturesCol(), column).transform(scored)
        step = Transform(operation="HighestScore", params={}, input_columns=tuple(scores), outputs=outputs)
        types = {name: VECTOR if stem == _SCORES else DoubleType() for stem, name in outputs.items()}
        found = scored.apply(step, types) if outputs else scored
        return found.drop(*scores) if found.has_schema else found

    def release(self, to: PublicIdentity | None = None) -> PlainOneVsRestModel:
        """Return all models in the clear, if the policies of all datasets behind them allow it.

        Args:
            to: The analyst; for somebody else release each of `models`.

        Raises:
            PolicyError: A policy does not allow it.
        """
        if to is not None and to.fingerprint != self.models[0].session.agent.identify().identity.fingerprint:
            raise UsageError("A OneVsRestModel is released to its analyst.", next_step="Release each of its `models`.", code="usage.param")
        return PlainOneVsRestModel([model.release() for model in self.models])

    def copy(self, extra: Any = None) -> Self:
        """Return a copy, of all its models too, which take those of the Params that they have."""
        copied: Self = Params.copy(self, extra or {})
        copied.models = [model.copy(extra or {}) for model in self.models]
        return copied

    @property
    def saved_stages(self) -> list[Any]:
        """The models, and behind them the classifier if it is known, for persistence."""
        return [*self.models, *([self.getClassifier()] if self.isDefined("classifier") else [])]

    @property
    def saved_extra(self) -> Any:
        """The number of models, for persistence."""
        return len(self.models)

    @classmethod
    def restored(cls, stages: list[Any], extra: Any) -> "OneVsRestModel":
        """Return the model that was saved."""
        if type(extra) is not int or not 0 < extra <= len(stages) <= extra + 1:
            raise FormatError("A saved OneVsRestModel has a model for each class, and its classifier.")
        try:
            model = cls(stages[:extra])
        except UsageError as error:
            raise FormatError("A saved OneVsRestModel has a stage that is no model of a classifier.") from error
        return model._set(classifier=stages[extra]) if len(stages) > extra else model


@mirrors(original.OneVsRest)
class OneVsRest(Estimator[Any], Persistent, _OneVsRestParams, HasParallelism):
    """A binary classifier for each class, as ``pyspark.ml.classification.OneVsRest``.

    The number of classes is what `SecureDataFrame.withMetadata` says of the label; where it says nothing a job counts them, for which the
    policy must have the output ``summary`` of the operation ``ClassCounter``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(parallelism=1)

    def _fit(self, dataset: Any) -> OneVsRestModel:
        return self._fitted([self], dataset)[0]

    def fitMultiple(self, dataset: Any, paramMaps: Sequence[Any]) -> Any:
        """Return an iterator of index and model, as in pyspark.ml; the models of all classes of all of them go over the rows together."""
        return iter(enumerate(self._fitted([self.copy(entry) for entry in paramMaps], dataset)))

    def _fitted(self, estimators: list["OneVsRest"], dataset: Any) -> list[OneVsRestModel]:
        frame = require_sealed(dataset, "OneVsRest.fit")
        classes: dict[str, int] = {}
        wanted: list[tuple[SecureEstimator, SecureDataFrame]] = []
        for estimator in estimators:
            label = estimator.getLabelCol()
            require_columns(frame, {"features": estimator.getFeaturesCol(), "label": label})
            estimator._require_classifier()
            if label not in classes:
                classes[label] = _declared(frame, label) or _counted(frame, label)
            wanted += [estimator._against_rest(frame, index) for index in range(classes[label])]
        threads = max(1, min(self.getParallelism(), len(wanted)))
        with ThreadPoolExecutor(threads) as pool:
            dealt = list(pool.map(train, [wanted[first::threads] for first in range(threads)]))
        models = iter([dealt[index % threads][index // threads] for index in range(len(wanted))])
        return [estimator._model([next(models) for _ in range(classes[estimator.getLabelCol()])]) for estimator in estimators]

    def _model(self, models: list[Any]) -> OneVsRestModel:
        return self._copyValues(OneVsRestModel(models))._resetUid(self.uid)

    def _require_classifier(self) -> None:
        classifier: Any = self.getClassifier() if self.isDefined("classifier") else None
        if not isinstance(classifier, SecureEstimator) or _SCORES not in classifier.MODEL.OUTPUTS:
            raise UsageError(
                f"A {type(classifier).__name__} is no classifier of sealed rows.",
                next_step="Set `classifier` to one of securemllib.ml.classification.",
                code="usage.param",
            )
        if self._weights and not classifier.hasParam("weightCol"):
            warnings.warn(f"weightCol is ignored, as it is not supported by {classifier} now.", stacklevel=2)

    @property
    def _weights(self) -> str | None:
        return self.getWeightCol() or None if self.isDefined("weightCol") else None

    def _against_rest(self, frame: SecureDataFrame, index: int) -> tuple[SecureEstimator, SecureDataFrame]:
        """Return the classifier of one class, and the rows with its label."""
        classifier: Any = self.getClassifier()
        label = f"{self.uid}_label"
        values = {"labelCol": label, "featuresCol": self.getFeaturesCol(), "predictionCol": self.getPredictionCol()}
        if self._weights and classifier.hasParam("weightCol"):
            values["weightCol"] = self._weights
        step = Transform(
            operation="ClassAgainstRest", params={"classIndex": index}, input_columns=(self.getLabelCol(),), outputs={"output": label}
        )
        return classifier.copy()._set(**values), frame.apply(step, {label: DoubleType()})

    def copy(self, extra: Any = None) -> Self:
        """Return a copy, with a copy of the classifier, which takes those of the Params that it has."""
        copied: Self = Params.copy(self, extra or {})
        if self.isSet("classifier"):
            copied._set(classifier=self.getClassifier().copy(extra or {}))
        return copied

    @property
    def saved_stages(self) -> list[Any]:
        """The classifier, for persistence."""
        return [self.getClassifier()] if self.isDefined("classifier") else []

    def restore(self, stages: list[Any], extra: Any) -> None:
        """Take over the saved classifier."""
        if extra is not None or len(stages) > 1:
            raise FormatError("A saved OneVsRest has one classifier.")
        if stages:
            self._set(classifier=stages[0])


def _only_scores(model: Any, features: str, column: str) -> Any:
    """Return a model that adds nothing but its raw predictions."""
    outputs = {name: "" for stem, name in model.OUTPUTS.items() if stem != _SCORES and model.hasParam(name)}
    return model.copy()._set(**outputs, featuresCol=features, rawPredictionCol=column)


def _declared(frame: SecureDataFrame, label: str) -> int | None:
    """Return the classes that the label's metadata names, as MLlib writes them; None where it names none."""
    attribute: Any = frame.schema[label].metadata.get("ml_attr", {}) if frame.has_schema else {}
    if attribute.get("type") == "binary":
        return 2
    if attribute.get("type") != "nominal":
        return None
    classes = attribute.get("num_vals", len(attribute.get("vals", ())))
    if type(classes) is not int or not 0 < classes <= MAX_CLASSES:
        raise UsageError(f"The metadata of {label} must name from 1 to {MAX_CLASSES} classes.", code="usage.param")
    return classes


def _counted(frame: SecureDataFrame, label: str) -> int:
    """Return the classes that enclaves count."""
    outputs = ((OutputKind.SUMMARY, None, ()),)
    request = Request(operation=_COUNTER, params={}, inputs={"label": label}, plan=frame.plan, outputs=outputs)
    try:
        released = frame.session.run(frame, request).trees.get(OutputKind.SUMMARY)
    except PolicyError as error:
        raise PolicyError(
            error.reason,
            next_step=f"Ask the owner for a rule with the operation {_COUNTER} and the output summary, or name the number of classes: "
            f'frame.withMetadata("{label}", {{"ml_attr": {{"type": "nominal", "num_vals": 3}}}}).',
            code=error.error_code,
        ) from error
    classes = summary_values(_COUNTER, released)["num_classes"]
    if type(classes) is not int or not 0 < classes <= MAX_CLASSES:
        raise FormatError(f"A {_COUNTER} found no number of classes.")
    return classes
