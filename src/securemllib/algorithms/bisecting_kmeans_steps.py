"""The inner steps of bisecting K-Means: which half of a divided cluster a row is in, and the sums of the halves.

Cosine distance is half the squared Euclidean distance of rows scaled to length 1, so that both measures share every step. Of two centres
the nearer one is told by one product: a row x is nearer to r than to l where ``(x - (l + r) / 2) (r - l) > 0``, which loses no digits
where the two are nearly one.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from securemllib.algorithms.base import Block
from securemllib.algorithms.columns import weights_of
from securemllib.algorithms.kernels import halves
from securemllib.algorithms.kernels.sparse import add_class_sums
from securemllib.algorithms.slices import row_pieces
from securemllib.errors import DataError

__all__ = ["Division", "GroupSums", "half_sums", "leaf_costs", "nodes_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.integer[Any]]
Nodes = NDArray[np.int32]

_EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """Pairs of centres, and which of each there are.

    Attributes:
        centers: ``(p, 2, d)``.
        found: ``(p, 2)`` at least one of each pair, but for those that are never asked.
    """

    centers: Floats
    found: NDArray[np.bool_]

    def about(self, offset: Floats) -> "Sides":
        """Return what tells the sides of rows less an offset."""
        direction = self.centers[:, 1] - self.centers[:, 0]
        threshold = np.einsum("pd,pd->p", self.centers.mean(axis=1) - offset, direction)
        alone: NDArray[np.bool_] = np.logical_not(self.found.all(axis=1))
        direction[alone] = 0.0
        threshold[alone] = np.where(self.found[alone, 0], np.inf, -np.inf)
        return Sides(direction, threshold)


@dataclass(frozen=True, slots=True)
class Sides:
    """A row is on the right of a pair where its product with the direction is above the threshold; of equally near ones the left wins."""

    direction: Floats
    threshold: Floats

    def of(self, rows: Any, pair: Ints) -> Ints:
        """Return ``(n,)`` 0 for left and 1 for right, of each row and its pair."""
        if isinstance(rows, csr_array):
            return (_products(rows, self.direction, pair) > self.threshold[pair]).astype(np.int64)
        return halves.sides(rows, pair, self.direction, self.threshold)


@dataclass(slots=True)
class GroupSums:
    """Sums over groups of rows.

    Attributes:
        rows: ``(g,)``.
        weight: ``(g,)``.
        sums: ``(g, d)`` weighted, of rows less the group's origin.
        squares: ``(g,)`` weighted, of their lengths.
        rounding: ``(g,)`` weighted, of what the rounding of coordinates may have added to them.
    """

    rows: Floats
    weight: Floats
    sums: Floats
    squares: Floats
    rounding: Floats

    def add(self, rows: Any, group: Ints, weight: Floats, rounding: Floats) -> None:
        """Add rows, each to its group."""
        count = len(self.rows)
        if isinstance(rows, csr_array):
            values = (np.ones(len(group)), weight, weight * _products(rows, None, group))
            found = np.stack([np.bincount(group, weights=each, minlength=count) for each in values], axis=1).astype(np.float64)
            add_class_sums(rows, group.astype(np.int64), weight, self.sums)
        else:
            found, sums = halves.group_sums(rows, group, weight, count)
            self.sums += sums
        self.rows += found[:, 0]
        self.weight += found[:, 1]
        self.squares += found[:, 2]
        self.rounding += np.bincount(group, weights=weight * rounding, minlength=count)

    def moved(self, shift: Floats) -> None:
        """Make the sums those of rows plus ``(g, d)`` a shift a group."""
        self.squares += 2 * np.einsum("gd,gd->g", self.sums, shift) + self.weight * np.einsum("gd,gd->g", shift, shift)
        self.sums += self.weight[:, None] * shift


def nodes_of(block: Block, division: Division, children: Ints, *, cosine: bool) -> Nodes:
    """Return ``(n,)`` the node of a tree that each row of a block ends in, from node 0 on.

    Args:
        block: The rows.
        division: The centres of each node's children.
        children: ``(m, 2)`` the children, -1 where there is none.
        cosine: Whether the distance is cosine.
    """
    at = np.zeros(block.rows, dtype=np.int32)
    sides = division.about(np.zeros(block.columns) if cosine else block.offset)
    inner: NDArray[np.bool_] = np.any(children >= 0, axis=1)
    for part, piece in row_pieces(block):
        rows, here = _prepared(piece, block, cosine=cosine)[0], at[part]
        while len(going := np.flatnonzero(inner[here])):
            nodes = here[going]
            here[going] = children[nodes, sides.of(rows if len(going) == len(here) else rows[going], nodes)]
    return at


def half_sums(block: Block, division: Division, pair: Ints, *, cosine: bool) -> GroupSums:
    """Return the sums of ``2 p`` halves, each about its centre.

    Args:
        block: The rows.
        division: The centres of the ``p`` pairs of halves.
        pair: ``(n,)`` which cluster that is divided each row is in, -1 for none.
        cosine: Whether the distance is cosine.
    """
    offset = np.zeros(block.columns) if cosine else block.offset
    sides, weights, total = division.about(offset), weights_of(block), _no_sums(2 * len(division.found), block.columns)
    noise = block.columns * _resolution(block) ** 2
    for part, piece in row_pieces(block):
        used = np.flatnonzero(pair[part] >= 0)
        if len(used):
            rows, squares = _prepared(piece if len(used) == piece.shape[0] else piece[used], block, cosine=cosine)
            chosen = pair[part][used]
            total.add(rows, 2 * chosen + sides.of(rows, chosen), weights[part][used], noise / squares)
    total.moved(offset - division.centers.reshape(-1, block.columns))
    return total


def leaf_costs(block: Block, centers: Floats, nodes: Ints, *, cosine: bool) -> Floats:
    """Return ``(n,)`` the cost of each row at its node's centre."""
    costs = np.empty(block.rows)
    for part, piece in row_pieces(block):
        rows, _ = _prepared(piece, block, cosine=cosine)
        near = centers[nodes[part]]
        if cosine:
            costs[part] = 1.0 - _products(rows, near, np.arange(len(near)))
        elif isinstance(rows, csr_array):
            lengths = _products(rows, None, nodes[part]) + np.einsum("nd,nd->n", near, near)
            costs[part] = np.maximum(lengths - 2 * _products(rows, near, np.arange(len(near))), 0.0)
        else:
            costs[part] = ((rows + block.offset - near) ** 2).sum(axis=1)
    return costs


