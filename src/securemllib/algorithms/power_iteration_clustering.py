r"""Power iteration clustering: the nodes of a graph, grouped by how its random walk mixes.

Objective: from a first vector v over the nodes :math:`v \leftarrow D^{-1} A v / \|D^{-1} A v\|_1`, for affinities A and their row sums D,
until the steps hardly get shorter [1]; then K-Means of the numbers of v.

Equivalence: ``pyspark.ml.clustering.PowerIterationClustering``: each row is an edge both ways, edges of a node to itself are left out,
edges that stand twice count twice, and vectors, steps and the rule to end are MLlib's. The random numbers differ: those of the first
vector, and those of K-Means, which is k-means++ with Lloyd's steps here. So clusters have other numbers, and where groups are not apart
other nodes. Affinities that are all 0 are refused, where MLlib's vector is of no numbers.

Cost: one pass that collects the nodes, one that sums their affinities, and one of ``O(edges)`` a step; statistics and state hold a number a
node, of which there may be 2**22.

Reveals: with mode="enclave" the number of rows and steps, and by the size of sealed messages the number of nodes. With mode="partitioned"
the same: nodes are collected inside enclaves, and the sums of steps leave as masked integers. Which node is in which cluster leaves only as
the policy says, as a summary, of which each line tells of one node.

[1] F. Lin, W. Cohen: Power iteration clustering, ICML 2010.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.columns import weights_of
from securemllib.algorithms.feature.values import inputs_of
from securemllib.algorithms.kmeans_steps import nearest, plus_plus
from securemllib.algorithms.params import require_choice, require_integer
from securemllib.algorithms.summary import Summary
from securemllib.errors import DataError

__all__ = ["Assignments", "PowerIterationClustering", "PowerIterationState", "PowerIterationStatistics"]

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]

# A vector of as many numbers is 32 MB in each round's state.
_MOST_NODES = 1 << 22

# MLlib's least tolerance and the share of it a node has, and what a row sum is at least.
_LEAST_TOLERANCE, _TOLERANCE, _EPSILON = 1e-8, 1e-5, float(np.finfo(np.float64).eps)

# The phases of a training, in order.
_NODES, _SUMS, _STEP, _DONE = "nodes", "sums", "step", "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerIterationState:
    """What the aggregator knows between rounds.

    Attributes:
        phase: ``nodes``, ``sums``, ``step`` or ``done``.
        seed: The root of the randomness.
        ids: ``(m,)`` the nodes, ascending.
        degrees: ``(m,)`` sums of their affinities.
        vector: ``(m,)``.
        step: Steps made.
        delta: How far the last one went.
    """

    phase: str
    seed: Seed
    ids: Ids
    degrees: Floats
    vector: Floats
    step: int
    delta: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerIterationStatistics:
    """Nodes in the first round, sums over the edges of each in the others.

    Attributes:
        ids: ``(m,)`` distinct nodes, ascending; empty but in the first round.
        sums: ``(m,)`` affinities, or affinities times the vector at the other end.
    """

    ADDITIVE: ClassVar[tuple[str, ...]] = ("sums",)

    ids: Ids
    sums: Floats

    def __add__(self, other: Self) -> Self:
        return type(self)(ids=_distinct(np.concatenate([self.ids, other.ids])), sums=self.sums + other.sums)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignments:
    """The cluster ``(m,)`` of each node ``(m,)``."""

    SUMMARY: ClassVar[tuple[str, ...]] = ("ids", "clusters")

    ids: Ids
    clusters: Ids

    @property
    def smallest_group(self) -> float:
        """1: each assignment tells of one node."""
        return 1.0 if len(self.ids) else np.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerIterationClustering:
    """Params of ``pyspark.ml.clustering.PowerIterationClustering``."""

    k: int = 2
    max_iter: int = 20
    init_mode: Literal["random", "degree"] = "random"

    def __post_init__(self) -> None:
        require_integer(self, "k", 2)
        require_integer(self, "max_iter", 0)
        require_choice(self, "init_mode", ("random", "degree"))

    def initial(self, summary: Summary, seed: Seed) -> PowerIterationState:
        """Return the state before the first round; a dataset without rows raises DataError."""
        summary.require_rows()
        none = np.zeros(0)
        return PowerIterationState(
            phase=_NODES, seed=seed, ids=none.astype(np.int64), degrees=none, vector=none, step=0, delta=float(np.finfo(np.float64).max)
        )

    def is_done(self, state: PowerIterationState) -> bool:
        """Return whether no step is left."""
        return state.phase == _DONE

    def is_additive(self, state: PowerIterationState) -> bool:
        """Return whether the nodes are known."""
        return state.phase != _NODES

    def statistics(self, state: PowerIterationState, block: Block) -> PowerIterationStatistics:
        """Return the block's nodes, or sums over its edges."""
        if state.phase == _NODES:
            return PowerIterationStatistics(ids=_distinct(np.concatenate(_ends(block)[:2])), sums=np.zeros(0))

        def places() -> tuple[Ids, Ids, Floats]:
            first, second, affinity = _ends(block)
            return np.searchsorted(state.ids, first), np.searchsorted(state.ids, second), affinity

        first, second, affinity = block.scratch.get("affinities", state.ids.tobytes(), places)
        ones = state.vector if state.phase == _STEP else np.ones(len(state.ids))
        sums = np.bincount(first, weights=affinity * ones[second], minlength=len(ones))
        sums += np.bincount(second, weights=affinity * ones[first], minlength=len(ones))
        return PowerIterationStatistics(ids=np.zeros(0, dtype=np.int64), sums=sums.astype(np.float64))

    def update(self, state: PowerIterationState, total: PowerIterationStatistics) -> PowerIterationState:
        """Return the state after a round; affinities that are all 0 raise DataError."""
        if state.phase == _NODES:
            return replace(state, phase=_SUMS, ids=total.ids)
        step = _STEP if self.max_iter > 0 else _DONE
        if state.phase == _SUMS:
            if not total.sums.any():
                raise DataError("no two nodes have an affinity", code="data.no_rows")
            drawn = state.seed.generator("nodes").standard_normal(len(state.ids)) if self.init_mode == "random" else total.sums
            return replace(state, phase=step, degrees=total.sums, vector=drawn / np.abs(drawn).sum())
        walked = total.sums / np.maximum(state.degrees, _EPSILON)
        vector = walked / np.abs(walked).sum()
        delta = float(np.abs(vector - state.vector).sum())
        still = abs(delta - state.delta) <= max(_TOLERANCE / len(vector), _LEAST_TOLERANCE)
        phase = _DONE if still or state.step + 1 >= self.max_iter else _STEP
        return replace(state, phase=phase, vector=vector, step=state.step + 1, delta=delta)

    def to_model(self, state: PowerIterationState) -> Assignments:
        """Return the nodes' clusters."""
        spread = float(np.ptp(state.vector))
        points = ((state.vector - state.vector.min()) / (spread if spread > 0.0 else 1.0))[:, None]
        centers = plus_plus(points, np.ones(len(points)), self.k, state.seed.generator("kmeans++"))
        return Assignments(ids=state.ids, clusters=nearest(points, centers).astype(np.int64))


def _ends(block: Block) -> tuple[Ids, Ids, Floats]:
    """Return both ends and the affinity of each edge between two nodes; `DataError` where an end is no integer."""
    first, second = (_ids(column) for column in inputs_of(block))
    apart = first != second
    return first[apart], second[apart], weights_of(block)[apart]


def _ids(column: Any) -> Ids:
    if not len(column):
        return np.zeros(0, dtype=np.int64)
    if not pa.types.is_integer(column.type):
        raise DataError(f"Nodes are integers, not {column.type}.", code="data.type")
    if column.null_count:
        raise DataError(f"{column.null_count} edges have no end.", code="data.null")
    return np.asarray(column.cast(pa.int64()), dtype=np.int64)


def _distinct(ids: Ids) -> Ids:
    distinct = np.unique(ids)
    if len(distinct) > _MOST_NODES:
        raise DataError(f"There are {len(distinct)} nodes, over the bound of {_MOST_NODES}.", code="data.nodes")
    return distinct
