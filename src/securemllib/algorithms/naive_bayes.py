r"""Naive Bayes: multinomial, complement, Bernoulli and Gaussian.

Model, with the weight :math:`n_c` of class :math:`c`, its sums :math:`s_{cj} = \sum_{i \in c} w_i x_{ij}` and
:math:`\lambda` = ``smoothing``:

.. math:: \pi_c = \log \frac{n_c + \lambda}{\sum_c n_c + k \lambda}, \quad
          \theta_{cj} = \log \frac{s_{cj} + \lambda}{\sum_j s_{cj} + d \lambda}

for ``multinomial``; ``complement`` takes :math:`-\theta` of the sums of all other classes, ``bernoulli`` divides by
:math:`n_c + 2 \lambda`, and ``gaussian`` has :math:`\pi_c = \log(n_c / \sum_c n_c)`, the means as :math:`\theta` and
the variances plus :math:`10^{-9}` of the largest column's variance as :math:`\sigma`.

Spark MLlib: the same formulas, conditions and outputs; variances come from sums around the column means, which do not
cancel. A class index without weight keeps its place, with the prior 0, where MLlib numbers the remaining classes anew
(labels 0 and 2 are predicted as 0 and 1 there). A term that does not occur in a row counts nothing even where
``smoothing=0`` makes its logarithm infinite, where MLlib's dense rows give NaN.

Cost: one pass of :math:`O(n d)`, or of the stored values of sparse rows, and :math:`O(k d)` of statistics.

Reveals: enclave mode, nothing but the size of sealed messages. Partitioned mode, the size of masked sums; never a sum
of a class, because that of a class of one row is the row. Sums behind a model, from which a training goes on, are
sealed beside it under a key of their own: the host learns their size, and whoever the model is released to, nothing.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.choice import chosen_class, require_thresholds
from securemllib.algorithms.class_sums import ClassSums, SumsBehind
from securemllib.algorithms.kernels.sparse import add_class_sums
from securemllib.algorithms.logistic_loss import softmax
from securemllib.algorithms.params import require_choice, require_number
from securemllib.algorithms.slices import row_slices
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.vectors import of_columns
from securemllib.errors import DataError, UsageError

__all__ = ["NaiveBayes", "NaiveBayesModel", "NaiveBayesState"]

Vector = NDArray[np.float64]

# scikit-learn's and MLlib's share of the largest variance that is added to each.
_VARIANCE_SHARE = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class NaiveBayesState:
    """Where a training stands.

    Attributes:
        classes: Largest label + 1.
        centre: ``(d,)`` what is subtracted from features: their means for ``gaussian``, else zeros.
        total: The sums over all rows, after the one round.
        summary: Of all rows, where the model is to carry its sums; else None.
    """

    classes: int
    centre: Vector
    total: ClassSums | None = None
    summary: Summary | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NaiveBayesModel:
    """Logarithms of probabilities, or means and variances.

    Attributes:
        model_type: ``multinomial``, ``complement``, ``bernoulli`` or ``gaussian``.
        pi: ``(k,)`` logarithms of the class priors; minus infinity for a class without rows.
        theta: ``(k, d)`` logarithms of the terms' probabilities, or means.
        sigma: ``(k, d)`` variances; ``(0, 0)`` but for ``gaussian``.
        thresholds: One threshold a class; the class with the largest probability / threshold is predicted.
    """

    SPARSE: ClassVar[bool] = True
    SUMMARY: ClassVar[tuple[str, ...]] = ()
    CHANGEABLE: ClassVar[tuple[str, ...]] = ("thresholds",)

    model_type: str
    pi: Vector
    theta: Vector
    sigma: Vector
    thresholds: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.thresholds is not None and len(self.thresholds) != len(self.pi):
            raise UsageError(f"there are {len(self.thresholds)} thresholds for {len(self.pi)} classes", code="usage.param")

    def predict(self, features: Vector | csr_array) -> dict[str, Vector]:
        """Return ``rawPrediction`` and ``probability`` of shape ``(n, k)`` and ``prediction`` of shape ``(n,)``.

        Raises:
            DataError: A feature is none that this type of model takes.
        """
        features = of_columns(features, self.theta.shape[1])
        _require_kind(self.model_type, features.data if isinstance(features, csr_array) else features, 0.0)
        raw = self._raw(features)
        probability = softmax(raw)
        return {"rawPrediction": raw, "probability": probability, "prediction": chosen_class(raw, probability, self.thresholds)}

    def _raw(self, features: Any) -> Vector:
        if self.model_type == "gaussian":
            return self._gaussian_sparse(features) if isinstance(features, csr_array) else self._gaussian(features)
        likelihood = _weighted(features, self.theta)
        if self.model_type == "bernoulli":
            with np.errstate(divide="ignore"):
                likelihood += _weighted_absent(features, np.log1p(-np.exp(self.theta)))
        if self.model_type != "complement":
            return likelihood + self.pi
        likelihood[:, np.isneginf(self.pi)] = -np.inf
        largest = likelihood.max(axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):
            scaled = np.exp(np.where(likelihood == largest, 0.0, likelihood - largest))
        total = np.log(scaled.sum(axis=1, keepdims=True)) + largest
        return likelihood - np.where(np.isfinite(total), total, 0.0)

    def _gaussian(self, features: Vector) -> Vector:
        raw = np.empty((len(features), len(self.pi)))
        with np.errstate(divide="ignore", invalid="ignore"):
            for index, (mean, variance) in enumerate(zip(self.theta, self.sigma, strict=True)):
                distance = features - mean
                raw[:, index] = self.pi[index] - 0.5 * ((distance * distance) @ (1.0 / variance) + np.log(variance).sum())
        return raw

    def _gaussian_sparse(self, features: csr_array) -> Vector:
        """Return the same by the expanded square, which reads stored values only."""
        with np.errstate(divide="ignore", invalid="ignore"):
            inverse = 1.0 / self.sigma
            squares = features.power(2) @ inverse.T - 2.0 * (features @ (self.theta * inverse).T)
            constant = (self.theta * self.theta * inverse + np.log(self.sigma)).sum(axis=1)
        return np.asarray(self.pi - 0.5 * (squares + constant))


@dataclass(frozen=True, slots=True, kw_only=True)
class NaiveBayes:
    """The params of ``pyspark.ml.classification.NaiveBayes`` that matter to the arithmetic, with its defaults.

    ``decay_factor`` is what the rows behind a model count from which the training goes on, None as much as the new ones.
    """

    SPARSE: ClassVar[bool] = True

    model_type: str = "multinomial"
    smoothing: float = 1.0
    thresholds: tuple[float, ...] | None = None
    decay_factor: float | None = None

    def __post_init__(self) -> None:
        require_choice(self, "model_type", ("multinomial", "complement", "bernoulli", "gaussian"))
        require_number(self, "smoothing", 0.0, np.finfo(np.float64).max)
        require_thresholds(self.thresholds)
        if self.decay_factor is not None:
            require_number(self, "decay_factor", 0.0, 1.0)

    def initial(self, summary: Summary, seed: Seed) -> NaiveBayesState:  # noqa: ARG002 - nothing is random
        """Return the state before the round.

        Raises:
            DataError: There are no rows, or labels are no class indices.
            UsageError: There are not as many thresholds as classes.
        """
        summary.require_rows(squares=self._is_gaussian)
        if summary.label_weights is None or summary.has_invalid_label:
            raise DataError("labels must be class indices 0, 1, 2, ...", code="data.label")
        # As in MLlib a class without rows has no model, though it be declared.
        classes = len(np.trim_zeros(summary.label_weights, "b"))
        if self.thresholds is not None and len(self.thresholds) != classes:
            raise UsageError(f"there are {len(self.thresholds)} thresholds for {classes} classes", code="usage.param")
        return NaiveBayesState(classes=classes, centre=summary.mean if self._is_gaussian else np.zeros(summary.columns))

    def going_on(self, summary: Summary, seed: Seed, behind: SumsBehind | None) -> NaiveBayesState:
        """Return the state before the round of a training whose model carries its sums.

        Raises:
            UsageError: Those behind are of another type of model.
        """
        if behind is not None and behind.model_type != self.model_type:
            raise UsageError(f"the sums are of a {behind.model_type} model, not of a {self.model_type} one", code="usage.job")
        whole = summary if behind is None else summary + behind.summary
        return replace(self.initial(whole, seed), summary=whole)

    def behind(self, state: NaiveBayesState, sums: SumsBehind) -> ClassSums:
        """Return the statistics of the rows behind a model."""
        return sums.about(state.centre, state.classes)

    def sums(self, state: NaiveBayesState) -> SumsBehind:
        """Return what the model carries."""
        if state.total is None or state.summary is None:
            raise UsageError("the training does not carry its sums")
        return SumsBehind(model_type=self.model_type, summary=state.summary, centre=state.centre, total=state.total)

    def is_done(self, state: NaiveBayesState) -> bool:
        """Return whether `to_model` may be called."""
        return state.total is not None

    def statistics(self, state: NaiveBayesState, block: Block) -> ClassSums:
        """Return the sums of one block.

        Raises:
            DataError: A feature is none that this type of model takes.
        """
        shape = (state.classes, block.columns)
        total = ClassSums(weight=np.zeros(shape[0]), sums=np.zeros(shape), squares=np.zeros(shape if self._is_gaussian else (0, 0)))
        self.accumulate(total, state, block)
        return total

    def accumulate(self, total: ClassSums, state: NaiveBayesState, block: Block) -> None:
        """Add the sums of one block to a total: a hundred classes of many terms take megabytes, and a share has many blocks.

        Raises:
            DataError: A feature is none that this type of model takes.
        """
        if block.label is None:
            raise DataError(f"block {block.ordinal} has no label", code="data.label")
        if total.sums.shape[1] != block.columns:
            raise DataError(f"Some parts have {total.sums.shape[1]} features, others {block.columns}.", code="data.length")
        # A label beyond the classes belongs to a row of weight 0.
        index = np.where(block.label < state.classes, block.label, 0.0).astype(np.int64)
        weight = np.ones(block.rows) if block.weight is None else block.weight
        total.weight[:] += np.bincount(index, weight, state.classes)
        if block.sparse is not None:
            self._add_sparse(total, block.sparse, index, weight, state)
        else:
            self._add_dense(total, block, index, weight, state)

    def _add_dense(self, total: ClassSums, block: Block, index: NDArray[np.int64], weight: Vector, state: NaiveBayesState) -> None:
        # A centred value was rounded by at most half of this; the smallest centre counts for ones, which may be further from it.
        largest = np.maximum(np.abs(block.offset), 1.0 if self.model_type == "bernoulli" else 0.0)
        shift, noise = block.offset - state.centre, float(np.finfo(block.features.dtype).eps) * largest
        for rows in row_slices(block):
            values = _require_kind(self.model_type, block.features[rows] + shift, noise)
            members = _members(index[rows], weight[rows], state.classes)
            total.sums[:] += members @ values
            if self._is_gaussian:
                total.squares[:] += members @ (values * values)

    def _add_sparse(self, total: ClassSums, rows: csr_array, index: NDArray[np.int64], weight: Vector, state: NaiveBayesState) -> None:
        # What is stored needs no rounding; NaN is not at least 0 either.
        if self.model_type == "bernoulli" or not rows.data.min(initial=0.0) >= 0.0:
            _require_kind(self.model_type, rows.data, 0.0)
        if not self._is_gaussian:
            add_class_sums(rows, index, weight, total.sums)
            return
        sums, squares = np.zeros_like(total.sums), np.zeros_like(total.sums)
        add_class_sums(rows, index, weight, sums)
        add_class_sums(rows.astype(np.float64).power(2), index, weight, squares)
        moved = np.bincount(index, weight, state.classes)[:, np.newaxis] * state.centre
        total.sums[:] += sums - moved
        total.squares[:] += squares + state.centre * (moved - 2.0 * sums)

    def update(self, state: NaiveBayesState, total: ClassSums) -> NaiveBayesState:
        """Return the state after the round."""
        return replace(state, total=total)

    def to_model(self, state: NaiveBayesState) -> NaiveBayesModel:
        """Return the model."""
        if state.total is None:
            raise UsageError("the model exists after the round only")
        total, used = state.total, state.total.weight > 0.0
        pi, theta, sigma = np.full(state.classes, -np.inf), np.zeros_like(total.sums), np.ones_like(total.squares)
        if self._is_gaussian:
            pi[used] = np.log(total.weight[used]) - np.log(total.weight.sum())
            weight, mean = total.weight[used, np.newaxis], total.sums[used] / total.weight[used, np.newaxis]
            theta[used] = mean + state.centre
            sigma[used] = _variance_floor(total) + np.maximum(total.squares[used] / weight - mean * mean, 0.0)
        else:
            smoothed = total.weight[used] + self.smoothing
            pi[used] = np.log(smoothed) - np.log(total.weight.sum() + np.count_nonzero(used) * self.smoothing)
            theta[used] = self._log_terms(total.weight[used], total.sums[used])
        return NaiveBayesModel(model_type=self.model_type, pi=pi, theta=theta, sigma=sigma, thresholds=self.thresholds)

    @property
    def _is_gaussian(self) -> bool:
        return self.model_type == "gaussian"

    def _log_terms(self, weight: Vector, sums: Vector) -> Vector:
        terms = sums.sum(axis=0) - sums if self.model_type == "complement" else sums
        if self.model_type == "bernoulli":
            whole = weight[:, np.newaxis] + 2.0 * self.smoothing
        else:
            whole = terms.sum(axis=1, keepdims=True) + terms.shape[1] * self.smoothing
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(terms + self.smoothing) - np.log(whole)
        # Without smoothing, every term of a class without any is impossible.
        logs[np.isnan(logs)] = -np.inf
        return -logs if self.model_type == "complement" else logs


def _members(index: NDArray[np.int64], weight: Vector, classes: int) -> csc_array:
    """Return the ``(k, n)`` matrix with each row's weight at its class."""
    return csc_array((weight, index, np.arange(len(index) + 1)), shape=(classes, len(index)))


