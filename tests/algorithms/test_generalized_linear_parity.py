"""Does generalized linear regression give MLlib's answer, and R's?"""

from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from securemllib.algorithms.base import Seed
from securemllib.algorithms.generalized_linear_regression import GeneralizedLinearRegressionModel
from securemllib.algorithms.registry import build
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.transformer import Column
from securemllib.algorithms.vectors import VECTOR, Vector
from securemllib.errors import DataError, UsageError

FAMILIES: dict[str, tuple[str, ...]] = {
    "gaussian": ("identity", "log", "inverse"),
    "binomial": ("logit", "probit", "cloglog"),
    "poisson": ("log", "identity", "sqrt"),
    "gamma": ("inverse", "identity", "log"),
}
PAIRS = [{"family": family, "link": link} for family, links in FAMILIES.items() for link in links]
TWEEDIE = [
    {"family": "tweedie", "variancePower": power, **({} if link is None else {"linkPower": link})}
    for power, link in ((0.0, None), (1.0, None), (2.0, 0.0), (1.5, None), (1.5, 0.0), (2.5, 0.0), (3.0, 1.0), (1.2, 0.5), (1.6, -1.0))
]


def _name(case: dict[str, Any]) -> str:
    return "-".join(str(value) for value in case.values())


def rows(family: str) -> dict[str, Any]:
    """Return 200 rows that every link of a family fits: means of about 2, or shares of successes, with weights and offsets."""
    generator = np.random.default_rng(5)
    features = generator.uniform(-1.0, 1.0, (200, 3)) * np.array([1.0, 4.0, 0.5]) + np.array([0.0, 10.0, 3.0])
    mean = 2.0 + (features - features.mean(axis=0)) @ np.array([0.3, -0.1, 0.4]) + generator.uniform(-0.5, 0.5, 200)
    weight = generator.integers(1, 5, 200).astype(float)
    label = {
        "binomial": lambda: generator.binomial(weight.astype(int), mean / 4.0) / weight,
        "poisson": lambda: generator.poisson(mean).astype(float),
        "tweedie": lambda: mean * generator.gamma(8.0, 1 / 8.0, 200),
        "gamma": lambda: mean * generator.gamma(8.0, 1 / 8.0, 200),
        "gaussian": lambda: mean + 0.2 * generator.standard_normal(200),
    }[family]()
    return {"features": features, "label": label, "weight": weight, "offset": generator.uniform(-0.1, 0.1, 200)}


def blocks(cut: Any, data: dict[str, Any], *, used: tuple[str, ...] = (), **how: Any) -> Any:
    """Cut rows as the loader does, with the columns of ``used`` among weight and offset."""
    made = cut(data["features"], data["label"], data["weight"] if "weight" in used else None, **how)
    pieces = np.array_split(data["offset"], len(made))
    return [replace(block, extras={"offset": piece} if "offset" in used else {}) for block, piece in zip(made, pieces, strict=True)]


@pytest.fixture(scope="module")
def frames(spark: Any) -> Any:
    """Make a cached Spark frame of a family's rows."""
    made: dict[str, Any] = {}

    def make(family: str) -> Any:
        from pyspark.ml.linalg import Vectors

        if family not in made:
            data = rows(family)
            columns = (map(Vectors.dense, data["features"].tolist()), *(data[name].tolist() for name in ("label", "weight", "offset")))
            made[family] = spark.createDataFrame(list(zip(*columns, strict=True)), ["features", "label", "weight", "offset"])
            made[family] = made[family].coalesce(1).cache()
        return made[family]

    return make


def mllib(data: Any, params: dict[str, Any], used: tuple[str, ...]) -> Any:
    """Fit MLlib's estimator."""
    from pyspark.ml.regression import GeneralizedLinearRegression

    return GeneralizedLinearRegression(**params, **{f"{name}Col": name for name in used}).fit(data)


