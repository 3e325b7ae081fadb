r"""Linear least squares with elastic net.

Objective, over coefficients :math:`\beta` of :math:`z = (x - \mu) / \sigma` and the label :math:`t = (y - \bar y) / s`:

.. math:: \frac{1}{2 W} \sum_i w_i (\beta^T z_i - t_i)^2
          + \frac{\lambda}{s} \left( \frac{1 - \alpha}{2} \|\beta\|_2^2 + \alpha \|\beta\|_1 \right)

with :math:`\lambda` = ``reg_param`` and :math:`\alpha` = ``elastic_net_param``; without intercept :math:`\mu` and
:math:`\bar y` are 0.

Spark MLlib: the same objective with MLlib's own deviations, of the population for ``normal`` (its WeightedLeastSquares)
and unbiased for ``l-bfgs``. ``normal`` solves by Cholesky; with an L1 part, or where the matrix is singular, by
quasi-Newton steps on the normal equations. ``auto`` is ``normal`` up to 4096 features. A constant column gets the
coefficient 0, and a constant label needs no training. Up to 512 features ``l-bfgs`` minimises the same function on the
normal equations instead of on the rows, because that costs one round instead of thirty.

Cost: ``normal`` one pass of :math:`O(n d^2)` and :math:`O(d^2)` of statistics; ``l-bfgs`` on rows :math:`O(n d)` a round.

Reveals: enclave mode, whether one or many rounds were needed, and their number. Partitioned mode, the same and the size
of masked sums; never a Gram matrix, because the one of two rows gives both rows.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.optimizers import QuasiNewton
from securemllib.algorithms.params import require_bool, require_choice, require_integer, require_number
from securemllib.algorithms.slices import row_slices
from securemllib.algorithms.summary import Summary
from securemllib.errors import DataError, UsageError

__all__ = ["LeastSquaresStatistics", "LinearRegression", "LinearRegressionModel", "LinearState"]

# MLlib's WeightedLeastSquares.MAX_NUM_FEATURES.
_MOST_FEATURES_OF_NORMAL = 4096

# Thirty rounds of 4 n d operations cost as much as n d^2 / 2 of a faster kind at about this d.
_MOST_FEATURES_OF_LOCAL_LBFGS = 512

# A pivot of a correlation matrix that is below the noise of float64 sums.
_SMALLEST_PIVOT = 1e-13

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearState:
    """Where a training stands.

    Attributes:
        mean: ``(d,)`` means of the features.
        deviation: ``(d,)`` deviations that scale them; 0 for a constant column.
        label_mean: Mean of the label.
        label_deviation: What scales the label.
        weight_sum: Sum of weights.
        search: The minimisation, over rows or over normal equations; None where none was needed yet.
        solution: ``(d,)`` scaled coefficients once they are known.
    """

    mean: Vector
    deviation: Vector
    label_mean: float
    label_deviation: float
    weight_sum: float
    search: QuasiNewton | None = None
    solution: Vector | None = None

    @property
    def scale(self) -> Vector:
        """``(d,)`` inverse deviations; 0 for a constant column."""
        return np.divide(1.0, self.deviation, out=np.zeros_like(self.deviation), where=self.deviation > 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeastSquaresStatistics:
    """Sums over rows of the residual r = prediction - label, where the prediction is 0 before the first search.

    Attributes:
        square: Sum of weighted squared residuals.
        residual: Sum of weighted residuals.
        cross: ``(d,)`` sum of weighted residual times centred row.
        gram: ``(d, d)`` sum of weighted products of centred rows; ``(0, 0)`` in a search over rows.
    """

    square: float
    residual: float
    cross: Vector
    gram: Vector

    def __add__(self, other: Self) -> Self:
        return replace(
            self,
            square=self.square + other.square,
            residual=self.residual + other.residual,
            cross=self.cross + other.cross,
            gram=self.gram + other.gram,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearRegressionModel:
    """Coefficients on true features.

    Attributes:
        coefficients: ``(d,)``.
        intercept: The constant.
        objective_history: The objective at the start and after each iteration; ``(0.0,)`` where none was needed.
    """

    SUMMARY: ClassVar[tuple[str, ...]] = ("objective_history",)

    coefficients: Vector
    intercept: float
    objective_history: tuple[float, ...] = (0.0,)

    @property
    def total_iterations(self) -> int:
        """Iterations of the minimisation."""
        return max(len(self.objective_history) - 1, 0)

    def predict(self, features: Vector) -> dict[str, Vector]:
        """Return ``prediction`` of shape ``(n,)``."""
        return {"prediction": features @ self.coefficients + self.intercept}


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearRegression:
    """The params of ``pyspark.ml.regression.LinearRegression`` that matter to the arithmetic, with its defaults.

    The Huber loss is refused. ``epsilon`` is its parameter and is checked only.
    """

    solver: str = "auto"
    loss: str = "squaredError"
    reg_param: float = 0.0
    elastic_net_param: float = 0.0
    max_iter: int = 100
    tol: float = 1e-6
    fit_intercept: bool = True
    standardization: bool = True
    epsilon: float = 1.35

    def __post_init__(self) -> None:
        require_choice(self, "solver", ("auto", "normal", "l-bfgs"))
        require_choice(self, "loss", ("squaredError", "huber"))
        require_number(self, "reg_param", 0.0, np.finfo(np.float64).max)
        require_number(self, "elastic_net_param", 0.0, 1.0)
        require_integer(self, "max_iter", 0)
        require_number(self, "tol", 0.0)
        require_bool(self, "fit_intercept", "standardization")
        require_number(self, "epsilon", np.nextafter(1.0, 2.0), np.finfo(np.float64).max)
        if self.loss == "huber":
            raise UsageError("the Huber loss is not supported; use loss='squaredError'", code="usage.unsupported")

    def initial(self, summary: Summary, seed: Seed) -> LinearState:  # noqa: ARG002 - the start is not random
        """Return the state before the first round.

        Raises:
            DataError: There are no rows, a label is NaN or infinite, or a constant label cannot be regularised.
            UsageError: ``normal`` was asked for with more features than it takes.
        """
        summary.require_rows()
        if summary.invalid_labels:
            raise DataError(f"{summary.invalid_labels} rows have a NaN or infinite label", code="data.label")
        normal = self._is_normal(summary.columns)
        if normal and summary.columns > _MOST_FEATURES_OF_NORMAL:
            raise UsageError(f"solver='normal' takes {_MOST_FEATURES_OF_NORMAL} features, not {summary.columns}", code="usage.param")
        label_variance = summary.label_m2 / summary.weight_sum if normal else summary.label_variance
        constant = not label_variance > 0.0
        needless = constant and (self.fit_intercept or summary.label_mean == 0.0)
        if constant and not needless and self.reg_param > 0:
            raise DataError("the label is constant: a model without intercept cannot be regularised", code="data.constant_label")
        state = LinearState(
            mean=summary.mean,
            deviation=np.where(summary.deviation > 0, np.sqrt(summary.m2 / summary.weight_sum), 0.0) if normal else summary.deviation,
            label_mean=summary.label_mean,
            label_deviation=float(np.sqrt(label_variance)) if not constant else abs(summary.label_mean) or 1.0,
            weight_sum=summary.weight_sum,
            solution=np.zeros(summary.columns) if needless else None,
        )
        return state if needless or self._is_one_pass(summary.columns) else replace(state, search=self._search(state))

    def is_done(self, state: LinearState) -> bool:
        """Return whether `to_model` may be called."""
        return state.solution is not None

    def statistics(self, state: LinearState, block: Block) -> LeastSquaresStatistics:
        """Return the sums of one block: with the Gram matrix, or of a search at its proposed point."""
        if block.label is None:
            raise DataError(f"block {block.ordinal} has no label", code="data.label")
        one_pass = state.search is None
        centred = one_pass or self.fit_intercept
        shift = block.offset - state.mean if centred else block.offset
        vector = np.zeros(block.columns) if state.search is None else state.search.propose() * state.scale
        label = (block.label - state.label_mean * centred) / state.label_deviation
        constant = float(vector @ shift)
        sums = _Sums.of(block, label, vector, constant, gram=one_pass)
        gram = sums.gram
        if one_pass:
            lean = np.outer(sums.features, shift)
            gram = gram + lean + lean.T + np.outer(shift, shift) * sums.weight
        return LeastSquaresStatistics(square=sums.square, residual=sums.residual, cross=sums.cross + sums.residual * shift, gram=gram)

    def update(self, state: LinearState, total: LeastSquaresStatistics) -> LinearState:
        """Return the state after one round."""
        if state.search is None:
            return self._solved(state, total)
        point, penalty = state.search.propose(), self._l2(state)
        value = 0.5 * total.square / state.weight_sum + 0.5 * float(penalty @ (point * point))
        search = state.search.observe(value, total.cross * state.scale / state.weight_sum + penalty * point)
        return replace(state, search=search, solution=search.point if search.is_done else None)

    def to_model(self, state: LinearState) -> LinearRegressionModel:
        """Return the model in the space of the true features."""
        scaled = np.zeros_like(state.mean) if state.solution is None else state.solution
        coefficients = scaled * state.scale * state.label_deviation
        return LinearRegressionModel(
            coefficients=coefficients,
            intercept=state.label_mean - float(coefficients @ state.mean) if self.fit_intercept else 0.0,
            objective_history=(0.0,) if state.search is None else state.search.history,
        )

    def _is_normal(self, columns: int) -> bool:
        return self.solver == "normal" or (self.solver == "auto" and columns <= _MOST_FEATURES_OF_NORMAL)

    def _is_one_pass(self, columns: int) -> bool:
        return self._is_normal(columns) or columns <= _MOST_FEATURES_OF_LOCAL_LBFGS

    def _solved(self, state: LinearState, total: LeastSquaresStatistics) -> LinearState:
        """Solve the normal equations, scaled to a correlation matrix."""
        means = np.zeros_like(state.mean) if self.fit_intercept else state.mean * state.scale
        label = 0.0 if self.fit_intercept else state.label_mean / state.label_deviation
        moments = total.gram / state.weight_sum * np.outer(state.scale, state.scale) + np.outer(means, means)
        # The residual of the prediction 0 is minus the label.
        target = means * label - total.cross * state.scale / state.weight_sum
        penalty = self._l2(state)
        if self._is_normal(len(state.mean)) and not self.reg_param * self.elastic_net_param > 0:
            solution = _cholesky(moments + np.diag(penalty), target, state.deviation > 0)
            if solution is not None:
                return replace(state, solution=solution)
        search, square = self._search(state), total.square / state.weight_sum + label * label
        while not search.is_done:
            point = search.propose()
            slope = moments @ point + penalty * point
            search = search.observe(0.5 * (square + float(point @ slope)) - float(target @ point), slope - target)
        return replace(state, search=search, solution=search.point)

    def _search(self, state: LinearState) -> QuasiNewton:
        weight = self.reg_param / state.label_deviation * self.elastic_net_param
        l1 = weight * (np.ones_like(state.scale) if self.standardization else state.scale)
        return QuasiNewton.start(np.zeros_like(state.mean), tol=self.tol, max_iter=self.max_iter, l1=l1 if weight > 0 else None)

    def _l2(self, state: LinearState) -> Vector:
        weight = self.reg_param / state.label_deviation * (1.0 - self.elastic_net_param)
        return weight * (np.ones_like(state.scale) if self.standardization else state.scale * state.scale)


@dataclass(slots=True)
class _Sums:
    """Sums about a block's own centre."""

    weight: float
    square: float
    residual: float
    cross: Vector
    features: Vector
    gram: Vector

    @classmethod
    def of(cls, block: Block, label: Vector, vector: Vector, constant: float, *, gram: bool) -> "_Sums":
        columns, dtype = block.columns, block.features.dtype
        sums = cls(0.0, 0.0, 0.0, np.zeros(columns), np.zeros(columns), np.zeros((columns, columns) if gram else (0, 0)))
        small = vector.astype(dtype)
        for rows in row_slices(block):
            features = block.features[rows]
            predicted = 0.0 if gram else (features @ small).astype(np.float64) + constant
            weight = np.ones(len(features)) if block.weight is None else block.weight[rows]
            residual = predicted - label[rows]
            weighted = weight * residual
            sums.weight += float(weight.sum())
            sums.square += float(weighted @ residual)
            sums.residual += float(weighted.sum())
            sums.cross += weighted.astype(dtype) @ features
            if gram:
                sums.features += weight.astype(dtype) @ features
                # numpy computes A.T @ A by the symmetric product of BLAS, at half the cost.
                rooted = features if block.weight is None else features * np.sqrt(weight).astype(dtype)[:, np.newaxis]
                sums.gram += rooted.T @ rooted
        return sums


def _cholesky(matrix: Vector, target: Vector, used: NDArray[np.bool_]) -> Vector | None:
    """Return the solution with 0 for columns that are not used, or None where the matrix is singular."""
    solution = np.zeros_like(target)
    if not used.any():
        return solution
    try:
        factor, lower = cho_factor(matrix[np.ix_(used, used)], lower=True)
    except LinAlgError:
        return None
    if float(np.diag(factor).min()) ** 2 <= _SMALLEST_PIVOT:
        return None
    solution[used] = cho_solve((factor, lower), target[used])
    return solution
