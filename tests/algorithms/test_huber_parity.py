"""Does linear regression with the Huber loss give MLlib's answer?"""

from typing import Any

import numpy as np
import pytest

from securemllib.algorithms.registry import build

CASES: dict[str, dict[str, Any]] = {
    "default": {},
    # With 1.01 the best scale of these weighted rows is 0: the plane goes through the few rows that weigh more than 1 - 1 / 1.01**2.
    "nearly_absolute": {"epsilon": 1.1},
    "nearly_squared": {"epsilon": 50.0},
    "l2": {"regParam": 0.3, "solver": "l-bfgs"},
    "unstandardised_l2": {"regParam": 0.3, "standardization": False},
    "no_intercept": {"regParam": 0.1, "fitIntercept": False},
}


def _rows(*, noise: float = 1.0, shift: float = 0.0) -> tuple[Any, Any, Any]:
    generator = np.random.default_rng(21)
    scales = np.array([1.0, 3.0, 0.5, 0.2])
    centred = generator.standard_normal((200, 4)) * scales
    label = centred @ np.array([1.0, -2.0, 3.0, 5.0]) + noise * generator.standard_normal(200) + 4.0
    label[::10] += 100.0
    return centred + shift * scales, label, generator.integers(0, 4, 200) / 2.0


def _mllib(data: Any, params: dict[str, Any], *, weighted: bool = False) -> Any:
    from pyspark.ml.regression import LinearRegression

    given = {"loss": "huber", "tol": 1e-13, "maxIter": 1000, **params}
    return LinearRegression(**given, **({"weightCol": "weight"} if weighted else {})).fit(data)


def _ours(params: dict[str, Any]) -> Any:
    return build("LinearRegression", {"loss": "huber", "tol": 1e-13, "maxIter": 1000, **params})


def _residuals(model: Any, features: Any, label: Any, epsilon: float) -> tuple[Any, Any]:
    scaled = (features @ np.asarray(model.coefficients) + model.intercept - label) / model.scale
    return scaled, np.clip(scaled, -epsilon, epsilon)


def _objective(model: Any, features: Any, label: Any, weight: Any, params: dict[str, Any]) -> float:
    epsilon = params.get("epsilon", 1.35)
    scaled, _ = _residuals(model, features, label, epsilon)
    losses = np.where(np.abs(scaled) <= epsilon, scaled**2, 2 * epsilon * np.abs(scaled) - epsilon**2)
    penalty = np.asarray(model.coefficients) ** 2 * _penalty(features, weight, params)
    return float(np.average(0.5 * (model.scale + losses * model.scale), weights=weight) + 0.5 * penalty.sum())


def _penalty(features: Any, weight: Any, params: dict[str, Any]) -> Any:
    if not params.get("standardization", True):
        return params.get("regParam", 0.0)
    total = weight.sum()
    centred = features - np.average(features, axis=0, weights=weight)
    return params.get("regParam", 0.0) * (weight @ centred**2) / (total - (weight @ weight) / total)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
def test_coefficients_and_scale_are_mllibs(case: str, weighted: bool, fit: Any, cut: Any, frame: Any) -> None:
    """The objective is MLlib's or lower, and coefficients, intercept and scale are MLlib's as far as MLlib converges."""
    features, label, weight = _rows()
    params, used = CASES[case], weight if weighted else None
    theirs = _mllib(frame(features, label, used), params, weighted=weighted)
    counted = weight if weighted else np.ones(len(label))
    reference = _objective(theirs, features, label, counted, params)
    for dtype, excess in ((np.float64, 1e-13), (np.float32, 1e-11)):
        ours = fit(_ours(params), cut(features, label, used, dtype=dtype))
        # Rounded rows move the solution by 1e-7 and the objective at a minimum by the square of that.
        assert _objective(ours, features, label, counted, params) <= reference * (1 + excess)
        # Breeze's LBFGSB ends where the objective stands still, 1e-9 above its minimum: the distance is about the root of that.
        np.testing.assert_allclose(ours.coefficients, theirs.coefficients.toArray(), atol=2e-4, rtol=2e-4)
        assert ours.intercept == pytest.approx(theirs.intercept, abs=2e-4, rel=2e-4)
        assert ours.scale == pytest.approx(theirs.scale, rel=2e-4)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("noise", "shift"), [(1.0, 0.0), (1e-4, 0.0), (1.0, 1000.0)])
