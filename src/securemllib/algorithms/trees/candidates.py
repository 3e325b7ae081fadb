"""The candidates of splits: a statistic of the columns that adds up, and the thresholds made of it.

A column of at most ``max_bins`` distinct values is split at the midpoints of neighbouring values. Every other one is split near its
quantiles, read from a sample of rows whose keys are drawn: the smallest keys of a union are the smallest among those of its parts.
The rules, and the size of the sample, are those of MLlib's ``RandomForest.findSplits``, which draws other rows.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Array, Block
from securemllib.algorithms.columns import weights_of
from securemllib.errors import DataError

__all__ = ["ColumnValues", "sample_size"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# MLlib's smallest sample of rows for quantiles.
_SAMPLED_ROWS = 10_000
# 32 MB: wide rows are sampled less than MLlib does, but never below what its default of 32 bins needs.
_SAMPLED_VALUES = 4_000_000
_FEWEST_ROWS = 1024
# So far a sample is from its expected size less often than once in 10^14 trainings; then it is a little smaller.
_DEVIATIONS = 8.0
# So many rows a bin show whether a column has more distinct values than bins, before all rows are read for it.
_PROBED_ROWS = 4


def sample_size(columns: int, max_bins: int) -> int:
    """Return how many rows are sampled."""
    return min(max(max_bins * max_bins, _SAMPLED_ROWS), max(_SAMPLED_VALUES // max(columns, 1), _FEWEST_ROWS))


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnValues:
    """What is known of the columns' values.

    Attributes:
        distinct: ``(d, cap)`` distinct values of each column in ascending order, then infinity.
        counts: ``(d,)`` how many there are; more than cap where the column has more.
        resolution: ``(d,)`` how far the precision of a block may have moved a value; nearer values are one.
        arity: ``(d,)`` categories of each nominal column, 0 where it is continuous.
        keys: ``(s,)`` ascending keys of the sampled rows.
        rows: ``(s, d)`` the sampled rows.
        weights: ``(s,)`` their weights.
        quota: How many rows are sampled at most.
    """

    distinct: Floats
    counts: Ints
    resolution: Floats
    arity: Ints
    keys: Floats
    rows: Floats
    weights: Floats
    quota: int

    @classmethod
    def of(cls, block: Block, used: NDArray[np.bool_] | None, *, cap: int, quota: int, rows: int, generator: np.random.Generator) -> Self:
        """Return the values of a block's used rows (all where ``used`` is None) of positive weight, of so many rows in all blocks."""
        weights = weights_of(block)
        kept = np.flatnonzero(weights > 0 if used is None else used & (weights > 0))
        resolution = _resolution(block, kept)
        distinct, counts = _distinct(block, kept, resolution, cap)
        keys = generator.standard_exponential(block.rows)[kept]
        chosen = np.flatnonzero(keys <= _largest_key(quota, rows if used is None else 0))
        chosen = chosen[np.argpartition(keys[chosen], quota - 1)[:quota]] if quota < len(chosen) else chosen
        chosen = chosen[np.argsort(keys[chosen], kind="stable")]
        return cls(
            distinct=distinct,
            counts=counts,
            resolution=resolution,
            arity=np.zeros(block.columns, dtype=np.int64) if block.arity is None else np.asarray(block.arity, dtype=np.int64),
            keys=keys[chosen],
            rows=_true_values(block.features[kept[chosen]], block.offset, resolution),
            weights=weights[kept[chosen]],
            quota=quota,
        )

    def __add__(self, other: Self) -> Self:
        if (self.arity != other.arity).any():
            raise DataError("The parts differ in the categories of a feature.", code="data.category")
        resolution = np.maximum(self.resolution, other.resolution)
        cap = self.distinct.shape[1]
        distinct, counts = _merged(np.concatenate([self.distinct, other.distinct], axis=1), resolution, cap)
        keys = np.concatenate([self.keys, other.keys])
        order = np.argsort(keys, kind="stable")[: self.quota]
        return replace(
            self,
            distinct=distinct,
            counts=np.where(np.maximum(self.counts, other.counts) > cap, cap + 1, counts),
            resolution=resolution,
            keys=keys[order],
            rows=np.concatenate([self.rows, other.rows])[order],
            weights=np.concatenate([self.weights, other.weights])[order],
        )

    def thresholds(self, column: int, max_bins: int) -> Floats:
        """Return the ascending thresholds of a continuous column; at most ``max_bins - 1``."""
        if self.counts[column] <= self.distinct.shape[1]:
            values = self.distinct[column, : self.counts[column]]
            if len(values) <= max_bins:
                return (values[1:] + values[:-1]) / 2.0
        return _quantiles(self.rows[:, column], self.weights, float(self.resolution[column]), max_bins)


