"""Does the linear support vector classifier minimise MLlib's objective?"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.svm import SVC

from securemllib.algorithms.base import Seed
from securemllib.algorithms.registry import build
from securemllib.algorithms.summary import Summary
from securemllib.errors import DataError, UsageError

CASES: dict[str, dict[str, Any]] = {
    "unregularised": {},
    "l2": {"regParam": 0.1},
    "unstandardised": {"regParam": 0.1, "standardization": False},
    "no_intercept": {"regParam": 0.01, "fitIntercept": False},
}


def _rows(*, shift: float = 0.0, rows: int = 400, seed: int = 5) -> tuple[Any, Any, Any]:
    generator = np.random.default_rng(seed)
    scales = np.array([1.0, 3.0, 0.5, 2.0, 1.0])
    features = generator.standard_normal((rows, 5)) * scales
    label = (features @ generator.standard_normal(5) / 2 + generator.logistic(size=rows) + 0.3 > 0).astype(float)
    return features + shift * scales, label, generator.integers(0, 4, rows) / 2.0


def _objective(features: Any, label: Any, weight: Any, model: Any, *, reg_param: float, standardised: bool = True) -> float:
    slack = np.maximum(0.0, 1.0 - (2.0 * label - 1.0) * (features @ np.asarray(model.coefficients) + model.intercept))
    centred = features - np.average(features, axis=0, weights=weight)
    variance = weight @ centred**2 / (weight.sum() - (weight @ weight) / weight.sum())
    penalty = np.asarray(model.coefficients) ** 2 * (variance if standardised else 1.0)
    return float(np.average(slack, weights=weight) + 0.5 * reg_param * penalty.sum())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
def test_the_objective_is_mllibs(case: str, weighted: bool, fit: Any, cut: Any, frame: Any) -> None:
    """The objective is at most 1e-4 above MLlib's, coefficients agree as far as the kinks let both converge, and the start is the same."""
    from pyspark.ml.classification import LinearSVC

    params = CASES[case]
    features, label, weight = _rows()
    used, counted = (weight, weight) if weighted else (None, np.ones(len(label)))
    theirs = LinearSVC(**params, **({"weightCol": "weight"} if weighted else {})).fit(frame(features, label, used))
    standardised, reg_param = params.get("standardization", True), params.get("regParam", 0.0)
    reference = _objective(features, label, counted, theirs, reg_param=reg_param, standardised=standardised)
    for dtype in (np.float64, np.float32):
        ours = fit(build("LinearSVC", params), cut(features, label, used, dtype=dtype))
        reached = _objective(features, label, counted, ours, reg_param=reg_param, standardised=standardised)
        assert reached <= reference + 1e-4
        assert ours.objective_history[0] == theirs.summary().objectiveHistory[0] == 1.0
        assert ours.objective_history[-1] == pytest.approx(reached, rel=1e-6)
        # Where the minimum is flat, two points with objectives 1e-4 apart are about the root of that apart.
        np.testing.assert_allclose(ours.coefficients, theirs.coefficients.toArray(), atol=0.02, rtol=0.02)
        assert ours.intercept == pytest.approx(theirs.intercept, abs=0.02)


@pytest.mark.parametrize("standardised", [True, False])
def test_the_minimum_is_that_of_a_quadratic_program(standardised: bool, fit: Any, cut: Any) -> None:
    """The objective is within 1e-3 of the minimum that libsvm's exact solver finds."""
    features, label, _ = _rows()
    ones = np.ones(len(label))
    deviation = features.std(axis=0, ddof=1) if standardised else np.ones(5)
    exact = SVC(kernel="linear", C=1.0 / (0.05 * len(label)), tol=1e-8).fit(features / deviation, label)
    ours = fit(build("LinearSVC", {"regParam": 0.05, "standardization": standardised}), cut(features, label))
    best = replace(ours, coefficients=exact.coef_[0] / deviation, intercept=float(exact.intercept_[0]))
    minimum, reached = (_objective(features, label, ones, model, reg_param=0.05, standardised=standardised) for model in (best, ours))
    # L-BFGS is not made for kinks: it stops where no step decreases the objective, as MLlib's does.
    assert minimum - 1e-9 <= reached <= minimum * (1.0 + 1e-3)


