"""Does a sealed linear regression take every loss that pyspark.ml takes, and give its summary?"""

import numpy as np
import pytest
from pyspark.ml import regression

from securemllib.errors import UsageError
from securemllib.ml.regression import LinearRegression

PARAMS = {"labelCol": "pressure", "featuresCol": "x", "tol": 1e-12, "maxIter": 200}


@pytest.fixture(scope="module")
def rows(frame, plain):
    """Two features that explain the label in part, sealed and in the clear."""
    from pyspark.ml.feature import VectorAssembler as PlainAssembler

    from securemllib.ml.feature import VectorAssembler

    return tuple(
        assembler(inputCols=["age", "dose"], outputCol="x").transform(source)
        for assembler, source in ((VectorAssembler, frame), (PlainAssembler, plain))
    )


def test_the_huber_loss_is_fitted(rows, table):
    """With the Huber loss a released model has the coefficients, intercept and scale that solve Huber's equations over the plain rows."""
    model = LinearRegression(**PARAMS, loss="huber", epsilon=1.2).fit(rows[0])
    assert model.getEpsilon() == 1.2
    released = model.release()
    features = np.column_stack([table["age"].to_numpy(), table["dose"].to_numpy()])
    residuals = features @ released.coefficients.toArray() + released.intercept - table["pressure"].to_numpy()
    inner = np.clip(residuals / released.scale, -1.2, 1.2)
    assert np.ptp(inner) == pytest.approx(2.4)
    # The search ends at a gradient of 1e-8, or where the objective stands still in its twelfth digit: at about the root of that.
    assert np.allclose([inner.mean(), (1 - inner**2).mean()], 0.0, atol=1e-5)
    assert np.allclose(inner @ (features - features.mean(axis=0)) / len(inner) / features.std(axis=0), 0.0, atol=1e-5)
    assert model.summary.totalIterations > 1


def test_least_squares_has_the_scale_of_mllib_and_its_errors(rows):
    """Least squares has the scale 1, and a summary with MLlib's standard errors, t and p values."""
    ours = LinearRegression(**PARAMS).fit(rows[0])
    theirs = regression.LinearRegression(**PARAMS).fit(rows[1])
    assert ours.release().scale == theirs.scale == 1.0
    for name in ("coefficientStandardErrors", "tValues", "pValues"):
        assert np.allclose(getattr(ours.summary, name), getattr(theirs.summary, name), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("wrong", [{"solver": "normal"}, {"elasticNetParam": 0.5}, {"epsilon": 1.0}])
def test_what_mllib_refuses_of_the_huber_loss_is_refused(wrong, rows):
    """The normal solver, an L1 part and an epsilon of at most 1 are refused before a job is sent, as MLlib refuses them."""
    with pytest.raises(UsageError):
        LinearRegression(**{**PARAMS, "loss": "huber", **wrong}).fit(rows[0])
