"""Does a sealed Gaussian mixture give pyspark.ml's columns, model and summary?"""

import numpy as np
import pytest
from pyspark.ml import clustering
from pyspark.ml.feature import VectorAssembler as PlainAssembler
from pyspark.ml.linalg import Vectors

from securemllib.errors import SealedError, UsageError
from securemllib.ml.clustering import GaussianMixture, GaussianMixtureModel
from securemllib.ml.feature import VectorAssembler
from securemllib.spark.functions import col

PARAMS = {"k": 2, "featuresCol": "x", "tol": 1e-6, "maxIter": 60, "weightCol": "weight"}


@pytest.fixture(scope="module")
def rows(frame, plain):
    """Two clusters that do not overlap, sealed and in the clear: the ill are put far from the others."""
    from pyspark.sql import functions

    sealed = frame.withColumn("far", col("dose") + col("ill") * 40.0)
    clear = plain.withColumn("far", functions.col("dose") + functions.col("ill") * 40.0)
    inputs = {"inputCols": ["far", "pressure"], "outputCol": "x"}
    return VectorAssembler(**inputs).transform(sealed), PlainAssembler(**inputs).transform(clear)


@pytest.fixture(scope="module")
def trained(rows):
    """The likelier of two sealed models, and of two of MLlib's."""
    ours = [GaussianMixture(**PARAMS, seed=seed).fit(rows[0]) for seed in (1, 2)]
    theirs = [clustering.GaussianMixture(**PARAMS, seed=seed).fit(rows[1]) for seed in (1, 2)]
    return tuple(max(models, key=lambda model: model.summary.logLikelihood) for models in (ours, theirs))


def test_the_released_model_is_that_of_mllib(trained):
    """Weights, means, covariances and probabilities are MLlib's, up to the order of the clusters."""
    ours, theirs = trained[0].release(), trained[1]
    order = sorted(range(2), key=lambda index: ours.gaussians[index].mean[0])
    expected = sorted(range(2), key=lambda index: theirs.gaussians[index].mean[0])
    assert np.allclose(np.array(ours.weights)[order], np.array(theirs.weights)[expected], atol=1e-6)
    frame = ours.gaussiansDF.iloc[order]
    for mine, other in zip(frame.itertuples(), (theirs.gaussians[index] for index in expected), strict=True):
        assert np.allclose(mine.mean, other.mean, rtol=1e-6)
        assert np.allclose(mine.cov.toArray(), other.cov.toArray(), rtol=1e-5, atol=1e-5)
    value = Vectors.dense(43.0, 120.0)
    assert np.allclose(ours.predictProbability(value).toArray()[order], theirs.predictProbability(value).toArray()[expected])
    assert (order.index(ours.predict(value)), ours.numFeatures) == (expected.index(theirs.predict(value)), 2)


def test_the_summary_is_that_of_mllib(trained, rows, frame):
    """Likelihood and sizes are MLlib's; clusters and probabilities are sealed columns."""
    ours, theirs = trained[0].summary, trained[1].summary
    assert ours.logLikelihood == pytest.approx(theirs.logLikelihood, rel=1e-6)
    assert sorted(ours.clusterSizes) == sorted(theirs.clusterSizes)
    assert (ours.k, ours.probabilityCol, ours.predictionCol, ours.featuresCol) == (2, "probability", "prediction", "x")
    assert ours.numIter >= 1
    assert (ours.cluster.columns, ours.probability.columns) == (["prediction"], ["probability"])
    with pytest.raises(SealedError):
        ours.probability.collect()


def test_transform_adds_the_columns_of_mllib(trained, rows):
    """The columns are MLlib's in order and type; the likeliest cluster is the prediction, whose counts are the sizes."""
    out = trained[0].transform(rows[0])
    assert out.dtypes[-2:] == trained[1].transform(rows[1]).dtypes[-2:]
    released = out.release(columns=["probability", "prediction"]).toPandas()
    probability = np.stack(released["probability"])
    assert (probability.argmax(axis=1) == released["prediction"]).all()
    assert released["prediction"].dtype == np.int32
    assert np.allclose(probability.sum(axis=1), 1.0)
    assert [(released["prediction"] == cluster).sum() for cluster in range(2)] == trained[0].summary.clusterSizes


def test_a_loaded_model_predicts(trained, rows, tmp_path):
    """A saved model is applied as before; what would show its inside is sealed."""
    trained[0].save(str(tmp_path / "model"))
    loaded = GaussianMixtureModel.load(str(tmp_path / "model"))
    assert loaded.transform(rows[0]).columns == trained[0].transform(rows[0]).columns
    with pytest.raises(SealedError):
        loaded.gaussians  # noqa: B018
    with pytest.raises(UsageError, match="k"):
        GaussianMixture(k=1, featuresCol="x").fit(rows[0])
