r"""Linear support vector classification: the hinge loss with L2.

Objective, over coefficients :math:`\beta` of :math:`z = (x - \mu) / \sigma` and an intercept :math:`b`:

.. math:: \frac{1}{W} \sum_i w_i \max(0, 1 - s_i (\beta^T z_i + b)) + \frac{\lambda}{2} \|\beta\|_2^2,
          \quad s_i = 2 y_i - 1

with :math:`\lambda` = ``reg_param``. Without ``standardization`` each penalty is divided by the feature's variance, so
that it is one on the original coefficients.

Spark MLlib: the same objective, start at zeros and optimiser: OWL-QN without an L1 part, which is L-BFGS with a
backtracking search. A constant column gets the coefficient 0 and the intercept has no penalty. The hinge has kinks, so
that both end near the minimum and not at it, each where its search finds no further decrease. Rows are centred only
where there is an intercept, as in MLlib.

Cost: one pass of :math:`O(n d)` a round, 10 to 50 rounds. Margins and sums are float64 also over float32 rows: with
rounded margins the search sees noise at the kinks and spends several times the rounds.

Reveals: enclave mode, the number of rounds. Partitioned mode, the number of rounds and the size of masked sums; never a
gradient, because a subgradient is a sum of rows.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.kernels.hinge import hinge_sums
from securemllib.algorithms.optimizers import QuasiNewton
from securemllib.algorithms.params import require_bool, require_integer, require_number
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.vectors import of_columns
from securemllib.errors import DataError

__all__ = ["HingeStatistics", "LinearSVC", "LinearSVCModel", "LinearSVCState"]

Vector = NDArray[np.float64]

_CLASSES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearSVCState:
    """Where a training stands.

    Attributes:
        search: The minimisation over ``(d,)`` scaled coefficients and, last, the intercept, if there is one.
        centre: ``(d,)`` what is subtracted from features; zeros without intercept.
        scale: ``(d,)`` inverse deviations; 0 for a constant column.
        weight_sum: Sum of weights.
    """

    search: QuasiNewton
    centre: Vector
    scale: Vector
    weight_sum: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HingeStatistics:
    """Sums over rows at the proposed point.

    Attributes:
        loss: Sum of weighted losses.
        gradient: ``(d,)`` sum of weighted slope times centred row.
        slope: Sum of weighted slopes.
    """

    ADDITIVE: ClassVar[tuple[str, ...]] = ("loss", "gradient", "slope")

    loss: float
    gradient: Vector
    slope: float

    def __add__(self, other: Self) -> Self:
        return replace(self, loss=self.loss + other.loss, gradient=self.gradient + other.gradient, slope=self.slope + other.slope)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearSVCModel:
    """Coefficients on true features.

    Attributes:
        coefficients: ``(d,)``.
        intercept: The constant.
        threshold: The margin above which class 1 is predicted.
        objective_history: The objective at the start and after each iteration.
    """

    SPARSE: ClassVar[bool] = True
    SUMMARY: ClassVar[tuple[str, ...]] = ("objective_history",)
    CHANGEABLE: ClassVar[tuple[str, ...]] = ("threshold",)

    coefficients: Vector
    intercept: float
    threshold: float = 0.0
    objective_history: tuple[float, ...] = ()

    @property
    def total_iterations(self) -> int:
        """Iterations of the minimisation."""
        return max(len(self.objective_history) - 1, 0)

    def predict(self, features: Vector) -> dict[str, Vector]:
        """Return ``rawPrediction`` of shape ``(n, 2)`` and ``prediction`` of shape ``(n,)``."""
        margin = of_columns(features, len(self.coefficients)) @ self.coefficients + self.intercept
        return {"rawPrediction": np.stack([-margin, margin], axis=1), "prediction": (margin > self.threshold).astype(np.float64)}


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearSVC:
    """The params of ``pyspark.ml.classification.LinearSVC`` that matter to the arithmetic, with its defaults."""

    SPARSE: ClassVar[bool] = True

    reg_param: float = 0.0
    max_iter: int = 100
    tol: float = 1e-6
    fit_intercept: bool = True
    standardization: bool = True
    threshold: float = 0.0

    def __post_init__(self) -> None:
        require_number(self, "reg_param", 0.0, np.finfo(np.float64).max)
        require_integer(self, "max_iter", 0)
        require_number(self, "tol", 0.0)
        require_bool(self, "fit_intercept", "standardization")
        require_number(self, "threshold")

    def initial(self, summary: Summary, seed: Seed) -> LinearSVCState:  # noqa: ARG002 - the start is not random
        """Return the state before the first round.

        Raises:
            DataError: There are no rows, or labels are not 0 and 1.
        """
        summary.require_rows()
        if summary.label_weights is None or summary.has_invalid_label:
            raise DataError("labels must be the classes 0 and 1", code="data.label")
        if len(summary.label_weights) != _CLASSES:
            raise DataError(f"labels must be the classes 0 and 1; there are {len(summary.label_weights)} classes", code="data.label")
        deviation = summary.deviation
        none = np.zeros(summary.columns + self.fit_intercept)
        return LinearSVCState(
            # An L1 part of 0 chooses the backtracking search: conditions on the slope cannot be met at a kink.
            search=QuasiNewton.start(none, tol=self.tol, max_iter=self.max_iter, l1=none),
            centre=summary.mean if self.fit_intercept else np.zeros(summary.columns),
            scale=np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0),
            weight_sum=summary.weight_sum,
        )

    def is_done(self, state: LinearSVCState) -> bool:
        """Return whether `to_model` may be called."""
        return state.search.is_done

    def statistics(self, state: LinearSVCState, block: Block) -> HingeStatistics:
        """Return loss and subgradient of one block at the proposed point."""
        point = state.search.propose()
        shift = block.offset - state.centre
        vector = point[: block.columns] * state.scale
        bias = float(vector @ shift) + (float(point[-1]) if self.fit_intercept else 0.0)
        if block.label is None:
            raise DataError(f"block {block.ordinal} has no label", code="data.label")
        loss, slope, gradient = hinge_sums(block, block.label, vector, bias)
        return HingeStatistics(loss=loss, gradient=gradient + slope * shift, slope=slope)

    def update(self, state: LinearSVCState, total: HingeStatistics) -> LinearSVCState:
        """Return the state after one round."""
        point, gradient = state.search.propose(), total.gradient * state.scale
        penalty = self.reg_param * (np.ones_like(state.scale) if self.standardization else state.scale * state.scale)
        if self.fit_intercept:
            gradient, penalty = np.append(gradient, total.slope), np.append(penalty, 0.0)
        value = total.loss / state.weight_sum + 0.5 * float(penalty @ (point * point))
        return replace(state, search=state.search.observe(value, gradient / state.weight_sum + penalty * point))

    def to_model(self, state: LinearSVCState) -> LinearSVCModel:
        """Return the model in the space of the true features."""
        point = state.search.point
        coefficients = point[: len(state.scale)] * state.scale
        return LinearSVCModel(
            coefficients=coefficients,
            intercept=float(point[-1]) - float(coefficients @ state.centre) if self.fit_intercept else 0.0,
            threshold=self.threshold,
            objective_history=state.search.history,
        )
