"""What all estimators and models here share: a fit is one sealed job, a transform one more step of a plan."""

from collections.abc import Sequence
from typing import Any, ClassVar, Self

from pyspark.ml.base import Estimator, Model
from pyspark.ml.param import Param, Params

from securemllib.algorithms.codec import from_tree
from securemllib.algorithms.registry import ALGORITHMS, types_of
from securemllib.errors import PolicyError, UsageError
from securemllib.ml.checks import inputs_of, job_params, require_columns, require_new, require_sealed
from securemllib.ml.mirror import converted, refuse_sealed
from securemllib.ml.persistence import Persistent
from securemllib.ml.release import ReleasedModel, summary_values
from securemllib.ml.summaries import Summary
from securemllib.spark.blocks import pieces_in
from securemllib.spark.column_types import VECTOR
from securemllib.spark.dataframe import SecureDataFrame
from securemllib.spark.jobs import Outcome, Request
from securemllib.spark.session import SecureSession
from securemllib.spark.storage import Folder
from securemllib.wire.encoding import Value
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.job import OutputKind
from securemllib.wire.plan import ApplyModel
from securemllib.wire.result import SealedModel

__all__ = ["SecureClassifierModel", "SecureEstimator", "SecureModel", "train"]

_ROLES = {"featuresCol": "features", "inputCol": "features", "labelCol": "label", "weightCol": "weight"}
_BINARY = 2
_DOUBLE_OUTPUTS = frozenset({"prediction"})


class SecureEstimator(Estimator[Any], Persistent):
    """An estimator whose fit runs in enclaves."""

    ORIGINAL: ClassVar[type[Any]]
    MODEL: ClassVar[type["SecureModel"]]
    ROLES: ClassVar[dict[str, str]] = {}  # roles that only this estimator has, by the names of column Params

    def __init_subclass__(cls, **named: Any) -> None:
        super().__init_subclass__(**named)
        if "MODEL" in vars(cls):
            cls.MODEL.OPERATION = cls.__name__

    def _fit(self, dataset: Any) -> Any:
        return train([(self, dataset)])[0]

    def fitMultiple(self, dataset: Any, paramMaps: Sequence[Any]) -> Any:
        """Return an iterator of index and model, as in pyspark.ml; all models train in shared passes over the rows."""
        return iter(enumerate(train([(self.copy(entry), dataset) for entry in paramMaps])))

    def _request(self, frame: SecureDataFrame, *, summary: bool) -> Request:
        operation = type(self).__name__
        inputs = self._inputs(frame)
        params = job_params(operation, self)
        if not self.MODEL.REPLACES:
            require_new(frame, *self.MODEL.outputs_of(self).values())
        kinds = [OutputKind.SEALED_MODEL]
        if summary and frame.session.settings.summary and types_of(ALGORITHMS[operation])[2].SUMMARY:
            kinds.append(OutputKind.SUMMARY)
        outputs = tuple((kind, None, ()) for kind in kinds)
        return Request(
            operation=operation,
            params=params,
            inputs=inputs,
            plan=frame.plan,
            outputs=outputs,
            seed=converted(self, "seed") or 0,
            together=not hasattr(ALGORITHMS[operation], "exchange"),
        )

    def _trained(self, frame: SecureDataFrame, outcome: Outcome) -> "SecureModel":
        model = self._model_type()(SealedModel.from_bytes(outcome.model), frame.session)
        model._pieces = frame.session.folder_of(outcome.job_id)
        self._copyValues(model)
        return model._resetUid(self.uid)._trained_on(frame, outcome.trees.get(OutputKind.SUMMARY))

    def _model_type(self) -> type["SecureModel"]:
        return self.MODEL

    def _inputs(self, frame: SecureDataFrame) -> dict[str, str]:
        """Return the columns by role; `UsageError` where one is missing or of another kind."""
        inputs = inputs_of(self, _ROLES | self.ROLES)
        if not inputs:
            raise UsageError(f"{type(self).__name__} needs an input column.", code="usage.param")
        require_columns(frame, inputs)
        return inputs


