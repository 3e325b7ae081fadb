"""How often each value of each slot occurs with each label: statistics that add up, and Pearson's test of independence."""

import itertools
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import chdtrc

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.columns import labels_of
from securemllib.algorithms.feature.counts import NumberCounts
from securemllib.algorithms.feature.values import inputs_of, vector_of
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.vectors import Vector
from securemllib.errors import DataError, UsageError

__all__ = ["Contingency", "ContingencyPass", "ContingencyState", "Independence"]

# MLlib's: more distinct values are no categories.
_MOST_CATEGORIES = 10_000

# Pairs of all slots together.
_MOST_PAIRS = 1 << 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Independence:
    """The test of each slot: ``(d,)``; a slot or label with a single value has the statistic 0 and the p-value 1."""

    p_values: NDArray[np.float64]
    degrees_of_freedom: NDArray[np.int64]
    statistics: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contingency:
    """Counted values that are not 0, and counted labels.

    Attributes:
        columns: Slots; -1 where no row tells.
        pairs: ``(m, 3)`` distinct slots, values and labels, in order.
        counts: ``(m,)``.
        labels: The labels of all rows.
    """

    columns: int
    pairs: NDArray[np.float64]
    counts: NDArray[np.int64]
    labels: NumberCounts

    @classmethod
    def of(cls, block: Block) -> Self:
        """Return the counts of the block's only raw column; `DataError` where a value is NaN or there are too many."""
        vector, label = vector_of(inputs_of(block)[0], "input"), labels_of(block)
        if vector.invalid().any():
            raise DataError(f"{int(vector.invalid().sum())} rows of part {block.ordinal} have a NaN.", code="data.features")
        rows = sparse.coo_array(vector.matrix() if isinstance(vector, Vector) else vector.values)
        pairs = np.column_stack([rows.col.astype(np.float64), rows.data, label[rows.row]])[rows.data != 0]
        found, counts = _counted(pairs, np.ones(len(pairs), dtype=np.int64))
        return cls(columns=vector.width if block.rows else -1, pairs=found, counts=counts, labels=_categories(NumberCounts.of(label)))

    def __add__(self, other: Self) -> Self:
        if self.columns < 0 or other.columns < 0:
            return self if self.columns >= 0 else other
        if self.columns != other.columns:
            raise DataError("The vectors of two parts differ in length.", code="data.length")
        pairs, counts = _counted(np.concatenate([self.pairs, other.pairs]), np.concatenate([self.counts, other.counts]))
        return type(self)(columns=self.columns, pairs=pairs, counts=counts, labels=self.labels + other.labels)

    def tested(self) -> Independence:
        """Return the test of each slot; `DataError` where there is no row."""
        if self.columns < 0:
            raise DataError("There is no row to test.", code="data.no_rows")
        cuts = np.searchsorted(self.pairs[:, 0], np.arange(self.columns + 1))
        labels = _categories(self.labels)
        tests = [_tested(self.pairs[low:high], self.counts[low:high], labels) for low, high in itertools.pairwise(cuts)]
        statistics, freedom = np.array(tests).reshape(-1, 2).T.copy()
        p_values = np.where(freedom > 0, chdtrc(np.maximum(freedom, 1), statistics), 1.0)
        return Independence(p_values=p_values, degrees_of_freedom=freedom.astype(np.int64), statistics=statistics)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContingencyState:
    """The counts of all rows, None before the only round."""

    total: Contingency | None = None

    def tested(self) -> Independence:
        """Return the test of each slot; `DataError` where there is no row."""
        if self.total is None:
            raise UsageError("The job has not finished: its only round is missing.")
        return self.total.tested()


class ContingencyPass:
    """The only pass of what is made of counts."""

    __slots__ = ()

    def initial(self, summary: Summary, seed: Seed) -> ContingencyState:
        """Return the empty state."""
        del summary, seed
        return ContingencyState()

    def is_done(self, state: ContingencyState) -> bool:
        """Return whether the pass has been made."""
        return state.total is not None

    def statistics(self, state: ContingencyState, block: Block) -> Contingency:
        """Return the counts of the block; `DataError` where a value is NaN or there are too many."""
        del state
        return Contingency.of(block)

    def update(self, state: ContingencyState, total: Contingency) -> ContingencyState:
        """Return the finished state."""
        del state
        return ContingencyState(total=total)


def _counted(pairs: NDArray[np.float64], counts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return distinct pairs in order with the sums of their counts."""
    distinct, index = np.unique(pairs, axis=0, return_inverse=True)
    if len(distinct) > _MOST_PAIRS:
        raise DataError(f"The slots have {len(distinct)} pairs of values and labels, over {_MOST_PAIRS}.", code="data.category")
    total = np.zeros(len(distinct), dtype=np.int64)
    np.add.at(total, index.ravel(), counts)
    return distinct.reshape(-1, 3), total


def _categories(counted: NumberCounts) -> NumberCounts:
    if len(counted.numbers) > _MOST_CATEGORIES:
        raise DataError(f"A test expects categories, and found more than {_MOST_CATEGORIES} distinct values.", code="data.category")
    return counted


def _tested(pairs: NDArray[np.float64], counts: NDArray[np.int64], labels: NumberCounts) -> tuple[float, int]:
    """Return the statistic and the degrees of freedom of one slot, from its counts that are not of 0."""
    values = _categories(NumberCounts.of(pairs[:, 1], counts)).numbers
    observed = np.zeros((len(values) + 1, len(labels.numbers)))
    observed[np.searchsorted(values, pairs[:, 1]), np.searchsorted(labels.numbers, pairs[:, 2])] = counts
    observed[-1] = labels.counts - observed[:-1].sum(axis=0)
    observed = observed if observed[-1].any() else observed[:-1]
    freedom = (observed.shape[0] - 1) * (observed.shape[1] - 1)
    expected = np.outer(observed.sum(axis=1), observed.sum(axis=0)) / observed.sum()
    return (float(((observed - expected) ** 2 / expected).sum()), freedom) if freedom else (0.0, 0)
