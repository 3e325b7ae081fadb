"""Bisecting K-Means: clusters that are divided in two, level by level, until there are k of them.

Objective: at each node of the tree ``min sum_i w_i min(|x_i - l|^2, |x_i - r|^2)`` over the centres l and r of its halves, or with cosine
distance ``1 - cos`` in the place of the squares.

Equivalence: ``pyspark.ml.clustering.BisectingKMeans``. A level divides the clusters of the level above that have
``minDivisibleClusterSize`` rows and a cost above rounding, the largest first where fewer are needed (of equally large ones the first);
halves start at the centre, moved by 1e-4 of its length times noise in each direction, and make ``maxIter`` Lloyd steps; the left of equally
near centres wins; leaves are numbered from left to right. A half without rows vanishes and its division still counts towards k, as there: a
cluster whose centre is the origin is not divided. From the same noise trees, sizes and costs are MLlib's, up to rounding; the noise itself
differs. Steps after one that moved nothing are not made, for they would move nothing. Rows of weight 0 count as rows where rows are
counted, as there: in the sizes of clusters, which say what is divided first, and in ``minDivisibleClusterSize``. A half whose rows all have
weight 0 vanishes, where MLlib's has a centre that is no number, and where all have it there is an error, as there. Costs are added about
the centres and not about the origin, so that equal rows cost nothing, wherever they lie.

Cost: a pass of ``O(n d)`` a step, whatever k is; at most ``maxIter`` steps a level, one pass before them and one for the sizes. Which
cluster a row is in follows from the tree, so that nothing is kept of rows between rounds but in the memory of enclaves, and there only
while there is room.

Reveals: with mode="enclave" the number of rows, columns and rounds, and by the size of sealed messages the number of clusters of a level.
With mode="partitioned" the same; the sums of all rounds leave as masked integers.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from securemllib.algorithms import bisecting_kmeans_steps as steps
from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.bisecting_kmeans_steps import Division, Nodes
from securemllib.algorithms.kmeans_steps import unit
from securemllib.algorithms.params import require_choice, require_integer, require_number
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.vectors import of_columns
from securemllib.errors import UsageError

__all__ = ["BisectingKMeans", "BisectingKMeansModel", "BisectingState", "BisectingStatistics"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# MLlib numbers nodes in 63 bits, moves first centres by 1e-4 of their length, and divides no cluster whose rows cost less than this.
_LEVELS = 62
_MOVE = 1e-4
_EPSILON = float(np.finfo(np.float64).eps)

# Sums of the same rows move a centre by a few units in the last place of its length and its rows' distance.
_STILL = 1e-13

# The phases of a training, in order.
_ROOT, _DIVIDE, _COUNT, _DONE = "root", "divide", "count", "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class BisectingState:
    """What the aggregator knows between rounds.

    Attributes:
        phase: ``root``, ``divide``, ``count`` or ``done``.
        seed: The root of the randomness.
        centers: ``(m, d)`` the nodes of the tree, the root first; before its round, where the origin of its sums is.
        children: ``(m, 2)`` of each node, -1 where there is none.
        rows: ``(m,)``.
        costs: ``(m,)``.
        level: How often clusters were divided.
        step: Steps made at this level.
        dividing: ``(p,)`` the nodes that are being divided.
        halves: Their halves' centres.
        sizes: ``(m,)`` rows that end at each node, zeros before the last round.
    """

    phase: str
    seed: Seed
    centers: Floats
    children: Ints
    rows: Floats
    costs: Floats
    level: int
    step: int
    dividing: Ints
    halves: Division
    sizes: Floats

    def __post_init__(self) -> None:
        _check_tree(self.centers, self.children)


@dataclass(frozen=True, slots=True, kw_only=True)
class BisectingStatistics:
    """Sums of groups of rows: of all, of the halves of clusters that are divided, or the number that ends at each node.

    Attributes:
        rows: ``(g,)`` rows.
        weight: ``(g,)`` their weight.
        sums: ``(g, d)`` weighted, of rows less the group's centre; for cosine, of rows scaled to length 1.
        squares: ``(g,)`` weighted, of their lengths.
        rounding: ``(g,)`` weighted, of what rounding may have added to them.
    """

    ADDITIVE: ClassVar[tuple[str, ...]] = ("rows", "weight", "sums", "squares", "rounding")

    rows: Floats
    weight: Floats
    sums: Floats
    squares: Floats
    rounding: Floats

    def __add__(self, other: Self) -> Self:
        return type(self)(**{name: getattr(self, name) + getattr(other, name) for name in self.ADDITIVE})


@dataclass(frozen=True, slots=True, kw_only=True)
class BisectingKMeansModel:
    """The tree of clusters.

    Attributes:
        centers: ``(m, d)`` of all nodes, the root first.
        children: ``(m, 2)`` of each node, -1 where there is none.
        distance_measure: ``euclidean`` or ``cosine``.
        training_cost: Of the leaves.
        num_iter: The steps that a level may have made, as MLlib tells them.
        cluster_sizes: ``(c,)`` training rows of each leaf.
        cost: Whether `predict` also returns what a row costs.
    """

    SPARSE: ClassVar[bool] = True
    SUMMARY: ClassVar[tuple[str, ...]] = ("training_cost", "num_iter", "cluster_sizes")
    CHANGEABLE: ClassVar[tuple[str, ...]] = ("cost",)

    centers: Floats
    children: Ints
    distance_measure: str
    training_cost: float
    num_iter: int
    cluster_sizes: Ints
    cost: bool = False

    def __post_init__(self) -> None:
        _check_tree(self.centers, self.children)

    @property
    def smallest_group(self) -> float:
        """The rows of the smallest cluster that has any."""
        return float(self.cluster_sizes[self.cluster_sizes > 0].min(initial=np.iinfo(np.int64).max))

    @property
    def cluster_centers(self) -> Floats:
        """``(c, d)`` of the leaves, from left to right."""
        return self.centers[_leaves(self.children)]

    def predict(self, features: Floats | csr_array) -> dict[str, Floats | NDArray[np.int32]]:
        """Return ``prediction``, the leaf that a row ends in; where ``cost`` is set also ``cost``, that of its centre."""
        columns = self.centers.shape[1]
        features = of_columns(features, columns)
        sparse = features if isinstance(features, csr_array) else None
        rows = np.zeros((features.shape[0], 0)) if isinstance(features, csr_array) else features
        block = Block(ordinal=0, features=rows, offset=np.zeros(columns), sparse=sparse)
        cosine, leaves = self.distance_measure == "cosine", _leaves(self.children)
        nodes = steps.nodes_of(block, _division(self.centers, self.children), self.children, cosine=cosine)
        place = np.zeros(len(self.children), dtype=np.int32)
        place[leaves] = np.arange(len(leaves))
        outputs: dict[str, Floats | NDArray[np.int32]] = {"prediction": place[nodes]}
        if self.cost:
            outputs["cost"] = steps.leaf_costs(block, self.centers, nodes, cosine=cosine)
        return outputs


@dataclass(frozen=True, slots=True, kw_only=True)
class BisectingKMeans:
    """Params of ``pyspark.ml.clustering.BisectingKMeans``."""

    SPARSE: ClassVar[bool] = True

    k: int = 4
    max_iter: int = 20
    min_divisible_cluster_size: float = 1.0
    distance_measure: Literal["euclidean", "cosine"] = "euclidean"

    def __post_init__(self) -> None:
        require_integer(self, "k", 2)
        require_integer(self, "max_iter", 1)
        require_number(self, "min_divisible_cluster_size", 0.0)
        if not self.min_divisible_cluster_size > 0.0:
            raise UsageError("min_divisible_cluster_size must be greater than 0", code="usage.param")
        require_choice(self, "distance_measure", ("euclidean", "cosine"))

    @property
    def _cosine(self) -> bool:
        return self.distance_measure == "cosine"

    def initial(self, summary: Summary, seed: Seed) -> BisectingState:
        """Return the state before the first round; a dataset without rows raises DataError."""
        summary.require_rows(columns=True)
        origin = np.zeros((1, summary.columns)) if self._cosine else summary.mean[None]
        return BisectingState(
            phase=_ROOT, seed=seed, centers=origin, children=np.full((1, 2), -1), rows=np.zeros(1), costs=np.zeros(1), level=0, step=0,
            dividing=np.zeros(1, dtype=np.int64), halves=_only_left(origin), sizes=np.zeros(1),
        )  # fmt: skip

    def is_done(self, state: BisectingState) -> bool:
        """Return whether the sizes of the final clusters are known."""
        return state.phase == _DONE

    def statistics(self, state: BisectingState, block: Block) -> BisectingStatistics:
        """Return the sums of the block's rows by half, in the last round their number by node."""

        def nodes() -> Nodes:
            return steps.nodes_of(block, _division(state.centers, state.children), state.children, cosine=self._cosine)

        found: Nodes = block.scratch.get("bisecting", state.centers.tobytes(), nodes)
        if state.phase == _COUNT:
            rows = np.bincount(found, minlength=len(state.centers)).astype(np.float64)
            none = np.zeros_like(rows)
            return BisectingStatistics(rows=rows, weight=none, sums=np.zeros((len(rows), 0)), squares=none, rounding=none)
        pair = np.full(len(state.centers), -1)
        pair[state.dividing] = np.arange(len(state.dividing))
        total = steps.half_sums(block, state.halves, pair[found], cosine=self._cosine)
        return BisectingStatistics(**{name: getattr(total, name) for name in BisectingStatistics.ADDITIVE})

    def update(self, state: BisectingState, total: BisectingStatistics) -> BisectingState:
        """Return the state after a round."""
        if state.phase == _COUNT:
            return replace(state, phase=_DONE, sizes=total.rows)
        moved, costs = self._moved(state.halves, total)
        if state.phase == _ROOT:
            root = replace(state, centers=moved.centers[:, 0], rows=total.rows[:1], costs=costs[:1])
            return self._divided(root, np.zeros(1, dtype=np.int64), total.rounding[:1])
        step = state.step + 1
        if step < self.max_iter and not _is_still(state.halves, moved, total, costs):
            return replace(state, halves=moved, step=step)
        there = moved.found.ravel()
        made = len(state.centers) + np.arange(there.sum())
        halves, children = np.full(len(there), -1), np.concatenate([state.children, np.full((len(made), 2), -1)])
        halves[there] = made
        children[state.dividing] = halves.reshape(-1, 2)
        grown = replace(
            state,
            centers=np.concatenate([state.centers, moved.centers.reshape(len(there), -1)[there]]),
            children=children,
            rows=np.concatenate([state.rows, total.rows[there]]),
            costs=np.concatenate([state.costs, costs[there]]),
            level=state.level + 1,
        )
        return self._divided(grown, made, total.rounding[there])

    def _moved(self, halves: Division, total: BisectingStatistics) -> tuple[Division, Floats]:
        """Return the centres of what is in each half, and what it costs at its centre."""
        found = (total.weight > 0) & halves.found.ravel()
        shift = np.zeros_like(total.sums)
        shift[found] = total.sums[found] / total.weight[found, None]
        before = halves.centers.reshape(shift.shape)
        centers = before + shift
        if self._cosine:
            centers[found] = unit(centers[found])
            shift = centers - before
        squares = total.squares - 2 * np.einsum("gd,gd->g", shift, total.sums) + total.weight * np.einsum("gd,gd->g", shift, shift)
        costs = np.maximum(squares, 0.0) / (2.0 if self._cosine else 1.0)
        return Division(centers=centers.reshape(halves.centers.shape), found=found.reshape(-1, 2)), costs

    def _divided(self, state: BisectingState, made: Ints, rounding: Floats) -> BisectingState:
        """Return the state that divides those of the clusters made last that are to be divided, or counts where there are none."""
        size = self.min_divisible_cluster_size
        least = np.ceil(size if size >= 1.0 else size * state.rows[0])
        needed = self.k - 1 - int((state.children >= 0).any(axis=1).sum())
        rows = state.rows[made]
        chosen = made[(rows >= least) & (state.costs[made] > _EPSILON * rows + rounding)]
        if len(chosen) > needed:
            chosen = np.sort(chosen[np.argsort(-state.rows[chosen], kind="stable")[:needed]])
        if not len(chosen) or state.level == _LEVELS:
            return replace(state, phase=_COUNT, sizes=np.zeros(len(state.centers)))
        centers = state.centers[chosen]
        noise = state.seed.generator("bisecting", state.level).random(centers.shape)
        move = _MOVE * np.sqrt(np.einsum("pd,pd->p", centers, centers))[:, None] * noise
        pairs = np.stack([centers - move, centers + move], axis=1)
        if self._cosine:
            pairs = unit(pairs.reshape(-1, pairs.shape[2])).reshape(pairs.shape)
        halves = Division(centers=pairs, found=np.ones((len(chosen), 2), dtype=np.bool_))
        return replace(state, phase=_DIVIDE, step=0, dividing=chosen, halves=halves)

    def to_model(self, state: BisectingState) -> BisectingKMeansModel:
        """Return the tree."""
        leaves = _leaves(state.children)
        return BisectingKMeansModel(
            centers=state.centers,
            children=state.children,
            distance_measure=self.distance_measure,
            training_cost=float(state.costs[leaves].sum()),
            num_iter=self.max_iter,
            cluster_sizes=state.sizes[leaves].astype(np.int64),
        )


