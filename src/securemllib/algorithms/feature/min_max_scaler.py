"""Min-max scaling: every slot moved and stretched to a given range.

Objective: ``output[j] = (x[j] - min[j]) / (max[j] - min[j]) * (b - a) + a``, and ``(a + b) / 2`` where a slot
is constant or its range is infinite.

Equivalence: ``pyspark.ml.feature.MinMaxScaler``; NaN stays NaN and counts for nothing. The output is dense, for zeros become others.

Cost: one pass.

Reveals: with mode="enclave" the number of rows and columns. With mode="partitioned" the same: a minimum is no sum, so it is merged
inside enclaves.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.feature.extremes import Extremes, ExtremesState
from securemllib.algorithms.feature.values import of_width, vector_of
from securemllib.algorithms.params import require_number
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.transformer import Column, Transformed
from securemllib.algorithms.vectors import Vector
from securemllib.errors import UsageError

__all__ = ["MinMaxScaler", "MinMaxScalerModel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MinMaxScalerModel:
    """The range of each slot.

    Attributes:
        original_min: ``(d,)``.
        original_max: ``(d,)``.
        min: Where the output's range begins.
        max: Where it ends.
    """

    SUMMARY: ClassVar[tuple[str, ...]] = ()
    CHANGEABLE: ClassVar[tuple[str, ...]] = ("min", "max")

    original_min: NDArray[np.float64]
    original_max: NDArray[np.float64]
    min: float
    max: float

    def __post_init__(self) -> None:
        _require_range(self)

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return ``output``, the scaled vectors."""
        (column,) = columns
        vector = of_width(vector_of(column, "input"), len(self.original_min), "The model")
        dense = vector if isinstance(vector, Vector) else Vector.of(vector.matrix())
        edges = zip(dense.columns, self.original_min, self.original_max, strict=True)
        return Transformed(columns={"output": Column(Vector(tuple(self._scaled(*edge) for edge in edges)))})

    def _scaled(self, values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            factor = (self.max - self.min) / (high - low) if high > low else 0.0
            if factor == 0.0:
                return np.where(np.isnan(values), np.nan, (self.min + self.max) / 2)
            return (values - low) * factor + self.min


@dataclass(frozen=True, slots=True, kw_only=True)
class MinMaxScaler:
    """Params of ``pyspark.ml.feature.MinMaxScaler``."""

    min: float = 0.0
    max: float = 1.0

    def __post_init__(self) -> None:
        _require_range(self)

    def initial(self, summary: Summary, seed: Seed) -> ExtremesState:
        """Return the empty state."""
        del summary, seed
        return ExtremesState()

    def is_done(self, state: ExtremesState) -> bool:
        """Return whether the pass has been made."""
        return state.total is not None

    def statistics(self, state: ExtremesState, block: Block) -> Extremes:
        """Return the extremes of the block."""
        del state
        return Extremes.of(block)

    def update(self, state: ExtremesState, total: Extremes) -> ExtremesState:
        """Return the finished state."""
        del state
        return ExtremesState(total=total)

    def to_model(self, state: ExtremesState) -> MinMaxScalerModel:
        """Return the model; `DataError` where there is no row."""
        found = state.found
        return MinMaxScalerModel(original_min=found.minimum, original_max=found.maximum, min=self.min, max=self.max)


def _require_range(params: MinMaxScaler | MinMaxScalerModel) -> None:
    require_number(params, "min")
    require_number(params, "max")
    if not params.min < params.max:
        raise UsageError(f"min ({params.min}) must be smaller than max ({params.max})", code="usage.param")
