r"""Factorization machines: linear models with an interaction of each pair of features, of low rank.

Objective, over an intercept :math:`b`, :math:`w \in R^d` and :math:`V \in R^{d \times k}`:

.. math:: \frac{1}{n} \sum_i \ell(f(x_i), y_i) + \frac{\lambda}{2} \|(b, w, V)\|_2^2,
          \quad f(x) = b + w^T x + \frac{1}{2} \left( \|V^T x\|^2 - \sum_j x_j^2 \|V_j\|^2 \right)

with the squared error for regression, the logistic loss for two classes, and :math:`\lambda` = ``reg_param``.

Equivalence: ``pyspark.ml.classification.FMClassifier`` and ``pyspark.ml.regression.FMRegressor``: the same steps of gradient descent, of
length ``stepSize`` over the root of their number, or of AdamW with decoupled decay; the same rule to end, and the same history of the
objective. From the same first factors coefficients are MLlib's, up to rounding, which a long training with large steps enlarges on both
sides. The first factors are normal of deviation ``initStd``, and a mini-batch has each row with probability ``miniBatchFraction``; the
random numbers differ. A training whose loss is no finite number ends with an error, where MLlib returns coefficients that are none.
Weights are refused, which MLlib ignores.

Cost: one round of ``O(n d k)`` a step, of stored values where rows are sparse; statistics and state are of the model's size.

Reveals: with mode="enclave" the number of rounds. With mode="partitioned" the same; all sums leave as masked integers.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import expit

from securemllib.algorithms import factorization_steps as steps
from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.choice import chosen_class, require_thresholds
from securemllib.algorithms.columns import labels_of
from securemllib.algorithms.factorization_steps import Loss
from securemllib.algorithms.params import require_bool, require_choice, require_integer, require_number
from securemllib.algorithms.slices import product_type, row_pieces
from securemllib.algorithms.summary import Summary
from securemllib.errors import DataError, UsageError

__all__ = ["FMClassificationModel", "FMClassifier", "FMRegressionModel", "FMRegressor", "FMState", "FMStatistics"]

Floats = NDArray[np.float64]

_CLASSES = 2

# MLlib holds all coefficients in one array of the JVM.
_COEFFICIENTS = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FMState:
    """Where a training stands.

    Attributes:
        seed: The root of the randomness.
        factors: ``(d, k)``.
        rest: ``(r,)`` linear coefficients, where they are fitted, and last the intercept, where it is.
        moments: ``(2, d k + r)`` AdamW's means of gradients and of their squares; ``(2, 0)`` for gradient descent.
        step: Rounds made.
        updates: Steps made, one a round whose batch had rows.
        history: The objective before each of them.
        penalty: Of the coefficients.
        ended: Whether the training has ended.
    """

    seed: Seed
    factors: Floats
    rest: Floats
    moments: Floats
    step: int
    updates: int
    history: tuple[float, ...]
    penalty: float
    ended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FMStatistics:
    """Sums over the rows of a batch.

    Attributes:
        rows: Their number.
        loss: The sum of losses.
        factors: ``(d, k)`` gradient of the factors.
        linear: ``(d,)`` gradient of the linear coefficients.
        intercept: Gradient of the intercept.
    """

    ADDITIVE: ClassVar[tuple[str, ...]] = ("rows", "loss", "factors", "linear", "intercept")

    rows: float
    loss: float
    factors: Floats
    linear: Floats
    intercept: float

    def __add__(self, other: Self) -> Self:
        return type(self)(**{name: getattr(self, name) + getattr(other, name) for name in self.ADDITIVE})


@dataclass(frozen=True, slots=True, kw_only=True)
class FMRegressionModel:
    """Coefficients of a regression.

    Attributes:
        intercept: The constant.
        linear: ``(d,)``.
        factors: ``(d, k)``.
    """

    SPARSE: ClassVar[bool] = True
    SUMMARY: ClassVar[tuple[str, ...]] = ()

    intercept: float
    linear: Floats
    factors: Floats

    def predict(self, features: Floats | csr_array) -> dict[str, Floats]:
        """Return ``prediction`` of shape ``(n,)``."""
        return {"prediction": steps.values_of(features, self.factors, self.linear, self.intercept)}


@dataclass(frozen=True, slots=True, kw_only=True)
class FMClassificationModel:
    """Coefficients of a classification of two classes.

    Attributes:
        intercept: The constant.
        linear: ``(d,)``.
        factors: ``(d, k)``.
        thresholds: One a class, or None.
        objective_history: The objective before each step, and after the last where all were made.
    """

    SPARSE: ClassVar[bool] = True
    SUMMARY: ClassVar[tuple[str, ...]] = ("objective_history",)
    CHANGEABLE: ClassVar[tuple[str, ...]] = ("thresholds",)

    intercept: float
    linear: Floats
    factors: Floats
    thresholds: tuple[float, ...] | None = None
    objective_history: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _require_two(self.thresholds)

    def predict(self, features: Floats | csr_array) -> dict[str, Floats]:
        """Return ``rawPrediction`` and ``probability`` of shape ``(n, 2)``, and ``prediction`` of shape ``(n,)``."""
        margin = steps.values_of(features, self.factors, self.linear, self.intercept)
        likely = expit(margin)
        raw, probability = np.stack([-margin, margin], axis=1), np.stack([1.0 - likely, likely], axis=1)
        return {"rawPrediction": raw, "probability": probability, "prediction": chosen_class(raw, probability, self.thresholds)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Machine:
    """Params that both have, and their steps."""

    SPARSE: ClassVar[bool] = True
    LOSS: ClassVar[Loss]

    factor_size: int = 8
    fit_intercept: bool = True
    fit_linear: bool = True
    reg_param: float = 0.0
    mini_batch_fraction: float = 1.0
    init_std: float = 0.01
    max_iter: int = 100
    step_size: float = 1.0
    tol: float = 1e-6
    solver: str = "adamW"

    def __post_init__(self) -> None:
        require_integer(self, "factor_size", 1)
        require_bool(self, "fit_intercept", "fit_linear")
        require_number(self, "reg_param", 0.0, np.finfo(np.float64).max)
        require_number(self, "mini_batch_fraction", 0.0, 1.0)
        for field in ("init_std", "step_size"):
            require_number(self, field, 0.0, np.finfo(np.float64).max)
        for field in ("mini_batch_fraction", "init_std", "step_size"):
            if not getattr(self, field) > 0.0:
                raise UsageError(f"{field} must be greater than 0", code="usage.param")
        require_integer(self, "max_iter", 0)
        require_number(self, "tol", 0.0, 1.0)
        require_choice(self, "solver", ("gd", "adamW"))

    def initial(self, summary: Summary, seed: Seed) -> FMState:
        """Return the state before the first round.

        Raises:
            DataError: There are no rows, or the labels are none that this loss takes.
            UsageError: There are more coefficients than MLlib takes.
        """
        summary.require_rows()
        columns = summary.columns
        rest = columns * self.fit_linear + self.fit_intercept
        if columns * self.factor_size + rest > _COEFFICIENTS:
            raise UsageError(f"factor_size must be less than {self.factor_size} for {columns} features", code="usage.param")
        factors = self.init_std * seed.generator("factors").standard_normal((columns, self.factor_size))
        moments = np.zeros((2, factors.size + rest if self.solver == "adamW" else 0))
        return FMState(
            seed=seed, factors=factors, rest=np.zeros(rest), moments=moments, step=0, updates=0, history=(),
            penalty=0.5 * self.reg_param * float((factors**2).sum()), ended=False,
        )  # fmt: skip

    def is_done(self, state: FMState) -> bool:
        """Return whether `to_model` may be called."""
        return state.ended

    def statistics(self, state: FMState, block: Block) -> FMStatistics:
        """Return loss and gradient of the block's rows that are in the round's batch."""
        linear, intercept = self._rest(state)
        labels, total = labels_of(block), steps.Slopes.zero(state.factors.shape)
        # Sparse rows are stored as they are, dense ones less their part's offset.
        offset = block.offset if block.sparse is None else np.zeros(block.columns)
        machine = steps.Machine.of(offset, product_type(block), state.factors, linear, intercept)
        batch = np.ones(block.rows, dtype=np.bool_)
        if self.mini_batch_fraction < 1.0:
            batch = state.seed.generator("batch", state.step, block.ordinal).random(block.rows) < self.mini_batch_fraction
        # A loss that is no number ends the training where all of them are added.
        with np.errstate(over="ignore", invalid="ignore"):
            for part, piece in row_pieces(block):
                used = np.flatnonzero(batch[part])
                taken = piece if len(used) == piece.shape[0] else piece[used]
                machine.add(total, taken, labels[part][used], type(self).LOSS)
            factors, gradient = machine.gradient(total)
        return FMStatistics(rows=total.rows, loss=total.loss, factors=factors, linear=gradient, intercept=float(total.edges[-1]))

    def update(self, state: FMState, total: FMStatistics) -> FMState:
        """Return the state after a step; a loss that is no finite number raises DataError."""
        step, last = state.step + 1, state.step >= self.max_iter
        if not total.rows:
            return replace(state, step=step, ended=last)
        loss = total.loss / total.rows + state.penalty
        if not np.isfinite(loss):
            raise DataError("the loss is no finite number: the steps are too long for these features", code="data.diverged")
        state = replace(state, step=step, history=(*state.history, loss), ended=last)
        if last:
            return state
        rest = ([total.linear] if self.fit_linear else []) + ([np.array([total.intercept])] if self.fit_intercept else [])
        gradient = np.concatenate([total.factors.ravel(), *rest]) / total.rows
        before = np.concatenate([state.factors.ravel(), state.rest])
        with np.errstate(over="ignore", invalid="ignore"):
            if self.solver == "gd":
                after, moments = steps.descended(before, gradient, state.step, self.step_size, self.reg_param), state.moments
            else:
                after, moments = steps.adapted(before, gradient, state.moments, state.updates + 1, self.step_size, self.reg_param)
            length, moved = float(np.linalg.norm(after)), float(np.linalg.norm(after - before))
        size = state.factors.size
        return replace(
            state,
            factors=after[:size].reshape(state.factors.shape),
            rest=after[size:],
            moments=moments,
            updates=state.updates + 1,
            penalty=0.5 * self.reg_param * length * length,
            # MLlib compares with the step before, of which the first has none.
            ended=state.updates > 0 and moved < self.tol * max(length, 1.0),
        )

    def _rest(self, state: FMState) -> tuple[Floats, float]:
        """Return the linear coefficients and the intercept; zeros where they are not fitted."""
        columns = len(state.factors)
        linear = state.rest[:columns] if self.fit_linear else np.zeros(columns)
        return linear, float(state.rest[-1]) if self.fit_intercept else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FMRegressor(_Machine):
    """The params of ``pyspark.ml.regression.FMRegressor`` that matter to the arithmetic, with its defaults."""

    LOSS: ClassVar[Loss] = staticmethod(steps.squared_errors)

    def to_model(self, state: FMState) -> FMRegressionModel:
        """Return the model."""
        linear, intercept = self._rest(state)
        return FMRegressionModel(intercept=intercept, linear=linear, factors=state.factors)


@dataclass(frozen=True, slots=True, kw_only=True)
class FMClassifier(_Machine):
    """The params of ``pyspark.ml.classification.FMClassifier`` that matter to the arithmetic, with its defaults."""

    LOSS: ClassVar[Loss] = staticmethod(steps.logistic_losses)

    thresholds: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        _Machine.__post_init__(self)
        _require_two(self.thresholds)

    def initial(self, summary: Summary, seed: Seed) -> FMState:
        """Return the state before the first round; errors as those of a regression, and DataError for labels other than 0 and 1."""
        state = _Machine.initial(self, summary, seed)
        if summary.label_weights is None or summary.has_invalid_label or len(summary.label_weights) > _CLASSES:
            raise DataError("labels must be 0 or 1", code="data.label")
        return state

    def to_model(self, state: FMState) -> FMClassificationModel:
        """Return the model."""
        linear, intercept = self._rest(state)
        return FMClassificationModel(
            intercept=intercept, linear=linear, factors=state.factors, thresholds=self.thresholds, objective_history=state.history
        )


def _require_two(thresholds: tuple[float, ...] | None) -> None:
    require_thresholds(thresholds)
    if thresholds is not None and len(thresholds) != _CLASSES:
        raise UsageError(f"there are {len(thresholds)} thresholds for two classes", code="usage.param")
