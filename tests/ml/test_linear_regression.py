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


def test_the_huber_loss_is_that_of_mllib(rows):
    """With the Huber loss a released model has MLlib's coefficients, intercept and scale, as far as MLlib converges."""
    params = {**PARAMS, "loss": "huber", "epsilon": 1.2, "regParam": 0.01}
    ours = LinearRegression(**params).fit(rows[0])
    theirs = regression.LinearRegression(**params).fit(rows[1])
    assert ours.getEpsilon() == 1.2
    released = ours.release()
    # Breeze's LBFGSB ends where the objective stands still, which is up to the root of its digits away from the minimum.
    assert np.allclose(released.coefficients, theirs.coefficients, rtol=1e-3, atol=1e-3)
    assert released.intercept == pytest.approx(theirs.intercept, rel=1e-3)
    assert released.scale == pytest.approx(theirs.scale, rel=1e-3)
    assert ours.summary.objectiveHistory[-1] == pytest.approx(theirs.summary.objectiveHistory[-1], rel=1e-6)


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