def test_the_solution_is_stationary(case: str, noise: float, shift: float, fit: Any, cut: Any) -> None:
    """Huber's estimating equations hold to 1e-6 for large and small residuals, and for means of 1000 deviations."""
    features, label, weight = _rows(noise=noise, shift=shift)
    params = CASES[case]
    epsilon = params.get("epsilon", 1.35)
    model = fit(_ours(params), cut(features, label, weight))
    _, inner = _residuals(model, features, label, epsilon)
    centre = features.mean(axis=0) if params.get("fitIntercept", True) else 0.0
    size = np.sqrt(((features - centre) ** 2).mean(axis=0))
    gradient = np.average(inner[:, None] * (features - centre), axis=0, weights=weight) + model.coefficients * _penalty(
        features, weight, params
    )
    # The search ends at a gradient of 1e-8 or where rounding stops it; without intercept the rows of this shift are 1000 times larger.
    np.testing.assert_allclose(gradient / size, 0.0, atol=1e-6)
    assert float(np.average(1.0 - inner**2, weights=weight)) == pytest.approx(0.0, abs=1e-6)
    if params.get("fitIntercept", True):
        assert float(np.average(inner, weights=weight)) == pytest.approx(0.0, abs=1e-6)


def test_objective_history_ends_as_mllibs(fit: Any, cut: Any, frame: Any) -> None:
    """The objective falls to MLlib's last value, in MLlib's units, from a start of our own."""
    features, label, _ = _rows()
    theirs = _mllib(frame(features, label), {"regParam": 0.1, "tol": 1e-6}).summary.objectiveHistory
    ours = fit(_ours({"regParam": 0.1, "tol": 1e-6}), cut(features, label))
    assert ours.objective_history[-1] == pytest.approx(theirs[-1], rel=1e-6)
    # Of Huber's loss our start knows the label's mean and deviation, which outliers move; MLlib's knows neither.
    assert ours.total_iterations <= 2 * len(theirs)
    assert list(ours.objective_history) == sorted(ours.objective_history, reverse=True)


def test_labels_without_residuals_end(fit: Any, cut: Any) -> None:
    """Where a plane goes through all labels, or all but few of them, it is found, with a scale of rounding errors."""
    features, label, _ = _rows()
    exact = features @ np.array([1.0, -2.0, 3.0, 5.0]) + 4.0
    for target in (exact, np.where(np.arange(200) % 10 == 0, label, exact)):
        for dtype, allowed in ((np.float64, 1e-9), (np.float32, 1e-5)):
            model = fit(_ours({}), cut(features, target, dtype=dtype))
            np.testing.assert_allclose(model.coefficients, [1.0, -2.0, 3.0, 5.0], atol=allowed)
            assert 0.0 < model.scale < allowed


def test_constant_labels_and_columns_are_mllibs(fit: Any, cut: Any, frame: Any) -> None:
    """A constant label needs no training and has the scale 1; a constant column has the coefficient 0."""
    features, label, _ = _rows()
    features[:, 2] = 8.0
    theirs = _mllib(frame(features, label), {})
    ours = fit(_ours({}), cut(features, label))
    assert ours.coefficients[2] == theirs.coefficients[2] == 0.0
    np.testing.assert_allclose(ours.coefficients, theirs.coefficients.toArray(), atol=1e-3)
    constant = np.full(200, 2.5)
    theirs = _mllib(frame(features, constant), {})
    ours = fit(_ours({}), cut(features, constant))
    assert (ours.intercept, ours.scale) == (theirs.intercept, theirs.scale) == (2.5, 1.0)
    np.testing.assert_array_equal(ours.coefficients, np.zeros(4))