OPTIONS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "plain": ((), {}),
    "weight-l2": (("weight",), {"regParam": 0.3}),
    "weight-offset": (("weight", "offset"), {}),
    "offset-no-intercept": (("offset",), {"fitIntercept": False, "regParam": 0.01}),
}
# Every link with weights and offsets, and every family with every option.
CASES = [(case, "weight-offset") for case in PAIRS + TWEEDIE]
CASES += [(case, option) for case in (*PAIRS[::3], TWEEDIE[4]) for option in OPTIONS if option != "weight-offset"]


@pytest.mark.parametrize(("case", "option"), CASES, ids=[f"{_name(case)}-{option}" for case, option in CASES])
def test_a_fit_and_its_summary_are_mllibs(case: Any, option: str, fit: Any, cut: Any, frames: Any) -> None:
    """Coefficients, iterations and the summary equal MLlib's to 1e-8 in float64; coefficients to 1e-5 in float32."""
    used, more = OPTIONS[option]
    params, data = {**case, **more}, rows(case["family"])
    theirs = mllib(frames(case["family"]), params, used)
    algorithm = build("GeneralizedLinearRegression", params)
    # One more feature of the size of 10 multiplies what the intercept is off.
    for dtype, allowed in ((np.float32, 1e-5), (np.float64, 1e-8)):
        ours = fit(algorithm, blocks(cut, data, used=used, dtype=dtype))
        np.testing.assert_allclose(ours.coefficients, theirs.coefficients.toArray(), rtol=allowed, atol=allowed)
        assert ours.intercept == pytest.approx(theirs.intercept, rel=allowed, abs=10 * allowed)
        assert ours.num_iterations == theirs.summary.numIterations
    errors = np.array(theirs.summary.coefficientStandardErrors)
    np.testing.assert_allclose(ours.coefficient_variances, errors**2 / theirs.summary.dispersion, rtol=1e-7)
    np.testing.assert_allclose(ours.unit_t_values, np.array(theirs.summary.tValues) * theirs.summary.dispersion**0.5, rtol=1e-6, atol=1e-6)
    _compare(evaluated(ours, params, data, used, fit, cut), theirs.summary, case)


@pytest.mark.parametrize("value", [1e6, -1e6, 1e300])
@pytest.mark.parametrize("case", [*PAIRS, *TWEEDIE], ids=_name)
def test_rows_of_weight_0_change_nothing(case: Any, value: float, fit: Any, cut: Any) -> None:
    """Rows of weight 0 that lie where no mean is finite leave the model and the evaluation of the others, which MLlib's end."""
    data, algorithm, used = rows(case["family"]), build("GeneralizedLinearRegression", case), ("weight", "offset")
    idle = {name: np.concatenate([column, column[:3]]) for name, column in data.items()}
    idle["features"][200:], idle["weight"][200:], idle["offset"][200:] = value, 0.0, value
    expected, found = (fit(algorithm, blocks(cut, each, used=used, parts=1)) for each in (data, idle))
    np.testing.assert_array_equal(found.coefficients, expected.coefficients)
    assert (found.intercept, found.num_iterations) == (expected.intercept, expected.num_iterations)
    without, beside = (evaluated(expected, case, each, used, fit, cut) for each in (data, idle))
    assert (without.rows, beside.rows) == (200, 203)
    for name in ("deviance", "null_deviance", "pearson"):
        assert getattr(beside, name) == pytest.approx(getattr(without, name), rel=1e-12), name


def evaluated(model: Any, params: dict[str, Any], data: dict[str, Any], used: tuple[str, ...], fit: Any, cut: Any) -> Any:
    """Return the evaluation of a model on the rows, from blocks that hold its predictions and no features."""
    prediction = model.predict(data["features"], data["offset"] if "offset" in used else None)["prediction"]
    known = {name: value for name, value in params.items() if name != "regParam"}
    evaluator = build("GeneralizedLinearEvaluator", {**known, "hasOffset": "offset" in used})
    made = blocks(cut, {**data, "features": np.zeros((len(prediction), 0))}, used=used)
    pieces = np.array_split(prediction, len(made))
    return fit(evaluator, [replace(block, prediction=piece) for block, piece in zip(made, pieces, strict=True)])


