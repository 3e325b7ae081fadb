"""The histograms of a round: sums of a block's rows by node, feature and bin."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.kernels import trees
from securemllib.algorithms.trees.binning import Bins
from securemllib.algorithms.trees.growing import Grower, Growth
from securemllib.algorithms.trees.impurity import Impurity

__all__ = ["Bagging", "histograms", "nodes_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bagging:
    """How often each tree reads each row.

    Attributes:
        rate: The expected number.
        replaces: Whether rows are drawn with replacement: Poisson numbers, as MLlib draws them, and not 0 or 1.
        seed: The root of the randomness.
    """

    rate: float
    replaces: bool
    seed: Seed

    @property
    def is_needed(self) -> bool:
        """Whether some number may be other than 1."""
        return self.replaces or self.rate < 1.0

    def counts(self, tree: int, block: Block) -> NDArray[np.uint8]:
        """Return the ``(n,)`` numbers of one tree; kept with the block."""
        counts: NDArray[np.uint8] = block.scratch.get(f"trees/bag/{tree}", self.seed.value, lambda: self._draw(tree, block))
        return counts

    def _draw(self, tree: int, block: Block) -> NDArray[np.uint8]:
        generator = self.seed.generator("bag", tree, block.ordinal)
        if self.replaces:
            return generator.poisson(self.rate, block.rows).astype(np.uint8)
        return (generator.random(block.rows) < self.rate).astype(np.uint8)


def nodes_of(growth: Growth, tree: int, block: Block, bins: Bins) -> Ints:
    """Return the node, ``(n,)``, that each row has reached in a growing tree; kept with the block."""
    name, scratch = f"trees/nodes/{tree}", block.scratch
    before: Ints | None = scratch.held(name, growth.earlier[tree].tobytes())
    if before is None:
        before = np.full(block.rows, growth.forest.roots[tree], dtype=np.int32)
    start = before
    nodes: Ints = scratch.get(name, growth.marks[tree].tobytes(), lambda: growth.forest.descend(bins, start))
    return nodes


def histograms(
    grower: Grower,
    growth: Growth,
    block: Block,
    *,
    rows: Callable[[int], tuple[Floats | None, Floats | Ints]],
    bagging: Bagging,
) -> Floats:
    """Return the ``(cells, channels)`` sums that the round's plan names.

    Args:
        grower: How trees grow.
        growth: Where they are.
        block: The rows.
        rows: The rows' weights, or None where all are 1, and targets or classes, as a tree sees them.
        bagging: How often each tree reads each row.
    """
    plan = grower.plan(growth)
    bins = grower.binning.bins_of(block)
    sums = np.zeros((plan.cells, grower.impurity.channels))
    tree_of = growth.forest.tree[plan.nodes]
    chosen = None if grower.features == grower.binning.columns else plan.columns.astype(np.int32)
    for tree in np.unique(tree_of):
        place = np.full(growth.forest.nodes, -1, dtype=np.int32)
        mine = np.flatnonzero(tree_of == tree)
        place[plan.nodes[mine]] = mine
        slot = place[nodes_of(growth, int(tree), block, bins)]
        weights, targets = rows(int(tree))
        counts = bagging.counts(int(tree), block) if bagging.is_needed else None
        channel, added = _added(grower.impurity, weights, counts, targets)
        used = counts if weights is None else weights if counts is None else weights * counts
        if used is not None:
            slot = np.where(used > 0, slot, np.int32(-1))
        trees.add_rows(bins, slot, channel, added, max(grower.impurity.classes, 1), chosen, plan.starts, sums)
    return sums


def _added(
    impurity: Impurity, weights: Floats | None, counts: NDArray[np.uint8] | None, targets: Floats | Ints
) -> tuple[Ints | None, Floats]:
    """Return the channel of each row's weight and the ``(n, v)`` values that it adds."""
    number = np.ones(len(targets)) if counts is None else counts.astype(np.float64)
    weight = number if weights is None else number * weights
    values = [weight] if impurity.classes else [weight, weight * targets]
    if impurity.counts_rows:
        values.append(number)
    channel = targets.astype(np.int32) if impurity.classes else None
    return channel, np.ascontiguousarray(np.stack(values, axis=1))
