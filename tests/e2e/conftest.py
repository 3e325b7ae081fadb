"""One deployment of processes and one standalone cluster for all tests of the folder."""

from contextlib import ExitStack

import numpy as np
import psutil
import pyarrow as pa
import pytest
from pyspark import SparkContext

from securemllib.cli.deployment import LocalDeployment
from securemllib.ml.clustering import KMeans
from securemllib.ml.feature import VectorAssembler
from securemllib.spark import SecureSession
from securemllib.wire.encoding import encode
from tests.e2e.cluster import command_of, running_cluster
from tests.sparks import end

COLUMNS = ["a", "b", "c"]


@pytest.fixture(scope="package")
def deployment(tmp_path_factory):
    """Owner, broker and agent; the last two are processes."""
    with pytest.MonkeyPatch.context() as patch, LocalDeployment(tmp_path_factory.mktemp("deployment")) as deployment:
        for name, value in deployment.environment.items():
            patch.setenv(name, value)
        patch.delenv("SPARK_REMOTE", raising=False)
        yield deployment


@pytest.fixture(scope="package")
def cluster(tmp_path_factory):
    """A master and two workers."""
    with running_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="package")
def spark(cluster):
    """A driver on the cluster; its virtual machine ends with it, so that other folders' tests get one of their own."""
    assert SparkContext._active_spark_context is None, "run these tests before others that hold a Spark session"
    session = cluster.spark()
    yield session
    end(session)


class BrokerProcess:
    """The deployment's broker, which can be killed and started again at the same address."""

    def __init__(self, deployment):
        self._deployment = deployment

    def kill(self):
        """Kill it in the middle of whatever it does."""
        (process,) = [child for child in psutil.Process().children() if {"broker", "serve"} <= set(command_of(child))]
        process.kill()
        process.wait(10)

    def start(self):
        """Start it again."""
        port, home = self._deployment.broker_url.rpartition(":")[2], self._deployment.directory / "broker"
        self._deployment._start("broker", "serve", "--home", str(home), "--port", port)


@pytest.fixture
def broker(deployment):
    """The broker's process."""
    return BrokerProcess(deployment)


@pytest.fixture
def storage(tmp_path):
    """The folder for a test's checkpoints."""
    return tmp_path / "storage"


@pytest.fixture
def another(spark, deployment, cluster, storage):
    """Makes sessions; all settings but the named ones are those of the folder."""
    with ExitStack() as stack:

        def make(**changes):
            settings = {
                "dtype": "float64",
                "shares": "2",
                "checkpoint.interval": "1",
                "enclave.idle": str(cluster.idle),
                "broker.wait": "20",
                "storage": str(storage),
                **changes,
            }
            session = SecureSession(spark, deployment.broker_url, {f"spark.securemllib.{key}": value for key, value in settings.items()})
            stack.callback(session.stop)
            return session

        yield make


@pytest.fixture(scope="package")
def points(deployment):
    """The path of a dataset whose clusters take many rounds to find, because it has none."""
    generator = np.random.default_rng(5)
    return str(deployment.dataset(pa.table({name: generator.random(6000) for name in COLUMNS}), "points", rows_per_part=1500))


def features(session, path, rows=None):
    """Return a dataset's rows, or some of them, with their features assembled."""
    return VectorAssembler(inputCols=COLUMNS, outputCol="features").transform(session.read(path) if rows is None else rows)


def long_kmeans(**params):
    """Return an estimator that takes more than a hundred rounds on `points`."""
    return KMeans(**{"k": 12, "maxIter": 120, "tol": 0.0, "seed": 3, **params})


def tree(model):
    """Return the released numbers of a model as their only encoding."""
    session = model.session
    (key,) = session.release_model(model.sealed, None)
    opened, shards = session.agent.open_model(model.sealed.to_bytes(), (), key)
    return encode([opened, shards])
