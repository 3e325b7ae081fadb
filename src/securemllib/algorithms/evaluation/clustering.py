"""The silhouette of a clustering: how much nearer rows are to their own cluster than to the next one.

Objective: for a row with mean dissimilarity a to the other rows of its cluster and b to those of the nearest other cluster, ``s =
(b - a) / max(a, b)``, 0 for the only row of a cluster; the metric is the weighted mean of s. Dissimilarity is the squared Euclidean
distance, or 1 minus the cosine.

Equivalence: ``pyspark.ml.evaluation.ClusteringEvaluator``. As there, the mean dissimilarity to a cluster with weight W, mean m and
squares M2 around it needs no pairs of rows: it is ``|x - m|^2 + M2 / W``, and ``1 - u.m`` for rows u scaled to length 1. The own
cluster's is scaled by ``W / (W - w)``. A cluster that only rows of weight 0 are in is none.

Cost: two passes, the second of ``n c d`` multiply-adds for c clusters; statistics are one row a cluster.

Reveals: with mode="enclave" the number of rows and two rounds; by the size of the sealed statistics the number of clusters; the
metric if the policy releases it. With mode="partitioned" the same: the first pass merges means, not plain sums, and both stay
sealed.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.columns import predictions_of, true_rows_of, weights_of
from securemllib.algorithms.summary import Summary
from securemllib.errors import DataError, UsageError

__all__ = ["ClusteringEvaluation", "ClusteringEvaluator", "ClusteringState", "ClusteringStatistics"]

Floats = NDArray[np.float64]
Measure = Literal["squaredEuclidean", "cosine"]

# Rows whose dissimilarities to all clusters are held at once.
_CHUNK_ROWS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusteringStatistics:
    """Moments of each cluster, or the sum of silhouettes.

    Attributes:
        rows: The number of rows.
        clusters: ``(c,)`` distinct predictions, ascending.
        weight: ``(c,)`` weight of each cluster.
        mean: ``(c, d)`` weighted mean of each cluster.
        squares: ``(c,)`` weighted squared distances to it.
        silhouettes: Weighted silhouettes; 0 in the first round.
        silhouette_weight: Their weight.
    """

    rows: int
    clusters: Floats
    weight: Floats
    mean: Floats
    squares: Floats
    silhouettes: float
    silhouette_weight: float

    def __add__(self, other: Self) -> Self:
        clusters = np.union1d(self.clusters, other.clusters)
        weight, mean, squares = self._spread(clusters)
        other_weight, other_mean, other_squares = other._spread(clusters)
        total = weight + other_weight
        share = np.divide(other_weight, total, out=np.zeros_like(total), where=total > 0)
        delta = other_mean - mean
        return type(self)(
            rows=self.rows + other.rows,
            clusters=clusters,
            weight=total,
            mean=mean + delta * share[:, None],
            squares=squares + other_squares + (delta**2).sum(axis=1) * weight * share,
            silhouettes=self.silhouettes + other.silhouettes,
            silhouette_weight=self.silhouette_weight + other.silhouette_weight,
        )

    def _spread(self, clusters: Floats) -> tuple[Floats, Floats, Floats]:
        """Return weight, mean and squares laid out for ``clusters``, which contain this one's."""
        at = np.searchsorted(clusters, self.clusters)
        weight, mean, squares = np.zeros(clusters.size), np.zeros((clusters.size, self.mean.shape[1])), np.zeros(clusters.size)
        weight[at], mean[at], squares[at] = self.weight, self.mean, self.squares
        return weight, mean, squares


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusteringState:
    """The clusters' moments after the first round, the sum of silhouettes after the second."""

    clusters: ClusteringStatistics | None = None
    silhouettes: ClusteringStatistics | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusteringEvaluation:
    """The silhouette.

    Attributes:
        value: The mean silhouette, between -1 and 1.
        rows: The number of rows.
        clusters: ``(c,)`` distinct predictions.
        cluster_weights: ``(c,)`` the weight of each cluster.
    """

    SUMMARY: ClassVar[tuple[str, ...]] = ("value", "rows", "clusters", "cluster_weights")

    value: float
    rows: int
    clusters: Floats
    cluster_weights: Floats

    @property
    def smallest_group(self) -> float:
        """The weight of the lightest cluster that has any."""
        return float(self.cluster_weights[self.cluster_weights > 0].min(initial=np.inf))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusteringEvaluator:
    """Params of ``pyspark.ml.evaluation.ClusteringEvaluator``."""

    metric_name: Literal["silhouette"] = "silhouette"
    distance_measure: Measure = "squaredEuclidean"

    def __post_init__(self) -> None:
        if self.metric_name != "silhouette":
            raise UsageError(f"metric_name must be silhouette, not {self.metric_name!r}.")
        if self.distance_measure not in get_args(Measure):
            raise UsageError(f"distance_measure must be one of {', '.join(get_args(Measure))}, not {self.distance_measure!r}.")

    def initial(self, summary: Summary, seed: Seed) -> ClusteringState:
        """Return the empty state."""
        del summary, seed
        return ClusteringState()

    def is_done(self, state: ClusteringState) -> bool:
        """Return whether both passes have been made."""
        return state.silhouettes is not None

    def statistics(self, state: ClusteringState, block: Block) -> ClusteringStatistics:
        """Return the moments of the block's clusters, in the second round its silhouettes."""
        # A cluster that only rows of weight 0 are in is none, as in MLlib.
        used = weights_of(block) > 0
        rows, prediction, weight = (column[used] for column in (self._rows(block), predictions_of(block), weights_of(block)))
        if state.clusters is None:
            return replace(_moments(rows, prediction, weight), rows=block.rows)
        clusters = state.clusters
        own = np.searchsorted(clusters.clusters, prediction)
        total = 0.0
        for start in range(0, len(rows), _CHUNK_ROWS):
            part = slice(start, start + _CHUNK_ROWS)
            total += float(weight[part] @ self._silhouettes(clusters, rows[part], own[part], weight[part]))
        none = np.zeros(0)
        return ClusteringStatistics(
            rows=block.rows, clusters=none, weight=none, mean=np.zeros((0, block.columns)), squares=none,
            silhouettes=total, silhouette_weight=float(weight.sum()),
        )  # fmt: skip

    def _rows(self, block: Block) -> Floats:
        rows = true_rows_of(block)
        if self.distance_measure == "squaredEuclidean":
            return rows
        norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
        if norms.size and not norms.min() > 0:
            raise DataError("Cosine distance is not defined for zero-length vectors.", code="data.zero_vector")
        scaled: Floats = rows / norms[:, None]
        return scaled

    def _silhouettes(self, clusters: ClusteringStatistics, rows: Floats, own: NDArray[np.intp], weight: Floats) -> Floats:
        if self.distance_measure == "squaredEuclidean":
            spread = clusters.squares / clusters.weight
            dissimilarity = np.stack([((rows - mean) ** 2).sum(axis=1) for mean in clusters.mean], axis=1) + spread
        else:
            dissimilarity = 1 - rows @ clusters.mean.T
        at = np.arange(rows.shape[0])
        own_weight = clusters.weight[own]
        rest = own_weight - weight
        alone = rest <= 0
        inner = dissimilarity[at, own] * own_weight / np.where(alone, 1.0, rest)
        dissimilarity[at, own] = np.inf
        outer = dissimilarity.min(axis=1)
        larger = np.maximum(inner, outer)
        silhouettes: Floats = np.divide(outer - inner, larger, out=np.zeros_like(larger), where=(larger > 0) & ~alone)
        return silhouettes

    def update(self, state: ClusteringState, total: ClusteringStatistics) -> ClusteringState:
        """Return the state after a round; fewer than two clusters raise DataError."""
        if state.clusters is not None:
            return ClusteringState(clusters=state.clusters, silhouettes=total)
        if not total.clusters.size:
            raise DataError("There is no row of positive weight to evaluate.", code="data.no_rows")
        if total.clusters.size < 2:
            raise DataError(f"Number of clusters must be greater than one, not {total.clusters.size}.", code="data.one_cluster")
        return ClusteringState(clusters=total)

    def to_model(self, state: ClusteringState) -> ClusteringEvaluation:
        """Return the metric."""
        if state.clusters is None or state.silhouettes is None:
            raise UsageError("The evaluation has not finished: a round is missing.")
        value = state.silhouettes.silhouettes / state.silhouettes.silhouette_weight
        return ClusteringEvaluation(
            value=value, rows=state.clusters.rows, clusters=state.clusters.clusters, cluster_weights=state.clusters.weight
        )


def _moments(rows: Floats, prediction: Floats, weight: Floats) -> ClusteringStatistics:
    clusters, index = np.unique(prediction, return_inverse=True)
    total = np.bincount(index, weights=weight, minlength=clusters.size).astype(np.float64)
    mean, squares = np.zeros((clusters.size, rows.shape[1])), np.zeros(clusters.size)
    for cluster in range(clusters.size):
        members = index == cluster
        mean[cluster] = weight[members] @ rows[members] / total[cluster]
        squares[cluster] = weight[members] @ ((rows[members] - mean[cluster]) ** 2).sum(axis=1)
    return ClusteringStatistics(
        rows=rows.shape[0], clusters=clusters, weight=total, mean=mean, squares=squares, silhouettes=0.0, silhouette_weight=0.0
    )
