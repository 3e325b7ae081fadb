"""Are statistics of a union the sum of the statistics?"""

import math
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from securemllib.algorithms.base import Seed
from securemllib.algorithms.codec import to_tree
from securemllib.algorithms.registry import build, param_name
from securemllib.algorithms.summary import Summary
from securemllib.errors import DataError, UsageError

ALGORITHMS = {
    "binomial": ("LogisticRegression", {}),
    "softmax": ("LogisticRegression", {"family": "multinomial"}),
    "normal": ("LinearRegression", {}),
    "huber": ("LinearRegression", {"loss": "huber"}),
    "hinge": ("LinearSVC", {}),
    "multinomial": ("NaiveBayes", {}),
    "gaussian": ("NaiveBayes", {"modelType": "gaussian"}),
}


def _rows(seed: int, rows: int = 40) -> tuple[Any, Any, Any]:
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((rows, 3)) + 1000.0
    label = (np.arange(rows) % 2).astype(float)
    return features, label, generator.integers(0, 4, rows).astype(float)


def _close(one: Any, other: Any) -> None:
    left, right = to_tree(one), to_tree(other)
    assert set(left) == set(right)
    for name in left:
        a, b = (np.asarray(getattr(value, name), dtype=np.float64) for value in (one, other))
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9, err_msg=name)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1000), parts=st.integers(2, 5), name=st.sampled_from(sorted(ALGORITHMS)))
def test_cut_order_and_weight_do_not_matter(seed: int, parts: int, name: str, cut: Any) -> None:
    """Summaries and statistics are the same for any cut, any order, and for weights or copies of rows."""
    features, label, weight = _rows(seed)
    algorithm = build(ALGORITHMS[name][0], ALGORITHMS[name][1])
    order = np.random.default_rng(seed).permutation(len(label))
    whole = cut(features, label, weight, parts=1)
    many = cut(features[order], label[order], weight[order], parts=parts)
    times = weight.astype(int)
    copies = cut(np.repeat(features, times, axis=0), np.repeat(label, times), parts=parts)
    summary = Summary.of(whole[0])
    _close(reduce(add, map(Summary.of, many)), summary)
    state = algorithm.initial(summary, Seed(bytes(32)))
    total = algorithm.statistics(state, whole[0])
    for blocks in (many, copies):
        _close(reduce(add, (algorithm.statistics(state, block) for block in blocks)), total)
    copied = reduce(add, map(Summary.of, copies))
    np.testing.assert_allclose([copied.mean, copied.m2, copied.maximum], [summary.mean, summary.m2, summary.maximum], rtol=1e-9)


def test_summary_is_numpys(cut: Any) -> None:
    """Means and variances equal numpy's to 1e-11 for means of 1000 deviations, with float32 rows as far as the cast allows."""
    features, label, _ = _rows(1, rows=9000)
    summary = reduce(add, map(Summary.of, cut(features, label, parts=2)))
    np.testing.assert_allclose(summary.mean, features.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(summary.variance, features.var(axis=0, ddof=1), rtol=1e-11)
    assert summary.label_weights is not None
    assert summary.label_weights.tolist() == [4500.0, 4500.0]
    narrow = reduce(add, map(Summary.of, cut(features, label, parts=2, dtype=np.float32)))
    np.testing.assert_allclose(narrow.variance, summary.variance, rtol=1e-7)


@pytest.mark.parametrize("width", [1, 2, 4])
def test_parts_of_another_width_are_refused(width: int, cut: Any) -> None:
    """Summaries of parts with as many features are added; a part with another number, one among them, is refused and not broadcast."""
    features, label, weight = _rows(3)
    (whole,) = cut(features, label, weight, parts=1)
    (other,) = cut(np.ones((len(label), width)), label, weight, parts=1)
    assert (Summary.of(whole) + Summary.of(whole)).rows == 2 * len(label)
    for one, two in ((whole, other), (other, whole)):
        with pytest.raises(DataError, match="features"):
            Summary.of(one) + Summary.of(two)


@pytest.mark.parametrize("name", ["LogisticRegression", "LinearRegression", "LinearSVC", "NaiveBayes"])
@pytest.mark.parametrize("broken", ["features", "label", "weight", "empty"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_unusable_rows_are_refused(name: str, broken: str, value: float, cut: Any) -> None:
    """NaN and infinite features, labels and weights and an empty dataset are refused by a code, beside the rows that are accepted."""
    features, label, weight = _rows(2)
    algorithm, seed = build(name, {}), Seed(bytes(32))
    algorithm.initial(Summary.of(cut(features, label, weight, parts=1)[0]), seed)
    if broken == "empty":
        weight = np.zeros(40)
    else:
        {"features": features[:, 1], "label": label, "weight": weight}[broken][3] = value
    with pytest.raises(DataError) as caught:
        algorithm.initial(Summary.of(cut(features, label, weight, parts=1)[0]), seed)
    assert caught.value.error_code == {"empty": "data.no_rows"}.get(broken, f"data.{broken}")


@pytest.mark.parametrize("value", [-1.0, 0.5, 5000.0])
def test_labels_that_are_no_classes_are_refused(value: float, cut: Any) -> None:
    """Logistic regression refuses negative, fractional and huge labels, which linear regression takes."""
    features, label, _ = _rows(3)
    label[7] = value
    summary = Summary.of(cut(features, label, parts=1)[0])
    build("LinearRegression", {}).initial(summary, Seed(bytes(32)))
    with pytest.raises(DataError, match=r"data\.label"):
        build("LogisticRegression", {}).initial(summary, Seed(bytes(32)))


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("LogisticRegression", {"regParam": float("nan")}),
        ("LogisticRegression", {"elasticNetParam": 1.5}),
        ("LogisticRegression", {"maxIter": -1}),
        ("LogisticRegression", {"maxIter": 2.0}),
        ("LogisticRegression", {"family": "poisson"}),
        ("LogisticRegression", {"threshold": "0.5"}),
        ("LogisticRegression", {"thresholds": [0.0, 0.0]}),
        ("LogisticRegression", {"reg_param": 0.1}),
        ("LogisticRegression", {"fitIntercept": False, "lowerBoundsOnIntercepts": [0.0]}),
        ("LinearRegression", {"solver": "sgd"}),
        ("LinearRegression", {"loss": "huber", "solver": "normal"}),
        ("LinearRegression", {"loss": "huber", "elasticNetParam": 0.5}),
        ("LinearRegression", {"loss": "huber", "epsilon": float("nan")}),
        ("LinearRegression", {"loss": "absolute"}),
        ("LinearRegression", {"epsilon": 1.0}),
        ("NoSuchThing", {}),
    ],
)
def test_params_out_of_their_domain_are_refused(name: str, params: dict[str, Any]) -> None:
    """An unknown name or Param and a value out of its domain are refused; the defaults are accepted."""
    build("LogisticRegression", {"regParam": 1, "elasticNetParam": 0.5})
    build("LinearRegression", {})
    build("LinearRegression", {"loss": "huber", "solver": "l-bfgs", "regParam": 0.1, "epsilon": 1.01})
    with pytest.raises(UsageError):
        build(name, params)


def test_param_names_are_pysparks() -> None:
    """A snake_case field becomes the camelCase Param of pyspark.ml."""
    assert param_name("lower_bounds_on_coefficients") == "lowerBoundsOnCoefficients"
