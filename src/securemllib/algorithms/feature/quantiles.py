"""Exact quantiles of columns by statistics that add up: counts of the leading bits of values, a few bits more each round.

A float64 has a 64-bit key in the order of the numbers. Round by round the key's next bits are counted among the rows that share the bits
found so far, until the key of the wanted rank is known: four rounds for a column, more for many columns, whose counts are kept small.
An exact quantile is within every ``relativeError``; as in MLlib it is an element of the column, the one of rank ``ceil(p n)``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from securemllib.algorithms.vectors import AnyVector, Vector
from securemllib.errors import DataError

__all__ = ["QuantileCounts", "QuantileSearch", "columns_of"]

_KEY_BITS = 64
_SIGN = np.uint64(1 << 63)

# Counts of all columns and quantiles in a round: 32 MiB.
_MOST_COUNTS = 1 << 22
_MOST_BITS = 16

# A column's stored values, and how many zeros it has beside them.
StoredColumn = tuple[NDArray[np.float64], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantileCounts:
    """Rows by the next bits of their key.

    Attributes:
        counts: ``(d, q, 2**bits)``, one row of counts for each different prefix of a column, in order; the last ones may be unused.
    """

    ADDITIVE: ClassVar[tuple[str, ...]] = ("counts",)

    counts: NDArray[np.int64]

    def __add__(self, other: Self) -> Self:
        if not self.counts.size or not other.counts.size:
            return other if not self.counts.size else self
        return type(self)(counts=self.counts + other.counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantileSearch:
    """What is known of ``q`` quantiles in each of ``d`` columns.

    Attributes:
        bits: How many leading bits.
        prefix: ``(d, q)`` these bits; empty before the first round.
        rank: ``(d, q)`` the wanted rank among the rows that share them.
    """

    bits: int
    prefix: NDArray[np.uint64]
    rank: NDArray[np.int64]

    @classmethod
    def start(cls) -> Self:
        """Return the search that knows nothing."""
        return cls(bits=0, prefix=np.zeros((0, 0), np.uint64), rank=np.zeros((0, 0), np.int64))

    @property
    def is_done(self) -> bool:
        """Whether the quantiles are found."""
        return self.bits == _KEY_BITS

    @property
    def values(self) -> NDArray[np.float64]:
        """The quantiles: ``(d, q)``."""
        return _numbers(self.prefix)

    def counted(self, columns: Sequence[StoredColumn], quantiles: int) -> QuantileCounts:
        """Return the counts of some rows, NaN left out.

        Args:
            columns: ``d`` columns.
            quantiles: How many are looked for in each.
        """
        counts = self._zeros(len(columns), quantiles)
        step = counts.shape[2].bit_length() - 1
        for index, (values, zeros) in enumerate(columns):
            prefixes = np.unique(self.prefix[index]) if self.bits else np.zeros(1, np.uint64)
            counts[index, : len(prefixes)] = self._histogram(_keys(values[~np.isnan(values)]), prefixes, step)
            if zeros:
                counts[index, : len(prefixes)] += zeros * self._histogram(_keys(np.zeros(1)), prefixes, step)
        return QuantileCounts(counts=counts)

    @property
    def is_sized(self) -> bool:
        """Whether the shape of the next counts is known: that of the first ones follows from the rows."""
        return self.bits > 0

    def nothing(self) -> QuantileCounts:
        """Return the counts of no rows, in the shape of the next round."""
        return QuantileCounts(counts=self._zeros(*self.prefix.shape))

    def _zeros(self, columns: int, quantiles: int) -> NDArray[np.int64]:
        room = _MOST_COUNTS // max(columns * quantiles, 1)
        step = min(max(room.bit_length() - 1, 1), _MOST_BITS, _KEY_BITS - self.bits)
        return np.zeros((columns, quantiles, 1 << step), dtype=np.int64)

    def _histogram(self, keys: NDArray[np.uint64], prefixes: NDArray[np.uint64], step: int) -> NDArray[np.int64]:
        left = _KEY_BITS - self.bits
        leading = keys >> np.uint64(left) if self.bits else np.zeros_like(keys)
        slot = np.minimum(np.searchsorted(prefixes, leading), len(prefixes) - 1)
        shared = prefixes[slot] == leading
        bucket = (keys[shared] >> np.uint64(left - step)) & np.uint64((1 << step) - 1)
        found = np.bincount((slot[shared] << step) + bucket.astype(np.int64), minlength=len(prefixes) << step)
        return found.reshape(len(prefixes), 1 << step)

    def refined(self, total: QuantileCounts, probabilities: NDArray[np.float64], relative_error: float) -> "QuantileSearch":
        """Return the search after a round.

        Args:
            total: The counts of all rows.
            probabilities: ``(d, q)``, or a shape that broadcasts to it.
            relative_error: Probabilities so close to 0 or 1 are those of the smallest and largest value, as in MLlib.

        Raises:
            DataError: A column has no value.
        """
        columns, quantiles, buckets = total.counts.shape
        step = buckets.bit_length() - 1
        prefix, rank = self.prefix, self.rank
        if not self.bits:
            prefix = np.zeros((columns, quantiles), np.uint64)
            rank = _ranks(total.counts[:, 0].sum(axis=1), np.broadcast_to(probabilities, (columns, quantiles)), relative_error)
        new_prefix, new_rank = np.empty_like(prefix), np.empty_like(rank)
        for index in range(columns):
            slot = np.searchsorted(np.unique(prefix[index]), prefix[index])
            ends = np.cumsum(total.counts[index, slot], axis=1)
            bucket = (ends <= rank[index][:, None]).sum(axis=1)
            before = np.where(bucket > 0, ends[np.arange(quantiles), np.maximum(bucket - 1, 0)], 0)
            new_prefix[index] = (prefix[index] << np.uint64(step)) | bucket.astype(np.uint64)
            new_rank[index] = rank[index] - before
        return QuantileSearch(bits=self.bits + step, prefix=new_prefix, rank=new_rank)


def columns_of(vector: AnyVector) -> list[StoredColumn]:
    """Return the columns of vectors; the zeros of sparse ones are counted only."""
    if isinstance(vector, Vector):
        return [(values, 0) for values in vector.columns]
    by_column = sparse.csc_array(vector.values)
    cuts = np.split(by_column.data, by_column.indptr[1:-1])
    return [(values, vector.rows - len(values)) for values in cuts[: vector.width]]


def _ranks(sizes: NDArray[np.int64], probabilities: NDArray[np.float64], relative_error: float) -> NDArray[np.int64]:
    if not sizes.size or not (sizes > 0).all():
        raise DataError("A column has no value of which to take a quantile.", code="data.no_rows")
    rank = np.ceil(probabilities * sizes[:, None]).astype(np.int64) - 1
    rank = np.where(probabilities <= relative_error, 0, np.where(probabilities >= 1 - relative_error, sizes[:, None] - 1, rank))
    return np.clip(rank, 0, sizes[:, None] - 1)


def _keys(values: NDArray[np.float64]) -> NDArray[np.uint64]:
    # Adding 0 makes -0 the same as 0.
    bits = (values + 0.0).view(np.uint64)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def _numbers(keys: NDArray[np.uint64]) -> NDArray[np.float64]:
    return np.where(keys & _SIGN, keys ^ _SIGN, ~keys).view(np.float64)
