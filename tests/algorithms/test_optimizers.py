"""Does the search find the minimum, and with few evaluations?"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize, rosen, rosen_der

from securemllib.algorithms.codec import from_tree, to_tree
from securemllib.algorithms.optimizers import QuasiNewton

Vector = NDArray[np.float64]
Objective = Callable[[Vector], tuple[float, Vector]]


def _run(objective: Objective, start: Vector, **given: Any) -> QuasiNewton:
    state = QuasiNewton.start(start, **given)
    while not state.is_done:
        state = from_tree(QuasiNewton, to_tree(state)).observe(*objective(state.propose()))
    return state


def _logistic(noise: float = 0.0) -> Objective:
    generator, noises = np.random.default_rng(0), np.random.default_rng(1)
    features = generator.standard_normal((500, 12))
    sign = np.where(features @ generator.standard_normal(12) + generator.logistic(size=500) > 0, 1.0, -1.0)

    def objective(point: Vector) -> tuple[float, Vector]:
        margin = sign * (features @ point)
        value = float(np.logaddexp(0, -margin).mean() + 5e-3 * point @ point)
        gradient = -(sign / (1 + np.exp(margin))) @ features / 500 + 1e-2 * point
        return value * (1 + noise * noises.standard_normal()), gradient + noise * noises.standard_normal(12)

    return objective


def test_a_curved_valley_is_followed() -> None:
    """Rosenbrock's function is minimised from the usual start, though each state goes through its tree."""
    state = _run(lambda point: (float(rosen(point)), rosen_der(point)), np.array([-1.2, 1.0]), tol=1e-10, max_iter=500)
    np.testing.assert_allclose(state.point, [1.0, 1.0], atol=1e-6)
    assert state.reason == "gradient"


@pytest.mark.parametrize("lower", [None, -0.1])
@pytest.mark.parametrize("upper", [None, 0.3])
def test_minimum_is_scipys(lower: float | None, upper: float | None) -> None:
    """With any bounds the minimum is the one that scipy's L-BFGS-B finds."""
    bounds = {name: np.full(12, value) for name, value in (("lower", lower), ("upper", upper)) if value is not None}
    state = _run(_logistic(), np.zeros(12), tol=1e-12, max_iter=500, **bounds)
    reference = minimize(
        _logistic(), np.zeros(12), jac=True, method="L-BFGS-B", bounds=[(lower, upper)] * 12, options={"ftol": 1e-15, "gtol": 1e-9}
    )
    np.testing.assert_allclose(state.point, reference.x, atol=1e-6)


def test_l1_solution_is_sparse_and_optimal() -> None:
    """With an L1 penalty some coordinates are exactly 0 and the optimality conditions hold."""
    state = _run(_logistic(), np.zeros(12), tol=1e-12, max_iter=500, l1=np.full(12, 0.05))
    _, gradient = _logistic()(state.point)
    used = state.point != 0
    assert 0 < used.sum() < 12
    np.testing.assert_allclose(gradient[used], -0.05 * np.sign(state.point[used]), atol=1e-7)
    assert (np.abs(gradient[~used]) <= 0.05).all()


@pytest.mark.parametrize("noise", [0.0, 1e-8, 1e-7])
def test_noise_of_float32_does_not_stall(noise: float) -> None:
    """An objective with float32's noise takes fewer than 1.5 evaluations an iteration and ends near the minimum."""
    state = _run(_logistic(noise), np.zeros(12), tol=1e-6, max_iter=100)
    assert state.evaluations <= 1.5 * state.iterations + 3
    exact = _run(_logistic(), np.zeros(12), tol=1e-12, max_iter=500)
    np.testing.assert_allclose(state.point, exact.point, atol=1e-4)


def test_iterations_are_bounded() -> None:
    """The search ends after max_iter iterations, with 0 after one evaluation."""
    assert _run(_logistic(), np.zeros(12), tol=0.0, max_iter=3).iterations == 3
    none = _run(_logistic(), np.zeros(12), tol=0.0, max_iter=0)
    assert (none.evaluations, none.reason) == (1, "max_iter")
