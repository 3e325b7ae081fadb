"""Robust scaling: every slot centred at its median and divided by a range between quantiles.

Objective: ``output[j] = (x[j] - median[j]) / (upper[j] - lower[j])``, each part if asked; 0 where that range is 0.

Equivalence: ``pyspark.ml.feature.RobustScaler``; NaN counts for nothing. The quantiles are exact, so they are within every
``relativeError`` of MLlib's, and equal to MLlib's where that keeps all values (below ``1 / (2 relativeError)`` rows). Sparse vectors stay
sparse unless they are centred.

Cost: four passes for up to 64 slots, more for wider vectors, whose counts are kept at 32 MiB.

Reveals: with mode="enclave" the number of rows, columns and rounds. With mode="partitioned" the same: counts leave as masked
integers, but those of the first round, whose size only the rows tell, are added inside enclaves.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.feature.quantiles import QuantileCounts, QuantileSearch, columns_of
from securemllib.algorithms.feature.values import of_width, slots_of, standardised, vector_of
from securemllib.algorithms.params import require_bool, require_number
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.transformer import Column, Transformed
from securemllib.errors import UsageError

__all__ = ["RobustScaler", "RobustScalerModel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustScalerModel:
    """Median and range of each slot: ``(d,)``, and which of them are used."""

    SUMMARY: ClassVar[tuple[str, ...]] = ()
    CHANGEABLE: ClassVar[tuple[str, ...]] = ("with_centering", "with_scaling")

    median: NDArray[np.float64]
    range: NDArray[np.float64]
    with_centering: bool
    with_scaling: bool

    def __post_init__(self) -> None:
        require_bool(self, "with_centering", "with_scaling")

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return ``output``, the scaled vectors."""
        (column,) = columns
        vector = of_width(vector_of(column, "input"), len(self.median), "The model")
        made = standardised(vector, self.median if self.with_centering else None, self.range if self.with_scaling else None)
        return Transformed(columns={"output": Column(made)})


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustScaler:
    """Params of ``pyspark.ml.feature.RobustScaler``."""

    lower: float = 0.25
    upper: float = 0.75
    with_centering: bool = False
    with_scaling: bool = True
    relative_error: float = 0.001

    def __post_init__(self) -> None:
        require_bool(self, "with_centering", "with_scaling")
        for field in ("lower", "upper", "relative_error"):
            require_number(self, field, low=0.0, high=1.0)
        if not 0.0 < self.lower < self.upper < 1.0:
            raise UsageError(f"lower ({self.lower}) and upper ({self.upper}) must be in order within (0, 1)", code="usage.param")

    def initial(self, summary: Summary, seed: Seed) -> QuantileSearch:
        """Return the search that knows nothing."""
        del summary, seed
        return QuantileSearch.start()

    def is_done(self, state: QuantileSearch) -> bool:
        """Return whether the quantiles are found."""
        return state.is_done

    def statistics(self, state: QuantileSearch, block: Block) -> QuantileCounts:
        """Return the counts of the block."""
        return state.counted(columns_of(slots_of(block)), 3)

    def is_additive(self, state: QuantileSearch) -> bool:
        """Return whether the next counts are sums of a known shape: all but the first are."""
        return state.is_sized

    def nothing(self, state: QuantileSearch) -> QuantileCounts:
        """Return the counts of no rows."""
        return state.nothing()

    def update(self, state: QuantileSearch, total: QuantileCounts) -> QuantileSearch:
        """Return the refined search; `DataError` where a slot has no value."""
        return state.refined(total, np.array([[self.lower, 0.5, self.upper]]), self.relative_error)

    def to_model(self, state: QuantileSearch) -> RobustScalerModel:
        """Return the model."""
        low, middle, high = state.values.T
        return RobustScalerModel(median=middle, range=high - low, with_centering=self.with_centering, with_scaling=self.with_scaling)
