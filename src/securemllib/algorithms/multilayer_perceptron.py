r"""Multilayer perceptron classification: layers of sigmoids, and a softmax on the last.

Objective, over weights :math:`W_l` and biases :math:`b_l` of layers :math:`a_l = \mathrm{sigmoid}(W_l a_{l-1} + b_l)`, the last softmax:

.. math:: - \frac{1}{n} \sum_i \log p_{y_i}(x_i)

Spark MLlib: the same network, objective, order of the weights and both solvers: L-BFGS with a strong Wolfe search, and ``gd``, steps of
``stepSize`` along the whole gradient until they are short. MLlib takes the mean of the means of blocks of ``blockSize`` rows, so where
blocks differ in size its rows weigh differently; here all weigh the same; at least ``blockSize`` are multiplied at once. Initial weights
are drawn from MLlib's distribution with other random numbers. The objective has many minima: from the same initial weights both go the
same way as far as their searches do.

Cost: passes of :math:`O(n \sum_l d_{l-1} d_l)`, one an evaluation; at most `MOST_WEIGHTS` weights.

Reveals: enclave mode, the number of rounds. Partitioned mode, the number of rounds and the size of masked sums; never a gradient, of
which the first layer's is a combination of rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from securemllib.algorithms.base import Array, Block, Seed
from securemllib.algorithms.choice import chosen_class, require_thresholds
from securemllib.algorithms.columns import labels_of
from securemllib.algorithms.optimizers import QuasiNewton
from securemllib.algorithms.params import require_choice, require_integer, require_number
from securemllib.algorithms.slices import product_type
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.vectors import of_columns
from securemllib.errors import DataError, UsageError

__all__ = ["MOST_WEIGHTS", "MultilayerPerceptronClassifier", "NetworkModel", "NetworkState", "NetworkStatistics"]

Vector = NDArray[np.float64]

# A search keeps about 22 vectors of the weights: 0.7 GB.
MOST_WEIGHTS = 1 << 22
# MLlib's initial weights are within this over the root of a layer's inputs.
_SPREAD = 2.4
# Outputs of a layer that are computed at once, half a megabyte in single precision, so that they stay in a core's cache.
_STEP_VALUES = 1 << 17


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkState:
    """Where a training stands.

    Attributes:
        search: The minimisation; of ``gd`` only its point is used.
        rows: Rows.
        history: Of ``gd``, the objective before each step and, after the most that are made, at the end.
        ended: Of ``gd``, whether the last step was short.
    """

    search: QuasiNewton
    rows: int
    history: tuple[float, ...] = ()
    ended: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkStatistics:
    """Sums over rows at the proposed weights.

    Attributes:
        loss: Sum of losses.
        gradient: ``(w,)`` sum of the losses' derivatives.
    """

    ADDITIVE: ClassVar[tuple[str, ...]] = ("loss", "gradient")

    loss: float
    gradient: Vector

    def __add__(self, other: Self) -> Self:
        return replace(self, loss=self.loss + other.loss, gradient=self.gradient + other.gradient)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkModel:
    """A trained network.

    Attributes:
        layers: Sizes, from the inputs to the classes.
        weights: ``(w,)`` of each layer its matrix by columns, then its biases.
        thresholds: One a class; the class with the largest probability / threshold is predicted.
        objective_history: The objective at the start and after each iteration, unless that was a short step of ``gd``, which ends it.
    """

    SPARSE: ClassVar[bool] = True
    SUMMARY: ClassVar[tuple[str, ...]] = ("objective_history",)
    CHANGEABLE: ClassVar[tuple[str, ...]] = ("thresholds",)

    layers: tuple[int, ...]
    weights: Vector
    thresholds: tuple[float, ...] | None = None
    objective_history: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _require_weights(self.layers, len(self.weights))
        _require_thresholds(self.thresholds, self.layers)

    @property
    def total_iterations(self) -> int:
        """Iterations of the minimisation."""
        return max(len(self.objective_history) - 1, 0)

    def predict(self, features: Any) -> dict[str, Vector]:
        """Return ``rawPrediction`` and ``probability`` of shape ``(n, k)`` and ``prediction`` of shape ``(n,)``."""
        features = of_columns(features, self.layers[0])
        raw = _outputs(features, _matrices(self.layers, self.weights))[-1].astype(np.float64, copy=False)
        probability = np.exp(log_softmax(raw, axis=1)) if len(raw) else raw
        return {"rawPrediction": raw, "probability": probability, "prediction": chosen_class(raw, probability, self.thresholds)}


@dataclass(frozen=True, slots=True, kw_only=True)
class MultilayerPerceptronClassifier:
    """The params of ``pyspark.ml.classification.MultilayerPerceptronClassifier`` that matter to the arithmetic, with its defaults."""

    SPARSE: ClassVar[bool] = True

    layers: tuple[int, ...] = ()
    max_iter: int = 100
    tol: float = 1e-6
    block_size: int = 128
    step_size: float = 0.03
    solver: str = "l-bfgs"
    initial_weights: tuple[float, ...] | None = None
    thresholds: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        _require_weights(self.layers, None if self.initial_weights is None else len(self.initial_weights))
        require_integer(self, "max_iter", 0)
        require_integer(self, "block_size", 1)
        require_number(self, "tol", 0.0)
        require_number(self, "step_size", np.finfo(np.float64).tiny, np.finfo(np.float64).max)
        require_choice(self, "solver", ("l-bfgs", "gd"))
        _require_thresholds(self.thresholds, self.layers)

    def initial(self, summary: Summary, seed: Seed) -> NetworkState:
        """Return the state before the first round.

        Raises:
            DataError: There are no rows, labels are not classes of the last layer, or features not as many as the first layer's inputs.
        """
        summary.require_rows()
        if summary.label_weights is None or summary.has_invalid_label or len(summary.label_weights) > self.layers[-1]:
            raise DataError(f"labels must be the classes 0 to {self.layers[-1] - 1} of the last layer", code="data.label")
        if summary.columns != self.layers[0]:
            raise DataError(f"the first layer has {self.layers[0]} inputs, the rows have {summary.columns} features", code="data.length")
        start = self._drawn(seed) if self.initial_weights is None else np.array(self.initial_weights, dtype=np.float64)
        return NetworkState(search=QuasiNewton.start(start, tol=self.tol, max_iter=self.max_iter), rows=summary.rows)

    def _drawn(self, seed: Seed) -> Vector:
        generator = seed.generator("initial-weights")
        return np.concatenate([generator.uniform(-_SPREAD, _SPREAD, (n + 1) * m) / np.sqrt(n) for n, m in pairwise(self.layers)])

    def is_done(self, state: NetworkState) -> bool:
        """Return whether `to_model` may be called."""
        return state.ended or len(state.history) > self.max_iter if self.solver == "gd" else state.search.is_done

    def statistics(self, state: NetworkState, block: Block) -> NetworkStatistics:
        """Return loss and gradient of one block at the proposed weights."""
        layers, labels = _matrices(self.layers, state.search.propose()), labels_of(block).astype(np.int64)
        dtype = product_type(block)
        # Sparse rows are stored as they are, dense ones less their part's offset, which the first layer's biases make up for.
        offset = block.offset if block.sparse is None else np.zeros(block.columns)
        (matrix, bias), *rest = layers
        small = [(each.astype(dtype), constant.astype(dtype)) for each, constant in ((matrix, bias + offset @ matrix), *rest)]
        rows: Any = block.features if block.sparse is None else block.sparse
        loss, gradient = 0.0, np.zeros(len(state.search.point))
        for start in range(0, block.rows, size := max(_STEP_VALUES // max(self.layers), self.block_size)):
            features, label = rows[start : start + size], labels[start : start + size]
            found = _outputs(features, small)
            losses, delta = _losses(found[-1], label)
            loss += float(losses.sum(dtype=np.float64))
            gradient += _propagated(features, found, small, delta)
        first, _ = _matrices(self.layers, gradient)[0]
        first += np.outer(offset, gradient[matrix.size : matrix.size + len(bias)])
        return NetworkStatistics(loss=loss, gradient=gradient)

    def update(self, state: NetworkState, total: NetworkStatistics) -> NetworkState:
        """Return the state after one round."""
        value, gradient = total.loss / state.rows, total.gradient / state.rows
        if self.solver == "l-bfgs":
            return replace(state, search=state.search.observe(value, gradient))
        if len(state.history) == self.max_iter:
            return replace(state, history=(*state.history, value))
        step = self.step_size * gradient
        point = state.search.point - step
        # MLlib compares the results of two steps, so the first one never ends it.
        ended = bool(state.history) and float(np.linalg.norm(step)) < self.tol * max(float(np.linalg.norm(point)), 1.0)
        return replace(state, search=replace(state.search, point=point), history=(*state.history, value), ended=ended)

    def to_model(self, state: NetworkState) -> NetworkModel:
        """Return the network."""
        history = state.history if self.solver == "gd" else state.search.history
        return NetworkModel(layers=self.layers, weights=state.search.point, thresholds=self.thresholds, objective_history=history)


def _matrices(layers: tuple[int, ...], weights: Vector) -> list[tuple[Vector, Vector]]:
    """Return of each layer its ``(inputs, outputs)`` matrix and its biases, views of the weights."""
    found, first = [], 0
    for inputs, outputs in pairwise(layers):
        matrix = weights[first : first + inputs * outputs].reshape(inputs, outputs)
        first += (inputs + 1) * outputs
        found.append((matrix, weights[first - outputs : first]))
    return found


def _outputs(features: Any, layers: Sequence[tuple[Array, Array]]) -> list[Array]:
    """Return the outputs of each layer, of the last one before the softmax."""
    found: list[Array] = []
    inputs = features
    for index, (matrix, bias) in enumerate(layers):
        outputs = inputs @ matrix
        outputs += bias
        inputs = outputs if index == len(layers) - 1 else _sigmoid(outputs)
        found.append(inputs)
    return found


def _sigmoid(values: Array) -> Array:
    """Write 1 / (1 + exp(-v)) in the place of values and return them."""
    with np.errstate(over="ignore"):
        np.exp(np.negative(values, out=values), out=values)
    values += 1.0
    return np.reciprocal(values, out=values)


def _losses(outputs: Array, label: NDArray[np.int64]) -> tuple[Array, Array]:
    """Return the losses ``(n,)`` of the last layer's outputs, and their derivatives ``(n, k)``."""
    # Classes are few: their largest and their sum are found along rows of memory.
    raw = np.ascontiguousarray(outputs.T)
    own = label, np.arange(len(label))
    raw -= raw.max(axis=0)
    chosen = raw[own]
    np.exp(raw, out=raw)
    total = raw.sum(axis=0)
    raw /= total
    raw[own] -= 1.0
    return np.log(total) - chosen, raw.T


