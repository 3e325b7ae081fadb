"""One deployment and one Spark for all tests of the host."""

import logging
import os

import pytest
import structlog
from pyspark.sql import SparkSession

from securemllib.ml.feature import VectorAssembler
from securemllib.spark import SecureSession
from tests.deployment import patients, start
from tests.sparks import JAVA_OPTIONS

FEATURES = ["age", "dose", "pressure"]


@pytest.fixture(scope="session")
def deployment(tmp_path_factory):
    """One deployment for all tests."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    deployment, stop = start(tmp_path_factory.mktemp("deployment"))
    yield deployment
    stop()


@pytest.fixture(scope="session")
def spark():
    """Two task slots."""
    os.environ.pop("SPARK_REMOTE", None)
    conf = {
        "spark.ui.enabled": "false",
        "spark.driver.extraJavaOptions": JAVA_OPTIONS,
        "spark.driver.host": "127.0.0.1",
        "spark.python.unix.domain.socket.enabled": "true",
        "spark.scheduler.barrier.maxConcurrentTasksCheck.interval": "1s",
        "spark.sql.shuffle.partitions": "2",
    }
    builder = SparkSession.builder.master("local[2]").appName("tests")
    for key, value in conf.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    yield session
    session.stop()


@pytest.fixture(scope="session")
def settings(tmp_path_factory):
    """What every session of the tests sets."""
    return {
        "spark.securemllib.dtype": "float64",
        "spark.securemllib.enclave.idle": "60",
        "spark.securemllib.broker.wait": "5",
        "spark.securemllib.storage": str(tmp_path_factory.mktemp("storage")),
    }


@pytest.fixture(scope="session")
def session(deployment, spark, settings):
    """A session on the deployment."""
    session = SecureSession(spark, deployment.url, settings)
    yield session
    session.stop()


@pytest.fixture(scope="session")
def table():
    """The rows that the owner encrypts."""
    return patients()


@pytest.fixture(scope="session")
def frame(deployment, session, table):
    """The table, encrypted in five parts, which two tasks share."""
    return session.read(deployment.dataset(table, "patients", rows_per_part=120))


@pytest.fixture(scope="session")
def features(frame):
    """The frame with its numbers assembled."""
    return VectorAssembler(inputCols=FEATURES, outputCol="features").transform(frame)


@pytest.fixture(scope="session")
def plain(spark, table):
    """The same rows in the clear, for pyspark.ml."""
    from pyspark.ml.feature import VectorAssembler as PlainAssembler

    rows = spark.createDataFrame(table.to_pandas()).coalesce(1)
    return PlainAssembler(inputCols=FEATURES, outputCol="features").transform(rows).cache()
