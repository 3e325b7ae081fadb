"""How mixed the rows of a node are, of sums that add up: Gini and entropy of classes, variance of a target."""

from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

__all__ = ["CLASSIFICATION", "REGRESSION", "Impurity"]

Floats = NDArray[np.float64]

CLASSIFICATION, REGRESSION = ("gini", "entropy"), ("variance",)

# MLlib's Utils.EPSILON: what it takes for the impurity of a pure node.
_PURE = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Impurity:
    """An impurity and the sums that it is made of, one a channel.

    Attributes:
        kind: ``gini``, ``entropy`` or ``variance``.
        classes: The number of classes; 0 for the variance, whose channels are the weight and the weighted sum of the target.
        counts_rows: Whether a last channel counts the rows, because their weights do not.
    """

    kind: str
    classes: int
    counts_rows: bool

    @property
    def channels(self) -> int:
        """The number of sums."""
        return (self.classes or 2) + self.counts_rows

    def weight(self, stats: Floats) -> Floats:
        """Return the weight of the rows; ``stats`` is ``(..., channels)``."""
        # numpy adds along a short last axis several times slower than whole arrays to each other.
        return reduce(np.add, (stats[..., label] for label in range(self.classes or 1)))

    def rows(self, stats: Floats) -> Floats:
        """Return the number of the rows."""
        return np.asarray(stats[..., -1] if self.counts_rows else self.weight(stats))

    def predict(self, stats: Floats) -> Floats:
        """Return the class of the largest weight, or the mean of the target; 0 where there is no row."""
        if self.classes:
            return np.asarray(stats[..., : self.classes].argmax(axis=-1), dtype=np.float64)
        weight = stats[..., 0]
        return np.divide(stats[..., 1], weight, out=np.zeros_like(weight), where=weight != 0)

    def centroid(self, stats: Floats) -> Floats:
        """Return what categories are ordered by, infinity for one without rows.

        That is the mean of the target, the weight of class 1, or for more than two classes the impurity, as in MLlib.
        """
        if self.classes == 0:
            centroid = self.predict(stats)
        else:
            centroid = stats[..., 1] if self.classes == 2 else self.of_classes(stats)
        return np.where(self.weight(stats) != 0, centroid, np.inf)

    def is_pure(self, stats: Floats) -> NDArray[np.bool_]:
        """Return whether all rows are of one class; never so for the variance, which is not known."""
        if not self.classes:
            return np.zeros(stats.shape[:-1], dtype=np.bool_)
        return np.abs(self.of_classes(stats)) < _PURE

    def of_classes(self, stats: Floats) -> Floats:
        """Return the Gini impurity or the entropy in bits; the terms are added in MLlib's order, so that ties fall the same way."""
        weight = self.weight(stats)
        value = np.zeros_like(weight) if self.kind == "entropy" else np.ones_like(weight)
        for label in range(self.classes):
            share = np.divide(stats[..., label], weight, out=np.zeros_like(weight), where=weight != 0)
            if self.kind == "entropy":
                value -= share * (np.log(share, out=np.zeros_like(share), where=share > 0) / np.log(2.0))
            else:
                value -= share * share
        return np.where(weight != 0, value, 0.0)

    def gain(self, left: Floats, total: Floats) -> Floats:
        """Return by how much a split lowers the impurity.

        Args:
            left: ``(..., s, channels)`` sums of the rows that go left, of each of s splits.
            total: ``(..., channels)`` sums of all rows.
        """
        total = total[..., None, :]
        right = total - left
        weight, left_weight = self.weight(total), self.weight(left)
        right_weight = self.weight(right)
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.classes:
                left_part, right_part = left_weight / weight, right_weight / weight
                return np.asarray(self.of_classes(total) - left_part * self.of_classes(left) - right_part * self.of_classes(right))
            # The variance between the two sides, which does not cancel digits where the target is far from 0.
            difference = left[..., 1] / left_weight - right[..., 1] / right_weight
            return np.asarray(left_weight * right_weight * (difference * (1.0 / weight)) ** 2)
