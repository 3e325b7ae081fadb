"""The histograms of a round: sums of a block's rows by node, feature and bin."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.kernels import trees
from securemllib.algorithms.trees.binning import Bins
from securemllib.algorithms.trees.forest import ByLeaf
from securemllib.algorithms.trees.growing import Grower, Growth
from securemllib.algorithms.trees.impurity import Impurity

__all__ = ["Bagging", "added_values", "histograms"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]

# A Poisson number of mean 1 or less is larger with a probability below 1e-14, and uniform numbers of single precision are 6e-8 apart.
_NUMBERS = np.arange(1.0, 16.0)
# Where one enclave holds all rows, nobody else computes meanwhile. Compiled loops let go of the interpreter's lock.
_TREES_AT_ONCE = ThreadPoolExecutor(2, thread_name_prefix="trees")


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

    def counts(self, tree: int, block: Block) -> NDArray[np.uint8] | None:
        """Return the ``(n,)`` numbers of one tree, which are kept with the block; None where all are 1."""
        if not self.is_needed:
            return None
        counts: NDArray[np.uint8] = block.scratch.get(f"trees/bag/{tree}", self.seed.value, lambda: self._draw(tree, block))
        return counts

    def _draw(self, tree: int, block: Block) -> NDArray[np.uint8]:
        generator = self.seed.generator("bag", tree, block.ordinal)
        uniform = generator.random((block.rows, 1), dtype=np.float32)
        if not self.replaces:
            return (uniform[:, 0] < self.rate).astype(np.uint8)
        counts = np.zeros((block.rows, 1), dtype=np.uint8)
        # A number is how many of the distribution's cumulative probabilities are below a uniform one.
        trees.bin_rows(
            uniform, np.cumsum(np.cumprod([np.exp(-self.rate), *self.rate / _NUMBERS])), np.array([0, len(_NUMBERS) + 1]), counts
        )
        return counts[:, 0]


def _by_leaf(growth: Growth, tree: int, block: Block, bins: Bins, weight: Floats) -> ByLeaf:
    """Return the rows of a growing tree that weigh more than 0, by the leaves that they have reached; kept with the block."""
    name, forest = f"trees/rows/{tree}", growth.forest
    held: ByLeaf | None = block.scratch.held(name, growth.earlier[tree].tobytes())
    above = forest.at_root(tree, np.flatnonzero(weight > 0).astype(np.int32)) if held is None else held
    rows: ByLeaf = block.scratch.get(name, growth.marks[tree].tobytes(), lambda: forest.by_leaf(bins, above))
    return rows


def histograms(grower: Grower, growth: Growth, block: Block, *, added: Callable[[int], Floats], classes: Ints | None = None) -> Floats:
    """Return the ``(cells, channels)`` sums that the round's plan names.

    Args:
        grower: How trees grow.
        growth: Where they are.
        block: The rows.
        added: What each row adds in a tree, as `added_values` returns it.
        classes: ``(n,)`` the rows' classes; None of a regression.
    """
    plan = grower.plan(growth)
    bins = grower.binning.bins_of(block)
    sums = np.zeros((plan.cells, grower.impurity.channels))
    tree_of, place = growth.forest.tree[plan.nodes], np.empty(growth.forest.nodes, dtype=np.int64)
    chosen = None if grower.features == grower.binning.columns else plan.columns.astype(np.int32)

    def add(tree: int) -> None:
        mine = np.flatnonzero(tree_of == tree)
        values = added(tree)
        order, leaves, bounds = _by_leaf(growth, tree, block, bins, values[:, 0])
        place[leaves] = np.arange(len(leaves))
        rows = order, bounds[place[plan.nodes[mine]][:, None] + np.arange(2)]
        columns = None if chosen is None else chosen[mine]
        trees.add_rows(bins, rows, classes, values, max(grower.impurity.classes, 1), columns, plan.starts[mine], sums)

    # Trees have cells and nodes of their own, so their order does not matter. Gathered rows came without their features.
    each = map if block.columns else _TREES_AT_ONCE.map
    for _ in each(add, np.unique(tree_of).tolist()):
        pass
    return sums


def added_values(impurity: Impurity, weights: Floats | None, counts: NDArray[np.uint8] | None, targets: Floats | None, rows: int) -> Floats:
    """Return the ``(n, v)`` values that rows add: the weight, of a regression its product with the target, and if asked for the number.

    Args:
        impurity: What the sums are of.
        weights: The rows' weights; None where all are 1.
        counts: How often a tree reads each row; None where once.
        targets: What a regression learns; None of classes.
        rows: How many there are.
    """
    added = np.empty((rows, 1 + (targets is not None) + impurity.counts_rows))
    number: Any = 1.0 if counts is None else counts
    added[:, 0] = number if weights is None else number * weights
    if targets is not None:
        np.multiply(added[:, 0], targets, out=added[:, 1])
    if impurity.counts_rows:
        added[:, -1] = number
    return added
