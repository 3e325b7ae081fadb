"""Do models go on batch by batch, each row once?"""

import numpy as np
import pyarrow as pa
import pytest

from securemllib.errors import PolicyError, UsageError
from securemllib.ml.classification import LogisticRegression
from securemllib.ml.clustering import KMeans
from securemllib.ml.feature import VectorAssembler

FIRST, SECOND = (np.random.default_rng(seed).normal(size=(40, 2)) + [[9.0 * (row % 2), 0.0] for row in range(40)] for seed in (1, 2))


def table(rows):
    """Return rows and labels that go with them."""
    return pa.table({"x": rows[:, 0], "y": rows[:, 1], "label": (np.arange(len(rows)) % 2).astype(float)})


@pytest.fixture(scope="module")
def growing(deployment, session):
    """A dataset of two parts, one after the other."""
    path = deployment.dataset(table(FIRST), "updates")
    deployment.extend(path, table(SECOND))
    return VectorAssembler(inputCols=["x", "y"], outputCol="features").transform(session.read(path))


def test_a_stream_moves_clusters(growing, tmp_path):
    """A model that each batch of a stream updates has the centres of both batches' rows, weighed by the decay."""
    models = []

    def learn(batch, number):
        model = KMeans(k=2, seed=1).fit(batch) if number == 0 else KMeans(k=2, maxIter=1).update(models[-1], batch, decayFactor=0.5)
        models.append(model)

    writer = growing.writeStream.foreachBatch(learn).option("checkpointLocation", str(tmp_path)).option("maxPartsPerTrigger", 1)
    writer.trigger(availableNow=True).start().awaitTermination()
    centers = sorted(center.tolist() for center in models[1].release().clusterCenters())
    for side, center in enumerate(centers):
        before, new = FIRST[side::2], SECOND[side::2]
        np.testing.assert_allclose(center, (before.mean(axis=0) * 10 + new.sum(axis=0)) / 30, rtol=1e-9)
    with pytest.raises(PolicyError):
        KMeans(k=2).update(models[1], growing.of_parts(1, 2))


def test_a_regression_starts_at_the_model(growing):
    """Without an iteration the updated model is the one that it went on from; rows that it has seen, and all rows at once, are refused."""
    estimator = LogisticRegression(maxIter=0, regParam=0.1)
    model = LogisticRegression(maxIter=5, regParam=0.1).fit(growing.of_parts(0, 1))
    same = estimator.update(model, growing.of_parts(1, 2))
    np.testing.assert_allclose(same.release().coefficients.toArray(), model.release().coefficients.toArray(), rtol=1e-9)
    with pytest.raises(PolicyError):
        estimator.update(model, growing.of_parts(0, 1))
    with pytest.raises(UsageError):
        estimator.update(model, growing)
    with pytest.raises(UsageError):
        KMeans().update(model, growing.of_parts(1, 2))
