"""Does a fit give the same answer, whatever engine carries it and whatever dies on the way?"""

import os
import signal
from pathlib import Path

import numpy as np
import psutil
import pytest
from pyspark.files import SparkFiles
from pyspark.ml.classification import LogisticRegression as PlainLogisticRegression

from securemllib.errors import UnavailableError
from securemllib.ml.classification import LogisticRegression
from securemllib.ml.feature import VectorAssembler
from securemllib.spark import SecureSession

PARAMS = {"labelCol": "ill", "regParam": 0.01, "maxIter": 20}


def coefficients(model):
    """Return what a released model learnt."""
    plain = model.release()
    return np.append(plain.coefficients.toArray(), plain.intercept)


@pytest.fixture
def another(spark, deployment, settings, frame):
    """Returns the features in a session with other settings."""
    sessions = []

    def make(**changes):
        conf = {**settings, **{f"spark.securemllib.{key}": value for key, value in changes.items()}}
        sessions.append(SecureSession(spark, deployment.url, conf))
        rows = sessions[-1].read(frame.source.folder.root)
        return VectorAssembler(inputCols=["age", "dose", "pressure"], outputCol="features").transform(rows)

    yield make
    for session in sessions:
        session.stop()


@pytest.fixture(scope="module")
def expected(features):
    """The coefficients of an undisturbed fit."""
    return coefficients(LogisticRegression(**PARAMS).fit(features))


def test_a_sealed_fit_gives_the_coefficients_of_mllib(expected, plain):
    """A fit through the barrier stage gives MLlib's coefficients to 1e-8."""
    model = PlainLogisticRegression(**PARAMS).fit(plain)
    assert np.allclose(expected, np.append(model.coefficients.toArray(), model.intercept), rtol=0, atol=1e-8)


def test_one_spark_job_a_round_gives_the_same_bytes(expected, another):
    """Where there is no barrier stage, one Spark job a round gives the same coefficients to the last bit."""
    features = another(barrier="false", shares="2")
    assert coefficients(LogisticRegression(**PARAMS).fit(features)).tobytes() == expected.tobytes()


def test_the_number_of_tasks_does_not_change_the_answer(expected, another):
    """Two shares on one task give the same bytes as two shares on two tasks."""
    features = another(tasks="1", shares="2")
    assert coefficients(LogisticRegression(**PARAMS).fit(features)).tobytes() == expected.tobytes()


def test_more_tasks_than_slots_fall_back_to_jobs(expected, another):
    """Five tasks on two slots would wait for ever in a barrier stage: they run as jobs instead."""
    features = another(tasks="5", shares="2")
    assert coefficients(LogisticRegression(**PARAMS).fit(features)).tobytes() == expected.tobytes()


def test_relays_listen_within_the_configured_ports(expected, another):
    """A range of ports is enough for the relays, and a fit within it gives the same bytes."""
    features = another(ports="42100-42140")
    assert coefficients(LogisticRegression(**PARAMS).fit(features)).tobytes() == expected.tobytes()


def enclave_process():
    """Return the process of this executor's enclave: the one that was started last, for this module's broker."""
    known = Path(SparkFiles.getRootDirectory()).glob("securemllib-enclave-*.address")
    address = max(known, key=lambda file: file.stat().st_mtime).read_text()
    port = int(address.rpartition(":")[2])
    for process in psutil.process_iter():
        try:
            if any(found.laddr.port == port for found in process.net_connections("tcp") if found.status == psutil.CONN_LISTEN):
                return process
        except psutil.Error:
            continue
    raise LookupError(address)


@pytest.fixture
def killing(deployment, monkeypatch):
    """Kill the enclave when the broker is asked to record the third head, and count the heads."""
    record, calls = deployment.broker.move_head, []

    def move_head(job_id, update):
        calls.append(job_id)
        if len(calls) == 3:
            os.kill(enclave_process().pid, signal.SIGKILL)
        return record(job_id, update)

    monkeypatch.setattr(deployment.broker, "move_head", move_head)
    return calls


@pytest.mark.parametrize("barrier", ["true", "false"])
def test_a_fit_survives_its_enclave(barrier, expected, killing, another):
    """An enclave that is killed in mid-fit is started again, resumes from the recorded checkpoint, and the result is the same bytes."""
    changes = {"checkpoint.interval": "1", "barrier": barrier, "shares": "2"}
    features = another(**changes)
    assert coefficients(LogisticRegression(**PARAMS).fit(features)).tobytes() == expected.tobytes()
    assert len(killing) > 3


def test_a_lost_checkpoint_is_named(killing, another, deployment, tmp_path):
    """A fit whose checkpoints vanish with its enclave ends with an error that names the storage."""
    features = another(**{"checkpoint.interval": "1", "storage": str(tmp_path)})
    record = deployment.broker.move_head

    def lose(job_id, update):
        for file in tmp_path.rglob("*.sml"):
            file.unlink()
        return record(job_id, update)

    deployment.broker.move_head = lose
    with pytest.raises(UnavailableError, match=r"storage|checkpoint") as caught:
        LogisticRegression(**PARAMS).fit(features)
    assert caught.value.error_code == "unavailable.storage"
