"""Does the regression of censored lifetimes give MLlib's coefficients, scale and quantiles?"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pyspark.ml import regression
from pyspark.ml.linalg import Vectors
from scipy.sparse import csr_array

from securemllib.algorithms.aft_survival_regression import AFTSurvivalRegressionModel
from securemllib.algorithms.base import Seed
from securemllib.algorithms.registry import build
from securemllib.algorithms.summary import Summary
from securemllib.errors import DataError, UsageError

CASES: dict[str, tuple[dict[str, Any], float]] = {
    "intercept": ({}, 0.0),
    "far": ({}, 50.0),
    "no_intercept": ({"fitIntercept": False}, 0.5),
}
# Both searches go on until nothing moves: what is left is where the minimum is flat to the last digits of a sum.
EXACT: dict[str, Any] = {"tol": 1e-12, "maxIter": 300}


def _rows(shift: float = 0.0, rows: int = 300) -> dict[str, Any]:
    generator = np.random.default_rng(12)
    features = generator.normal(size=(rows, 4)) * [1.0, 2.0, 0.5, 1.0] + shift
    features[:, 3] = 7.0
    lifetime = np.exp((features[:, :3] - shift) @ [0.5, -0.3, 1.0] + 0.6 * np.log(generator.exponential(size=rows)))
    seen = generator.exponential(2.0, rows)
    return {"features": features, "label": np.minimum(lifetime, seen), "censor": (lifetime <= seen).astype(float)}


def _blocks(cut: Any, data: dict[str, Any], **options: Any) -> Any:
    made = cut(data["features"], data["label"], **options)
    pieces = np.array_split(data["censor"], len(made))
    return [replace(block, extras={"censor": piece}) for block, piece in zip(made, pieces, strict=True)]


def _frame(spark: Any, data: dict[str, Any]) -> Any:
    columns = map(Vectors.dense, data["features"].tolist()), data["label"].tolist(), data["censor"].tolist()
    return spark.createDataFrame(list(zip(*columns, strict=True)), ["features", "label", "censor"]).coalesce(1)


@pytest.mark.parametrize("case", CASES)
def test_models_are_mllibs(case: str, fit: Any, cut: Any, spark: Any) -> None:
    """Coefficients, intercept and scale are MLlib's to 1e-6, of float32 rows to 1e-4, with a constant column and means far from zero."""
    params, shift = CASES[case]
    data = _rows(shift)
    theirs = regression.AFTSurvivalRegression(**params, **EXACT).fit(_frame(spark, data))
    expected = [*theirs.coefficients, theirs.intercept, theirs.scale]
    for dtype, tolerance in ((np.float64, 1e-6), (np.float32, 1e-4)):
        ours = fit(build("AFTSurvivalRegression", {**params, **EXACT}), _blocks(cut, data, dtype=dtype))
        # The intercept of far rows is a difference of numbers fifty times as large.
        np.testing.assert_allclose([*ours.coefficients, ours.intercept, ours.scale], expected, rtol=tolerance, atol=tolerance * (1 + shift))
        assert ours.coefficients[3] == 0.0
    stopped = fit(build("AFTSurvivalRegression", params), _blocks(cut, data))
    np.testing.assert_allclose([*stopped.coefficients, stopped.scale], [*expected[:4], expected[5]], rtol=1e-3, atol=1e-3)


def test_quantiles_are_mllibs(fit: Any, cut: Any, spark: Any) -> None:
    """Predictions and quantiles of a model are MLlib's, of sparse rows too; without other probabilities they are MLlib's nine."""
    data = _rows()
    frame, probabilities = _frame(spark, data), [0.999999, 0.2]
    theirs = regression.AFTSurvivalRegression(quantilesCol="q", quantileProbabilities=probabilities, **EXACT).fit(frame)
    ours = fit(build("AFTSurvivalRegression", {"quantileProbabilities": probabilities, **EXACT}), _blocks(cut, data))
    rows = theirs.transform(frame).collect()
    for features in (data["features"], csr_array(data["features"])):
        found = ours.predict(features)
        np.testing.assert_allclose(found["prediction"], [row["prediction"] for row in rows], rtol=1e-5)
        np.testing.assert_allclose(found["quantiles"], [row["q"].toArray() for row in rows], rtol=1e-5)
    assert build("AFTSurvivalRegression", {}).quantile_probabilities == tuple(regression.AFTSurvivalRegression().getQuantileProbabilities())


def test_sparse_rows_train_as_dense_ones(fit: Any, cut: Any) -> None:
    """Rows that are stored sparse, and are not centred, give the model of the same dense rows."""
    data = _rows()
    data["features"][np.abs(data["features"]) < 0.7] = 0.0
    dense = _blocks(cut, data)
    zeros = np.zeros(4)
    sparse = [
        replace(block, features=block.features[:, :0], sparse=csr_array(block.features + block.offset), offset=zeros) for block in dense
    ]
    one, other = (fit(build("AFTSurvivalRegression", EXACT), blocks) for blocks in (dense, sparse))
    np.testing.assert_allclose(
        [*one.coefficients, one.intercept, one.scale], [*other.coefficients, other.intercept, other.scale], rtol=1e-6
    )


def test_a_likelihood_without_bound_ends_at_the_start(fit: Any, cut: Any) -> None:
    """Where one lifetime is predicted exactly the likelihood has no bound, and the model is MLlib's: the start, after a failed search."""
    data = {"features": np.array([[1.0], [0.0]]), "label": np.array([1.0, 1e-40]), "censor": np.array([1.0, 0.0])}
    model = fit(build("AFTSurvivalRegression", {"maxIter": 1}), _blocks(cut, data, parts=1))
    np.testing.assert_allclose([*model.coefficients, model.intercept, model.scale], [0.0, 0.0, 1.0], atol=1e-4)


@pytest.mark.parametrize(("column", "value", "code"), [("label", 0.0, "label"), ("label", -1.0, "label"), ("censor", 0.5, "censor")])
def test_lifetimes_and_censors_have_their_domains(column: str, value: float, code: str, cut: Any) -> None:
    """A lifetime that is not above 0 and a censor that is neither 0 nor 1 are refused, as in MLlib; the rows without it are not."""
    data, algorithm = _rows(), build("AFTSurvivalRegression", {})
    (block,) = _blocks(cut, data, parts=1)
    state = algorithm.initial(Summary.of(block), Seed(bytes(32)))
    algorithm.statistics(state, block)
    data[column][5] = value
    with pytest.raises(DataError) as refused:
        algorithm.statistics(state, _blocks(cut, data, parts=1)[0])
    assert refused.value.error_code == f"data.{code}"


@pytest.mark.parametrize("probabilities", [[], [0.0], [0.5, 1.0], [float("nan")], ["0.5"]])
def test_probabilities_are_between_zero_and_one(probabilities: Any) -> None:
    """Quantile probabilities outside (0, 1), or none, are refused, of an estimator and of a model; others are not."""
    model = AFTSurvivalRegressionModel(coefficients=np.zeros(1), intercept=0.0, scale=1.0, quantile_probabilities=(0.5,))
    for params in (build("AFTSurvivalRegression", {"quantileProbabilities": [0.5]}), model):
        with pytest.raises(UsageError, match="quantile_probabilities"):
            replace(params, quantile_probabilities=tuple(probabilities))
