"""Do sealed factorization machines give pyspark.ml's columns, models and summaries?"""

import numpy as np
import pytest
from pyspark.ml import classification, regression
from pyspark.ml.linalg import Vectors

from securemllib.errors import SealedError, UsageError
from securemllib.ml.classification import FMClassificationModel, FMClassificationSummary, FMClassificationTrainingSummary, FMClassifier
from securemllib.ml.regression import FMRegressionModel, FMRegressor

# First factors differ; so small ones have no part in a few steps of gradient descent, so that all else is comparable.
STEPS = {"factorSize": 2, "solver": "gd", "maxIter": 6, "initStd": 1e-12, "seed": 3}
CLASSES, TARGETS = ({**STEPS, "labelCol": "ill", "stepSize": 1e-3}, {**STEPS, "labelCol": "dose", "stepSize": 1e-5})
ROW = Vectors.dense(40.0, 2.0, 120.0)


def test_a_classifier_is_that_of_mllib(features, plain, tmp_path):
    """Coefficients, history, columns, predictions and metrics are MLlib's; a loaded model predicts; what it holds is sealed."""
    ours, theirs = FMClassifier(**CLASSES).fit(features), classification.FMClassifier(**CLASSES).fit(plain)
    released = ours.release()
    assert np.allclose(released.linear, theirs.linear.toArray(), rtol=1e-9)
    assert (released.numClasses, released.numFeatures, released.factors.numCols) == (2, 3, 2)
    assert released.intercept == pytest.approx(theirs.intercept, rel=1e-9)
    assert released.predict(ROW) == theirs.predict(ROW)
    assert np.allclose(released.predictRaw(ROW), theirs.predictRaw(ROW), rtol=1e-9)
    assert np.allclose(released.predictProbability(ROW), theirs.predictProbability(ROW), rtol=1e-9)
    summary, expected = ours.summary(), theirs.summary()
    assert type(summary) is FMClassificationTrainingSummary
    assert type(ours.evaluate(features)) is FMClassificationSummary
    assert np.allclose(summary.objectiveHistory, expected.objectiveHistory, rtol=1e-9)
    assert summary.totalIterations == expected.totalIterations
    assert summary.scoreCol == expected.scoreCol
    assert (summary.accuracy, summary.areaUnderROC) == pytest.approx((expected.accuracy, expected.areaUnderROC), rel=1e-9)
    ours.save(str(tmp_path / "model"))
    out = FMClassificationModel.load(str(tmp_path / "model")).setThresholds([1.0, 0.0]).transform(features)
    assert out.dtypes[-3:] == theirs.transform(plain).dtypes[-3:]
    assert (out.release(columns=["prediction"]).toPandas()["prediction"] == 1.0).all()
    with pytest.raises(SealedError):
        ours.factors  # noqa: B018
    with pytest.raises(UsageError, match="thresholds"):
        FMClassifier(**CLASSES, thresholds=[0.1, 0.1, 0.8]).fit(features)


def test_a_regression_is_that_of_mllib(features, plain, tmp_path):
    """Coefficients and predictions are MLlib's; weights, which MLlib would ignore, are refused."""
    ours, theirs = FMRegressor(**TARGETS).fit(features), regression.FMRegressor(**TARGETS).fit(plain)
    released = ours.release()
    assert np.allclose(released.linear, theirs.linear.toArray(), rtol=1e-9)
    assert (released.intercept, released.predict(ROW)) == pytest.approx((theirs.intercept, theirs.predict(ROW)), rel=1e-9)
    ours.save(str(tmp_path / "model"))
    out = FMRegressionModel.load(str(tmp_path / "model")).transform(features).release(columns=["name", "prediction"]).toPandas()
    expected = theirs.transform(plain).select("name", "prediction").toPandas().set_index("name")["prediction"].sort_index()
    assert np.allclose(out.set_index("name")["prediction"].sort_index(), expected, rtol=1e-9)
    weighted = FMRegressor(**TARGETS)
    weighted._set(weightCol="weight")
    with pytest.raises(UsageError) as refused:
        weighted.fit(features)
    assert refused.value.error_code == "usage.unsupported"
