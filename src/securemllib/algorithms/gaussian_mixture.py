r"""Gaussian mixtures by expectation maximisation.

Objective: the weighted log likelihood :math:`\sum_i w_i \log \sum_j \pi_j N(x_i; \mu_j, \Sigma_j)` over weights, means and covariances.

Equivalence: ``pyspark.ml.clustering.GaussianMixture``. From the same parameters a step gives MLlib's, and steps end as MLlib's do, when
the log likelihood (of the parameters before the step, as it is reported) moved by at most ``tol``. The start is MLlib's: for each
component five rows drawn with replacement, their mean and the diagonal of their covariance; the random numbers differ, rows of weight 0
are not drawn, and five equal rows get the variances of all rows. MLlib adds 2.2e-16 to every density: where all densities of a row are
less than that, as they are of most rows in many dimensions, its responsibilities are equal; here they are those of the densities. A
direction without variance has no part in a component's density, on both sides; rows that do not vary at all, a single one among them,
are refused, where MLlib gives all components their mean and equal weights, and so is a component that is left with equal rows alone, as
with more components than rows, to which MLlib gives a constant density.

The draw with replacement is a statistic that adds up: of a block of n rows the least of n exponential keys is one key of ``Exp(1) / n``
with a row drawn evenly, and the least key of a union is the least among its parts.

Cost: a pass of about ``n k d^2`` multiply-adds a step, one to draw and one for the cluster sizes; ``O(k d^2)`` of statistics.

Reveals: with mode="enclave" the number of rows, columns and rounds, and so the number of steps. With mode="partitioned" the same, and the
sums of steps leave as masked integers; the round that draws carries rows and never leaves enclaves.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.columns import weights_of
from securemllib.algorithms.gaussian_mixture_steps import (
    Components,
    components_of,
    exact,
    expectation,
    log_densities,
    responsibilities,
    slices_of,
)
from securemllib.algorithms.params import require_integer, require_number
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.vectors import of_columns
from securemllib.errors import UsageError

__all__ = ["GaussianMixture", "GaussianMixtureModel", "GaussianMixtureState", "GaussianMixtureStatistics"]

Floats = NDArray[np.float64]

# MLlib's GaussianMixture draws five rows a component, and takes fewer features than the root of 2**31 - 1.
_SAMPLES = 5
_FEATURES = 46340

# Equal float32 rows of two blocks differ in the seventh digit of a deviation.
_ROUNDING = 1e-12

# The phases of a training, in order.
_DRAW, _STEP, _COUNT, _DONE = "draw", "step", "count", "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class GaussianMixtureState:
    """What the aggregator knows between rounds.

    Attributes:
        phase: ``draw``, ``step``, ``count`` or ``done``.
        seed: The root of the randomness.
        variance: ``(d,)`` of all rows.
        weights: ``(k,)``; empty while rows are drawn, as the next two.
        covariances: ``(k, d, d)``.
        components: The Gaussians, None while rows are drawn.
        iterations: Steps made.
        log_likelihood: Of the parameters before the last step.
        sizes: ``(k,)`` rows of each cluster, zeros before the last round.
    """

    phase: str
    seed: Seed
    variance: Floats
    weights: Floats
    covariances: Floats
    components: Components | None
    iterations: int
    log_likelihood: float
    sizes: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class GaussianMixtureStatistics:
    """Sums of a step, or drawn rows, or cluster sizes; what a round does not make is empty or zeros.

    Attributes:
        weight: ``(k,)`` responsibilities.
        sums: ``(k, d)`` of the differences to the means, times responsibility.
        products: ``(k, d, d)`` of their products.
        log_likelihood: Of the rows.
        keys: ``(c,)`` of the drawn rows.
        drawn: ``(c, d)`` the rows.
        drawn_weight: ``(c,)`` their weights.
        sizes: ``(k,)`` rows by likeliest component.
    """

    ADDITIVE: ClassVar[tuple[str, ...]] = ("weight", "sums", "products", "log_likelihood", "sizes")

    weight: Floats
    sums: Floats
    products: Floats
    log_likelihood: float
    keys: Floats
    drawn: Floats
    drawn_weight: Floats
    sizes: Floats

    def __add__(self, other: Self) -> Self:
        first = self.keys <= other.keys
        return type(self)(
            weight=self.weight + other.weight,
            sums=self.sums + other.sums,
            products=self.products + other.products,
            log_likelihood=self.log_likelihood + other.log_likelihood,
            keys=np.where(first, self.keys, other.keys),
            drawn=np.where(first[:, np.newaxis], self.drawn, other.drawn),
            drawn_weight=np.where(first, self.drawn_weight, other.drawn_weight),
            sizes=self.sizes + other.sizes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GaussianMixtureModel:
    """The mixture.

    Attributes:
        weights: ``(k,)``.
        means: ``(k, d)``.
        covariances: ``(k, d, d)``.
        log_likelihood: Of the parameters before the last step, as MLlib reports it.
        num_iter: Steps made.
        cluster_sizes: ``(k,)`` training rows whose likeliest component each is.
    """

    SUMMARY: ClassVar[tuple[str, ...]] = ("log_likelihood", "num_iter", "cluster_sizes")

    weights: Floats
    means: Floats
    covariances: Floats
    log_likelihood: float
    num_iter: int
    cluster_sizes: NDArray[np.int64]

    @property
    def smallest_group(self) -> float:
        """The rows of the smallest cluster that has any."""
        return float(self.cluster_sizes[self.cluster_sizes > 0].min(initial=np.iinfo(np.int64).max))

    def predict(self, features: Floats) -> dict[str, Floats | NDArray[np.int32]]:
        """Return ``probability`` of shape ``(n, k)`` and ``prediction``, the likeliest component."""
        features = of_columns(features, self.means.shape[1])
        components = components_of(self.weights, self.means, self.covariances)
        probability = np.empty((len(features), len(self.weights)))
        for rows in slices_of(len(features), components):
            logs = log_densities(features[rows], np.zeros(features.shape[1]), components)
            responsibilities(logs)
            probability[rows] = logs.T
        return {"probability": probability, "prediction": probability.argmax(axis=1).astype(np.int32)}


@dataclass(frozen=True, slots=True, kw_only=True)
class GaussianMixture:
    """Params of ``pyspark.ml.clustering.GaussianMixture``."""

    k: int = 2
    max_iter: int = 100
    tol: float = 0.01

    def __post_init__(self) -> None:
        require_integer(self, "k", 2)
        require_integer(self, "max_iter", 0)
        require_number(self, "tol", 0.0)

    def initial(self, summary: Summary, seed: Seed) -> GaussianMixtureState:
        """Return the state before the first round.

        Raises:
            DataError: There are no rows.
            UsageError: There are more features than MLlib takes.
        """
        summary.require_rows(columns=True)
        columns = summary.columns
        if columns >= _FEATURES:
            raise UsageError(f"a Gaussian mixture takes fewer than {_FEATURES} features, not {columns}", code="usage.param")
        return GaussianMixtureState(
            phase=_DRAW,
            seed=seed,
            variance=summary.deviation**2,
            weights=np.zeros(0),
            covariances=np.zeros((0, columns, columns)),
            components=None,
            iterations=0,
            log_likelihood=float(np.finfo(np.float64).min),
            sizes=np.zeros(self.k),
        )

    def begun(self, state: GaussianMixtureState, weights: Floats, means: Floats, covariances: Floats) -> GaussianMixtureState:
        """Return the state that makes its first step from given parameters."""
        phase = _STEP if self.max_iter > 0 else _COUNT
        components = components_of(weights, means, covariances)
        return replace(state, phase=phase, weights=weights, covariances=covariances, components=components)

    def is_done(self, state: GaussianMixtureState) -> bool:
        """Return whether the sizes of the final clusters are known."""
        return state.phase == _DONE

    def is_additive(self, state: GaussianMixtureState) -> bool:
        """Return whether the next round draws no rows."""
        return state.phase != _DRAW

    def statistics(self, state: GaussianMixtureState, block: Block) -> GaussianMixtureStatistics:
        """Return the block's drawn rows in the first round, its sums in a step, its clusters' sizes in the last round."""
        columns = block.columns
        empty = GaussianMixtureStatistics(
            weight=np.zeros(self.k),
            sums=np.zeros((self.k, columns)),
            products=np.zeros((self.k, columns, columns)),
            log_likelihood=0.0,
            keys=np.zeros(0),
            drawn=np.zeros((0, columns)),
            drawn_weight=np.zeros(0),
            sizes=np.zeros(self.k),
        )
        if state.components is None:
            return self._drawn(state, block, empty)
        features = exact(block.features, block.offset, state.components)
        if state.phase == _STEP:
            found = expectation(features, block.offset, None if block.weight is None else weights_of(block), state.components)
            return replace(empty, weight=found.weight, sums=found.sums, products=found.products, log_likelihood=found.log_likelihood)
        likeliest = np.empty(block.rows, dtype=np.int64)
        for rows in slices_of(block.rows, state.components):
            likeliest[rows] = log_densities(features[rows], block.offset, state.components).argmax(axis=0)
        return replace(empty, sizes=np.bincount(likeliest, minlength=self.k).astype(np.float64))

    def update(self, state: GaussianMixtureState, total: GaussianMixtureStatistics) -> GaussianMixtureState:
        """Return the state after a round."""
        if state.components is None:
            return self._started(state, total)
        if state.phase == _COUNT:
            return replace(state, phase=_DONE, sizes=total.sizes)
        filled = total.weight > 0.0
        weights = total.weight / total.weight.sum()
        shift, covariances = np.zeros_like(total.sums), state.covariances.copy()
        shift[filled] = total.sums[filled] / total.weight[filled, np.newaxis]
        around = total.products[filled] / total.weight[filled, np.newaxis, np.newaxis]
        covariances[filled] = around - shift[filled, :, np.newaxis] * shift[filled, np.newaxis, :]
        before = state.log_likelihood
        state = self.begun(state, weights, state.components.means + shift, covariances)
        iterations = state.iterations + 1
        ended = iterations >= self.max_iter or abs(total.log_likelihood - before) <= self.tol
        return replace(state, phase=_COUNT if ended else _STEP, iterations=iterations, log_likelihood=total.log_likelihood)

    def to_model(self, state: GaussianMixtureState) -> GaussianMixtureModel:
        """Return the mixture."""
        return GaussianMixtureModel(
            weights=state.weights,
            means=np.zeros((0, len(state.variance))) if state.components is None else state.components.means,
            covariances=state.covariances,
            log_likelihood=state.log_likelihood,
            num_iter=state.iterations,
            cluster_sizes=state.sizes.astype(np.int64),
        )

    def _drawn(self, state: GaussianMixtureState, block: Block, empty: GaussianMixtureStatistics) -> GaussianMixtureStatistics:
        count = self.k * _SAMPLES
        weight = weights_of(block)
        used = np.flatnonzero(weight > 0.0)
        if not len(used):
            drawn = np.zeros((count, block.columns))
            return replace(empty, keys=np.full(count, np.inf), drawn=drawn, drawn_weight=np.zeros(count))
        generator = state.seed.generator("mixture", block.ordinal)
        keys = generator.standard_exponential(count) / len(used)
        chosen = used[generator.integers(len(used), size=count)]
        drawn = block.features[chosen].astype(np.float64) + block.offset
        return replace(empty, keys=keys, drawn=drawn, drawn_weight=weight[chosen])

    def _started(self, state: GaussianMixtureState, total: GaussianMixtureStatistics) -> GaussianMixtureState:
        """Return the state with each component that of its five rows."""
        drawn = total.drawn.reshape(self.k, _SAMPLES, -1)
        weight = total.drawn_weight.reshape(self.k, _SAMPLES, 1)
        share = weight / weight.sum(axis=1, keepdims=True)
        means = (share * drawn).sum(axis=1)
        variances = (share * (drawn - means[:, np.newaxis, :]) ** 2).sum(axis=1)
        equal = ~(variances > _ROUNDING * state.variance).any(axis=1)
        variances[equal] = state.variance
        covariances = variances[:, :, np.newaxis] * np.eye(len(state.variance))
        return self.begun(state, weight.sum(axis=(1, 2)) / weight.sum(), means, covariances)
