"""The best split of nodes, of their histograms.

Candidates, their order and the conditions of a valid one are those of MLlib's ``RandomForest.binsToBestSplit``; the first of equally
good splits wins.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.kernels import trees
from securemllib.algorithms.trees.binning import Binning
from securemllib.algorithms.trees.forest import Splits
from securemllib.algorithms.trees.impurity import Impurity

__all__ = ["SplitSearch"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# 16 MB of sums are searched at once.
_CELLS = 1 << 21
# Sums that differ by rounding alone make gains that differ by less than this share.
_TIE = 1e-11


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSearch:
    """What a split must satisfy.

    Attributes:
        binning: The candidates.
        impurity: What a split lowers.
        min_rows: Rows on each side.
        min_weight: Weight on each side.
        min_gain: Gain.
        noise: What rounding may add to a sum of targets; 0 where sums are exact.
        exact: Whether all sums are integers, so that equal gains are equal to the bit.
    """

    binning: Binning
    impurity: Impurity
    min_rows: int
    min_weight: float
    min_gain: float
    noise: float
    exact: bool

    def best(self, cells: Floats, starts: Ints, columns: Ints) -> Splits:
        """Return the best splits of some nodes.

        Args:
            cells: ``(cells, channels)`` the histograms.
            starts: ``(s, m)`` the first cell of each node and column.
            columns: ``(s, m)`` the columns that are searched.
        """
        found = self._scanned(cells, starts, columns)
        if found is not None:
            return self._chosen(columns, *found, order=None, subset_left=None)
        width = max(int(self.binning.sizes.max(initial=2)), 2)
        step = max(_CELLS // (columns.shape[1] * width * self.impurity.channels), 1)
        slices = [slice(first, first + step) for first in range(0, len(columns), step)]
        parts = [self._of_some(self._padded(cells, starts[some], columns[some], width), columns[some]) for some in slices]
        names = Splits.__slots__
        return Splits(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})

    def _scanned(self, cells: Floats, starts: Ints, columns: Ints) -> tuple[Floats, Ints, Floats, Floats] | None:
        """Return gain, place and sums of the best split of each node and column, of continuous columns and a target; else None."""
        if self.impurity.classes or self.binning.arity.any():
            return None
        sizes = self.binning.sizes[columns].ravel()
        found = trees.scan_targets(
            np.ascontiguousarray(cells),
            starts.ravel(),
            sizes,
            min_rows=self.min_rows,
            min_weight=self._least_weight,
            min_gain=self.min_gain,
            tie=_TIE,
        )
        if found is None:
            return None
        gain, place, left, total = found
        shape = columns.shape
        return gain.reshape(shape), place.reshape(shape), left.reshape(*shape, -1), total.reshape(*shape, -1)

    @property
    def _least_weight(self) -> float:
        return max(self.min_weight, float(np.finfo(np.float64).tiny))

    def _padded(self, cells: Floats, starts: Ints, columns: Ints, width: int) -> Floats:
        sizes = self.binning.sizes[columns]
        places = starts[..., None] + np.arange(width)
        if (sizes == width).all():
            return np.asarray(cells[places])
        inside = np.arange(width) < sizes[..., None]
        padded = np.zeros((*places.shape, self.impurity.channels))
        padded[inside] = cells[places[inside]]
        return padded

    def _of_some(self, sums: Floats, columns: Ints) -> Splits:
        order = self._ordered(sums, columns)
        ordered = sums if order is None else np.take_along_axis(sums, order[..., None], axis=2)
        cumulative = np.cumsum(ordered, axis=2)
        total, left = cumulative[:, :, -1], cumulative[:, :, :-1]
        possible = np.arange(left.shape[2]) < (self.binning.sizes[columns] - 1)[..., None]
        gains = np.where(possible, self._gains(left, total), -np.inf)
        place = self._first(gains)
        gain = np.take_along_axis(gains, place[..., None], axis=2)[..., 0]
        best_left = np.take_along_axis(left, place[..., None, None], axis=2)[:, :, 0]
        subset_left = self._unordered(sums, total, columns, gain, place)
        return self._chosen(columns, gain, place, best_left, total, order=order, subset_left=subset_left)

    def _chosen(
        self, columns: Ints, gain: Floats, place: Ints, left: Floats, total: Floats, *, order: Ints | None, subset_left: Floats | None
    ) -> Splits:
        """Return the best column's split of each node, of the best split of each node and column."""
        nodes, chosen = np.arange(len(columns)), self._first(gain)
        place, gain, feature = place[nodes, chosen], gain[nodes, chosen], columns[nodes, chosen]
        best_left, best_total = left[nodes, chosen], total[nodes, chosen]
        subset, is_subset = self._subsets(feature, place, None if order is None else order[nodes, chosen])
        if subset_left is not None:
            best_left = np.where(self.binning.unordered[feature][:, None], subset_left[nodes, chosen], best_left)
        return Splits(
            gain=self._without_noise(gain, best_left, best_total),
            feature=feature.astype(np.int32),
            bin=place.astype(np.int32),
            threshold=self._thresholds(feature, place, is_subset),
            subset=subset,
            is_subset=is_subset,
            left=best_left,
            right=best_total - best_left,
        )

    def _ordered(self, sums: Floats, columns: Ints) -> Ints | None:
        """Return the order of the bins, by centroid where they are categories; None where no column is nominal."""
        nominal = self.binning.arity[columns] > 0
        if not nominal.any():
            return None
        key = np.where(nominal[..., None], self.impurity.centroid(sums), np.arange(sums.shape[2], dtype=np.float64))
        return np.argsort(key, axis=2, kind="stable")

    def _gains(self, left: Floats, total: Floats) -> Floats:
        """Return the gains of splits, minus infinity where one is not valid."""
        right = total[..., None, :] - left
        impurity = self.impurity
        valid = np.minimum(impurity.weight(left), impurity.weight(right)) >= self._least_weight
        if impurity.counts_rows or self.min_rows > 0:
            valid &= np.minimum(impurity.rows(left), impurity.rows(right)) >= self.min_rows
        gain = impurity.gain(left, total)
        return np.where(valid & (gain >= self.min_gain), gain, -np.inf)

    def _first(self, gains: Floats) -> Ints:
        """Return the first of the best along the last axis."""
        if self.exact:
            return np.asarray(gains.argmax(axis=-1))
        best = gains.max(axis=-1, keepdims=True)
        return np.asarray((gains >= best - _TIE * np.abs(best)).argmax(axis=-1))

    def _unordered(self, sums: Floats, total: Floats, columns: Ints, gain: Floats, place: Ints) -> Floats | None:
        """Put the best subset of each unordered column into ``gain`` and ``place``; return the sums of the rows that go left."""
        if not self.binning.unordered[columns].any():
            return None
        best = np.zeros_like(total)
        for arity in np.unique(self.binning.arity[self.binning.unordered]):
            node, index = np.nonzero(self.binning.unordered[columns] & (self.binning.arity[columns] == arity))
            left = np.einsum("qa,zac->zqc", _subsets_of(int(arity)), sums[node, index, :arity])
            gains = self._gains(left, total[node, index])
            chosen = self._first(gains)
            each = np.arange(len(node))
            gain[node, index], place[node, index], best[node, index] = gains[each, chosen], chosen, left[each, chosen]
        return best

    def _subsets(self, feature: Ints, place: Ints, order: Ints | None) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        arity = self.binning.arity
        width = int(arity.max(initial=0))
        subset = np.full((len(feature), width), 2, dtype=np.uint8)
        is_subset = arity[feature] > 0
        for node in np.flatnonzero(is_subset):
            count = arity[feature[node]]
            if self.binning.unordered[feature[node]]:
                subset[node, :count] = _subsets_of(int(count))[place[node]]
            elif order is not None:
                subset[node, :count] = 0
                subset[node, order[node, : place[node] + 1]] = 1
        return subset, is_subset

    def _thresholds(self, feature: Ints, place: Ints, is_subset: NDArray[np.bool_]) -> Floats:
        if not len(self.binning.thresholds):
            return np.zeros(len(feature))
        where = np.minimum(self.binning.starts[feature] + place, len(self.binning.thresholds) - 1)
        return np.where(is_subset, 0.0, self.binning.thresholds[where])

    def _without_noise(self, gain: Floats, left: Floats, total: Floats) -> Floats:
        """Return the gains, 0 where the two sides differ by what rounding may have made."""
        if self.impurity.classes or self.noise == 0.0:
            return gain
        right = total - left
        difference = np.abs(self.impurity.predict(left) - self.impurity.predict(right))
        fewest = np.minimum(self.impurity.weight(left), self.impurity.weight(right))
        return np.where((gain > 0) & (difference * fewest <= self.noise), 0.0, gain)


def _subsets_of(arity: int) -> Floats:
    """Return the splits of so many categories into two sets, ``(2^(arity-1) - 1, arity)``: 1 for categories that go left."""
    number = np.arange(1, 2 ** (arity - 1))
    return ((number[:, None] >> np.arange(arity)) & 1).astype(np.float64)
