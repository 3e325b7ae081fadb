"""Does an enclave that was built for some operations do those as any other enclave, and nothing else?"""

from contextlib import contextmanager

import pytest

from securemllib.attestation.measurement import measure_package
from securemllib.cli.image.build import build, own_code
from securemllib.cli.image.manifest import JobClass
from securemllib.errors import AttestationError, UsageError
from securemllib.ml.classification import LogisticRegression
from securemllib.ml.clustering import KMeans, KMeansModel
from securemllib.ml.feature import StandardScaler, VectorAssembler
from securemllib.spark import SecureSession
from tests.image.native import running

ALLOWED = ("LogisticRegression", "StandardScaler")


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """An image for a logistic regression on scaled columns."""
    folder = tmp_path_factory.mktemp("images") / "small"
    build(folder, JobClass(memory=2**28, threads=2, idle=60.0, operations=ALLOWED))
    return folder


@pytest.fixture
def opened(deployment, spark, settings):
    """What opens two columns of a dataset in a session, for enclaves of the executor's own or for that behind a port."""

    @contextmanager
    def features(path, port=None):
        address = {} if port is None else {"spark.securemllib.enclave.address": f"127.0.0.1:{port}"}
        session = SecureSession(spark, deployment.url, {**settings, **address})
        try:
            yield VectorAssembler(inputCols=["age", "dose"], outputCol="features").transform(session.read(path))
        finally:
            session.stop()

    return features


def test_it_does_what_it_was_built_for_and_nothing_else(image, deployment, table, opened, tmp_path):
    """Under a policy that names its measurement it trains to the same bytes as an enclave of everything, which that policy refuses.

    Another operation is refused, and a model of another one is not opened; the error says of what kind of enclave.
    """
    path = deployment.dataset(table, "small-enclave", rows_per_part=300)
    regression = LogisticRegression(labelCol="ill", maxIter=5)
    with opened(path) as rows:
        expected = regression.fit(rows).release().coefficients.toArray()
        KMeans(k=2).fit(rows).write().save(str(tmp_path / "clusters"))
    deployment.allow(deployment.enrol(path), measurement=measure_package(own_code(image)))
    with running(image) as port, opened(path, port) as rows:
        model = regression.fit(rows)
        assert model.release().coefficients.toArray().tobytes() == expected.tobytes()
        assert model.transform(rows).release(columns=["prediction"]).open().num_rows == table.num_rows
        StandardScaler(inputCol="features", outputCol="scaled").fit(rows)
        with pytest.raises(UsageError, match="built with this --operation"):
            KMeans(k=2).fit(rows)
        with pytest.raises(UsageError, match="built with this --operation"):
            KMeansModel.load(str(tmp_path / "clusters")).transform(rows).release(columns=["prediction"])
    with opened(path) as rows, pytest.raises(AttestationError, match="does not name the measurement"):
        regression.fit(rows)
