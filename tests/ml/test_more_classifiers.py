"""Are sealed naive Bayes and linear support vector classifiers those of pyspark.ml?"""

import numpy as np
import pytest
from pyspark.ml import classification
from pyspark.ml.linalg import Vectors

from securemllib.errors import DataError, SealedError, UsageError
from securemllib.ml.classification import LinearSVC, LinearSVCModel, LinearSVCTrainingSummary, NaiveBayes

SVC = {"labelCol": "ill", "regParam": 0.05, "maxIter": 60}


@pytest.fixture(scope="module")
def svc(features):
    """A sealed model."""
    return LinearSVC(**SVC).fit(features)


@pytest.fixture(scope="module")
def plain_svc(plain):
    """The same in the clear."""
    return classification.LinearSVC(**SVC).fit(plain)


def test_naive_bayes_is_that_of_mllib(features, plain):
    """A released Gaussian model has MLlib's priors, means and variances, and its sealed predictions are MLlib's."""
    params = {"labelCol": "group", "modelType": "gaussian", "weightCol": "weight"}
    model, theirs = NaiveBayes(**params).fit(features), classification.NaiveBayes(**params).fit(plain)
    ours = model.release()
    assert (ours.numClasses, ours.numFeatures) == (theirs.numClasses, theirs.numFeatures)
    assert np.allclose(ours.pi, theirs.pi, rtol=1e-12)
    # Rows are float32 less their part's mean.
    assert np.allclose(ours.theta.toArray(), theirs.theta.toArray(), rtol=1e-6)
    assert np.allclose(ours.sigma.toArray(), theirs.sigma.toArray(), rtol=1e-6)
    row = plain.first()["features"]
    assert ours.predict(row) == theirs.predict(row)
    assert np.allclose(ours.predictProbability(row), theirs.predictProbability(row), atol=1e-5)
    assert np.allclose(ours.predictRaw(row), theirs.predictRaw(row), atol=1e-4)
    out = model.transform(features).release(columns=["name", "prediction"]).toPandas().set_index("name")["prediction"].sort_index()
    expected = theirs.transform(plain).select("name", "prediction").toPandas().set_index("name")["prediction"].sort_index()
    assert (out == expected).all()


def test_thresholds_of_naive_bayes_change_predictions(features):
    """Thresholds that are set after training count, and a wrong number of them is refused."""
    model = NaiveBayes(labelCol="ill", modelType="gaussian").fit(features)
    rows = model.copy().setThresholds([1.0, 0.0]).transform(features).release(columns=["prediction"]).toPandas()
    assert (rows["prediction"] == 1.0).all()
    with pytest.raises((DataError, UsageError)):
        model.copy().setThresholds([1.0, 1.0, 1.0]).transform(features).release(columns=["prediction"])


def test_features_of_another_kind_end_a_fit(features):
    """Features that Bernoulli naive Bayes does not take are an error of the data."""
    with pytest.raises(DataError, match="0 and 1"):
        NaiveBayes(labelCol="ill", modelType="bernoulli").fit(features)


def test_a_linear_svc_is_that_of_mllib(svc, plain_svc, features, plain):
    """A released model has MLlib's margins as far as kinks let both converge, and predicts as MLlib's does nearly always."""
    ours = svc.release()
    assert (ours.numClasses, ours.numFeatures) == (2, plain_svc.numFeatures)
    assert isinstance(ours.coefficients, type(Vectors.dense(0.0)))
    margins = [(ours.predictRaw(row.features)[1], plain_svc.predictRaw(row.features)[1]) for row in plain.select("features").collect()]
    assert np.allclose(*np.transpose(margins), atol=0.03)
    out = svc.transform(features)
    expected = plain_svc.transform(plain)
    assert out.dtypes[-2:] == expected.dtypes[-2:]
    released = out.release(columns=["name", "prediction"]).toPandas().set_index("name")["prediction"].sort_index()
    theirs = expected.select("name", "prediction").toPandas().set_index("name")["prediction"].sort_index()
    assert (released != theirs).mean() < 0.02
    low = svc.copy().setThreshold(-1e9).transform(features).release(columns=["prediction"]).toPandas()
    assert (low["prediction"] == 1.0).all()


def test_summaries_of_a_linear_svc_are_those_of_mllib(svc, plain_svc, features, plain):
    """The summary is called as in pyspark.ml, and its metrics, curves and columns are MLlib's."""
    ours, theirs = svc.summary(), plain_svc.summary()
    assert type(ours) is LinearSVCTrainingSummary
    assert (ours.scoreCol, ours.labelCol, ours.weightCol) == (theirs.scoreCol, theirs.labelCol, theirs.weightCol)
    assert ours.objectiveHistory[0] == theirs.objectiveHistory[0]
    assert ours.objectiveHistory[-1] == pytest.approx(theirs.objectiveHistory[-1], abs=1e-3)
    for mine, original in ((ours, theirs), (svc.evaluate(features), plain_svc.evaluate(plain))):
        assert mine.accuracy == pytest.approx(original.accuracy, abs=0.02)
        assert mine.areaUnderROC == pytest.approx(original.areaUnderROC, abs=1e-3)
        assert mine.roc.columns.tolist() == original.roc.columns
    with pytest.raises(SealedError):
        svc.coefficients  # noqa: B018


def test_a_loaded_linear_svc_has_no_summary(svc, tmp_path):
    """A loaded model predicts with its Params and has no training summary."""
    svc.save(str(tmp_path / "model"))
    loaded = LinearSVCModel.load(str(tmp_path / "model"))
    assert (loaded.getRegParam(), loaded.hasSummary, svc.hasSummary) == (0.05, False, True)
    with pytest.raises(UsageError, match="No training summary"):
        loaded.summary()


@pytest.mark.parametrize("wrong", [{"aggregationDepth": 3}, {"maxBlockSizeInMB": 2.0}, {"regParam": -1.0}])
def test_params_without_effect_are_refused(wrong, features):
    """A Param that tells Spark how to sum has no effect on enclaves and is refused, and so is a value out of its domain."""
    with pytest.raises(UsageError):
        LinearSVC(**{**SVC, **wrong}).fit(features)
