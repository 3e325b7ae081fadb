"""Selection of the slots that vary.

Objective: the slots whose unbiased variance is larger than ``variance_threshold``; a slot with a single value has exactly 0.

Equivalence: ``pyspark.ml.feature.VarianceThresholdSelector``. NaN is refused. Sparse vectors stay sparse; of vectors of which no slot is
left, sparse ones without slots.

Cost: one pass; the zeros of sparse rows cost nothing.

Reveals: with mode="enclave" the number of rows and columns. With mode="partitioned" the same: moments are merged inside enclaves.
"""

from dataclasses import dataclass

import numpy as np

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.feature.moments import Moments
from securemllib.algorithms.feature.selection import SelectorModel
from securemllib.algorithms.feature.values import slots_of
from securemllib.algorithms.params import require_number
from securemllib.algorithms.summary import Summary
from securemllib.errors import DataError, UsageError

__all__ = ["VarianceThresholdSelector", "VarianceThresholdSelectorState"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VarianceThresholdSelectorState:
    """The moments of all rows, which are one group; None before the only round."""

    total: Moments | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VarianceThresholdSelector:
    """Params of ``pyspark.ml.feature.VarianceThresholdSelector``."""

    variance_threshold: float = 0.0

    def __post_init__(self) -> None:
        require_number(self, "variance_threshold", low=0.0)

    def initial(self, summary: Summary, seed: Seed) -> VarianceThresholdSelectorState:
        """Return the empty state."""
        del summary, seed
        return VarianceThresholdSelectorState()

    def is_done(self, state: VarianceThresholdSelectorState) -> bool:
        """Return whether the pass has been made."""
        return state.total is not None

    def statistics(self, state: VarianceThresholdSelectorState, block: Block) -> Moments:
        """Return the moments of the block; `DataError` where a value is NaN."""
        del state
        vector = slots_of(block)
        if vector.invalid().any():
            raise DataError(f"{int(vector.invalid().sum())} rows of part {block.ordinal} have a NaN.", code="data.features")
        return Moments.of(vector, np.zeros(block.rows))

    def update(self, state: VarianceThresholdSelectorState, total: Moments) -> VarianceThresholdSelectorState:
        """Return the finished state."""
        del state
        return VarianceThresholdSelectorState(total=total)

    def to_model(self, state: VarianceThresholdSelectorState) -> SelectorModel:
        """Return the model; `DataError` where there is no row."""
        if state.total is None:
            raise UsageError("The training has not finished: its only round is missing.")
        if not state.total.rows:
            raise DataError("There is no row to learn from.", code="data.no_rows")
        variance = state.total.squares[0] / max(state.total.rows - 1, 1)
        return SelectorModel(columns=len(variance), selected=np.flatnonzero(variance > self.variance_threshold))
