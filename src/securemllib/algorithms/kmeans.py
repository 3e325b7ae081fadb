"""K-Means: k centres that minimise the squared distance of every row to its nearest centre.

Objective: ``min_C sum_i w_i min_j |x_i - c_j|^2``, or with cosine distance ``min_C sum_i w_i (1 - max_j cos(x_i, c_j))``.

Equivalence: ``pyspark.ml.clustering.KMeans``. Given the same first centres, Lloyd's steps, the stopping rule (every centre moved at most
``tol``; for cosine, by at most ``tol`` in cosine distance), the rule that an empty cluster keeps its centre, and ``training_cost`` (that of
the centres *before* the last step) are MLlib's. ``k-means||`` [1] differs in its random numbers: each round takes exactly 2k rows (fewer if
fewer have a cost), drawn without replacement with probability proportional to weight times cost, where MLlib takes 2k on average and
ignores weights, so that its first centres may be rows of weight 0. Where all weights are 0 there is an error, MLlib's centres are such
rows. Candidates are then weighted and reduced by k-means++ [2]. Fewer distinct rows than k give fewer centres, and a summary has the size 0
for each that was not found.

The draw is an exponential race: a row's key is ``Exp(1) / (w cost)``, and the rows with the smallest keys win. The smallest keys of
a union are the smallest among the winners of its parts, so that sampling, too, is a statistic that adds up, and one pass both
measures and draws.

Going on from a model, its centres stand beside the rows, each with the weight of its cluster's size times ``decay_factor``: with one
Lloyd step this is the update rule of MLlib's ``StreamingKMeans``, without its splitting of dying clusters.

Cost: a pass of ``2 n d k`` multiply-adds (one product for the distances, one with the one-hot assignment for the sums); passes: 2 +
``init_steps`` for ``k-means||`` or 1 for ``random``, one a Lloyd step, one for the cluster sizes. The state holds centres or at
most ``1 + 2 k init_steps`` candidates.

Reveals: with mode="enclave" the number of rows, columns and rounds, and so the number of iterations. With mode="partitioned" the
same, and the sums, weights and costs of Lloyd's steps leave as masked integers, which are uniformly random without the job key; the
rounds that draw candidates carry rows and stay sealed.

[1] B. Bahmani et al.: Scalable K-Means++, VLDB 2012. [2] D. Arthur, S. Vassilvitskii: k-means++: the advantages of careful seeding,
SODA 2007.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms import kmeans_steps as steps
from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.vectors import of_columns
from securemllib.errors import DataError, UsageError

__all__ = ["KMeans", "KMeansModel", "KMeansState", "KMeansStatistics"]

Floats = NDArray[np.float64]

# The phases of a training, in order. A state names its phase by the string.
_FIRST, _EXPAND, _RANDOM, _WEIGH, _LLOYD, _COUNT, _DONE = "first", "expand", "random", "weigh", "lloyd", "count", "done"
_SAMPLING = (_FIRST, _EXPAND, _RANDOM)


@dataclass(frozen=True, slots=True, kw_only=True)
class KMeansState:
    """What the aggregator knows between rounds.

    Attributes:
        phase: ``first``, ``expand`` or ``random`` (candidates are drawn), ``weigh``, ``lloyd``, ``count`` or ``done``.
        step: The number of rounds made; the position of the next round's randomness.
        seed: The root of the randomness.
        centers: ``(m, d)`` candidates or centres.
        resolution: The rounding of a candidate's coordinates; candidates nearer than it are one.
        iterations: Lloyd steps made.
        cost: Cost of the centres before the last Lloyd step.
        sizes: ``(m,)`` rows of each cluster, zeros before the last round.
        anchors: ``(m, d)`` the centres of the model that the training goes on from, ``(0, d)`` where there is none.
        anchor_weights: ``(m,)`` their weights.
    """

    phase: str
    step: int
    seed: Seed
    centers: Floats
    resolution: float
    iterations: int
    cost: float
    sizes: Floats
    anchors: Floats
    anchor_weights: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class KMeansStatistics:
    """Sums of the rows by nearest centre, or the winners of a draw.

    Attributes:
        rows: ``(m,)`` rows nearest to each centre.
        weight: ``(m,)`` their weight.
        sums: ``(m, d)`` their weighted sum; for cosine, of the rows scaled to length 1.
        cost: Their weighted cost.
        quota: How many candidates the round draws; 0 in rounds that draw none.
        keys: ``(c,)`` ascending keys of the winners, at most ``quota``.
        candidates: ``(c, d)`` the winners.
        resolution: The rounding of a winner's coordinates.
    """

    ADDITIVE: ClassVar[tuple[str, ...]] = ("rows", "weight", "sums", "cost")

    rows: Floats
    weight: Floats
    sums: Floats
    cost: float
    quota: int
    keys: Floats
    candidates: Floats
    resolution: float

    def __add__(self, other: Self) -> Self:
        keys = np.concatenate([self.keys, other.keys])
        order = np.argsort(keys, kind="stable")[: self.quota]
        return type(self)(
            rows=self.rows + other.rows,
            weight=self.weight + other.weight,
            sums=self.sums + other.sums,
            cost=self.cost + other.cost,
            quota=self.quota,
            keys=keys[order],
            candidates=np.concatenate([self.candidates, other.candidates])[order],
            resolution=max(self.resolution, other.resolution),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KMeansModel:
    """The clusters.

    Attributes:
        cluster_centers: ``(m, d)``, m at most k.
        distance_measure: ``euclidean`` or ``cosine``.
        training_cost: Cost of the centres before the last step, as MLlib reports it.
        num_iter: Lloyd steps made.
        cluster_sizes: ``(m,)`` training rows nearest to each of the centres, and where it went on from a model, that one's, decayed.
        smallest_group: The rows of the smallest cluster that has any, also among those since that model: two summaries tell them apart.
    """

    SUMMARY: ClassVar[tuple[str, ...]] = ("training_cost", "num_iter", "cluster_sizes")

    cluster_centers: Floats
    distance_measure: str
    training_cost: float
    num_iter: int
    cluster_sizes: NDArray[np.int64]
    smallest_group: float

    def predict(self, features: Floats) -> dict[str, NDArray[np.int32]]:
        """Return ``prediction``, the index of the nearest centre (the first of equally near ones)."""
        features = of_columns(features, self.cluster_centers.shape[1])
        if self.distance_measure == "cosine":
            return {"prediction": steps.nearest(steps.unit(features), steps.unit(self.cluster_centers)).astype(np.int32)}
        middle = self.cluster_centers.mean(axis=0)
        return {"prediction": steps.nearest(features, self.cluster_centers, middle).astype(np.int32)}


@dataclass(frozen=True, slots=True, kw_only=True)
class KMeans:
    """Params of ``pyspark.ml.clustering.KMeans``.

    ``initial_centers`` starts Lloyd's steps from given centres instead of drawn ones (``k`` is then their number). ``decay_factor`` is what
    the rows behind a model count from which the training goes on, None as much as the new ones.
    """

    k: int = 2
    max_iter: int = 20
    tol: float = 1e-4
    init_mode: Literal["k-means||", "random"] = "k-means||"
    init_steps: int = 2
    distance_measure: Literal["euclidean", "cosine"] = "euclidean"
    initial_centers: tuple[tuple[float, ...], ...] | None = None
    decay_factor: float | None = None

    def __post_init__(self) -> None:
        if not self.k > 1:
            raise UsageError(f"k must be greater than 1, not {self.k}.")
        if not self.max_iter >= 0:
            raise UsageError(f"max_iter must be at least 0, not {self.max_iter}.")
        if not self.tol >= 0.0:
            raise UsageError(f"tol must be at least 0, not {self.tol}.")
        if not self.init_steps > 0:
            raise UsageError(f"init_steps must be greater than 0, not {self.init_steps}.")
        if self.init_mode not in ("k-means||", "random"):
            raise UsageError(f"init_mode must be k-means|| or random, not {self.init_mode!r}.")
        if self.distance_measure not in ("euclidean", "cosine"):
            raise UsageError(f"distance_measure must be euclidean or cosine, not {self.distance_measure!r}.")
        if self.decay_factor is not None and not 0.0 <= self.decay_factor <= 1.0:
            raise UsageError(f"decay_factor must be between 0 and 1, not {self.decay_factor}.")
        self._check_initial_centers()

    def _check_initial_centers(self) -> None:
        if self.initial_centers is None:
            return
        if len(self.initial_centers) != self.k or len({len(center) for center in self.initial_centers}) != 1:
            raise UsageError(f"initial_centers must be k={self.k} centres of one length.")
        if not np.isfinite(np.array(self.initial_centers, dtype=np.float64)).all():
            raise UsageError("initial_centers must be finite numbers.")

    def initial(self, summary: Summary, seed: Seed) -> KMeansState:
        """Return the state before the first round; a dataset without rows raises DataError."""
        summary.require_rows(columns=True)
        columns = summary.columns
        phase, centers = (_FIRST if self.init_mode == "k-means||" else _RANDOM), np.zeros((0, columns))
        if self.initial_centers is not None:
            phase, centers = (_LLOYD if self.max_iter > 0 else _COUNT), np.array(self.initial_centers, dtype=np.float64)
            if centers.shape[1] != columns:
                raise UsageError(f"initial_centers have {centers.shape[1]} columns, the dataset has {columns}.")
        sizes = np.zeros(centers.shape[0])
        none = np.zeros((0, columns))
        return KMeansState(
            phase=phase, step=0, seed=seed, centers=centers, resolution=0.0, iterations=0, cost=0.0, sizes=sizes,
            anchors=none, anchor_weights=none[:, 0],
        )  # fmt: skip

    def resumed(self, state: KMeansState, model: KMeansModel) -> KMeansState:
        """Return the state that goes on from a model; `UsageError` where it is of other columns or another distance."""
        centers, columns = model.cluster_centers, state.centers.shape[1]
        if centers.shape[1] != columns or model.distance_measure != self.distance_measure:
            raise UsageError(f"The model has {centers.shape[1]} columns and {model.distance_measure} distance; the rows have {columns}.")
        weights = (1.0 if self.decay_factor is None else self.decay_factor) * model.cluster_sizes.astype(np.float64)
        state = replace(state, anchors=centers, anchor_weights=weights)
        return self._begin(state, centers)

    def is_done(self, state: KMeansState) -> bool:
        """Return whether the sizes of the final clusters are known."""
        return state.phase == _DONE

    def is_additive(self, state: KMeansState) -> bool:
        """Return whether the next round draws no candidates."""
        return state.phase not in _SAMPLING

    def statistics(self, state: KMeansState, block: Block) -> KMeansStatistics:
        """Return the block's winners in a round that draws, its sums by nearest centre in every other."""
        centers, columns = state.centers, block.columns
        cosine = self.distance_measure == "cosine"
        if state.phase not in _SAMPLING:
            found = steps.assign(block, centers, cosine=cosine)
            none = np.zeros((0, columns))
            return KMeansStatistics(
                rows=found.rows,
                weight=found.weight,
                sums=found.sums,
                cost=found.cost,
                quota=0,
                keys=none[:, 0],
                candidates=none,
                resolution=0.0,
            )
        quota = {_FIRST: 1, _EXPAND: 2 * self.k, _RANDOM: self.k}[state.phase]
        mass = steps.weighted_costs(block, centers, cosine=cosine)
        keys = state.seed.generator("kmeans", state.step, block.ordinal).standard_exponential(block.rows)
        keys = np.divide(keys, mass, out=np.full(block.rows, np.inf), where=mass > 0)
        order = np.argpartition(keys, quota - 1)[:quota] if quota < block.rows else np.arange(block.rows)
        order = order[np.isfinite(keys[order])]
        order = order[np.argsort(keys[order], kind="stable")]
        clusters = np.zeros(centers.shape[0])
        return KMeansStatistics(
            rows=clusters, weight=clusters, sums=np.zeros_like(centers), cost=float(mass.sum()), quota=quota, keys=keys[order],
            candidates=block.features[order].astype(np.float64) + block.offset, resolution=steps.resolution(block),
        )  # fmt: skip

    def update(self, state: KMeansState, total: KMeansStatistics) -> KMeansState:
        """Return the state after a round."""
        state = replace(state, step=state.step + 1)
        if state.phase in _SAMPLING:
            return self._grow(state, total)
        if state.phase == _WEIGH:
            rng = state.seed.generator("kmeans++", state.step)
            return self._begin(state, steps.plus_plus(state.centers, total.weight, self.k, rng))
        if state.phase == _LLOYD:
            return self._move(state, total)
        return replace(state, phase=_DONE, sizes=total.rows + state.anchor_weights if state.anchors.size else total.rows)

    def _grow(self, state: KMeansState, total: KMeansStatistics) -> KMeansState:
        if state.phase != _EXPAND and total.keys.size == 0:
            raise DataError("No row has a positive weight.", code="data.no_rows")
        resolution = max(state.resolution, total.resolution)
        state = replace(state, centers=np.concatenate([state.centers, total.candidates]), resolution=resolution)
        if state.phase != _RANDOM and state.step <= self.init_steps:
            return replace(state, phase=_EXPAND)
        centers = steps.distinct(state.centers, resolution, state.seed.generator("distinct"))
        if centers.shape[0] <= self.k:
            return self._begin(state, centers)
        return replace(state, phase=_WEIGH, centers=centers)

    def _begin(self, state: KMeansState, centers: Floats) -> KMeansState:
        phase = _LLOYD if self.max_iter > 0 else _COUNT
        return replace(state, phase=phase, centers=centers, sizes=np.zeros(centers.shape[0]))

    def _move(self, state: KMeansState, total: KMeansStatistics) -> KMeansState:
        weight, sums = total.weight, total.sums
        if state.anchors.size:
            weight, sums = weight + state.anchor_weights, sums + state.anchor_weights[:, None] * state.anchors
        filled = weight > 0
        centers = state.centers.copy()
        centers[filled] = sums[filled] / weight[filled, None]
        if self.distance_measure == "cosine":
            centers[filled] = steps.unit(centers[filled])
            shift = ((steps.unit(state.centers) - steps.unit(centers)) ** 2).sum(axis=1) / 2
            converged = bool((shift <= self.tol).all())
        else:
            converged = bool((((state.centers - centers) ** 2).sum(axis=1) <= self.tol**2).all())
        iterations = state.iterations + 1
        phase = _COUNT if converged or iterations >= self.max_iter else _LLOYD
        return replace(state, phase=phase, centers=centers, iterations=iterations, cost=total.cost)

    def to_model(self, state: KMeansState) -> KMeansModel:
        """Return the centres."""
        since = np.rint(state.sizes - state.anchor_weights if state.anchors.size else state.sizes)
        sizes = np.rint(state.sizes).astype(np.int64)
        groups = np.concatenate([sizes, since])
        return KMeansModel(
            cluster_centers=state.centers,
            distance_measure=self.distance_measure,
            training_cost=state.cost,
            num_iter=state.iterations,
            cluster_sizes=sizes,
            smallest_group=float(groups[groups > 0].min(initial=np.inf)),
        )
