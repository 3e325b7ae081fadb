"""Standard scaling: every column divided by its standard deviation and, if asked, moved to mean 0.

Objective: ``output[j] = (x[j] - mean[j]) * factor[j]`` with ``factor[j] = 1 / std[j]``, or 0 where ``std[j] = 0``.

Equivalence: ``pyspark.ml.feature.StandardScaler``. The standard deviation is the unbiased one (denominator n - 1); a constant
column becomes 0, as in MLlib; without ``with_mean`` nothing is subtracted, and sparse vectors stay sparse. Rows
with a NaN or infinite value are refused, where MLlib's mean and deviation become NaN.

Cost: none beyond the dataset's summary, which every training computes once; no round of its own.

Reveals: with mode="enclave" the number of rows and columns. With mode="partitioned" the same: the summary is no plain sum and
stays sealed, and the mean and variance stay sealed in the model unless the policy names them as an output.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.feature.values import of_width, standardised, vector_of
from securemllib.algorithms.params import require_bool
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.transformer import Column, Transformed

__all__ = ["StandardScaler", "StandardScalerModel", "StandardScalerState", "StandardScalerStatistics"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StandardScalerState:
    """Mean and unbiased standard deviation of each column, both ``(d,)``."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class StandardScalerStatistics:
    """The number of rows: the summary already holds everything else."""

    rows: int

    def __add__(self, other: Self) -> Self:
        return type(self)(rows=self.rows + other.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class StandardScalerModel:
    """The scaling of each column.

    Attributes:
        mean: ``(d,)`` column means.
        std: ``(d,)`` unbiased standard deviations.
        with_mean: Whether the mean is subtracted.
        with_std: Whether rows are divided by the standard deviation.
    """

    SUMMARY: ClassVar[tuple[str, ...]] = ()
    CHANGEABLE: ClassVar[tuple[str, ...]] = ("with_mean", "with_std")

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    with_mean: bool
    with_std: bool

    def __post_init__(self) -> None:
        require_bool(self, "with_mean", "with_std")

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return ``output``, the scaled vectors; `DataError` where they have another width than the model."""
        (column,) = columns
        vector = of_width(vector_of(column, "input"), len(self.mean), "The model")
        made = standardised(vector, self.mean if self.with_mean else None, self.std if self.with_std else None)
        return Transformed(columns={"output": Column(made)})


@dataclass(frozen=True, slots=True, kw_only=True)
class StandardScaler:
    """Params of ``pyspark.ml.feature.StandardScaler``."""

    SPARSE: ClassVar[bool] = True

    with_mean: bool = False
    with_std: bool = True

    def initial(self, summary: Summary, seed: Seed) -> StandardScalerState:
        """Return the finished state: the summary is all that scaling needs."""
        del seed
        summary.require_rows(squares=self.with_std, columns=True)
        return StandardScalerState(mean=summary.mean, std=summary.deviation)

    def is_done(self, state: StandardScalerState) -> bool:
        """Return True: no round is needed."""
        del state
        return True

    def statistics(self, state: StandardScalerState, block: Block) -> StandardScalerStatistics:
        """Return the number of rows of the block."""
        del state
        return StandardScalerStatistics(rows=block.rows)

    def update(self, state: StandardScalerState, total: StandardScalerStatistics) -> StandardScalerState:
        """Return the state unchanged."""
        del total
        return state

    def to_model(self, state: StandardScalerState) -> StandardScalerModel:
        """Return the model."""
        return StandardScalerModel(mean=state.mean, std=state.std, with_mean=self.with_mean, with_std=self.with_std)