class SecureModel(Model, Persistent):
    """A model that enclaves use and nobody reads, until its owners' policies release it.

    Args:
        sealed: Its bytes; without them there is nothing to apply, and `load` on the class, or on this, gives another model.
        session: The session; the active one when not given.
    """

    ORIGINAL: ClassVar[type[Any]]
    OPERATION: ClassVar[str]  # the estimator that trains it, which says so itself
    OUTPUTS: ClassVar[dict[str, str]] = {"prediction": "predictionCol"}
    ROLES: ClassVar[dict[str, str]] = {}  # roles of columns that this model reads beside the features, by the names of column Params
    SUMMARY: ClassVar[type[Summary] | None] = None
    CHANGEABLE: ClassVar[tuple[str, ...]] = ()
    REPLACES: ClassVar[bool] = False  # whether an output may have the name of a column that there is, as in pyspark.ml

    sealed: SealedModel
    # Where the pieces of a large model are, which is too large to be held here.
    _pieces: Folder | None = None

    def __init__(self, sealed: SealedModel | None = None, session: SecureSession | None = None) -> None:
        super().__init__()
        if sealed is not None:
            self.sealed = sealed
        self._session = session
        self._summary: Summary | None = None

    @property
    def session(self) -> SecureSession:
        """The session that jobs of this model run on: its own while that goes on, else the active one."""
        return self._session if self._session is not None and not self._session.is_stopped else SecureSession.active()

    @classmethod
    def outputs_of(cls, params: Params) -> dict[str, str]:
        """Return the output columns by their stem."""
        return inputs_of(params, {name: stem for stem, name in cls.OUTPUTS.items()})

    def _transform(self, dataset: Any) -> Any:
        frame = require_sealed(dataset, f"{type(self).__name__}.transform")
        inputs = inputs_of(self, {name: role for name, role in _ROLES.items() if role == "features"} | self.ROLES)
        outputs = self.outputs_of(self)
        require_columns(frame, inputs)
        require_new(frame, *outputs.values())
        step = ApplyModel(
            model=self.sealed.reference,
            input_columns=tuple(inputs.values()),
            outputs=outputs,
            params={name: converted(self, name) for name in self.CHANGEABLE},
        )
        return frame.apply(step, {column: self._type_of(stem) for stem, column in outputs.items()}, self.sealed, self._pieces)

    def _type_of(self, stem: str) -> Any:
        from pyspark.sql.types import DoubleType

        return DoubleType() if stem in _DOUBLE_OUTPUTS else VECTOR

    @property
    def hasSummary(self) -> bool:
        """Whether this is the model that a fit returned, or a copy of it; a loaded model has no summary, as in pyspark.ml."""
        return self._summary is not None

    @property
    def summary(self) -> Any:
        """The summary of the training; each of its attributes is what the policy releases. `UsageError` where there is none."""
        if self._summary is None:
            raise UsageError(
                f"No training summary available for this {type(self).__name__}.",
                next_step="Only a model that was trained in this program has one; evaluate a loaded model on a dataset.",
                code="usage.no_summary",
            )
        return self._summary

    def _trained_on(self, frame: SecureDataFrame, released: Value) -> Self:
        """Give this model the summary of its training, which keeps the Params of now."""
        kind = self._summary_type()
        if kind is not None:
            values = summary_values(self.sealed.operation, released) if isinstance(released, dict) else None
            self._summary = kind(self.copy(), frame, values)
        return self

    def _summary_type(self) -> type[Summary] | None:
        return self.SUMMARY

    def release(self, to: PublicIdentity | None = None) -> Any:
        """Return the model in the clear, if the policies of all datasets behind it allow it.

        Args:
            to: The recipient. For the analyst, or when not given, the plain model is returned, opened by the analyst's agent;
                for somebody else a `ReleasedModel`, which only their agent opens.

        Raises:
            PolicyError: A policy does not allow it.
        """
        session = self.session
        (key,) = session.release_model(self.sealed, to)
        if to is not None and to.fingerprint != session.agent.identify().identity.fingerprint:
            return ReleasedModel(model=self.sealed.to_bytes(), key=key, pieces=self._pieces)
        tree, shards = session.agent.open_model(self.sealed.to_bytes(), pieces_in(self.sealed, self._pieces), key)
        model = from_tree(types_of(ALGORITHMS[self.sealed.operation])[2], tree)
        return self._plain(model.whole([from_tree(model.SHARD, shard) for shard in shards]) if shards else model)

    def _plain(self, model: Any) -> Any:
        raise NotImplementedError

    def copy(self, extra: Any = None) -> Self:
        """Return a copy with the same sealed bytes."""
        copied: Self = Params.copy(self, extra)
        return copied

    def hasParam(self, paramName: str) -> bool:
        """Return whether there is a Param of that name; what is sealed under the name of an estimator's Param is none."""
        return isinstance(getattr(type(self), paramName, None), Param)

    def __getattr__(self, name: str) -> Any:
        if name == "sealed":
            raise UsageError(
                f"This {type(self).__name__} is empty: it holds no sealed bytes.",
                next_step="Fit an estimator, or use `load`.",
                code="usage.empty_model",
            )
        return refuse_sealed(self, name, type(self).ORIGINAL)


class SecureClassifierModel(SecureModel):
    """A sealed model of a classifier whose training summary tells how many classes there are."""

    # What the training's summary told; a loaded model has none.
    _classes: int | None = None

    def _trained_on(self, frame: SecureDataFrame, released: Value) -> Self:
        if isinstance(released, dict) and isinstance(classes := released.get("num_classes"), int):
            self._classes = classes
        return super()._trained_on(frame, released)

    @property
    def _may_be_binary(self) -> bool:
        # Where the policy kept the number of classes sealed, only thresholds, one a class, can rule two of them out.
        classes = self._classes if self._classes is not None else len(converted(self, "thresholds") or ())
        return classes <= _BINARY


def train(wanted: Sequence[tuple[SecureEstimator, Any]]) -> list[SecureModel]:
    """Return the models of estimators, each on its rows; those of one dataset train in shared passes over it.

    Fits ask for a summary, and once more without one where the policy gives none: one more request each, no more runs.
    """
    fits = [(estimator, require_sealed(dataset, f"{type(estimator).__name__}.fit")) for estimator, dataset in wanted]
    if not fits:
        return []

    def run(*, summary: bool) -> list[Outcome]:
        return fits[0][1].session.run_together([(frame, estimator._request(frame, summary=summary)) for estimator, frame in fits])

    try:
        outcomes = run(summary=True)
    except PolicyError as error:
        if not error.error_code.startswith("refused.policy.output"):
            raise
        outcomes = run(summary=False)
    return [estimator._trained(frame, outcome) for (estimator, frame), outcome in zip(fits, outcomes, strict=True)]
