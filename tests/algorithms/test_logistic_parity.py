"""Does logistic regression give MLlib's answer?"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from securemllib.algorithms.registry import build


def _rows(classes: int, *, shift: float = 0.0, seed: int = 5) -> tuple[Any, Any, Any]:
    generator = np.random.default_rng(seed)
    scales = np.array([1.0, 3.0, 0.5, 2.0, 1.0, 0.2])
    features = generator.standard_normal((400, 6)) * scales + shift * scales
    margins = (features - shift * scales) @ generator.standard_normal((6, classes)) / 2 + generator.gumbel(size=(400, classes))
    return features, margins.argmax(axis=1).astype(float), generator.integers(0, 4, 400) / 2.0


CASES: dict[str, tuple[int, dict[str, Any]]] = {
    "binomial": (2, {}),
    "binomial_l2": (2, {"regParam": 0.05}),
    "binomial_l1": (2, {"regParam": 0.05, "elasticNetParam": 1.0}),
    "binomial_elastic_net": (2, {"regParam": 0.05, "elasticNetParam": 0.5}),
    "unstandardised_l2": (2, {"regParam": 0.05, "standardization": False}),
    "unstandardised_elastic_net": (2, {"regParam": 0.05, "elasticNetParam": 0.4, "standardization": False}),
    "no_intercept": (2, {"regParam": 0.01, "fitIntercept": False}),
    "binomial_as_softmax": (2, {"family": "multinomial", "regParam": 0.01}),
    "multinomial": (3, {}),
    "multinomial_l2": (3, {"regParam": 0.02}),
    "multinomial_elastic_net": (3, {"regParam": 0.02, "elasticNetParam": 0.5}),
    "multinomial_no_intercept": (3, {"regParam": 0.02, "fitIntercept": False}),
}


BOUNDS = {
    "lowerBoundsOnCoefficients": [[-0.1, -0.2, 0.0, -0.3, -0.5, -0.1]],
    "upperBoundsOnCoefficients": [[0.3, 0.2, 0.4, 0.1, 0.5, 0.6]],
}
BOUNDED: dict[str, tuple[int, dict[str, Any]]] = {
    "coefficients": (2, {"regParam": 0.01, **BOUNDS}),
    "intercept": (2, {"regParam": 0.01, "lowerBoundsOnIntercepts": [0.5], "upperBoundsOnIntercepts": [0.7], **BOUNDS}),
    "multinomial": (3, {"regParam": 0.01, "lowerBoundsOnCoefficients": [[0.0] * 6] * 3, "lowerBoundsOnIntercepts": [-0.1] * 3}),
}


def _mllib(data: Any, params: dict[str, Any], *, weighted: bool) -> Any:
    from pyspark.ml.classification import LogisticRegression
    from pyspark.ml.linalg import DenseMatrix, Vectors

    given: dict[str, Any] = {"tol": 1e-13, "maxIter": 1000, **params}
    for name, value in given.items():
        if name.endswith("OnCoefficients"):
            given[name] = DenseMatrix(len(value), len(value[0]), np.ravel(value, order="F").tolist())
        elif name.endswith("OnIntercepts"):
            given[name] = Vectors.dense(value)
    return LogisticRegression(**given, **({"weightCol": "weight"} if weighted else {})).fit(data)


def _compare(ours: Any, theirs: Any, tolerance: float, scale: Any = 1.0) -> None:
    np.testing.assert_allclose(ours.coefficients * scale, theirs.coefficientMatrix.toArray() * scale, atol=tolerance, rtol=tolerance)
    np.testing.assert_allclose(ours.intercepts, theirs.interceptVector.toArray(), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
def test_coefficients_are_mllibs(case: str, weighted: bool, fit: Any, cut: Any, frame: Any) -> None:
    """Coefficients and intercepts equal MLlib's to 1e-7 in float64 and 1e-4 in float32."""
    classes, params = CASES[case]
    features, label, weight = _rows(classes)
    used = weight if weighted else None
    theirs = _mllib(frame(features, label, used), params, weighted=weighted)
    algorithm = build("LogisticRegression", {"tol": 1e-13, "maxIter": 1000, **params})
    # MLlib ends at a gradient of 1e-8, and the curvature of these objectives is at least 0.1 in most directions.
    _compare(fit(algorithm, cut(features, label, used)), theirs, 1e-7)
    _compare(fit(algorithm, cut(features, label, used, dtype=np.float32)), theirs, 1e-4)


