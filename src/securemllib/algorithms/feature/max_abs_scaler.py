"""Scaling by the largest absolute value: every slot to [-1, 1], zeros kept.

Objective: ``output[j] = x[j] / max |x[j]|``, unchanged where that is 0.

Equivalence: ``pyspark.ml.feature.MaxAbsScaler``. Sparse vectors stay sparse.

Cost: one pass.

Reveals: with mode="enclave" the number of rows and columns. With mode="partitioned" the same: a maximum is no sum, so it is merged
inside enclaves.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.feature.extremes import Extremes, ExtremesState
from securemllib.algorithms.feature.values import of_width, scaled, vector_of
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.transformer import Column, Transformed

__all__ = ["MaxAbsScaler", "MaxAbsScalerModel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxAbsScalerModel:
    """The largest absolute value of each slot: ``(d,)``."""

    SUMMARY: ClassVar[tuple[str, ...]] = ()

    max_abs: NDArray[np.float64]

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return ``output``, the scaled vectors."""
        (column,) = columns
        vector = of_width(vector_of(column, "input"), len(self.max_abs), "The model")
        return Transformed(columns={"output": Column(scaled(vector, 1.0 / np.where(self.max_abs == 0, 1.0, self.max_abs)))})


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxAbsScaler:
    """``pyspark.ml.feature.MaxAbsScaler``, which has no Params but its columns."""

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

    def to_model(self, state: ExtremesState) -> MaxAbsScalerModel:
        """Return the model; `DataError` where there is no row."""
        found = state.found
        largest = np.maximum(np.abs(found.minimum), np.abs(found.maximum))
        # A slot of NaN alone has no largest value: it stays as it is.
        return MaxAbsScalerModel(max_abs=np.where(np.isfinite(largest) | (found.minimum <= found.maximum), largest, 0.0))
