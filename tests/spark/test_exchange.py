"""Do enclaves of a real cluster exchange blocks to the same model, whatever engine carries them and whatever dies on the way?"""

import os
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from securemllib.errors import UnavailableError
from securemllib.ml.recommendation import ALS
from securemllib.spark import SecureSession
from securemllib.spark.blocks import Blocks
from tests.spark.test_rounds import enclave_process


@pytest.fixture(scope="module")
def path(deployment):
    """Return ratings in six parts."""
    drawn = np.random.default_rng(3)
    table = pa.table({"user": drawn.integers(0, 60, 600), "item": drawn.integers(0, 40, 600), "rating": drawn.normal(size=600)})
    return deployment.dataset(table, "rated", rows_per_part=100)


@pytest.fixture
def fitted(spark, deployment, settings, path, tmp_path):
    """Return a function that trains with some settings and returns the bytes of all factors."""

    def fit(**changes):
        conf = {**settings, "spark.securemllib.storage": str(tmp_path), "spark.securemllib.shares": "3"}
        session = SecureSession(spark, deployment.url, {**conf, **{f"spark.securemllib.{key}": value for key, value in changes.items()}})
        try:
            plain = ALS(rank=3, maxIter=3).fit(session.read(path)).release()
            return np.stack(plain.userFactors["features"]).tobytes() + np.stack(plain.itemFactors["features"]).tobytes()
        finally:
            session.stop()

    return fit


@pytest.fixture(scope="module")
def expected():
    """The bytes of an undisturbed fit, once there are some."""
    return []


@pytest.mark.parametrize("changes", [{}, {"tasks": "1"}, {"barrier": "false"}], ids=["barrier", "one task", "jobs"])
def test_engines_carry_the_same_blocks(fitted, expected, changes, tmp_path):
    """One resident stage of two tasks or of one, and one Spark job a round, give the same bytes, and leave no exchanged block behind."""
    expected.append(fitted(**changes))
    assert len(set(expected)) == 1
    assert not list(tmp_path.rglob("exchanged/*"))
    assert list(tmp_path.rglob("model-2"))


@pytest.mark.parametrize("barrier", ["true", "false"])
def test_an_exchange_survives_its_enclave(fitted, expected, barrier, deployment, monkeypatch):
    """An enclave that is killed in mid-exchange is started again, reads the kept blocks again, and the result is the same bytes."""
    record, calls = deployment.broker.move_head, []

    def move_head(job_id, update):
        calls.append(job_id)
        if len(calls) == 5:
            os.kill(enclave_process().pid, signal.SIGKILL)
        return record(job_id, update)

    monkeypatch.setattr(deployment.broker, "move_head", move_head)
    expected.append(fitted(**{"checkpoint.interval": "1", "barrier": barrier}))
    assert len(set(expected)) == 1
    assert len(calls) > 5


def test_lost_blocks_are_named(fitted, deployment, monkeypatch, tmp_path):
    """A storage that loses blocks gives an error that names the storage, not a model."""
    record = deployment.broker.move_head

    def lose(job_id, update):
        for file in tmp_path.rglob("deal-*"):
            file.unlink()
        return record(job_id, update)

    monkeypatch.setattr(deployment.broker, "move_head", lose)
    with pytest.raises(UnavailableError, match="storage") as refused:
        fitted(**{"checkpoint.interval": "1"})
    assert refused.value.error_code == "unavailable.storage"


def test_only_blocks_that_a_resumed_job_reads_are_kept(tmp_path):
    """Once a head is recorded, of each stage the latest round before it and what came since stay; once a job ended, nothing does."""
    from securemllib.spark.storage import Folder

    blocks = Blocks(job_id="job", folder=Folder(str(tmp_path)))
    names = [f"deal-1-0-{receiver}-0" for receiver in (0, 1)] + [f"item-{number}-0-1-0" for number in (3, 5, 7)] + ["model-0"]
    for name in names:
        blocks.keep(blocks.job_id, name, memoryview(b"sealed"))
    blocks.prune(7)
    assert sorted(file.name for file in Path(tmp_path).rglob("*-*")) == sorted(set(names) - {"item-3-0-1-0"})
    assert blocks.read("job", "item-7-0-1-0") == b"sealed"
    blocks.prune(None)
    assert [file.name for file in Path(tmp_path).rglob("*-*")] == ["model-0"]
