"""Growing: many nodes of many trees a round, breadth first.

A round computes the histograms of as many nodes as its bound allows. Of two siblings whose parent's histogram was kept, workers read
the rows of the smaller one only: the other's histogram is the difference. Differences are taken only where every row weighs 1, so
that counts stay exact.
"""

from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Self

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Seed
from securemllib.algorithms.trees.binning import Binning
from securemllib.algorithms.trees.forest import Forest
from securemllib.algorithms.trees.impurity import Impurity
from securemllib.algorithms.trees.splits import SplitSearch

__all__ = ["Grower", "Growth", "Plan"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_NONE = -1
_DIGEST = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """Trees that grow.

    Attributes:
        step: Rounds made; the position of the next round's randomness.
        forest: The nodes so far.
        pairs: ``(p, 2)`` siblings of which at least one is to be split; a root stands alone, beside -1.
        wanted: ``(p, 2)`` which of them are to be split.
        kept: ``(p,)`` the row of `parents` that holds their parent's histogram; -1 where it is not kept.
        parents: ``(k, cells, channels)``.
        marks: ``(t, 32)`` digests that name what each tree is now.
        earlier: ``(t, 32)`` what it was before its last splits.
    """

    step: int
    forest: Forest
    pairs: Ints
    wanted: NDArray[np.bool_]
    kept: Ints
    parents: Floats
    marks: NDArray[np.uint8]
    earlier: NDArray[np.uint8]

    @property
    def is_done(self) -> bool:
        """Whether no node is to be split."""
        return not len(self.pairs)

    def planted(self, trees: int, binning: Binning) -> Self:
        """Return the growth with that many more trees, whose roots are to be split."""
        forest = self.forest.planted(trees)
        roots = forest.roots[-trees:].astype(np.int64)
        marks = [np.frombuffer(sha256(binning.key + int(root).to_bytes(8, "big")).digest(), dtype=np.uint8) for root in roots]
        return replace(
            self,
            forest=forest,
            pairs=np.concatenate([self.pairs, np.stack([roots, np.full(trees, _NONE)], axis=1)]),
            wanted=np.concatenate([self.wanted, np.tile([True, False], (trees, 1))]),
            kept=np.concatenate([self.kept, np.full(trees, _NONE)]),
            marks=np.concatenate([self.marks, np.stack(marks)]),
            earlier=np.concatenate([self.earlier, np.stack(marks)]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one round computes.

    Attributes:
        taken: How many of the first pairs the round splits.
        nodes: ``(s,)`` the nodes whose rows are read.
        columns: ``(s, m)`` the features of each.
        starts: ``(s, m)`` the first cell of each node and feature.
        cells: The number of cells.
    """

    taken: int
    nodes: Ints
    columns: Ints
    starts: Ints
    cells: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Grower:
    """How trees grow.

    Attributes:
        binning: The candidates.
        impurity: What splits lower.
        search: What they must satisfy.
        max_depth: Edges from a root to its lowest leaves.
        features: How many features each node draws; all where that is their number.
        memory: How many bytes the histograms of a round take, but for one pair at least.
        subtracts: Whether siblings are told apart by differences.
        seed: The root of the randomness.
    """

    binning: Binning
    impurity: Impurity
    search: SplitSearch
    max_depth: int
    features: int
    memory: int
    subtracts: bool
    seed: Seed

    def nothing(self) -> Growth:
        """Return a growth without trees."""
        marks = np.zeros((0, _DIGEST), dtype=np.uint8)
        return Growth(
            step=0,
            forest=Forest.empty(channels=self.impurity.channels, categories=int(self.binning.arity.max(initial=0))),
            pairs=np.zeros((0, 2), dtype=np.int64),
            wanted=np.zeros((0, 2), dtype=np.bool_),
            kept=np.zeros(0, dtype=np.int64),
            parents=np.zeros((0, self._all_cells, self.impurity.channels)),
            marks=marks,
            earlier=marks,
        )

    @property
    def _all_cells(self) -> int:
        """Cells of a histogram of all features; 0 where nodes draw features and no histogram is kept."""
        return int(self.binning.sizes.sum()) if self._takes_all else 0

    @property
    def _takes_all(self) -> bool:
        return self.features == self.binning.columns

    def plan(self, growth: Growth) -> Plan:
        """Return what the next round computes: a pure function of the growth, which workers and aggregator both call."""
        sizes = self.binning.sizes
        widest = int((sizes if self._takes_all else np.sort(sizes)[-self.features :]).sum()) * self.impurity.channels * 8
        computed = np.where(growth.kept >= 0, 1, growth.wanted.sum(axis=1))
        fitting = int(np.searchsorted(np.cumsum(computed) * widest, self.memory, side="right"))
        taken = min(max(fitting, 1), len(growth.pairs))
        pairs, kept, wanted = growth.pairs[:taken], growth.kept[:taken] >= 0, growth.wanted[:taken]
        smaller = np.zeros_like(wanted)
        smaller[np.arange(taken), self._smaller(growth.forest, pairs)] = True
        nodes = pairs[np.where(kept[:, None], smaller, wanted)]
        columns = self._columns(growth.step, len(nodes))
        ends = np.cumsum(sizes[columns]).reshape(columns.shape)
        return Plan(taken=taken, nodes=nodes, columns=columns, starts=ends - sizes[columns], cells=int(ends[-1, -1]))

    def _smaller(self, forest: Forest, pairs: Ints) -> Ints:
        weight = self.impurity.weight(forest.stats)
        return (weight[pairs[:, 1]] < weight[pairs[:, 0]]).astype(np.int64)

    def _columns(self, step: int, nodes: int) -> Ints:
        if self._takes_all:
            return np.tile(np.arange(self.features), (nodes, 1))
        drawn = self.seed.generator("features", step).random((nodes, self.binning.columns))
        return np.sort(np.argpartition(drawn, self.features - 1, axis=1)[:, : self.features], axis=1)

    def grown(self, growth: Growth, cells: Floats) -> Growth:
        """Return the trees after a round.

        Args:
            growth: Before it.
            cells: ``(cells, channels)`` the histograms that the plan names.
        """
        plan = self.plan(growth)
        pairs, wanted = growth.pairs[: plan.taken], growth.wanted[: plan.taken]
        nodes = pairs[wanted]
        if self._takes_all:
            own = self._whole(growth, plan, cells)
            flat, columns = own.reshape(-1, self.impurity.channels), self._columns(growth.step, len(nodes))
            starts = np.arange(len(nodes))[:, None] * self._all_cells + (np.cumsum(self.binning.sizes) - self.binning.sizes)
        else:
            own, flat, columns, starts = np.zeros((len(nodes), 0, self.impurity.channels)), cells, plan.columns, plan.starts
        splits = self.search.best(flat, starts, columns)
        forest = _with_root_stats(growth.forest, nodes, flat, starts, self.binning.sizes[columns[:, 0]])
        good = (splits.gain > 0) & (forest.depth[nodes] < self.max_depth)
        grown = forest.split(nodes[good], splits.take(good))
        return self._queued(growth, plan.taken, grown, nodes[good], own if good.all() else own[good])

    def _whole(self, growth: Growth, plan: Plan, cells: Floats) -> Floats:
        """Return the histograms of the nodes that the round splits, the larger siblings' by difference."""
        sums = cells.reshape(len(plan.nodes), self._all_cells, self.impurity.channels)
        wanted, kept = growth.wanted[: plan.taken], growth.kept[: plan.taken] >= 0
        count = np.where(kept, 1, wanted.sum(axis=1))
        first = np.cumsum(count) - count
        pair, side = np.nonzero(wanted)
        nodes = growth.pairs[pair, side]
        # Without a kept parent, the second of two wanted siblings stands behind the first.
        slot = first[pair] + np.where(kept[pair], 0, (side == 1) & wanted[pair, 0])
        parent = np.where(plan.nodes[slot] != nodes, growth.kept[: plan.taken][pair], _NONE)
        if (parent < 0).all() and (slot == np.arange(len(sums))).all():
            return sums
        own = np.empty((len(nodes), *sums.shape[1:]))
        for node, (place, above) in enumerate(zip(slot, parent, strict=True)):
            if above < 0:
                own[node] = sums[place]
            else:
                np.subtract(growth.parents[above], sums[place], out=own[node])
        return own

    def _queued(self, growth: Growth, taken: int, forest: Forest, split: Ints, own: Floats) -> Growth:
        """Return the growth with the children that may be split at the end of the queue."""
        children = (forest.left[split][:, None] + np.arange(2)).astype(np.int64)
        stats = forest.stats[children]
        wanted = (forest.depth[children] < self.max_depth) & ~self.impurity.is_pure(stats)
        # A node that has not enough rows for two sides is a leaf.
        wanted &= self.impurity.rows(stats) >= (2 * self.search.min_rows if self._counts_rows else 0)
        queued = wanted.any(axis=1)
        older = growth.kept[taken:]
        parents = growth.parents[older[older >= 0]]
        room = self.memory // max(8 * self._all_cells * self.impurity.channels, 1) - len(parents)
        keeps = queued & (np.cumsum(queued) <= room) if self.subtracts and self._takes_all else np.zeros_like(queued)
        kept = np.concatenate([older, np.where(keeps[queued], 0, _NONE)])
        kept[kept >= 0] = np.arange(np.count_nonzero(kept >= 0))
        return replace(
            growth,
            step=growth.step + 1,
            forest=forest,
            pairs=np.concatenate([growth.pairs[taken:], children[queued]]),
            wanted=np.concatenate([growth.wanted[taken:], wanted[queued]]),
            kept=kept,
            parents=_joined(parents, own if keeps.all() else own[keeps]),
            **_marks(growth, forest, split),
        )

    def finished(self, growth: Growth, *, prune: bool) -> Forest:
        """Return the trees, without the rows' numbers among their statistics, and siblings of one prediction merged if so asked."""
        forest = growth.forest
        forest = replace(forest, stats=np.ascontiguousarray(forest.stats[:, : self.impurity.classes or 2]))
        return forest.pruned(self.impurity.predict(forest.stats)) if prune else forest

    @property
    def _counts_rows(self) -> bool:
        return self.impurity.counts_rows or self.subtracts


def _joined(some: Floats, others: Floats) -> Floats:
    return np.concatenate([some, others]) if len(some) else others


def _with_root_stats(forest: Forest, nodes: Ints, flat: Floats, starts: Ints, sizes: Ints) -> Forest:
    """Return the forest with the sums of its roots: every other node has them from its parent's split."""
    roots = np.flatnonzero(forest.depth[nodes] == 0)
    if not len(roots):
        return forest
    stats = forest.stats.copy()
    for index in roots:
        first = starts[index, 0]
        stats[nodes[index]] = flat[first : first + sizes[index]].sum(axis=0)
    return replace(forest, stats=stats)


def _marks(growth: Growth, forest: Forest, split: Ints) -> dict[str, NDArray[np.uint8]]:
    marks, earlier = growth.marks.copy(), growth.earlier.copy()
    tree = forest.tree[split]
    for changed in np.unique(tree):
        nodes = split[tree == changed]
        left = forest.left[nodes]
        parts = (nodes, left, forest.feature[nodes], forest.bin[nodes], forest.subset[nodes], forest.stats[left], forest.stats[left + 1])
        subsets = forest.subsets[forest.subset[nodes][forest.subset[nodes] >= 0]]
        named = b"".join(np.ascontiguousarray(part).tobytes() for part in (marks[changed], *parts, subsets))
        earlier[changed] = marks[changed]
        marks[changed] = np.frombuffer(sha256(named).digest(), dtype=np.uint8)
    return {"marks": marks, "earlier": earlier}
