"""Does linear regression give MLlib's answer?"""

from typing import Any

import numpy as np
import pytest
from pyspark.ml.regression import GeneralizedLinearRegression as SparkGeneralized
from pyspark.ml.regression import LinearRegression as SparkRegression

from securemllib.algorithms.registry import build

CASES: dict[str, dict[str, Any]] = {
    "normal": {},
    "normal_l2": {"regParam": 0.3},
    "normal_unstandardised_l2": {"regParam": 0.3, "standardization": False},
    "normal_no_intercept": {"regParam": 0.1, "fitIntercept": False},
    "normal_elastic_net": {"regParam": 0.3, "elasticNetParam": 0.5},
    "normal_unstandardised_l1": {"regParam": 0.3, "elasticNetParam": 1.0, "standardization": False},
    "lbfgs": {"solver": "l-bfgs"},
    "lbfgs_l2": {"solver": "l-bfgs", "regParam": 0.3},
    "lbfgs_elastic_net": {"solver": "l-bfgs", "regParam": 0.3, "elasticNetParam": 0.5},
    "lbfgs_unstandardised": {"solver": "l-bfgs", "regParam": 0.3, "elasticNetParam": 0.5, "standardization": False},
    "lbfgs_no_intercept": {"solver": "l-bfgs", "regParam": 0.1, "fitIntercept": False},
}


def _rows(*, shift: float = 0.0) -> tuple[Any, Any, Any]:
    generator = np.random.default_rng(11)
    scales = np.array([1.0, 3.0, 0.5, 2.0, 1.0, 0.2])
    centred = generator.standard_normal((300, 6)) * scales
    label = centred @ generator.standard_normal(6) + generator.standard_normal(300) + 4.0
    return centred + shift * scales, label, generator.integers(0, 4, 300) / 2.0


def _mllib(data: Any, params: dict[str, Any], *, weighted: bool = False) -> Any:
    from pyspark.ml.regression import LinearRegression

    given = {"tol": 1e-13, "maxIter": 1000, **params}
    return LinearRegression(**given, **({"weightCol": "weight"} if weighted else {})).fit(data)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
def test_coefficients_are_mllibs(case: str, weighted: bool, fit: Any, cut: Any, frame: Any) -> None:
    """Coefficients and intercept equal MLlib's to 1e-8 in float64 and 1e-4 in float32."""
    features, label, weight = _rows()
    used = weight if weighted else None
    theirs = _mllib(frame(features, label, used), CASES[case], weighted=weighted)
    algorithm = build("LinearRegression", {"tol": 1e-13, "maxIter": 1000, **CASES[case]})
    # Iterative solvers of both sides end at a gradient of 1e-8.
    tolerance = 1e-7 if "lbfgs" in case or "elasticNetParam" in CASES[case] else 1e-8
    for dtype, allowed in ((np.float64, tolerance), (np.float32, 1e-4)):
        ours = fit(algorithm, cut(features, label, used, dtype=dtype))
        np.testing.assert_allclose(ours.coefficients, theirs.coefficients.toArray(), atol=allowed, rtol=allowed)
        assert ours.intercept == pytest.approx(theirs.intercept, abs=allowed, rel=allowed)