def _check_tree(centers: Floats, children: Ints) -> None:
    """Raise ValueError unless each child stands behind its parent, so that every way down ends."""
    behind = np.arange(len(centers))[:, None] < children
    if children.shape != (len(centers), 2) or not ((children == -1) | (behind & (children < len(centers)))).all():
        raise ValueError("the nodes of a tree of clusters do not fit each other")


def _is_still(before: Division, moved: Division, total: BisectingStatistics, costs: Floats) -> bool:
    """Return whether no centre moved by more than rounding."""
    shift = ((moved.centers - before.centers) ** 2).sum(axis=2).ravel()
    spread = (moved.centers**2).sum(axis=2).ravel() + costs / np.maximum(total.weight, np.finfo(np.float64).tiny)
    return bool((shift <= _STILL**2 * spread).all()) and np.array_equal(moved.found, before.found)


def _only_left(centers: Floats) -> Division:
    """Return pairs that all rows are on the left of."""
    return Division(centers=np.stack([centers, centers], axis=1), found=np.tile(np.array([True, False]), (len(centers), 1)))


def _division(centers: Floats, children: Ints) -> Division:
    return Division(centers=centers[children], found=children >= 0)


def _leaves(children: Ints) -> Ints:
    """Return the nodes without children, from left to right."""
    leaves, waiting = [], [0]
    while waiting:
        node = waiting.pop()
        below = [int(child) for child in children[node] if child >= 0]
        waiting += reversed(below)
        leaves += [] if below else [node]
    return np.array(leaves)
