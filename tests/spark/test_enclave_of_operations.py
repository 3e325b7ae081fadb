"""Does an enclave that was built for some operations do those as any other enclave, and nothing else?"""

import pytest

from securemllib.attestation.measurement import measure_package
from securemllib.cli.image.build import build, own_code
from securemllib.cli.image.manifest import JobClass
from securemllib.errors import AttestationError, UsageError
from securemllib.ml.classification import LogisticRegression
from securemllib.ml.clustering import KMeans
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
def fitted(deployment, spark, settings):
    """What trains an estimator on two columns of a dataset, in an enclave of the executor's own or in that behind a port.

    Returns the released model.
    """

    def fit(estimator, path, port=None):
        address = {} if port is None else {"spark.securemllib.enclave.address": f"127.0.0.1:{port}"}
        session = SecureSession(spark, deployment.url, {**settings, **address})
        try:
            frame = VectorAssembler(inputCols=["age", "dose"], outputCol="features").transform(session.read(path))
            return estimator.fit(frame).release()
        finally:
            session.stop()

    return fit


def test_it_does_what_it_was_built_for_and_nothing_else(image, deployment, table, fitted):
    """Under a policy that names its measurement it trains to the same bytes as an enclave of everything, which that policy refuses.

    Another operation is refused, and the error says of what kind of enclave.
    """
    path = deployment.dataset(table, "small-enclave", rows_per_part=300)
    regression = LogisticRegression(labelCol="ill", maxIter=5)
    expected = fitted(regression, path).coefficients.toArray()
    deployment.allow(deployment.enrol(path), measurement=measure_package(own_code(image)))
    with running(image) as port:
        found = fitted(regression, path, port).coefficients.toArray()
        assert found.tobytes() == expected.tobytes()
        fitted(StandardScaler(inputCol="features", outputCol="scaled"), path, port)
        with pytest.raises(UsageError, match="built with this --operation"):
            fitted(KMeans(k=2), path, port)
    with pytest.raises(AttestationError, match="does not name the measurement"):
        fitted(regression, path)
