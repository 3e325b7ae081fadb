r"""Quasi-Newton minimisation as a value: propose a point, observe the objective there, go on.

One evaluation of the objective is one round over all workers, so the search is a frozen state that can be sealed, sent
and resumed between any two evaluations, and it spends few evaluations: after the first iteration the unit step is
nearly always taken.

It minimises :math:`f(x) + \sum_j \lambda_j |x_j|` subject to :math:`l \le x \le u`, f smooth, with L-BFGS (Nocedal and
Wright 2006, section 7.2):

- neither :math:`\lambda` nor bounds: strong Wolfe line search (section 3.5);
- :math:`\lambda`: OWL-QN (Andrew and Gao 2007), orthant-wise with the pseudo-gradient;
- bounds: projected L-BFGS with Bertsekas' (1982) set of almost active bounds.

A sum of float32 products is noisy in its last bits. Where two values differ by less than that noise the line search
looks at slopes instead, as the approximate Wolfe condition of Hager and Zhang (2005) does, because they stay accurate
when values no longer differ.

Spark MLlib minimises with Breeze's LBFGS, OWLQN and LBFGSB. The memory of 10 pairs and both convergence tests are the
same; the iterates are not.

Reveals: nothing by itself; the state is as private as the rows.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["QuasiNewton"]

Vector = NDArray[np.float64]

# Breeze's memory in MLlib, and the window of its test on values.
_MEMORY = 10
_WINDOW = 20

# Nocedal and Wright's usual constants of sufficient decrease and curvature for quasi-Newton directions.
_DECREASE, _CURVATURE = 1e-4, 0.9

# Relative noise of an objective that was summed in float64 from float32 terms, and the slope that still counts as decrease inside it.
_NOISE, _NOISY_SLOPE = 1e-7, 0.8

_MAX_TRIALS = 12
_SMALLEST_GRADIENT = 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class QuasiNewton:
    """The state of a minimisation.

    Attributes:
        point: ``(n,)`` the best point so far.
        tol: Relative tolerance on objective and gradient.
        max_iter: Most iterations.
        l1: ``(n,)`` weight of each coordinate's absolute value, or None.
        lower: ``(n,)`` lower bounds, or None.
        upper: ``(n,)`` upper bounds, or None.
        gradient: ``(n,)`` gradient of the smooth part at `point`.
        steps: ``(m, n)`` the last differences of points.
        changes: ``(m, n)`` the differences of gradients that belong to them.
        direction: ``(n,)`` direction of the line search.
        step: Step of the trial under way.
        low: Largest step known to be too short, with the slope there.
        high: Smallest step known to be too long, with the slope there (NaN where unknown).
        trials: Evaluations in this line search.
        history: The objective at the start and after each iteration.
        evaluations: Evaluations so far.
        reason: Why the minimisation ended (``gradient``, ``value``, ``max_iter``, ``search``), or None.
    """

    point: Vector
    tol: float
    max_iter: int
    l1: Vector | None = None
    lower: Vector | None = None
    upper: Vector | None = None
    gradient: Vector
    steps: Vector
    changes: Vector
    direction: Vector
    step: float = 0.0
    low: tuple[float, float] = (0.0, 0.0)
    high: tuple[float, float] = (np.inf, np.nan)
    trials: int = 0
    history: tuple[float, ...] = ()
    evaluations: int = 0
    reason: str | None = None

    @classmethod
    def start(
        cls, point: Vector, *, tol: float, max_iter: int, l1: Vector | None = None, lower: Vector | None = None, upper: Vector | None = None
    ) -> Self:
        """Return the state before the first evaluation; the point is moved between the bounds."""
        inside = np.clip(point, lower, upper) if lower is not None or upper is not None else point
        none, empty = np.zeros(len(point)), np.zeros((0, len(point)))
        return cls(
            point=inside,
            tol=tol,
            max_iter=max_iter,
            l1=l1,
            lower=lower,
            upper=upper,
            gradient=none,
            steps=empty,
            changes=empty,
            direction=none,
        )

    @property
    def is_done(self) -> bool:
        """Whether the minimisation ended."""
        return self.reason is not None

    @property
    def iterations(self) -> int:
        """Iterations that were completed."""
        return max(len(self.history) - 1, 0)

    def propose(self) -> Vector:
        """Return the point at which the objective must be evaluated next."""
        return self._at(self.step) if self.history else self.point

    def observe(self, value: float, gradient: Vector) -> "QuasiNewton":
        """Return the state after the evaluation of the smooth part at the proposed point."""
        point = self.propose()
        total = float(value) + (float(self.l1 @ np.abs(point)) if self.l1 is not None else 0.0)
        seen = replace(self, evaluations=self.evaluations + 1, trials=self.trials + 1)
        if not self.history:
            return replace(seen, gradient=gradient, history=(total,))._checked()._directed()
        usable = bool(np.isfinite(total) and np.isfinite(gradient).all())
        searched = seen._projected_search if self._is_projected else seen._wolfe_search
        return searched(point, total, gradient, usable=usable)

    @property
    def _is_projected(self) -> bool:
        return self.l1 is not None or self.lower is not None or self.upper is not None

    def _at(self, step: float) -> Vector:
        point = self.point + step * self.direction
        if self.l1 is not None:
            slope = self._pseudo_gradient(self.point, self.gradient)
            orthant = np.where(self.point != 0, np.sign(self.point), -np.sign(slope))
            point = np.where((self.l1 > 0) & (np.sign(point) != orthant), 0.0, point)
        if self.lower is not None or self.upper is not None:
            point = np.clip(point, self.lower, self.upper)
        return point

    def _pseudo_gradient(self, point: Vector, gradient: Vector) -> Vector:
        if self.l1 is None:
            return gradient
        shrunk = np.sign(gradient) * np.maximum(np.abs(gradient) - self.l1, 0.0)
        return np.where(point != 0, gradient + self.l1 * np.sign(point), shrunk)

    def _stationarity(self, point: Vector, gradient: Vector) -> Vector:
        """The vector that is 0 at a solution."""
        slope = self._pseudo_gradient(point, gradient)
        if self.lower is None and self.upper is None:
            return slope
        return point - np.clip(point - slope, self.lower, self.upper)

    def _wolfe_search(self, point: Vector, value: float, gradient: Vector, *, usable: bool) -> "QuasiNewton":
        before, slope = self.history[-1], float(self.gradient @ self.direction)
        if not usable:
            return self._retried(low=self.low, high=(self.step, np.nan))
        here = float(gradient @ self.direction)
        enough = value <= before + _DECREASE * self.step * slope or (
            value <= before + _NOISE * abs(before) and here <= -_NOISY_SLOPE * slope
        )
        if enough and abs(here) <= -_CURVATURE * slope:
            return self._accepted(point, value, gradient)
        if enough and here < 0:
            return self._retried(low=(self.step, here), high=self.high)
        return self._retried(low=self.low, high=(self.step, here))

    def _projected_search(self, point: Vector, value: float, gradient: Vector, *, usable: bool) -> "QuasiNewton":
        before, moved = self.history[-1], point - self.point
        slope = float(self._pseudo_gradient(self.point, self.gradient) @ moved)
        if usable and slope < 0:
            here = float(self._pseudo_gradient(point, gradient) @ moved)
            noisy = value <= before + _NOISE * abs(before) and here <= -_NOISY_SLOPE * slope
            if value <= before + _DECREASE * slope or noisy:
                return self._accepted(point, value, gradient)
        return self._retried(low=self.low, high=(self.step, np.nan))

    def _retried(self, *, low: tuple[float, float], high: tuple[float, float]) -> "QuasiNewton":
        if self.trials >= _MAX_TRIALS:
            return self._failed()
        (near, near_slope), (far, far_slope) = low, high
        if np.isinf(far):
            start = float(self.gradient @ self.direction)
            secant = near * start / (start - near_slope) if near_slope > start else np.inf
            step = min(max(secant, 2.0 * near), 10.0 * near)
        elif far_slope > near_slope:
            width = far - near
            secant = near - near_slope * width / (far_slope - near_slope)
            step = min(max(secant, near + 0.1 * width), far - 0.1 * width)
        else:
            # The first step only guesses the scale, so it is shortened by more.
            step = near + (far - near) * (0.5 if len(self.steps) else 0.1)
        return replace(self, low=low, high=high, step=step)

    def _failed(self) -> "QuasiNewton":
        """Forget the curvature once and try the gradient; give up when that fails too."""
        if not len(self.steps):
            return replace(self, reason="search")
        return replace(self, steps=self.steps[:0], changes=self.changes[:0])._directed()

    def _accepted(self, point: Vector, value: float, gradient: Vector) -> "QuasiNewton":
        step, change = point - self.point, gradient - self.gradient
        steps, changes = self.steps, self.changes
        # A pair without positive curvature would make the next direction no descent.
        if step @ change > np.finfo(np.float64).eps * float(change @ change):
            steps = np.vstack([steps, step])[-_MEMORY:]
            changes = np.vstack([changes, change])[-_MEMORY:]
        after = replace(self, point=point, gradient=gradient, steps=steps, changes=changes, history=(*self.history, value))
        return after._checked()._directed()

    def _checked(self) -> "QuasiNewton":
        """Apply Breeze's tests in Breeze's order."""
        value = self.history[-1]
        reason = None
        if self.iterations >= self.max_iter:
            reason = "max_iter"
        elif self.iterations >= _WINDOW and max(self.history[-_WINDOW:]) - value <= self.tol * abs(self.history[0]):
            reason = "value"
        elif float(np.linalg.norm(self._stationarity(self.point, self.gradient))) <= max(self.tol * value, _SMALLEST_GRADIENT):
            reason = "gradient"
        elif not np.isfinite(value):
            reason = "search"
        return replace(self, reason=reason)

    def _directed(self) -> "QuasiNewton":
        if self.reason is not None:
            return self
        slope, steps = self._pseudo_gradient(self.point, self.gradient), self.steps
        free = self._free(slope)
        direction = np.where(free, 0.0, -slope)
        if len(self.steps):
            direction[free] = -_two_loops(self.steps[:, free], self.changes[:, free], slope[free])
            if self.l1 is not None:
                direction = np.where((self.l1 > 0) & (direction * slope >= 0), 0.0, direction)
        else:
            direction[free] = -slope[free]
        if not direction @ slope < 0:
            direction = -slope
            steps = self.steps[:0]
        step = 1.0 if len(steps) else 1.0 / max(float(np.linalg.norm(direction)), np.finfo(np.float64).tiny)
        return replace(
            self,
            steps=steps,
            changes=self.changes[len(self.changes) - len(steps) :],
            direction=direction,
            step=step,
            low=(0.0, float(direction @ slope)),
            high=(np.inf, np.nan),
            trials=0,
        )

    def _free(self, slope: Vector) -> NDArray[np.bool_]:
        """Return which coordinates the curvature may move."""
        free = np.ones(len(slope), dtype=bool)
        if self.l1 is not None:
            free &= (self.point != 0) | (slope != 0)
        if self.lower is not None or self.upper is not None:
            near = min(1e-2, float(np.linalg.norm(self._stationarity(self.point, self.gradient))))
            if self.lower is not None:
                free &= ~((self.point - self.lower <= near) & (slope > 0))
            if self.upper is not None:
                free &= ~((self.upper - self.point <= near) & (slope < 0))
        return free


def _two_loops(steps: Vector, changes: Vector, gradient: Vector) -> Vector:
    """Return the product of the inverse Hessian's approximation and a gradient (Nocedal and Wright 2006, algorithm 7.4)."""
    curvature = np.einsum("ij,ij->i", steps, changes)
    used = np.flatnonzero(curvature > np.finfo(np.float64).eps * np.einsum("ij,ij->i", changes, changes))
    result = gradient.copy()
    shares = np.zeros(len(steps))
    for pair in used[::-1]:
        shares[pair] = steps[pair] @ result / curvature[pair]
        result -= shares[pair] * changes[pair]
    if len(used):
        result *= curvature[used[-1]] / (changes[used[-1]] @ changes[used[-1]])
    for pair in used:
        result += (shares[pair] - changes[pair] @ result / curvature[pair]) * steps[pair]
    return result