def _compare(ours: Any, theirs: Any, case: dict[str, Any]) -> None:
    assert ours.rows == theirs.numInstances
    for mine, name in ((ours.deviance, "deviance"), (ours.null_deviance, "nullDeviance")):
        # Without an intercept some links have no null model: NaN or infinite on both sides.
        np.testing.assert_allclose(mine, getattr(theirs, name), rtol=1e-8, err_msg=name)
    if case["family"] not in ("binomial", "poisson"):
        assert ours.pearson / theirs.degreesOfFreedom == pytest.approx(theirs.dispersion, rel=1e-8)
    if case["family"] == "tweedie" and case["variancePower"] not in (0.0, 1.0, 2.0):
        assert ours.aic is None
    else:
        assert ours.aic + 2 * theirs.rank == pytest.approx(theirs.aic, rel=1e-8)


@pytest.mark.parametrize("family", FAMILIES)
def test_cut_order_and_weight_do_not_matter(family: str, cut: Any) -> None:
    """Sums of either round are the same for any cut, any order, and for weights or copies of rows."""
    data = rows(family)
    algorithm, seed, times = build("GeneralizedLinearRegression", {"family": family}), Seed(bytes(32)), data["weight"].astype(int)
    order = np.random.default_rng(1).permutation(200)
    mixed = {name: values[order] for name, values in data.items()}
    # The binomial family starts from means that a weight of trials moves, so copies are compared from the second round on.
    copied = {name: np.repeat(values, times, axis=0) for name, values in data.items()}
    whole = blocks(cut, data, used=("weight", "offset"), parts=1)
    state = algorithm.initial(reduce(add, map(Summary.of, whole)), seed)
    for step in range(2):
        total = algorithm.statistics(state, whole[0])
        others = [blocks(cut, mixed, used=("weight", "offset"), parts=4)]
        others += [blocks(cut, copied, used=("offset",))] if step or family != "binomial" else []
        for other in others:
            sums = reduce(add, (algorithm.statistics(state, block) for block in other))
            for name in total.__slots__:
                np.testing.assert_allclose(getattr(sums, name), getattr(total, name), rtol=1e-9, atol=1e-9, err_msg=name)
        state = algorithm.update(state, total)


@pytest.mark.parametrize("intercept", [True, False])
def test_constant_columns_and_copies_do_not_stop_it(intercept: bool, fit: Any, cut: Any) -> None:
    """A constant column gets 0, two equal columns share the coefficient of one, and a singular matrix gives no errors."""
    data = rows("poisson")
    algorithm = build("GeneralizedLinearRegression", {"family": "poisson", "tol": 1e-10, "fitIntercept": intercept})
    single = fit(algorithm, blocks(cut, data))
    features = np.column_stack([data["features"], data["features"][:, 1], np.full(200, 7.3)])
    double = fit(algorithm, blocks(cut, {**data, "features": features}))
    assert double.coefficients[4] == 0.0
    assert double.coefficients[1] == pytest.approx(double.coefficients[3], abs=1e-9)
    np.testing.assert_allclose(double.coefficients[[0, 2]], single.coefficients[[0, 2]], atol=1e-8)
    assert 2 * double.coefficients[1] == pytest.approx(single.coefficients[1], abs=1e-8)
    assert double.coefficient_variances is None
    assert single.coefficient_variances is not None


def test_a_constant_label_is_the_intercept(fit: Any, cut: Any) -> None:
    """A constant label gives coefficients of zero and its link; without an intercept it cannot be regularised, as in MLlib."""
    data = {**rows("gamma"), "label": np.full(200, 2.5)}
    for params, intercept in (({}, 2.5), ({"family": "gamma", "link": "log"}, np.log(2.5))):
        model = fit(build("GeneralizedLinearRegression", {"regParam": 0.1, **params}), blocks(cut, data))
        np.testing.assert_allclose(model.coefficients, 0.0, atol=1e-12)
        assert model.intercept == pytest.approx(intercept, rel=1e-12)
    without = {"family": "gamma", "link": "log", "fitIntercept": False}
    fit(build("GeneralizedLinearRegression", without), blocks(cut, data))
    with pytest.raises(DataError, match="constant"):
        fit(build("GeneralizedLinearRegression", {**without, "regParam": 0.1}), blocks(cut, data))


