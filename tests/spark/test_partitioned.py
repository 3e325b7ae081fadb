"""Does partitioned mode train enclave mode's models on Spark, only where the owner's policy has it?"""

import numpy as np
import pytest

from securemllib.errors import PolicyError, UsageError
from securemllib.ml.classification import LogisticRegression
from securemllib.ml.clustering import KMeans
from securemllib.ml.feature import PCA, StandardScaler, VectorAssembler
from securemllib.ml.regression import LinearRegression
from securemllib.spark import SecureSession
from securemllib.wire.job import Mode
from tests.host import FEATURES

ESTIMATORS = {
    "LogisticRegression": lambda: LogisticRegression(labelCol="ill", regParam=0.01, maxIter=20),
    "LinearRegression": lambda: LinearRegression(labelCol="ill", solver="l-bfgs"),
    "KMeans": lambda: KMeans(k=3, seed=5),
    "PCA": lambda: PCA(k=2, inputCol="features", outputCol="projected"),
    "StandardScaler": lambda: StandardScaler(inputCol="features", outputCol="scaled", withMean=True),
}
LEARNT = {
    "LogisticRegression": lambda plain: np.append(plain.coefficients.toArray(), plain.intercept),
    "LinearRegression": lambda plain: np.append(plain.coefficients.toArray(), plain.intercept),
    "KMeans": lambda plain: np.array(plain.clusterCenters()),
    "PCA": lambda plain: plain.pc.toArray(),
    "StandardScaler": lambda plain: np.array([plain.mean.toArray(), plain.std.toArray()]),
}


@pytest.fixture(scope="module")
def partitioned(spark, deployment, settings, frame):
    """Returns the features in a session of partitioned mode, with a barrier stage or one Spark job a round."""
    sessions = []

    def make(**changes):
        conf = {
            **settings,
            "spark.securemllib.mode": "partitioned",
            **{f"spark.securemllib.{key}": value for key, value in changes.items()},
        }
        sessions.append(SecureSession(spark, deployment.url, conf))
        return VectorAssembler(inputCols=FEATURES, outputCol="features").transform(sessions[-1].read(frame.source.folder.root))

    yield make
    for session in sessions:
        session.stop()


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_a_barrier_stage_of_masked_sums_trains_the_same_model(name, features, partitioned):
    """Sums that the host adds in a barrier stage train enclave mode's model, to 1e-7 of its largest number."""
    expected = LEARNT[name](ESTIMATORS[name]().fit(features).release())
    got = LEARNT[name](ESTIMATORS[name]().fit(partitioned()).release())
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-7 * np.abs(expected).max())


def test_jobs_of_rounds_and_several_shares_a_task_give_the_same_bytes(partitioned):
    """One Spark job a round, and tasks that add several shares, give the bytes of the barrier stage: integers add in any order."""
    found = [
        LEARNT["LogisticRegression"](ESTIMATORS["LogisticRegression"]().fit(partitioned(shares="4", **changes)).release())
        for changes in ({}, {"tasks": "1"}, {"barrier": "false"})
    ]
    assert found[0].tobytes() == found[1].tobytes() == found[2].tobytes()


def test_a_policy_without_the_mode_refuses_it(deployment, partitioned, features):
    """A rule for enclave mode alone refuses a partitioned fit, and allows the same fit in enclave mode."""
    dataset = features.source.manifest.dataset_id
    deployment.allow(dataset, modes=(Mode.ENCLAVE,))
    try:
        with pytest.raises(PolicyError):
            ESTIMATORS["PCA"]().fit(partitioned())
        ESTIMATORS["PCA"]().fit(features)
    finally:
        deployment.allow(dataset)


def test_an_unknown_mode_is_refused(partitioned):
    """A session's mode is one of the two."""
    with pytest.raises(UsageError, match="mode must be one of"):
        partitioned(mode="outside")
