"""Are sealed multilayer perceptrons those of pyspark.ml?"""

import numpy as np
import pytest
from pyspark.ml import classification
from pyspark.ml.feature import VectorAssembler as PlainAssembler
from pyspark.ml.linalg import Vectors

from securemllib.errors import DataError, SealedError, UsageError
from securemllib.ml.classification import (
    MultilayerPerceptronClassificationModel,
    MultilayerPerceptronClassificationTrainingSummary,
    MultilayerPerceptronClassifier,
)
from securemllib.ml.feature import VectorAssembler

START = Vectors.dense(np.random.default_rng(3).uniform(-0.1, 0.1, 2 * 3 + 3 + 3 * 2 + 2))
# 600 rows are two blocks of one size.
NETWORK = {"featuresCol": "x", "labelCol": "ill", "layers": [2, 3, 2], "solver": "gd", "maxIter": 5, "blockSize": 300}


@pytest.fixture(scope="module")
def rows(frame, plain):
    """Two features, sealed and in the clear."""
    assembled = {"inputCols": ["dose", "weight"], "outputCol": "x"}
    return VectorAssembler(**assembled).transform(frame), PlainAssembler(**assembled).transform(plain)


@pytest.fixture(scope="module")
def network(rows):
    """The same model sealed and in the clear."""
    ours, theirs = MultilayerPerceptronClassifier(**NETWORK), classification.MultilayerPerceptronClassifier(**NETWORK)
    return ours.setInitialWeights(START).fit(rows[0]), theirs.setInitialWeights(START).fit(rows[1])


def test_the_released_network_is_that_of_mllib(network):
    """From the same weights a network of gd has MLlib's weights and predictions, to 1e-8."""
    ours, theirs = network[0].release(), network[1]
    assert (ours.numClasses, ours.numFeatures) == (theirs.numClasses, theirs.numFeatures)
    assert np.allclose(ours.weights, theirs.weights, rtol=1e-8)
    row = Vectors.dense(3.0, 1.0)
    assert ours.predict(row) == theirs.predict(row)
    assert np.allclose(ours.predictProbability(row), theirs.predictProbability(row), rtol=1e-8)
    assert np.allclose(ours.predictRaw(row), theirs.predictRaw(row), rtol=1e-8)
    with pytest.raises(SealedError, match="weights"):
        network[0].weights  # noqa: B018


def test_a_loaded_network_adds_mllibs_columns(network, rows, tmp_path):
    """A saved and loaded network adds MLlib's columns, and predicts by thresholds once they are set."""
    network[0].save(str(tmp_path / "model"))
    loaded = MultilayerPerceptronClassificationModel.load(str(tmp_path / "model"))
    out, theirs = loaded.transform(rows[0]), network[1].transform(rows[1])
    assert out.dtypes[-3:] == theirs.dtypes[-3:]
    released = out.release(columns=["name", "probability", "prediction"]).toPandas().set_index("name").sort_index()
    expected = theirs.select("name", "probability", "prediction").toPandas().set_index("name").sort_index()
    assert np.allclose(np.stack(released["probability"].to_list()), np.stack(expected["probability"].to_list()), rtol=1e-8)
    assert (released["prediction"] == expected["prediction"]).all()
    low = loaded.setThresholds([1.0, 0.0]).transform(rows[0]).release(columns=["prediction"]).toPandas()
    assert (low["prediction"] == 1.0).all()


def test_summaries_of_a_network_are_those_of_mllib(network, rows):
    """The summary is called as in pyspark.ml; its history and metrics, also of other rows, are MLlib's."""
    ours, theirs = network[0].summary(), network[1].summary()
    assert type(ours) is MultilayerPerceptronClassificationTrainingSummary
    assert np.allclose(ours.objectiveHistory, theirs.objectiveHistory, rtol=1e-8)
    assert (ours.totalIterations, ours.labels) == (theirs.totalIterations, theirs.labels)
    assert ours.accuracy == pytest.approx(theirs.accuracy)
    assert network[0].evaluate(rows[0]).weightedFMeasure() == pytest.approx(theirs.weightedFMeasure())


@pytest.mark.parametrize(
    ("wrong", "error"),
    [({"layers": [2]}, UsageError), ({"solver": "adam"}, UsageError), ({"layers": [3, 2]}, DataError), ({"labelCol": "dose"}, DataError)],
)
def test_what_is_no_network_of_the_rows_is_refused(wrong, error, rows):
    """Params that make no network are refused before a job is sent, layers that do not fit the rows by the enclave."""
    with pytest.raises(error):
        MultilayerPerceptronClassifier(**{**NETWORK, **wrong}).fit(rows[0])