def test_float32_rows_take_no_more_rounds(fit: Any, cut: Any) -> None:
    """Float32 rows need at most one and a half times the evaluations of float64 rows: margins are not rounded."""
    features, label, _ = _rows(shift=100.0, rows=2000)
    algorithm, counts = build("LinearSVC", {"regParam": 0.01}), []
    for dtype in (np.float64, np.float32):
        blocks = cut(features, label, dtype=dtype)
        state = algorithm.initial(sum((Summary.of(block) for block in blocks[1:]), Summary.of(blocks[0])), Seed(bytes(32)))
        while not algorithm.is_done(state):
            first, *others = (algorithm.statistics(state, block) for block in blocks)
            state = algorithm.update(state, sum(others, first))
        counts.append(state.search.evaluations)
    assert counts[1] <= 1.5 * counts[0]


def test_predictions_are_mllibs(fit: Any, cut: Any, frame: Any) -> None:
    """Raw predictions are minus and plus the margin, and a threshold on it decides, also one that is infinite."""
    from pyspark.ml.classification import LinearSVC

    features, label, _ = _rows()
    data = frame(features, label)
    theirs = LinearSVC(regParam=0.1, threshold=0.4).fit(data)
    model = type(fit(build("LinearSVC", {}), cut(features, label)))(
        coefficients=theirs.coefficients.toArray(), intercept=theirs.intercept, threshold=0.4
    )
    expected = theirs.transform(data).select("rawPrediction", "prediction").collect()
    ours = model.predict(features)
    np.testing.assert_allclose(ours["rawPrediction"], [row["rawPrediction"].toArray() for row in expected], rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(ours["prediction"], [row["prediction"] for row in expected])
    assert build("LinearSVC", {"threshold": float("inf")}).threshold == np.inf


def test_constant_column_and_single_class_are_mllibs(fit: Any, cut: Any, frame: Any) -> None:
    """A constant column gets the coefficient 0, and rows of class 1 alone a model without loss, both as in MLlib."""
    from pyspark.ml.classification import LinearSVC

    features, label, _ = _rows()
    features[:, 2] = 7.0
    assert fit(build("LinearSVC", {}), cut(features, label)).coefficients[2] == 0.0
    theirs = LinearSVC().fit(frame(features, np.ones(len(label))))
    ours = fit(build("LinearSVC", {}), cut(features, np.ones(len(label))))
    np.testing.assert_allclose(ours.coefficients, theirs.coefficients.toArray(), atol=1e-9)
    # Every intercept of at least 1 is a minimum.
    assert min(ours.intercept, theirs.intercept) >= 1.0
    assert ours.objective_history[-1] == theirs.summary().objectiveHistory[-1] == 0.0


@pytest.mark.parametrize("value", [2.0, -1.0, 0.5, np.nan])
def test_labels_that_are_not_two_classes_are_refused(value: float, cut: Any) -> None:
    """Labels other than 0 and 1 are refused, and so are rows of class 0 alone, as in MLlib; 0 and 1 are accepted."""
    features, label, _ = _rows()
    algorithm = build("LinearSVC", {})
    algorithm.initial(Summary.of(cut(features, label, parts=1)[0]), Seed(bytes(32)))
    label[3] = value
    for wrong in (label, np.zeros(len(label))):
        with pytest.raises(DataError, match=r"classes 0 and 1"):
            algorithm.initial(Summary.of(cut(features, wrong, parts=1)[0]), Seed(bytes(32)))


@pytest.mark.parametrize("params", [{"regParam": -1.0}, {"tol": -1.0}, {"maxIter": -1}, {"threshold": float("nan")}, {"fitIntercept": 1}])
def test_params_out_of_their_domain_are_refused(params: dict[str, Any]) -> None:
    """A value out of its domain is refused; the defaults and a negative threshold are accepted."""
    build("LinearSVC", {"threshold": -3, "regParam": 0, "maxIter": 0, "tol": 0})
    with pytest.raises(UsageError):
        build("LinearSVC", params)