def _require_kind(model_type: str, values: Vector, noise: Vector | float) -> Vector:
    """Return the values without their noise.

    Args:
        model_type: What is required: 0 and 1, numbers of at least 0, or any.
        values: ``(n, d)``.
        noise: How far a value may lie from the true one: a centred row was rounded, by at most the rounding of the centre.

    Raises:
        DataError: A value is none that the model takes.
    """
    if model_type == "gaussian":
        return values
    if model_type == "bernoulli":
        exact = (values > 0.5).astype(np.float64)
        if not (np.abs(values - exact) <= noise).all():
            raise DataError("Bernoulli naive Bayes takes features 0 and 1 only", code="data.not_binary")
        return exact
    if not (values >= -noise).all():
        raise DataError(f"{model_type} naive Bayes takes no negative features", code="data.negative")
    return np.maximum(values, 0.0)


def _variance_floor(total: ClassSums) -> float:
    weight = total.weight.sum()
    mean = total.sums.sum(axis=0) / weight
    return float((total.squares.sum(axis=0) / weight - mean * mean).max(initial=0.0)) * _VARIANCE_SHARE


def _weighted(features: Any, logs: Vector) -> Vector:
    """Return ``features @ logs.T``, where a feature of 0 counts nothing even if its logarithm is infinite."""
    finite = np.isfinite(logs)
    if finite.all():
        return np.asarray(features @ logs.T)
    met = (features != 0.0).astype(np.float64) @ (~finite).T.astype(np.float64) > 0.0
    return np.where(met, -np.inf if np.isneginf(logs).any() else np.inf, features @ np.where(finite, logs, 0.0).T)


def _weighted_absent(features: Any, logs: Vector) -> Vector:
    """Return ``(1 - features) @ logs.T`` of features 0 and 1, where an infinite logarithm counts for zeros only."""
    finite = np.isfinite(logs)
    known = np.where(finite, logs, 0.0)
    sums = known.sum(axis=1) - features @ known.T
    missed = (~finite).sum(axis=1) - features @ (~finite).T.astype(np.float64) > 0.0
    return np.where(missed, -np.inf, sums)
