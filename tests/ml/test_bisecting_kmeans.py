"""Does a sealed bisecting K-Means give pyspark.ml's columns, model and summary?"""

import numpy as np
import pytest
from pyspark.ml import clustering
from pyspark.ml.feature import VectorAssembler as PlainAssembler
from pyspark.ml.linalg import Vectors

from securemllib.errors import SealedError, UsageError
from securemllib.ml.clustering import BisectingKMeans, BisectingKMeansModel, BisectingKMeansSummary
from securemllib.ml.feature import VectorAssembler
from securemllib.spark.functions import col

PARAMS = {"k": 2, "featuresCol": "x", "maxIter": 10, "weightCol": "weight", "seed": 1}


@pytest.fixture(scope="module")
def rows(frame, plain):
    """Two clusters that do not overlap, sealed and in the clear: the ill are put far from the others."""
    from pyspark.sql import functions

    sealed = frame.withColumn("far", col("dose") + col("ill") * 400.0)
    clear = plain.withColumn("far", functions.col("dose") + functions.col("ill") * 400.0)
    inputs = {"inputCols": ["far", "pressure"], "outputCol": "x"}
    return VectorAssembler(**inputs).transform(sealed), PlainAssembler(**inputs).transform(clear)


def test_a_bisecting_kmeans_is_that_of_mllib(rows, tmp_path):
    """Centres, their order, sizes, costs, columns and predictions are MLlib's; a loaded model predicts; what it holds is sealed."""
    ours, theirs = BisectingKMeans(**PARAMS).fit(rows[0]), clustering.BisectingKMeans(**PARAMS).fit(rows[1])
    released = ours.release()
    # Rows are float32 less their part's mean.
    assert np.allclose(released.clusterCenters(), theirs.clusterCenters(), rtol=1e-6)
    value = Vectors.dense(430.0, 120.0)
    assert (released.predict(value), released.numFeatures) == (theirs.predict(value), 2)
    assert type(ours.summary) is BisectingKMeansSummary
    assert ours.summary.trainingCost == pytest.approx(theirs.summary.trainingCost, rel=1e-6)
    assert (ours.summary.clusterSizes, ours.summary.k, ours.summary.numIter) == (theirs.summary.clusterSizes, 2, theirs.summary.numIter)
    with pytest.warns(FutureWarning):
        assert ours.computeCost(rows[0]) == pytest.approx(theirs.computeCost(rows[1]), rel=1e-9)
    ours.save(str(tmp_path / "model"))
    out = BisectingKMeansModel.load(str(tmp_path / "model")).transform(rows[0])
    assert out.dtypes[-1] == theirs.transform(rows[1]).dtypes[-1]
    predicted = out.release(columns=["prediction"]).toPandas()["prediction"]
    assert [(predicted == cluster).sum() for cluster in range(2)] == theirs.summary.clusterSizes
    with pytest.raises(SealedError):
        ours.clusterCenters()
    with pytest.raises(UsageError, match="minDivisibleClusterSize"):
        BisectingKMeans(featuresCol="x", minDivisibleClusterSize=0.0).fit(rows[0])