def _no_sums(groups: int, columns: int) -> GroupSums:
    none = np.zeros((4, groups))
    return GroupSums(rows=none[0], weight=none[1], sums=np.zeros((groups, columns)), squares=none[2], rounding=none[3])


def _prepared(piece: Any, block: Block, *, cosine: bool) -> tuple[Any, Floats]:
    """Return the rows, for cosine not centred and of length 1, and the squares that they were divided by."""
    if not cosine:
        return piece, np.ones(piece.shape[0])
    rows = piece.astype(np.float64) if isinstance(piece, csr_array) else piece + block.offset
    squares = _products(rows, None, np.zeros(0, dtype=np.int64))
    if squares.size and not squares.min() > 0:
        raise DataError("Cosine distance is not defined for zero-length vectors.", code="data.zero_vector")
    if isinstance(rows, csr_array):
        scaled = rows.data / np.sqrt(np.repeat(squares, np.diff(rows.indptr)))
        return csr_array((scaled, rows.indices, rows.indptr), shape=rows.shape), squares
    return rows / np.sqrt(squares)[:, None], squares


def _products(rows: Any, others: Floats | None, index: Ints) -> Floats:
    """Return ``(n,)`` the product of each row with one of other rows, or with itself."""
    if isinstance(rows, csr_array):
        row = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
        values = rows.data.astype(np.float64)
        values = values * (values if others is None else others[index[row], rows.indices])
        return np.bincount(row, weights=values, minlength=rows.shape[0]).astype(np.float64)
    found: Floats = np.einsum("nd,nd->n", rows, rows if others is None else others[index])
    return found


def _resolution(block: Block) -> float:
    """Return how far the precision of features may have moved a coordinate of a row that has a weight."""
    stored = block.features if block.sparse is None else block.sparse.data
    if block.weight is not None:
        used = block.weight > 0
        stored = stored[used if block.sparse is None else np.repeat(used, np.diff(block.sparse.indptr))]
    largest, offset = (max(float(values.max(initial=0.0)), -float(values.min(initial=0.0))) for values in (stored, block.offset))
    return 2 * float(np.finfo(stored.dtype).eps) * largest + 2 * _EPSILON * offset
