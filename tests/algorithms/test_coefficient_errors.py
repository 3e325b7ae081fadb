"""Are the standard errors of linear coefficients those of MLlib, and missing where MLlib has none?"""

from typing import Any

import numpy as np
import pytest

from securemllib.algorithms.registry import build

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "normal": {"solver": "normal"},
    "l2": {"regParam": 0.3},
    "unstandardised_l2": {"regParam": 0.3, "standardization": False},
    "no_intercept": {"fitIntercept": False},
}


def _rows(*, noise: float = 1.0) -> tuple[Any, Any, Any]:
    generator = np.random.default_rng(31)
    features = generator.standard_normal((120, 4)) * np.array([1.0, 3.0, 0.5, 2.0]) + np.array([0.0, 10.0, 5.0, -3.0])
    label = features @ np.array([1.0, -0.2, 0.3, 0.0]) + noise * generator.standard_normal(120) + 4.0
    return features, label, generator.integers(0, 4, 120) / 2.0


def _summary(data: Any, params: dict[str, Any], *, weighted: bool = False) -> Any:
    from pyspark.ml.regression import LinearRegression

    return LinearRegression(**params, **({"weightCol": "weight"} if weighted else {})).fit(data).summary


def _compare(ours: Any, theirs: Any, allowed: float) -> None:
    np.testing.assert_allclose(ours.coefficient_standard_errors, theirs.coefficientStandardErrors, rtol=allowed)
    # An estimate near 0 has the error of its size, which is its standard error.
    np.testing.assert_allclose(ours.t_values, theirs.tValues, rtol=allowed, atol=allowed)
    # MLlib subtracts from 1, which leaves 1e-16.
    np.testing.assert_allclose(ours.p_values, theirs.pValues, rtol=10 * allowed, atol=max(allowed, 1e-13))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
def test_errors_are_mllibs(case: str, weighted: bool, fit: Any, cut: Any, frame: Any) -> None:
    """Standard errors, t and p values equal MLlib's to 1e-9 in float64 and 1e-4 in float32; rows of weight 0 are no degrees of freedom."""
    features, label, weight = _rows()
    used = weight if weighted else None
    assert not weighted or (weight == 0).any()
    theirs = _summary(frame(features, label, used), CASES[case], weighted=weighted)
    for dtype, allowed in ((np.float64, 1e-9), (np.float32, 1e-4)):
        ours = fit(build("LinearRegression", CASES[case]), cut(features, label, used, dtype=dtype))
        assert len(ours.t_values) == len(ours.p_values) == 4 + CASES[case].get("fitIntercept", True)
        _compare(ours, theirs, allowed)


@pytest.mark.parametrize("noise", [1e-3, 1e-6])
def test_small_residuals_are_summed_over_rows(noise: float, fit: Any, cut: Any, frame: Any) -> None:
    """Where residuals are less than the rounding of second moments, errors are still MLlib's, as far as the rows' own dtype has them."""
    features, label, _ = _rows(noise=noise)
    theirs = _summary(frame(features, label), {})
    # Labels of about 10 are rounded to 1e-15 of them, predictions from float32 rows to 1e-7.
    _compare(fit(build("LinearRegression", {}), cut(features, label)), theirs, 1e-7 if noise > 1e-4 else 1e-5)
    narrow = fit(build("LinearRegression", {}), cut(features, label, dtype=np.float32))
    if noise > 1e-4:
        np.testing.assert_allclose(narrow.coefficient_standard_errors, theirs.coefficientStandardErrors, rtol=1e-3)
    else:
        np.testing.assert_array_less(0.0, narrow.coefficient_standard_errors)
        np.testing.assert_allclose(narrow.coefficient_standard_errors, theirs.coefficientStandardErrors, rtol=0.5)


def test_a_constant_column_is_as_in_mllib(fit: Any, cut: Any, frame: Any) -> None:
    """With a penalty the error of a constant column's coefficient is infinite; without one nothing has an error."""
    features, label, _ = _rows()
    features[:, 1] = 8.0
    theirs = _summary(frame(features, label), {"regParam": 0.1})
    ours = fit(build("LinearRegression", {"regParam": 0.1}), cut(features, label))
    _compare(ours, theirs, 1e-9)
    assert (ours.coefficient_standard_errors[1], ours.t_values[1], ours.p_values[1]) == (np.inf, 0.0, 1.0)
    assert fit(build("LinearRegression", {}), cut(features, label)).coefficient_standard_errors is None


WITHOUT: dict[str, dict[str, Any]] = {
    "lbfgs": {"solver": "l-bfgs"},
    "elastic_net": {"regParam": 0.1, "elasticNetParam": 0.5},
    "huber": {"loss": "huber"},
    "constant_label": {},
    "singular": {},
}


@pytest.mark.parametrize("case", WITHOUT)
def test_there_are_none_where_mllib_has_none(case: str, fit: Any, cut: Any, frame: Any) -> None:
    """Without a Cholesky factorisation MLlib raises, and the model has None."""
    features, label, _ = _rows()
    if case == "constant_label":
        label = np.full(120, 2.0)
    elif case == "singular":
        features[:, 1] = 8.0
    theirs = _summary(frame(features, label), WITHOUT[case])
    with pytest.raises(Exception, match="available for this LinearRegressionModel"):
        theirs.pValues  # noqa: B018
    ours = fit(build("LinearRegression", WITHOUT[case]), cut(features, label))
    assert (ours.coefficient_standard_errors, ours.t_values, ours.p_values) == (None, None, None)


def test_there_are_none_without_degrees_of_freedom(fit: Any, cut: Any) -> None:
    """As many coefficients as rows leave no degree of freedom, and no errors; one row more leaves one."""
    features, label, _ = _rows()
    assert fit(build("LinearRegression", {}), cut(features[:5], label[:5], parts=1)).p_values is None
    found = fit(build("LinearRegression", {}), cut(features[:6], label[:6], parts=1)).p_values
    assert all(0.0 < value <= 1.0 for value in found)


def test_summaries_hold_them() -> None:
    """A training summary names the errors, so that the policy for summaries covers them."""
    from securemllib.algorithms.linear_regression import LinearRegressionModel

    assert {"coefficient_standard_errors", "t_values", "p_values"} <= set(LinearRegressionModel.SUMMARY)
