"""Trees as arrays: one entry a node, the two children of a node side by side."""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.kernels import trees
from securemllib.algorithms.trees.binning import Bins

__all__ = ["ByLeaf", "Forest", "Splits"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
ByLeaf = tuple[Ints, Ints, NDArray[np.int64]]

_LEAF = -1
# The fields that have an entry a node: of every node, and of those that have children.
_OF_NODES = ("tree", "depth", "left", "stats")
_OF_SPLITS = ("feature", "bin", "threshold", "subset", "gain")


@dataclass(frozen=True, slots=True, kw_only=True)
class Forest:
    """The nodes of some trees.

    Attributes:
        roots: ``(t,)`` each tree's root.
        tree: ``(m,)`` the tree of each node.
        depth: ``(m,)`` edges from the root.
        left: ``(m,)`` the left child, to whose right the other one stands; -1 for a leaf.
        feature: ``(m,)`` the feature that a node splits; -1 for a leaf.
        bin: ``(m,)`` the largest bin that goes left, where the feature is continuous.
        threshold: ``(m,)`` the largest value that goes left, where the feature is continuous.
        subset: ``(m,)`` the row of `subsets` that tells which categories go left; -1 where the feature is continuous.
        subsets: ``(q, a)`` 1 for categories that go left, 0 for those that go right, 2 for those that the feature does not have.
        gain: ``(m,)`` the gain of a node's split; 0 for a leaf.
        stats: ``(m, c)`` what the impurity needs of the rows of each node.
    """

    roots: Ints
    tree: Ints
    depth: Ints
    left: Ints
    feature: Ints
    bin: Ints
    threshold: Floats
    subset: Ints
    subsets: NDArray[np.uint8]
    gain: Floats
    stats: Floats

    @classmethod
    def empty(cls, *, channels: int, categories: int) -> Self:
        """Return no tree."""
        integers: Any = dict.fromkeys(("roots", "tree", "depth", "left", "feature", "bin", "subset"), np.zeros(0, dtype=np.int32))
        subsets, stats = np.zeros((0, categories), dtype=np.uint8), np.zeros((0, channels))
        return cls(**integers, threshold=np.zeros(0), gain=np.zeros(0), subsets=subsets, stats=stats)

    def check(self, columns: int) -> None:
        """Raise ValueError unless the nodes fit each other and so many columns: compiled loops follow these numbers."""
        inner, count = np.flatnonzero(self.left >= 0), self.nodes
        child, subset = self.left[inner], self.subset[inner]
        lengths = {len(getattr(self, name)) for name in (*_OF_NODES, *_OF_SPLITS)}
        within = (self.roots, 0, count), (self.feature[inner], 0, columns), (subset, -1, len(self.subsets)), (child, 1, count - 1)
        # A child stands behind its parent, so that every way down ends.
        if lengths != {count} or self.subsets.ndim != 2 or (child <= inner).any() or not all(_within(*each) for each in within):
            raise ValueError(f"the nodes of a forest do not fit each other or {columns} columns")

    @property
    def nodes(self) -> int:
        """The number of nodes."""
        return len(self.left)

    def planted(self, trees: int) -> Self:
        """Return the forest with that many more roots, which are leaves without statistics."""
        roots = np.arange(self.nodes, self.nodes + trees, dtype=np.int32)
        first = len(self.roots)
        grown = self._with_leaves(
            tree=np.arange(first, first + trees, dtype=np.int32),
            depth=np.zeros(trees, dtype=np.int32),
            stats=np.zeros((trees, self.stats.shape[1])),
        )
        return replace(grown, roots=np.concatenate([self.roots, roots]))

    def _with_leaves(self, *, tree: Ints, depth: Ints, stats: Floats) -> Self:
        none, zero = np.full(len(tree), _LEAF, dtype=np.int32), np.zeros(len(tree))
        same: Any = {"left": none, "feature": none, "bin": none, "threshold": zero, "subset": none, "gain": zero}
        leaves = {"tree": tree, "depth": depth, "stats": stats, **same}
        return replace(self, **{name: np.concatenate([getattr(self, name), new]) for name, new in leaves.items()})

    def split(self, nodes: NDArray[np.int64], splits: "Splits") -> Self:
        """Return the forest with two children for each of the nodes, in their order, at the end."""
        first = self.nodes
        left = first + 2 * np.arange(len(nodes), dtype=np.int32)
        stats = np.stack([splits.left, splits.right], axis=1).reshape(2 * len(nodes), self.stats.shape[1])
        grown = self._with_leaves(tree=np.repeat(self.tree[nodes], 2), depth=np.repeat(self.depth[nodes] + 1, 2), stats=stats)
        nominal = splits.is_subset
        subset = np.full(len(nodes), _LEAF, dtype=np.int32)
        subset[nominal] = len(self.subsets) + np.arange(nominal.sum())
        found: Any = {"left": left, "subset": subset, "bin": np.where(nominal, _LEAF, splits.bin)}
        found |= {name: getattr(splits, name) for name in ("feature", "threshold", "gain")}
        changed = {name: getattr(grown, name).copy() for name in found}
        for name, new in found.items():
            changed[name][nodes] = new
        return replace(grown, subsets=np.concatenate([self.subsets, splits.subset[nominal]]), **changed)

    def by_leaf(self, bins: Bins, rows: ByLeaf) -> ByLeaf:
        """Return the rows of a tree by its leaves, of those by nodes above them.

        Args:
            bins: ``(n, d)``.
            rows: Rows, nodes, and where the rows of each node begin.
        """
        return trees.split_rows(bins, self.left, self.feature, self.bin, self.subset, self.subsets, rows)

    def at_root(self, tree: int, rows: Ints) -> ByLeaf:
        """Return the rows of a tree where they begin."""
        return rows, self.roots[tree : tree + 1], np.array([0, len(rows)])

    def reached(self, bins: Bins, tree: int, above: ByLeaf | None = None) -> Ints:
        """Return the leaf, ``(n,)``, that each row reaches in a tree, from its root or from where all rows are."""
        if above is None or len(above[0]) < len(bins):
            above = self.at_root(tree, np.arange(len(bins), dtype=np.int32))
        order, leaves, bounds = self.by_leaf(bins, above)
        reached = np.empty(len(bins), dtype=np.int32)
        reached[order] = np.repeat(leaves, np.diff(bounds))
        return reached

    def leaves(self, features: Floats) -> Ints:
        """Return the leaves, ``(t, n)``, that rows reach in each tree; ``features`` is ``(n, d)``, not centred."""
        found = None if len(self.subsets) else trees.find_leaves(features, self.left, self.feature, self.threshold, self.roots)
        return np.stack([self._leaves_of(features, root) for root in self.roots]) if found is None else found

    def _leaves_of(self, features: Floats, root: int) -> Ints:
        reached = np.full(len(features), root, dtype=np.int32)
        going = np.flatnonzero(self.left[reached] >= 0)
        while going.size:
            node = reached[going]
            value = features[going, self.feature[node]]
            # NaN is not at most any threshold, in MLlib too.
            right = ~(value <= self.threshold[node])
            nominal = np.flatnonzero(self.subset[node] >= 0)
            right[nominal] = ~self._in_subset(value[nominal], self.subset[node[nominal]])
            reached[going] = self.left[node] + right
            going = going[self.left[reached[going]] >= 0]
        return reached

    def _in_subset(self, values: Floats, subset: Ints) -> NDArray[np.bool_]:
        """Return whether rows go left; a value that is no category goes where MLlib's smaller set of categories does not."""
        width = self.subsets.shape[1]
        known = (values >= 0) & (values < width) & (values == np.floor(values))
        code = self.subsets[subset, np.where(known, values, 0).astype(np.int64)]
        lefts, rights = (self.subsets == 1).sum(axis=1), (self.subsets == 0).sum(axis=1)
        elsewhere = lefts > (lefts + rights) // 2
        return np.asarray(np.where(known & (code < 2), code == 1, elsewhere[subset]))

    def leaf_numbers(self) -> Ints:
        """Return the number of each leaf, ``(m,)``, counted from 0 in each tree from left to right; 0 for other nodes."""
        levels = self._inner_by_depth(self.left)
        leaves = (self.left < 0).astype(np.int32)
        for inner in reversed(levels):
            leaves[inner] = leaves[self.left[inner]] + leaves[self.left[inner] + 1]
        number = np.zeros(self.nodes, dtype=np.int32)
        for inner in levels:
            child = self.left[inner]
            number[child] = number[inner]
            number[child + 1] = number[inner] + leaves[child]
        return np.where(self.left < 0, number, 0).astype(np.int32)

    def pruned(self, predictions: Floats) -> Self:
        """Return the trees with siblings that are leaves of one prediction merged into their parent.

        Args:
            predictions: ``(m,)`` prediction of each node.
        """
        left = self.left.copy()
        removed = np.zeros(self.nodes, dtype=np.bool_)
        for inner in reversed(self._inner_by_depth(left)):
            child = left[inner]
            same = (left[child] < 0) & (left[child + 1] < 0) & (predictions[child] == predictions[child + 1])
            left[inner[same]] = _LEAF
            removed[child[same]] = removed[child[same] + 1] = True
        leaf = left < 0
        feature, gain = np.where(leaf, _LEAF, self.feature).astype(np.int32), np.where(leaf, 0.0, self.gain)
        return self._kept(~removed, self.roots, left=left, feature=feature, gain=gain)

    def some_trees(self, first: int, last: int) -> Self:
        """Return some of the trees: those before ``last``, from ``first`` on."""
        kept = (self.tree >= first) & (self.tree < last)
        return self._kept(kept, self.roots[first:last], tree=self.tree - np.int32(first))

    def _kept(self, kept: NDArray[np.bool_], roots: Ints, **changed: NDArray[Any]) -> Self:
        """Return some of the nodes, of whom none has a child that goes, below the given roots."""
        place = (np.cumsum(kept) - 1).astype(np.int32)
        nodes = {name: changed.get(name, getattr(self, name))[kept] for name in (*_OF_NODES, *_OF_SPLITS)}
        nodes["left"] = np.where(nodes["left"] < 0, _LEAF, place[nodes["left"]]).astype(np.int32)
        return replace(self, roots=place[roots], **nodes)

    def _inner_by_depth(self, left: Ints) -> list[NDArray[np.int64]]:
        """Return the nodes that have children, one array a depth."""
        inner = np.flatnonzero(left >= 0)
        order = inner[np.argsort(self.depth[inner], kind="stable")]
        bounds = np.searchsorted(self.depth[order], np.arange(1, int(self.depth.max(initial=0)) + 1))
        return np.split(order, bounds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """The best split of each of some nodes.

    Attributes:
        gain: ``(s,)``; 0 or less where no split is valid.
        feature: ``(s,)``.
        bin: ``(s,)`` the largest bin that goes left.
        threshold: ``(s,)`` its upper threshold, where the feature is continuous.
        subset: ``(s, a)`` as `Forest.subsets`.
        is_subset: ``(s,)`` whether the feature is nominal.
        left: ``(s, c)`` statistics of the rows that go left.
        right: ``(s, c)`` of those that go right.
    """

    gain: Floats
    feature: Ints
    bin: Ints
    threshold: Floats
    subset: NDArray[np.uint8]
    is_subset: NDArray[np.bool_]
    left: Floats
    right: Floats

    def take(self, chosen: NDArray[np.bool_]) -> Self:
        """Return the splits of some of the nodes."""
        return type(self)(**{name: getattr(self, name)[chosen] for name in self.__slots__})


def _within(numbers: NDArray[Any], least: int, end: int) -> bool:
    return not len(numbers) or bool(least <= numbers.min() and numbers.max() < end)
