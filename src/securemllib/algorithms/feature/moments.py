"""Rows, means and squares around the means of each slot, group by group: statistics that add up."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from securemllib.algorithms.feature.counts import NumberCounts
from securemllib.algorithms.vectors import AnyVector, Vector
from securemllib.errors import DataError

__all__ = ["Moments"]

# Means of all groups and slots: beyond, they no longer fit a round's message.
_MOST_MEANS = 1 << 24
# Numbers of dense rows whose differences are held at once: 4 MiB.
_CHUNK = 1 << 19


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Of some rows.

    Attributes:
        groups: The label of each group, and its rows; none where there is no row to tell how many slots there are.
        means: ``(m, d)``.
        squares: ``(m, d)`` sums of squares around the means, exactly 0 where all rows of a group have one value.
    """

    groups: NumberCounts
    means: NDArray[np.float64]
    squares: NDArray[np.float64]

    @classmethod
    def of(cls, vector: AnyVector, label: NDArray[np.float64]) -> Self:
        """Return those of vectors, grouped by their labels; `DataError` where there are too many groups."""
        groups = NumberCounts.of(label)
        _require_few(groups, vector.width)
        # Infinite values have no moments, which are NaN then.
        with np.errstate(invalid="ignore", over="ignore"):
            if not isinstance(vector, Vector):
                return cls._of_sparse(vector.values, label, groups)
            rows, size = vector.matrix(), max(_CHUNK // max(vector.width, 1), 1)
            total = cls(groups=NumberCounts.of(label[:0]), means=np.zeros((0, 0)), squares=np.zeros((0, 0)))
            for chunk in (slice(start, start + size) for start in range(0, len(label), size)):
                total = total + cls._of_dense(rows[chunk], label[chunk])
            return total

    @classmethod
    def _of_dense(cls, rows: NDArray[np.float64], label: NDArray[np.float64]) -> Self:
        groups = NumberCounts.of(label)
        index, counts = np.searchsorted(groups.numbers, label), groups.counts[:, None]
        member: Any = sparse.csr_array((np.ones(len(label)), (index, np.arange(len(label)))))
        # About a row of its own group, what a single value has is exactly 0.
        near = rows[np.unique(index, return_index=True)[1]]
        moved = rows - near[index]
        shift = (member @ moved) / counts
        moved -= shift[index]
        moved *= moved
        return cls(groups=groups, means=near + shift, squares=member @ moved)

    @classmethod
    def _of_sparse(cls, rows: Any, label: NDArray[np.float64], groups: NumberCounts) -> Self:
        shape = len(groups.numbers), rows.shape[1]
        size, counts = shape[0] * shape[1], np.repeat(groups.counts, shape[1])
        place = np.repeat(np.searchsorted(groups.numbers, label), np.diff(rows.indptr)) * shape[1] + rows.indices
        absent = counts - np.bincount(place, minlength=size)
        near = np.zeros(size)
        near[place] = rows.data
        near[absent > 0] = 0.0
        moved = rows.data - near[place]
        shift = np.bincount(place, moved, size) / counts
        squares = np.bincount(place, (moved - shift[place]) ** 2, size) + absent * shift**2
        return cls(groups=groups, means=(near + shift).reshape(shape), squares=squares.reshape(shape))

    @property
    def rows(self) -> int:
        """The number of rows."""
        return int(self.groups.counts.sum())

    def __add__(self, other: Self) -> Self:
        if not self.rows or not other.rows:
            return self if self.rows else other
        if self.means.shape[1] != other.means.shape[1]:
            raise DataError("The vectors of two parts differ in length.", code="data.length")
        groups = self.groups + other.groups
        _require_few(groups, self.means.shape[1])
        (few, means, squares), (more, their_means, their_squares) = self._among(groups), other._among(groups)
        share = more / (few + more)
        with np.errstate(invalid="ignore", over="ignore"):
            shift = their_means - means
            return type(self)(groups=groups, means=means + shift * share, squares=squares + their_squares + shift**2 * (few * share))

    def _among(self, groups: NumberCounts) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return rows ``(m, 1)``, means and squares in the places of their groups among more."""
        place, size = np.searchsorted(groups.numbers, self.groups.numbers), len(groups.numbers)
        rows, means, squares = np.zeros((size, 1)), np.zeros((size, self.means.shape[1])), np.zeros((size, self.means.shape[1]))
        rows[place, 0], means[place], squares[place] = self.groups.counts, self.means, self.squares
        return rows, means, squares


def _require_few(groups: NumberCounts, columns: int) -> None:
    if len(groups.numbers) * columns > _MOST_MEANS:
        raise DataError(f"{len(groups.numbers)} groups of {columns} slots have over {_MOST_MEANS} means.", code="data.category")