def _objective(features: Any, label: Any, weight: Any, coefficients: Any, intercepts: Any, reg_param: float) -> float:
    margins = features @ coefficients.T + intercepts
    if len(coefficients) == 1:
        margins = np.column_stack([np.zeros(len(label)), margins])
    losses = np.logaddexp.reduce(margins, axis=1) - margins[np.arange(len(label)), label.astype(int)]
    centred = features - np.average(features, axis=0, weights=weight)
    variance = weight @ centred**2 / (weight.sum() - (weight @ weight) / weight.sum())
    return float(np.average(losses, weights=weight) + reg_param / 2 * (coefficients**2 * variance).sum())


@pytest.mark.parametrize("case", BOUNDED)
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
def test_bounded_objective_is_at_most_mllibs(case: str, weighted: bool, fit: Any, cut: Any, frame: Any) -> None:
    """Under bounds the objective is MLlib's or lower, the bounds hold, and coefficients agree as far as MLlib's converge."""
    classes, params = BOUNDED[case]
    features, label, weight = _rows(classes)
    used, counted = (weight, weight) if weighted else (None, np.ones(len(label)))
    theirs = _mllib(frame(features, label, used), params, weighted=weighted)
    ours = fit(build("LogisticRegression", {"tol": 1e-13, "maxIter": 1000, **params}), cut(features, label, used))
    reached = _objective(features, label, counted, ours.coefficients, ours.intercepts, params["regParam"])
    reference = _objective(
        features, label, counted, theirs.coefficientMatrix.toArray(), theirs.interceptVector.toArray(), params["regParam"]
    )
    assert reached <= reference + 1e-14
    # Breeze's LBFGSB ends after a few iterations, with an objective that is up to 1e-9 higher: flat directions differ by 1e-2.
    _compare(ours, theirs, 1e-2)
    assert (ours.coefficients >= np.asarray(params["lowerBoundsOnCoefficients"]) - 1e-12).all()
    assert (ours.coefficients <= np.asarray(params.get("upperBoundsOnCoefficients", np.inf)) + 1e-12).all()
    assert (ours.intercepts >= np.asarray(params.get("lowerBoundsOnIntercepts", -np.inf))).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_features_far_from_zero_keep_their_accuracy(classes: int, fit: Any, cut: Any, frame: Any) -> None:
    """With means of 1000 deviations, float32 coefficients still equal MLlib's to 1e-4 and float64 ones to 1e-7 of their scale."""
    features, label, weight = _rows(classes, shift=1000.0)
    params = {"regParam": 0.02}
    theirs = _mllib(frame(features, label, weight), params, weighted=True)
    algorithm = build("LogisticRegression", {"tol": 1e-13, "maxIter": 1000, **params})
    for dtype, tolerance in ((np.float64, 1e-7), (np.float32, 1e-4)):
        ours = fit(algorithm, cut(features, label, weight, dtype=dtype))
        np.testing.assert_allclose(ours.coefficients, theirs.coefficientMatrix.toArray(), atol=tolerance, rtol=tolerance)
        # The intercept is a sum of coefficients times means, which are up to 3000.
        np.testing.assert_allclose(ours.intercepts, theirs.interceptVector.toArray(), atol=1e4 * tolerance)


def test_one_class_needs_no_training(fit: Any, cut: Any, frame: Any) -> None:
    """Rows of one class give MLlib's zero coefficients and infinite intercept, in both families."""
    features, _, _ = _rows(2)
    for value, family in ((1.0, "auto"), (0.0, "auto"), (2.0, "multinomial")):
        label = np.full(len(features), value)
        theirs = _mllib(frame(features, label), {"family": family}, weighted=False)
        ours = fit(build("LogisticRegression", {"family": family}), cut(features, label))
        np.testing.assert_array_equal(ours.coefficients, theirs.coefficientMatrix.toArray())
        np.testing.assert_array_equal(ours.intercepts, theirs.interceptVector.toArray())
        assert (ours.predict(features)["prediction"] == value).all()