def _propagated(features: Any, found: list[Array], layers: Sequence[tuple[Array, Array]], delta: Array) -> Array:
    """Return the gradient ``(w,)`` of some rows, from the last layer's derivatives to the first's."""
    pieces: list[Array] = []
    for index in range(len(layers) - 1, -1, -1):
        inputs = found[index - 1] if index else features
        pieces += [delta.sum(axis=0), np.asarray(inputs.T @ delta).ravel()]
        if index:
            delta = delta @ layers[index][0].T
            delta *= inputs
            delta *= np.subtract(1.0, inputs, out=inputs)
    return np.concatenate(pieces[::-1])


def _require_weights(layers: object, given: int | None) -> None:
    sizes = layers if isinstance(layers, tuple) else ()
    if len(sizes) < 2 or not all(type(size) is int and size > 0 for size in sizes):
        raise UsageError("layers must be the sizes of two layers or more, each at least 1", code="usage.param")
    count = sum((inputs + 1) * outputs for inputs, outputs in pairwise(sizes))
    if count > MOST_WEIGHTS:
        raise UsageError(f"layers have {count} weights, more than {MOST_WEIGHTS}", code="usage.param")
    if given is not None and given != count:
        raise UsageError(f"layers have {count} weights, and initial_weights {given}", code="usage.param")


def _require_thresholds(thresholds: tuple[float, ...] | None, layers: tuple[int, ...]) -> None:
    require_thresholds(thresholds)
    if thresholds is not None and len(thresholds) != layers[-1]:
        raise UsageError(f"there are {len(thresholds)} thresholds for {layers[-1]} classes", code="usage.param")
