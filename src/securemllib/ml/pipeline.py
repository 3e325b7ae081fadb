"""Pipelines of stages over sealed rows."""

from typing import Any

from pyspark.ml import pipeline as original
from pyspark.ml.base import Transformer

from securemllib.errors import UsageError
from securemllib.ml.checks import require_sealed
from securemllib.ml.persistence import Persistent

__all__ = ["Pipeline", "PipelineModel"]


class Pipeline(Persistent, original.Pipeline):  # type: ignore[misc]
    """Stages of this package, fitted one after the other, as ``pyspark.ml.Pipeline``."""

    def _fit(self, dataset: Any) -> "PipelineModel":
        frame = require_sealed(dataset, "Pipeline.fit")
        for stage in self.getStages():
            if not isinstance(stage, Persistent):
                raise UsageError(f"The stage {getattr(stage, 'uid', type(stage).__name__)} is not one of this package.", code="usage.stage")
        fitted = super()._fit(frame)  # type: ignore[arg-type]
        return PipelineModel(fitted.stages)._resetUid(self.uid)

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