@pytest.mark.parametrize(
    ("params", "wrong", "right"),
    [
        ({"family": "binomial"}, 1.6, 1.0),
        ({"family": "poisson"}, -1.0, 0.0),
        ({"family": "gamma"}, 0.0, 0.1),
        ({"family": "tweedie", "variancePower": 1.5}, -0.1, 0.0),
        ({"family": "tweedie", "variancePower": 2.5}, 0.0, 0.1),
    ],
)
def test_labels_that_the_family_does_not_have_are_refused(params: Any, wrong: float, right: float, cut: Any) -> None:
    """A label outside the family's domain is refused by a code, the last one inside is accepted, and no value is told."""
    data = rows("binomial" if params["family"] == "binomial" else "gamma")
    algorithm = build("GeneralizedLinearRegression", params)
    for value in (right, wrong):
        data["label"][3] = value
        (block,) = blocks(cut, data, parts=1)
        state = algorithm.initial(Summary.of(block), Seed(bytes(32)))
        if value == right:
            algorithm.statistics(state, block)
    with pytest.raises(DataError, match="1 rows") as caught:
        algorithm.statistics(state, block)
    assert caught.value.error_code == "data.label"


def test_labels_that_the_link_does_not_have_are_refused(fit: Any, cut: Any) -> None:
    """A Gaussian label without a logarithm ends a fit with the log link by an error and not with a model of NaN."""
    data = rows("gaussian")
    fit(build("GeneralizedLinearRegression", {"link": "log"}), blocks(cut, data))
    data["label"][3] = -1.0
    with pytest.raises(DataError, match="finite"):
        fit(build("GeneralizedLinearRegression", {"link": "log"}), blocks(cut, data))


@pytest.mark.parametrize(
    "params",
    [
        {"family": "binomial", "link": "log"},
        {"family": "cauchy"},
        {"link": "power"},
        {"solver": "normal"},
        {"variancePower": 0.5},
        {"variancePower": float("nan")},
        {"linkPower": "1"},
        {"regParam": -1.0},
        {"maxIter": -1},
        {"tol": -1.0},
    ],
)
def test_params_out_of_their_domain_are_refused(params: dict[str, Any]) -> None:
    """Values that MLlib refuses are refused; names in any case, and a link beside the Tweedie family, are accepted."""
    build("GeneralizedLinearRegression", {"family": "Binomial", "link": "CLogLog", "solver": "IRLS"})
    build("GeneralizedLinearRegression", {"family": "tweedie", "link": "logit", "variancePower": 1, "linkPower": 0})
    with pytest.raises(UsageError):
        build("GeneralizedLinearRegression", params)


def test_a_stored_vector_column_is_read_as_an_assembled_one() -> None:
    """Rows of Spark's vector type, dense and sparse, are predicted like the same numbers in memory."""
    model = GeneralizedLinearRegressionModel(
        coefficients=np.array([2.0, -1.0]), intercept=0.5, family="gaussian", link=None, variance_power=0.0, link_power=None
    )
    dense = {"type": 1, "size": None, "indices": None, "values": [1.0, 2.0]}
    sparse = {"type": 0, "size": 2, "indices": [1], "values": [3.0]}
    stored = model.transform((Column(pa.array([dense, sparse], VECTOR)),))
    held = model.transform((Column(Vector.of(np.array([[1.0, 2.0], [0.0, 3.0]]))),))
    assert stored.columns["prediction"].values == held.columns["prediction"].values
    assert held.columns["prediction"].values.to_pylist() == [0.5, -2.5]
