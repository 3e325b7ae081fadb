"""The rows nearest to a key: those of the smallest distances, which hash models tell.

Objective: of the rows whose distance is no null, the ``num_nearest_neighbors`` first ones by distance, and by a number drawn for each row
where distances are equal.

Equivalence: ``approxNearestNeighbors`` of ``pyspark.ml.feature.BucketedRandomProjectionLSHModel`` and ``MinHashLSHModel``, of one
search: a hash model tells the distance to the key of the rows that share a bucket with it, in some table, and as many of them as asked for
are kept. The distances are MLlib's to the bit, and so are the rows, but where more are equally far than fit: then it is not defined which
stay, here nor there, and how many do is the same. Rows have no order: sort them by the distance after their release.

Cost: one pass over the distances; the statistics are two numbers a neighbour, whatever the rows are.

Reveals: with mode="enclave" the number of rows; with mode="partitioned" the same: nothing is added up. The key is part of the plan, which
the host reads. Which rows are near leaves with these only, and how many there are is as sealed as after a filter.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.feature.values import inputs_of, numbers_of
from securemllib.algorithms.params import require_integer
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.transformer import Column, Transformed
from securemllib.errors import UsageError

__all__ = ["NearestNeighbors", "Nearness", "NeighborsState", "NeighborsStatistics"]

Floats = NDArray[np.float64]

# What the statistics hold twice: 16 MB.
_MOST_NEIGHBORS = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighborsStatistics:
    """The nearest rows, in order: ``(k,)`` each, infinite where there are fewer, so that nobody reads from a size how many there are.

    Attributes:
        distances: To the key.
        draws: Numbers of rows below 1, which tell equally near ones apart.
    """

    distances: Floats
    draws: Floats

    @classmethod
    def of(cls, distances: Floats, draws: Floats, count: int) -> Self:
        """Return the first so many."""
        first = np.lexsort((draws, distances))[:count]
        missing = np.full(count - len(first), np.inf)
        return cls(distances=np.append(distances[first], missing), draws=np.append(draws[first], missing))

    def __add__(self, other: Self) -> Self:
        distances, draws = np.append(self.distances, other.distances), np.append(self.draws, other.draws)
        return self.of(distances, draws, len(self.distances))


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighborsState:
    """The nearest of all rows, None before the only round."""

    total: NeighborsStatistics | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearness:
    """The distance and the draw of the last row that is near enough."""

    SUMMARY: ClassVar[tuple[str, ...]] = ()

    distance: float
    draw: float

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return ``output``: the distances of the rows that are near enough, and null of the others."""
        distances, draws = _distances(columns[0]), numbers_of(columns[1], "draw")
        near = (distances < self.distance) | ((distances == self.distance) & (draws <= self.draw))
        return Transformed(columns={"output": Column(pa.array(distances, mask=~near))})


@dataclass(frozen=True, slots=True, kw_only=True)
class NearestNeighbors:
    """How many rows a search keeps."""

    num_nearest_neighbors: int

    def __post_init__(self) -> None:
        require_integer(self, "num_nearest_neighbors", 1, _MOST_NEIGHBORS)

    def initial(self, summary: Summary, seed: Seed) -> NeighborsState:
        """Return the empty state."""
        del summary, seed
        return NeighborsState()

    def is_done(self, state: NeighborsState) -> bool:
        """Return whether the pass has been made."""
        return state.total is not None

    def statistics(self, state: NeighborsState, block: Block) -> NeighborsStatistics:
        """Return the block's nearest rows."""
        del state
        column, drawn = inputs_of(block)
        distances, draws = _distances(column), numbers_of(drawn, "draw")
        there = ~np.isnan(distances)
        return NeighborsStatistics.of(distances[there], draws[there], self.num_nearest_neighbors)

    def update(self, state: NeighborsState, total: NeighborsStatistics) -> NeighborsState:
        """Return the finished state."""
        del state
        return NeighborsState(total=total)

    def to_model(self, state: NeighborsState) -> Nearness:
        """Return the bound."""
        if state.total is None:
            raise UsageError("The search has not finished: its only round is missing.")
        return Nearness(distance=float(state.total.distances[-1]), draw=float(state.total.draws[-1]))


def _distances(column: Column | pa.Array) -> Floats:
    """Return distances, NaN for null."""
    return numbers_of(column, "distance")
