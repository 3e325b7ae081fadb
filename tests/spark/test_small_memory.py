"""A matrix that is larger than the enclave's memory: training reads parts again, says so, and gives the same model."""

import logging

import numpy as np
import pyarrow as pa
import pytest

from securemllib.ml.classification import LogisticRegression
from securemllib.ml.feature import VectorAssembler
from securemllib.spark import SecureSession, progress

ROWS, COLUMNS = 40_000, 10
MATRIX = 8 * ROWS * COLUMNS
NAMES = [f"x{index}" for index in range(COLUMNS)]


@pytest.fixture(scope="module")
def path(deployment):
    """Return a dataset whose float64 matrix has 3.2 MB, in parts of 0.16 MB."""
    drawn = np.random.default_rng(8)
    features = drawn.normal(size=(ROWS, COLUMNS))
    label = (features @ drawn.normal(size=COLUMNS) + drawn.normal(size=ROWS) > 0).astype(float)
    table = pa.table({name: features[:, index] for index, name in enumerate(NAMES)} | {"ill": label})
    return deployment.dataset(table, "wide", rows_per_part=2000)


@pytest.fixture
def log(monkeypatch, caplog):
    """Return what catches the engine's warnings, whatever other tests and their libraries did to the loggers of this process."""
    logger = logging.getLogger("tests.engine")
    logger.disabled = False
    logger.addHandler(caplog.handler)
    monkeypatch.setattr(progress, "_LOG", logger)
    return caplog


def fitted(spark, deployment, settings, path, memory, log):
    """Return the coefficients of a fit in enclaves of so much memory, and what was logged."""
    session = SecureSession(spark, deployment.url, {**settings, "spark.securemllib.enclave.memory": str(memory)})
    try:
        rows = VectorAssembler(inputCols=NAMES, outputCol="features").transform(session.read(path))
        log.clear()
        model = LogisticRegression(labelCol="ill", maxIter=5).fit(rows)
        return model.release().coefficients.toArray(), log.text
    finally:
        session.stop()


def test_training_on_five_times_the_enclaves_memory_finishes_and_says_what_it_costs(spark, deployment, settings, path, log):
    """A fifth of the memory gives the same bytes, and a warning that names the setting; enough memory gives none."""
    ample, quiet = fitted(spark, deployment, settings, path, 4 * MATRIX, log)
    scarce, warned = fitted(spark, deployment, settings, path, MATRIX // 5, log)
    assert np.array_equal(ample, scarce)
    assert "read and decrypted" in warned
    assert "spark.securemllib.enclave.memory" in warned
    assert "read and decrypted" not in quiet
