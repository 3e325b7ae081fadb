"""Pipelines of stages over sealed rows."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self, cast

from pyspark.ml import pipeline as original
from pyspark.ml.base import Estimator, Transformer
from pyspark.ml.wrapper import JavaParams

from securemllib.errors import UsageError
from securemllib.ml.base import SecureEstimator, train
from securemllib.ml.checks import require_sealed
from securemllib.ml.persistence import Persistent
from securemllib.spark.dataframe import SecureDataFrame

__all__ = ["Pipeline", "PipelineModel"]


class Pipeline(Persistent, original.Pipeline):  # type: ignore[misc]
    """Stages fitted one after the other, as ``pyspark.ml.Pipeline``; a stage of the user's own builds expressions over sealed rows."""

    def _fit(self, dataset: Any) -> "PipelineModel":
        return _fitted([self], require_sealed(dataset, "Pipeline.fit"))[0]

    def fitMultiple(self, dataset: Any, paramMaps: Sequence[Any]) -> Any:
        """Return an iterator of index and model, as in pyspark.ml.

        The estimators at one place train in shared passes over the rows, and what is equal in several entries is trained once.
        """
        frame = require_sealed(dataset, "Pipeline.fit")
        return iter(enumerate(_fitted([cast("Pipeline", self.copy(entry)) for entry in paramMaps], frame)))

    @property
    def saved_stages(self) -> list[Any]:
        """The stages, for persistence."""
        return self.getStages()


class PipelineModel(Persistent, original.PipelineModel):  # type: ignore[misc]
    """Fitted stages; those that were trained are sealed."""

    def __init__(self, stages: list[Transformer]) -> None:
        super().__init__(stages)

    def _transform(self, dataset: Any) -> Any:
        frame: Any = require_sealed(dataset, "PipelineModel.transform")
        for stage in self.stages:
            frame = stage.transform(frame)
        return frame

    def copy(self, extra: Any = None) -> "PipelineModel":
        """Return a copy with copied stages."""
        return PipelineModel([stage.copy(extra or {}) for stage in self.stages])._resetUid(self.uid)

    @property
    def saved_stages(self) -> list[Any]:
        """The stages, for persistence."""
        return self.stages


@dataclass(slots=True)
class _Fit:
    """A pipeline that is being fitted.

    Attributes:
        stages: Its stages.
        trained: How many of them come before, and with, the last estimator; the others need no rows.
        frame: The rows for the next stage.
        fitted: The stages that are done.
    """

    stages: list[Any]
    trained: int
    frame: SecureDataFrame
    fitted: list[Transformer] = field(default_factory=list)

    @classmethod
    def of(cls, pipeline: Pipeline, frame: SecureDataFrame) -> Self:
        """Return the fit of a pipeline before its first stage."""
        stages = pipeline.getStages()
        for stage in stages:
            if isinstance(stage, JavaParams) and not isinstance(stage, Persistent):
                raise UsageError(f"The stage {stage.uid} computes on rows in the clear, in Spark.", code="usage.stage")
            if not isinstance(stage, Estimator | Transformer):
                raise TypeError(f"Cannot recognize a pipeline stage of type {type(stage)}.")
        last = max((index for index, stage in enumerate(stages) if isinstance(stage, Estimator)), default=-1)
        return cls(stages=stages, trained=last + 1, frame=frame)


def _fitted(pipelines: list[Pipeline], frame: SecureDataFrame) -> list["PipelineModel"]:
    fits = [_Fit.of(pipeline, frame) for pipeline in pipelines]
    for place in range(max((len(fit.stages) for fit in fits), default=0)):
        there = [fit for fit in fits if place < len(fit.stages)]
        # Fits whose stage and rows are equal here share what comes out, and so the rows of the next place.
        groups: list[list[_Fit]] = []
        for fit in there:
            group = next((group for group in groups if _is_same(group[0], fit, place)), None)
            if group is None:
                groups.append(group := [])
            group.append(fit)
        for group, model in zip(groups, _models([(group[0].stages[place], group[0].frame) for group in groups]), strict=True):
            rows = model.transform(group[0].frame) if place + 1 < group[0].trained else group[0].frame
            for fit in group:
                fit.fitted.append(model)
                fit.frame = rows
    return [PipelineModel(fit.fitted)._resetUid(pipeline.uid) for fit, pipeline in zip(fits, pipelines, strict=True)]


def _is_same(one: _Fit, other: _Fit, place: int) -> bool:
    first, second = one.stages[place], other.stages[place]
    values = [{param.name: value for param, value in stage.extractParamMap().items()} for stage in (first, second)]
    same_rows = one.frame is other.frame and one.trained == other.trained
    return same_rows and type(first) is type(second) and first.uid == second.uid and values[0] == values[1]


def _models(wanted: list[tuple[Any, Any]]) -> list[Any]:
    """Return the transformers that stages become, each on its rows."""
    secure = [(stage, frame) for stage, frame in wanted if isinstance(stage, SecureEstimator)]
    trained = iter(train(secure))
    return [
        next(trained) if isinstance(stage, SecureEstimator) else stage.fit(frame) if isinstance(stage, Estimator) else stage
        for stage, frame in wanted
    ]
