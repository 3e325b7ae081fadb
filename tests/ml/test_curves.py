"""Are sealed regressions of lifetimes and of monotone curves those of pyspark.ml?"""

import numpy as np
import pytest
from pyspark.ml import regression
from pyspark.ml.feature import VectorAssembler as PlainAssembler
from pyspark.ml.linalg import Vectors

from securemllib.errors import SealedError, UsageError
from securemllib.ml.feature import VectorAssembler
from securemllib.ml.regression import AFTSurvivalRegression, AFTSurvivalRegressionModel, IsotonicRegression, IsotonicRegressionModel

SURVIVAL = {
    "featuresCol": "x",
    "labelCol": "pressure",
    "censorCol": "ill",
    "quantilesCol": "q",
    "quantileProbabilities": [0.1, 0.5],
    "tol": 1e-10,
}


@pytest.fixture(scope="module")
def rows(frame, plain):
    """Two features, a label above 0 and who is ill, sealed and in the clear."""
    assembled = {"inputCols": ["age", "dose"], "outputCol": "x"}
    return VectorAssembler(**assembled).transform(frame), PlainAssembler(**assembled).transform(plain)


@pytest.fixture(scope="module")
def survival(rows):
    """The same model sealed and in the clear."""
    return AFTSurvivalRegression(**SURVIVAL).fit(rows[0]), regression.AFTSurvivalRegression(**SURVIVAL).fit(rows[1])


def test_the_released_survival_model_is_that_of_mllib(survival):
    """Released coefficients, intercept, scale, predictions and quantiles are MLlib's to 1e-6, where both searches end."""
    ours, theirs = survival[0].release(), survival[1]
    row = Vectors.dense(40.0, 3.0)
    for name in ("coefficients", "intercept", "scale", "numFeatures"):
        assert np.allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-6), name
    assert ours.predict(row) == pytest.approx(theirs.predict(row), rel=1e-6)
    assert np.allclose(ours.predictQuantiles(row), theirs.predictQuantiles(row), rtol=1e-6)
    with pytest.raises(SealedError, match="scale"):
        survival[0].scale  # noqa: B018


def test_lifetimes_and_their_quantiles_are_added(survival, rows, tmp_path):
    """A saved and loaded model adds MLlib's columns with MLlib's types, and quantiles of other probabilities once they are set."""
    survival[0].save(str(tmp_path / "model"))
    loaded = AFTSurvivalRegressionModel.load(str(tmp_path / "model")).setQuantileProbabilities([0.9])
    out, theirs = loaded.transform(rows[0]), survival[1].copy().setQuantileProbabilities([0.9]).transform(rows[1])
    assert out.dtypes[-2:] == theirs.dtypes[-2:]
    released = out.release(columns=["name", "prediction", "q"]).toPandas().set_index("name").sort_index()
    expected = theirs.select("name", "prediction", "q").toPandas().set_index("name").sort_index()
    assert np.allclose(released["prediction"], expected["prediction"], rtol=1e-6)
    assert np.allclose(np.stack(released["q"].to_list()), np.stack(expected["q"].to_list()), rtol=1e-6)
    assert survival[0].copy().setQuantilesCol("").transform(rows[0]).columns == [*rows[0].columns, "prediction"]


@pytest.mark.parametrize(
    "wrong", [{"quantileProbabilities": [0.0]}, {"censorCol": "nothing"}, {"censorCol": "name"}, {"aggregationDepth": 3}, {"tol": -1.0}]
)
def test_what_a_survival_regression_does_not_take_is_refused(wrong, rows):
    """Probabilities, columns and Params that are out of their domain or without effect are refused before a job is sent."""
    with pytest.raises(UsageError):
        AFTSurvivalRegression(**{**SURVIVAL, **wrong}).fit(rows[0])


@pytest.mark.parametrize("column", ["dose", "x"])
def test_an_isotonic_regression_is_that_of_mllib(column, rows, tmp_path):
    """On a number and on a slot of vectors, with weights, a saved and loaded model has and predicts what MLlib's does."""
    params = {"featuresCol": column, "labelCol": "pressure", "weightCol": "weight", "featureIndex": 1, "isotonic": column == "x"}
    theirs = regression.IsotonicRegression(**params).fit(rows[1])
    IsotonicRegression(**params).fit(rows[0]).save(str(tmp_path / "model"))
    model = IsotonicRegressionModel.load(str(tmp_path / "model"))
    ours = model.release()
    assert (ours.boundaries, ours.numFeatures) == (theirs.boundaries, theirs.numFeatures)
    assert np.allclose(ours.predictions, theirs.predictions, rtol=1e-12)
    assert ours.predict(3.0) == pytest.approx(theirs.predict(3.0))
    out, expected = model.transform(rows[0]), theirs.transform(rows[1])
    assert out.dtypes[-1] == expected.dtypes[-1]
    released = out.release(columns=["name", "prediction"]).toPandas().set_index("name").sort_index()
    assert np.allclose(released, expected.select("name", "prediction").toPandas().set_index("name").sort_index(), rtol=1e-12)


@pytest.mark.parametrize("wrong", [{"featureIndex": 2}, {"featureIndex": -1}, {"featuresCol": "name"}, {"weightCol": "nothing"}])
def test_what_an_isotonic_regression_does_not_take_is_refused(wrong, rows):
    """A slot that vectors do not have, and columns that are missing or of another kind, are refused."""
    with pytest.raises(UsageError):
        IsotonicRegression(**{"featuresCol": "x", "labelCol": "pressure", **wrong}).fit(rows[0])