def _largest_key(quota: int, rows: int) -> float:
    """Return what the smallest keys of all rows are not above, but for eight standard deviations: a block needs to send no others."""
    most = quota + _DEVIATIONS * quota**0.5
    return -float(np.log1p(-most / rows)) if most < rows else np.inf


def _resolution(block: Block, kept: Ints) -> Floats:
    rows = block.features if len(kept) == block.rows else block.features[kept]
    largest = np.maximum(rows.max(axis=0, initial=0.0), -rows.min(axis=0, initial=0.0)).astype(np.float64)
    coarse, fine = float(np.finfo(block.features.dtype).eps), float(np.finfo(np.float64).eps)
    return np.asarray(coarse * largest + 4.0 * fine * (largest + np.abs(block.offset)))


def _true_values(features: Array, offset: Floats, resolution: Floats) -> Floats:
    """Return true values; a decimal of fewer digits within the resolution is what the value was before it was centred."""
    values: Floats = features.astype(np.float64) + offset
    with np.errstate(divide="ignore"):
        digits = -np.ceil(np.log10(10.0 * resolution))
    # Powers of ten up to 22 are exact.
    scale = 10.0 ** np.clip(np.where(np.isfinite(digits), digits, 0.0), 0.0, 22.0)
    rounded = np.rint(values * scale) / scale
    return np.asarray(np.where(np.abs(rounded - values) <= resolution, rounded, values))


def _distinct(block: Block, kept: Ints, resolution: Floats, cap: int) -> tuple[Floats, Ints]:
    probe = _true_values(block.features[kept[: _PROBED_ROWS * cap]], block.offset, resolution)
    distinct, counts = _merged(np.ascontiguousarray(probe.T), resolution, cap)
    for column in np.flatnonzero(counts <= cap) if len(kept) > len(probe) else ():
        values = _true_values(block.features[kept, column], block.offset[column], resolution[column])
        known = distinct[column, : counts[column]]
        near = np.minimum(np.searchsorted(known, values - resolution[column]), len(known) - 1)
        others = np.unique(values[np.abs(known[near] - values) > resolution[column]])
        merged, count = _merged(np.concatenate([known, others])[None, :], resolution[column : column + 1], cap)
        distinct[column], counts[column] = merged[0], count[0]
    return distinct, counts


def _merged(values: Floats, resolution: Floats, cap: int) -> tuple[Floats, Ints]:
    """Return the first ``cap`` distinct values of each row of ``(d, m)``, padded with infinity, and how many there are, up to cap + 1."""
    ordered = np.sort(values, axis=1)
    new = np.isfinite(ordered)
    if ordered.shape[1] > 1:
        with np.errstate(invalid="ignore"):
            new[:, 1:] &= np.diff(ordered, axis=1) > resolution[:, None]
    place = np.cumsum(new, axis=1) - 1
    row, column = np.nonzero(new & (place < cap))
    distinct = np.full((len(values), cap), np.inf)
    distinct[row, place[row, column]] = ordered[row, column]
    return distinct, np.minimum(new.sum(axis=1), cap + 1)


def _quantiles(values: Floats, weights: Floats, resolution: float, max_bins: int) -> Floats:
    """Return the midpoints where the cumulative weight comes nearest to multiples of the stride, as MLlib chooses them."""
    # Rows that weigh the same need no order of their own, and sorting values alone is several times faster.
    same = len(weights) > 0 and weights.min() == weights.max()
    order = slice(None) if same else np.argsort(values, kind="stable")
    values = np.sort(values) if same else values[order]
    first = np.concatenate([[0], np.flatnonzero(np.diff(values) > resolution) + 1]) if len(values) else np.zeros(0, dtype=np.int64)
    values = values[first]
    if len(values) <= max_bins:
        return np.asarray((values[1:] + values[:-1]) / 2.0)
    cumulative = np.cumsum(np.add.reduceat(weights[order], first))
    targets = np.cumsum(np.full(max_bins - 1, cumulative[-1] / max_bins))
    # Between two neighbours a threshold stands where the weight before it is nearer to the target than the weight after it.
    found = np.searchsorted((cumulative[1:] + cumulative[:-1]) / 2.0, targets, side="right")
    steps = np.arange(len(found))
    found = np.maximum.accumulate(found - steps) + steps
    found = found[found < len(values) - 1]
    return np.asarray((values[found] + values[found + 1]) / 2.0)