def test_constant_column_has_coefficient_zero(fit: Any, cut: Any, frame: Any) -> None:
    """A constant column gets the coefficient 0, as in MLlib, and does not change the others."""
    features, label, _ = _rows(2)
    features[:, 2] = 0.1
    theirs = _mllib(frame(features, label), {}, weighted=False)
    ours = fit(build("LogisticRegression", {"tol": 1e-13}), cut(features, label))
    assert ours.coefficients[0, 2] == 0.0
    _compare(ours, theirs, 1e-7)


@pytest.mark.parametrize(
    ("classes", "params"),
    [
        (2, {}),
        (2, {"threshold": 0.7}),
        (2, {"thresholds": [0.3, 0.6]}),
        (3, {}),
        (3, {"thresholds": [0.2, 0.9, 0.4]}),
        (3, {"thresholds": [0.0, 0.9, 0.4]}),
        (2, {"family": "multinomial", "thresholds": [0.3, 0.6]}),
    ],
)
def test_predictions_are_mllibs(classes: int, params: dict[str, Any], fit: Any, cut: Any, frame: Any) -> None:
    """Raw predictions, probabilities and predictions equal MLlib's under every threshold rule."""
    features, label, _ = _rows(classes)
    data = frame(features, label)
    theirs = _mllib(data, params, weighted=False).transform(data).select("rawPrediction", "probability", "prediction").collect()
    ours = fit(build("LogisticRegression", {"tol": 1e-13, "maxIter": 1000, **params}), cut(features, label)).predict(features)
    for column in ("rawPrediction", "probability"):
        np.testing.assert_allclose(ours[column], [row[column].toArray() for row in theirs], atol=1e-6)
    np.testing.assert_array_equal(ours["prediction"], [row["prediction"] for row in theirs])


def test_objective_history_starts_and_ends_as_mllibs(fit: Any, cut: Any, frame: Any) -> None:
    """The objective at the start and at the end are MLlib's, with about as many iterations."""
    features, label, _ = _rows(3)
    theirs = _mllib(frame(features, label), {"regParam": 0.02, "tol": 1e-6}, weighted=False).summary.objectiveHistory
    ours = fit(build("LogisticRegression", {"regParam": 0.02}), cut(features, label))
    assert ours.objective_history[0] == pytest.approx(theirs[0], rel=1e-12)
    assert ours.objective_history[-1] == pytest.approx(theirs[-1], rel=1e-8)
    assert ours.total_iterations <= 1.5 * len(theirs)


@pytest.mark.parametrize("params", [{"regParam": 0.02}, {"fitIntercept": False}])
def test_declared_classes_without_rows_are_trained(params: dict[str, Any], fit: Any, cut: Any, frame: Any) -> None:
    """Of five declared classes those that no row has have MLlib's coefficients and, after few steps to minus infinity, its intercepts."""
    features, label, weight = _rows(3)
    data = frame(features, label, weight)
    declared = {"ml_attr": {"type": "nominal", "name": "label", "num_vals": 5}}
    theirs = _mllib(data.withColumn("label", data["label"].alias("label", metadata=declared)), params | {"maxIter": 4}, weighted=True)
    algorithm = build("LogisticRegression", {"maxIter": 4, "tol": 1e-13, **params})
    ours = fit(algorithm, [replace(block, classes=5) for block in cut(features, label, weight)])
    assert ours.num_classes == theirs.numClasses == 5
    _compare(ours, theirs, 1e-6)
    assert fit(algorithm, cut(features, label, weight)).num_classes == 3


@pytest.mark.parametrize("classes", [2, 3])
def test_classes_of_rows_of_weight_0_are_none(classes: int, fit: Any, cut: Any, frame: Any) -> None:
    """A class that only rows of weight 0 have, however high its number, is none, as in MLlib."""
    features, label, weight = _rows(classes)
    params = {"regParam": 0.02}
    for high in (7.0, 1e6):
        label[np.flatnonzero(weight == 0)] = high
        for dtype in (np.float64, np.float32):
            ours = fit(build("LogisticRegression", {**params, "tol": 1e-12}), cut(features, label, weight, dtype=dtype))
            assert ours.num_classes == classes
        _compare(ours, _mllib(frame(features, label, weight), params, weighted=True), 1e-4)