def test_features_far_from_zero_keep_their_accuracy(fit: Any, cut: Any, frame: Any) -> None:
    """With means of 1000 deviations, float32 coefficients still equal MLlib's to 1e-4 and float64 ones to 1e-6."""
    features, label, _ = _rows(shift=1000.0)
    theirs = _mllib(frame(features, label), {"solver": "l-bfgs", "regParam": 0.01})
    algorithm = build("LinearRegression", {"solver": "l-bfgs", "tol": 1e-13, "regParam": 0.01})
    for dtype, tolerance in ((np.float64, 1e-6), (np.float32, 1e-4)):
        ours = fit(algorithm, cut(features, label, dtype=dtype))
        np.testing.assert_allclose(ours.coefficients, theirs.coefficients.toArray(), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("solver", ["normal", "l-bfgs"])
def test_constant_columns_and_copies_do_not_stop_it(solver: str, fit: Any, cut: Any, frame: Any) -> None:
    """A constant column gets 0 and two equal columns share the coefficient that MLlib gives them together."""
    features, label, _ = _rows()
    # 8 is a power of 2: of 7.3 MLlib's `normal` computes a deviation that is not 0, and a coefficient of rounding errors.
    features[:, 2], features[:, 4] = 8.0, features[:, 0]
    theirs = _mllib(frame(features, label), {"solver": solver})
    ours = fit(build("LinearRegression", {"solver": solver, "tol": 1e-13}), cut(features, label))
    assert ours.coefficients[2] == 0.0
    assert ours.coefficients[0] == pytest.approx(ours.coefficients[4], abs=1e-9)
    # Rounding decides whether MLlib's Cholesky sees that the matrix is singular, so only the copies' sum is determined.
    join = np.eye(6)[[0, 1, 2, 3, 5]] + np.eye(6)[[4, 1, 2, 3, 5]]
    np.testing.assert_allclose(join @ ours.coefficients, join @ theirs.coefficients.toArray(), atol=1e-6)


@pytest.mark.parametrize("solver", ["normal", "l-bfgs"])
@pytest.mark.parametrize("value", [0.0, 2.5])
def test_constant_label_is_the_intercept(solver: str, value: float, fit: Any, cut: Any, frame: Any) -> None:
    """A constant label gives MLlib's zero coefficients and that label as intercept."""
    features, _, _ = _rows()
    label = np.full(len(features), value)
    theirs = _mllib(frame(features, label), {"solver": solver, "regParam": 0.1})
    ours = fit(build("LinearRegression", {"solver": solver, "regParam": 0.1}), cut(features, label))
    np.testing.assert_array_equal(ours.coefficients, theirs.coefficients.toArray())
    assert ours.intercept == theirs.intercept == value


def _wide(intercept: bool, weight: Any) -> tuple[Any, Any, Any, float]:
    """Return 700 rows of 520 features, more than a Gram matrix is used for, the solution for a penalty of 0.5, and its condition."""
    generator = np.random.default_rng(3)
    features = generator.standard_normal((700, 520)) + 2.0
    label = features[:, :5].sum(axis=1) + generator.standard_normal(700) + 3.0
    freedom = weight.sum() - (weight @ weight) / weight.sum()
    rows = features - np.average(features, axis=0, weights=weight)
    target = label - np.average(label, weights=weight)
    # The two solvers scale by deviations of the sample and of the population: (n - 1) / n of the same penalty.
    penalty = 0.5 / np.sqrt(weight @ target**2 / freedom) * (weight @ rows**2) / freedom
    if not intercept:
        rows, target = features, label
    weighted = rows.T * (weight / weight.sum())
    matrix = weighted @ rows + np.diag(penalty)
    return features, label, np.linalg.solve(matrix, weighted @ target), float(np.linalg.cond(matrix))


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rounds_over_rows_reach_the_one_pass_solution(intercept: bool, weighted: bool, dtype: Any, fit: Any, cut: Any) -> None:
    """With more features than a Gram matrix is used for, L-BFGS over rows gives the solution of the normal equations."""
    weight = np.random.default_rng(4).integers(1, 4, 700) / 2.0 if weighted else np.ones(700)
    features, label, solution, condition = _wide(intercept, weight)
    params = {"solver": "l-bfgs", "regParam": 0.5, "fitIntercept": intercept, "tol": 1e-13, "maxIter": 500}
    by_rounds = fit(build("LinearRegression", params), cut(features, label, weight if weighted else None, dtype=dtype))
    assert by_rounds.total_iterations > 3
    # In float64 the search ends at a gradient of 1e-8 or where 20 values differ by 1e-13, which is a step of about the root of that.
    # float32 rows and predictions are rounded, which the matrix's condition magnifies: 9 for centred rows, 1,000 without an intercept.
    allowed = 1e-6 if dtype is np.float64 else np.finfo(np.float32).eps * condition * np.abs(solution).max()
    np.testing.assert_allclose(by_rounds.coefficients, solution, atol=allowed)
    # The deviations of these labels and the rows' means of 2 multiply what 520 coefficients are off.
    if intercept:
        expected = np.average(label, weights=weight) - np.average(features, axis=0, weights=weight) @ solution
        assert by_rounds.intercept == pytest.approx(expected, abs=100 * allowed)
    else:
        assert by_rounds.intercept == 0.0


def test_wide_float32_rows_far_from_zero_keep_their_accuracy(fit: Any, cut: Any) -> None:
    """With means of 1000 deviations, rounds over float32 rows of 520 features still give the coefficients of float64 ones to 1e-5."""
    features, label, solution, _ = _wide(True, np.ones(700))
    algorithm = build("LinearRegression", {"solver": "l-bfgs", "regParam": 0.5, "tol": 1e-13, "maxIter": 500})
    ours = fit(algorithm, cut(features + 1000.0, label, dtype=np.float32))
    np.testing.assert_allclose(ours.coefficients, solution, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-150, 1e-155, 1e-157])
@pytest.mark.parametrize("solver", ["normal", "l-bfgs"])
def test_features_whose_squares_are_hardly_numbers_have_mllibs_coefficients(
    scale: float, solver: str, fit: Any, cut: Any, frame: Any
) -> None:
    """Where a product of the scales of columns is no number, coefficients are MLlib's, to the digits that such squares have."""
    drawn = np.random.default_rng(1)
    rows = drawn.normal(size=(60, 2))
    label = rows @ [1.0, -2.0] + 0.1 * drawn.normal(size=60)
    theirs = {"LinearRegression": SparkRegression(solver=solver), "GeneralizedLinearRegression": SparkGeneralized()}
    params = {"LinearRegression": {"solver": solver}, "GeneralizedLinearRegression": {}}
    for name, original in theirs.items():
        expected, found = original.fit(frame(rows * scale, label)), fit(build(name, params[name]), cut(rows * scale, label))
        np.testing.assert_allclose(found.coefficients, expected.coefficients.toArray(), rtol=1e-5)
        assert found.intercept == pytest.approx(expected.intercept, rel=1e-4)


@pytest.mark.parametrize("operation", ["LinearRegression", "GeneralizedLinearRegression"])
def test_a_penalty_that_is_no_number_leaves_the_intercept(operation: str, fit: Any, cut: Any) -> None:
    """Coefficients of columns too small for their squares vanish under a penalty on themselves."""
    rows = np.random.default_rng(1).normal(size=(60, 2))
    label = rows @ [1.0, -2.0] + 3.0
    params = {"LinearRegression": {"standardization": False}, "GeneralizedLinearRegression": {"family": "gaussian", "link": "log"}}
    label = label if operation == "LinearRegression" else np.exp(label / 10.0)
    found = fit(build(operation, {"regParam": 0.1, **params[operation]}), cut(rows * 1e-157, label))
    np.testing.assert_allclose(found.predict(rows * 1e-157)["prediction"], label.mean(), rtol=1e-6)
