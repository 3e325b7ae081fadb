r"""Logistic regression, binomial and multinomial, with elastic net and bounds.

Objective, over coefficients :math:`\beta_c` of the standardised features :math:`z = (x - \mu) / \sigma` and intercepts
:math:`b_c`:

.. math:: \frac{1}{W} \sum_i w_i \ell(y_i, B z_i + b) + \lambda \left( \frac{1 - \alpha}{2} \|B\|_2^2 + \alpha \|B\|_1
\right)

where :math:`\ell` is the logistic loss (binomial) or the cross-entropy of the softmax (multinomial), :math:`\lambda` is
``reg_param`` and :math:`\alpha` is ``elastic_net_param``.

Spark MLlib: the same objective and conventions. Training runs in the scaled space; without ``standardization`` each
penalty is divided by the feature's deviation, so that the penalty is one on the original coefficients; intercepts are
not penalised; a constant column gets the coefficient 0; classes that the label's column declares, as a StringIndexer
does, are trained whether rows have them or not; one class with an intercept needs no training (intercept plus or minus
infinity; of two declared classes MLlib then always predicts the second, here the one that rows have); unpenalised
multinomial coefficients are centred over classes, and multinomial intercepts always, except under bounds. Centring by
:math:`\mu` changes the intercept only, and is left out where the intercept is bounded or missing.

Cost: one pass of :math:`O(n d k)` a round, 10 to 30 rounds. The rows are read in slices that stay in the second-level
cache.

Reveals: enclave mode, the number of rounds. Partitioned mode, the same, and in which rounds a search left the sums' scale: sums
leave as masked integers; never a gradient, because the first gradient is the class balance and the gradient of one row is that row.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.choice import chosen_class, require_thresholds
from securemllib.algorithms.logistic_loss import binomial_loss, multinomial_loss, sigmoid, softmax
from securemllib.algorithms.optimizers import QuasiNewton
from securemllib.algorithms.params import require_bool, require_choice, require_integer, require_number
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.vectors import of_columns
from securemllib.errors import DataError, UsageError

__all__ = ["LogisticRegression", "LogisticRegressionModel", "LogisticState", "LossStatistics"]

Vector = NDArray[np.float64]

_BINARY = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class LogisticState:
    """Where a training stands.

    Attributes:
        search: The minimisation over ``(sets, d + 1)`` scaled coefficients and intercepts, or ``(sets, d)`` without intercept.
        centre: ``(d,)`` what is subtracted from features; zeros where they are not centred.
        scale: ``(d,)`` inverse deviations; 0 for a constant column.
        num_classes: Largest label + 1.
        sets: Rows of the coefficient matrix: 1 or `num_classes`.
        weight_sum: Sum of weights.
        constant_label: The only label, where that makes training needless.
    """

    search: QuasiNewton
    centre: Vector
    scale: Vector
    num_classes: int
    sets: int
    weight_sum: float
    constant_label: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LossStatistics:
    """Sums over rows at the proposed point.

    Attributes:
        loss: Sum of weighted losses.
        gradient: ``(sets, d)`` sum of residual times centred row.
        residual: ``(sets,)`` sum of residuals.
    """

    ADDITIVE: ClassVar[tuple[str, ...]] = ("loss", "gradient", "residual")

    loss: float
    gradient: Vector
    residual: Vector

    def __add__(self, other: Self) -> Self:
        return replace(self, loss=self.loss + other.loss, gradient=self.gradient + other.gradient, residual=self.residual + other.residual)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogisticRegressionModel:
    """Coefficients on true features.

    Attributes:
        coefficients: ``(1, d)`` of a binomial model, ``(num_classes, d)`` of a multinomial one.
        intercepts: ``(1,)`` or ``(num_classes,)``.
        num_classes: Classes that the labels had.
        multinomial: Whether the model is a softmax.
        threshold: Probability of class 1 above which a binomial model predicts it.
        thresholds: One threshold a class; the class with the largest probability / threshold is predicted.
        objective_history: The objective at the start and after each iteration.
    """

    SPARSE: ClassVar[bool] = True
    SUMMARY: ClassVar[tuple[str, ...]] = ("objective_history", "num_classes")
    CHANGEABLE: ClassVar[tuple[str, ...]] = ("threshold", "thresholds")

    coefficients: Vector
    intercepts: Vector
    num_classes: int
    multinomial: bool
    threshold: float = 0.5
    thresholds: tuple[float, ...] | None = None
    objective_history: tuple[float, ...] = ()

    @property
    def total_iterations(self) -> int:
        """Iterations of the minimisation."""
        return max(len(self.objective_history) - 1, 0)

    def predict(self, features: Vector) -> dict[str, Vector]:
        """Return ``rawPrediction`` and ``probability`` of shape ``(n, classes)`` and ``prediction`` of shape ``(n,)``."""
        margins = of_columns(features, self.coefficients.shape[1]) @ self.coefficients.T + self.intercepts
        if not self.multinomial:
            margin = margins[:, 0]
            raw = np.stack([-margin, margin], axis=1)
            chance = sigmoid(margin)
            probability = np.stack([1.0 - chance, chance], axis=1)
            return {"rawPrediction": raw, "probability": probability, "prediction": (margin > self._raw_threshold).astype(np.float64)}
        probability = softmax(margins)
        return {"rawPrediction": margins, "probability": probability, "prediction": chosen_class(margins, probability, self.thresholds)}

    @property
    def _raw_threshold(self) -> float:
        threshold = self.threshold if self.thresholds is None else _binary_threshold(self.thresholds)
        with np.errstate(divide="ignore"):
            return float(np.log(threshold) - np.log1p(-threshold))


@dataclass(frozen=True, slots=True, kw_only=True)
class LogisticRegression:
    """The params of ``pyspark.ml.classification.LogisticRegression`` that matter to the arithmetic, with its defaults.

    Bounds on coefficients are matrices of shape ``(1, d)`` or ``(num_classes, d)``, as tuples of rows; bounds on intercepts are tuples.
    """

    SPARSE: ClassVar[bool] = True

    family: str = "auto"
    reg_param: float = 0.0
    elastic_net_param: float = 0.0
    max_iter: int = 100
    tol: float = 1e-6
    fit_intercept: bool = True
    standardization: bool = True
    threshold: float = 0.5
    thresholds: tuple[float, ...] | None = None
    lower_bounds_on_coefficients: tuple[tuple[float, ...], ...] | None = None
    upper_bounds_on_coefficients: tuple[tuple[float, ...], ...] | None = None
    lower_bounds_on_intercepts: tuple[float, ...] | None = None
    upper_bounds_on_intercepts: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        require_choice(self, "family", ("auto", "binomial", "multinomial"))
        require_number(self, "reg_param", 0.0, np.finfo(np.float64).max)
        require_number(self, "elastic_net_param", 0.0, 1.0)
        require_integer(self, "max_iter", 0)
        require_number(self, "tol", 0.0)
        require_bool(self, "fit_intercept", "standardization")
        require_number(self, "threshold", 0.0, 1.0)
        require_thresholds(self.thresholds)
        if self._is_bounded and self.reg_param > 0 and self.elastic_net_param > 0:
            raise UsageError("bounds go with L2 regularisation only: elastic_net_param must be 0", code="usage.param")
        if not self.fit_intercept and (self.lower_bounds_on_intercepts, self.upper_bounds_on_intercepts) != (None, None):
            raise UsageError("bounds on intercepts need fit_intercept=True", code="usage.param")

    @property
    def _is_bounded(self) -> bool:
        bounds = (self.lower_bounds_on_coefficients, self.upper_bounds_on_coefficients)
        return bounds != (None, None) or (self.lower_bounds_on_intercepts, self.upper_bounds_on_intercepts) != (None, None)

    def _is_multinomial(self, num_classes: int) -> bool:
        return self.family == "multinomial" or (self.family == "auto" and num_classes > _BINARY)

    def initial(self, summary: Summary, seed: Seed) -> LogisticState:  # noqa: ARG002 - the start is not random
        """Return the state before the first round.

        Raises:
            DataError: There are no rows, or labels are no class indices.
            UsageError: A Param does not fit the number of classes or features.
        """
        summary.require_rows()
        if summary.label_weights is None or summary.has_invalid_label:
            raise DataError("labels must be class indices 0, 1, 2, ...", code="data.label")
        weights = summary.label_weights
        num_classes = len(weights)
        multinomial = self._is_multinomial(num_classes)
        if not multinomial and num_classes > _BINARY:
            raise DataError(f"the binomial family takes labels 0 and 1; there are {num_classes} classes", code="data.label")
        if self.thresholds is not None and len(self.thresholds) != num_classes:
            raise UsageError(f"there are {len(self.thresholds)} thresholds for {num_classes} classes", code="usage.param")
        sets = num_classes if multinomial else 1
        deviation = summary.deviation
        centred = self.fit_intercept and self.lower_bounds_on_intercepts is None and self.upper_bounds_on_intercepts is None
        constant = bool(np.count_nonzero(weights) == 1) and self.fit_intercept and not self._is_bounded
        lower, upper = self._bounds(sets, deviation)
        scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)
        search = QuasiNewton.start(
            self._start(weights, sets, summary.columns),
            tol=self.tol,
            max_iter=self.max_iter,
            l1=self._l1(sets, scale),
            lower=lower,
            upper=upper,
        )
        return LogisticState(
            search=search,
            centre=summary.mean if centred else np.zeros(summary.columns),
            scale=scale,
            num_classes=num_classes,
            sets=sets,
            weight_sum=summary.weight_sum,
            constant_label=int(weights.argmax()) if constant else None,
        )

    def resumed(self, state: LogisticState, model: LogisticRegressionModel) -> LogisticState:
        """Return the state whose search starts at a model's coefficients, as MLlib's streaming regression starts at its latest weights.

        Raises:
            DataError: The rows have one class only, or other classes or columns than the model.
        """
        found = model.coefficients
        if state.constant_label is not None or found.shape != (state.sets, len(state.scale)) or not np.isfinite(model.intercepts).all():
            raise DataError(f"the rows have labels of {state.num_classes} classes; the model is one of {found.shape}", code="data.label")
        point = np.divide(found, state.scale, out=np.zeros_like(found), where=state.scale > 0)
        if self.fit_intercept:
            point = np.column_stack([point, model.intercepts + found @ state.centre])
        old = state.search
        search = QuasiNewton.start(point.ravel(), tol=self.tol, max_iter=self.max_iter, l1=old.l1, lower=old.lower, upper=old.upper)
        return replace(state, search=search)

    def is_done(self, state: LogisticState) -> bool:
        """Return whether `to_model` may be called."""
        return state.constant_label is not None or state.search.is_done

    def statistics(self, state: LogisticState, block: Block) -> LossStatistics:
        """Return loss and gradient of one block at the proposed point."""
        point = state.search.propose().reshape(state.sets, -1)
        shift = block.offset - state.centre
        vectors = point[:, : block.columns] * state.scale
        biases = vectors @ shift + (point[:, -1] if self.fit_intercept else 0.0)
        summed = multinomial_loss if self._is_multinomial(state.num_classes) else binomial_loss
        loss, gradient, residual = summed(block, vectors, biases)
        return LossStatistics(loss=loss, gradient=gradient + np.outer(residual, shift), residual=residual)

    def update(self, state: LogisticState, total: LossStatistics) -> LogisticState:
        """Return the state after one round."""
        point = state.search.propose()
        gradient = total.gradient * state.scale
        if self.fit_intercept:
            gradient = np.column_stack([gradient, total.residual])
        penalty = self._l2(state.sets, state.scale)
        value = total.loss / state.weight_sum + 0.5 * float(penalty @ (point * point))
        return replace(state, search=state.search.observe(value, gradient.ravel() / state.weight_sum + penalty * point))

    def to_model(self, state: LogisticState) -> LogisticRegressionModel:
        """Return the model in the space of the true features."""
        columns = len(state.scale)
        multinomial = self._is_multinomial(state.num_classes)
        coefficients, intercepts = np.zeros((state.sets, columns)), np.zeros(state.sets)
        if state.constant_label is not None:
            sign = -1.0 if not multinomial and state.constant_label == 0 else 1.0
            intercepts[state.constant_label if multinomial else 0] = sign * np.inf
        else:
            point = state.search.point.reshape(state.sets, -1)
            coefficients = point[:, :columns] * state.scale
            if self.fit_intercept:
                intercepts = point[:, -1] - coefficients @ state.centre
            if multinomial and not self._is_bounded:
                # Any constant could be added to all classes: MLlib takes the centred ones.
                coefficients = coefficients - coefficients.mean(axis=0) if self.reg_param == 0 else coefficients
                intercepts = intercepts - intercepts.mean()
        return LogisticRegressionModel(
            coefficients=coefficients,
            intercepts=intercepts,
            num_classes=state.num_classes,
            multinomial=multinomial,
            threshold=self.threshold,
            thresholds=self.thresholds,
            objective_history=state.search.history or (0.0,),
        )

    def _start(self, weights: Vector, sets: int, columns: int) -> Vector:
        point = np.zeros((sets, columns + self.fit_intercept))
        if self.fit_intercept and sets > 1:
            # MLlib's histogram ends at the largest label, whatever classes are declared.
            start = np.log1p(np.trim_zeros(weights, "b"))
            point[: len(start), -1] = start - start.mean()
        elif self.fit_intercept and np.count_nonzero(weights) > 1:
            point[0, -1] = np.log(weights[1] / weights[0])
        return point.ravel()

    def _l1(self, sets: int, scale: Vector) -> Vector | None:
        """Return the penalty of each absolute coordinate, or None where there is none."""
        weight = self.reg_param * self.elastic_net_param
        return self._spread(weight * (np.ones(len(scale)) if self.standardization else scale), sets) if weight > 0 else None

    def _l2(self, sets: int, scale: Vector) -> Vector:
        """Return the penalty of half of each squared coordinate."""
        weight = self.reg_param * (1.0 - self.elastic_net_param)
        return self._spread(weight * (np.ones(len(scale)) if self.standardization else scale * scale), sets)

    def _spread(self, features: Vector, sets: int) -> Vector:
        return np.tile(np.append(features, [0.0] * self.fit_intercept), sets)

    def _bounds(self, sets: int, deviation: Vector) -> tuple[Vector | None, Vector | None]:
        if not self._is_bounded:
            return None, None
        lower = self._bound(self.lower_bounds_on_coefficients, self.lower_bounds_on_intercepts, -np.inf, sets, deviation)
        upper = self._bound(self.upper_bounds_on_coefficients, self.upper_bounds_on_intercepts, np.inf, sets, deviation)
        if not (lower <= upper).all():
            raise UsageError("each lower bound must be at most its upper bound, and none is NaN", code="usage.param")
        return lower, upper

    def _bound(
        self,
        coefficients: tuple[tuple[float, ...], ...] | None,
        intercepts: tuple[float, ...] | None,
        unbounded: float,
        sets: int,
        deviation: Vector,
    ) -> Vector:
        bound = np.full((sets, len(deviation) + self.fit_intercept), unbounded)
        if coefficients is not None:
            if len(coefficients) != sets or any(len(row) != len(deviation) for row in coefficients):
                raise UsageError(f"bounds on coefficients must have shape ({sets}, {len(deviation)})", code="usage.param")
            with np.errstate(invalid="ignore"):
                scaled = np.asarray(coefficients, dtype=np.float64) * deviation
            # A constant column's coefficient is 0 whatever its bounds are.
            bound[:, : len(deviation)] = np.where(deviation > 0, scaled, unbounded)
        if intercepts is not None:
            if len(intercepts) != sets:
                raise UsageError(f"bounds on intercepts must have length {sets}", code="usage.param")
            bound[:, -1] = intercepts
        return bound.ravel()


def _binary_threshold(thresholds: tuple[float, ...]) -> float:
    """Return the threshold on class 1's probability that two thresholds stand for: 1 / (1 + t0 / t1)."""
    low, high = thresholds
    return high / (low + high)
