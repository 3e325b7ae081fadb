"""Correlation of every two slots of vectors.

Objective: ``r[j, k] = C[j, k] / sqrt(C[j, j] C[k, k])`` with the centred Gram matrix C of the values (pearson), or of their ranks, equal
values sharing their mean rank (spearman); NaN beside a constant slot, 1 on the diagonal.

Equivalence: ``pyspark.ml.stat.Correlation``. NaN is refused.

Cost: one pass of ``n d^2`` multiply-adds; spearman another one before, whose statistics are the distinct values of all slots, at most
`MAX_VALUES` a slot.

Reveals: with mode="enclave" the number of rows, columns and rounds, for spearman by the size of sealed messages about how many distinct
values there are, and the correlations where the policy has the output ``summary``. With mode="partitioned" the same: merged inside
enclaves.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.feature.counts import NumberCounts
from securemllib.algorithms.feature.values import inputs_of, vector_of
from securemllib.algorithms.params import require_choice
from securemllib.algorithms.summary import Summary
from securemllib.errors import DataError, UsageError

__all__ = ["Correlation", "CorrelationResult", "CorrelationState", "CorrelationStatistics"]

# Rows whose products are added up at once.
_CHUNK_ROWS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrelationStatistics:
    """Of some rows: their number, mean ``(d,)`` and centred Gram matrix ``(d, d)``; or in the round before the values of each slot."""

    rows: int
    mean: NDArray[np.float64]
    gram: NDArray[np.float64]
    values: tuple[NumberCounts, ...] = ()

    def __add__(self, other: Self) -> Self:
        if not self.rows or not other.rows:
            return self if self.rows else other
        if len(self.mean) != len(other.mean) or len(self.values) != len(other.values):
            raise DataError("The vectors of two parts differ in length.", code="data.length")
        rows = self.rows + other.rows
        shift = other.mean - self.mean
        return type(self)(
            rows=rows,
            mean=self.mean + shift * (other.rows / rows),
            gram=self.gram + other.gram + np.outer(shift * (self.rows * (other.rows / rows)), shift),
            values=tuple(one + two for one, two in zip(self.values, other.values, strict=True)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrelationState:
    """The values of each slot, where ranks are wanted and known; and the merged statistics, None before the last round."""

    values: tuple[NumberCounts, ...] = ()
    total: CorrelationStatistics | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrelationResult:
    """The matrix ``(d, d)``."""

    SUMMARY: ClassVar[tuple[str, ...]] = ("matrix",)

    matrix: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlation:
    """The argument of ``pyspark.ml.stat.Correlation.corr``."""

    method: str = "pearson"

    def __post_init__(self) -> None:
        require_choice(self, "method", ("pearson", "spearman"))

    def initial(self, summary: Summary, seed: Seed) -> CorrelationState:
        """Return the empty state."""
        del summary, seed
        return CorrelationState()

    def is_done(self, state: CorrelationState) -> bool:
        """Return whether the products are added up."""
        return state.total is not None

    def statistics(self, state: CorrelationState, block: Block) -> CorrelationStatistics:
        """Return the block's values, or its products; `DataError` where a value is NaN."""
        vector = vector_of(inputs_of(block)[0], "input")
        if vector.invalid().any():
            raise DataError(f"{int(vector.invalid().sum())} rows of part {block.ordinal} have a NaN.", code="data.features")
        matrix = vector.matrix()
        columns = matrix.shape[1]
        if self.method == "spearman":
            if not state.values:
                found = tuple(NumberCounts.of(np.ascontiguousarray(column)) for column in matrix.T)
                return CorrelationStatistics(rows=block.rows, mean=np.zeros(0), gram=np.zeros((0, 0)), values=found)
            matrix = _ranked(matrix, state.values)
        mean = matrix.mean(axis=0) if block.rows else np.zeros(columns)
        gram = np.zeros((columns, columns))
        for start in range(0, block.rows, _CHUNK_ROWS):
            centred = matrix[start : start + _CHUNK_ROWS] - mean
            gram += centred.T @ centred
        return CorrelationStatistics(rows=block.rows, mean=mean, gram=gram)

    def update(self, state: CorrelationState, total: CorrelationStatistics) -> CorrelationState:
        """Return the next state; `DataError` where there are not two rows."""
        if total.rows < 2:
            raise DataError(f"A correlation needs at least 2 rows, the dataset has {total.rows}.", code="data.too_few_rows")
        if self.method == "spearman" and not state.values:
            return CorrelationState(values=total.values)
        return CorrelationState(values=state.values, total=total)

    def to_model(self, state: CorrelationState) -> CorrelationResult:
        """Return the matrix."""
        if state.total is None:
            raise UsageError("The job has not finished: a round is missing.")
        gram = state.total.gram
        deviation = np.sqrt(np.diag(gram))
        with np.errstate(invalid="ignore", divide="ignore"):
            matrix = np.where(np.outer(deviation, deviation) > 0, gram / np.outer(deviation, deviation), np.nan)
        np.fill_diagonal(matrix, 1.0)
        return CorrelationResult(matrix=np.clip(matrix, -1.0, 1.0))


def _ranked(matrix: NDArray[np.float64], values: tuple[NumberCounts, ...]) -> NDArray[np.float64]:
    """Return the mean rank of each value among all rows, from 1 on."""
    ranks = np.empty_like(matrix)
    for slot, counted in enumerate(values[: matrix.shape[1]]):
        ends = np.cumsum(counted.counts)
        mean_rank = ends - (counted.counts - 1) / 2
        ranks[:, slot] = mean_rank[np.searchsorted(counted.numbers, matrix[:, slot])]
    return ranks
