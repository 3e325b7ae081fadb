"""Is what goes over an enclave's border counted, once and whole?"""

import socket

import numpy as np
import pyarrow as pa
import pytest

from securemllib.ml.classification import LogisticRegression
from securemllib.ml.feature import PCA, VectorAssembler
from securemllib.spark import SecureSession
from securemllib.spark.crossings import CountedConnection, Crossings
from securemllib.wire.framing import receive, send
from securemllib.wire.task import REPLIES, REQUESTS, End, Ended, NeedPart, PartBytes

PARAMS = {"labelCol": "ill", "regParam": 0.01, "maxIter": 5}


def test_bytes_are_those_on_the_wire():
    """Headers and payloads are counted in both directions, to the byte, and a part is not the largest frame."""
    near, far = socket.socketpair()
    with near, far:
        counted = CountedConnection(near)
        send(counted, End(job_id="job"), b"x" * 10)
        counted.sent_frame(10)
        send(counted, PartBytes(ordinal=1), b"y" * 1000)
        counted.sent_frame(0)
        wire = CountedConnection(far)
        for types in (REQUESTS, (PartBytes,)):
            receive(wire, types)
        send(wire, Ended(), b"z" * 20)
        send(wire, NeedPart(ordinal=0))
        for _ in range(2):
            _, body = receive(counted, REPLIES)
            counted.received_frame(len(body))
        found = counted.crossings("job")
    assert (found.bytes_in, found.bytes_out) == (wire.received, wire.sent)
    assert found.bytes_in > 1010
    assert (found.frames_in, found.frames_out, found.largest) == (2, 2, 20)


def test_counts_add():
    """Numbers of tasks and jobs add, the largest frame is the largest of both, and a sum over jobs has no job's id."""
    one = Crossings(job_id="a", frames_in=1, frames_out=2, bytes_in=3, bytes_out=4, largest=5)
    same = one + Crossings(job_id="a", frames_in=10, frames_out=20, bytes_in=30, bytes_out=40, largest=2)
    assert same == Crossings(job_id="a", frames_in=11, frames_out=22, bytes_in=33, bytes_out=44, largest=5)
    assert (one + Crossings(job_id="b")).job_id == ""


@pytest.fixture
def fitted(spark, deployment, settings, frame):
    """Returns the counts of one fit, in a session with other settings, and the bytes of its dataset's parts."""
    sessions = []

    def fit(**changes):
        conf = {**settings, **{f"spark.securemllib.{key}": value for key, value in changes.items()}}
        sessions.append(SecureSession(spark, deployment.url, conf))
        rows = sessions[-1].read(frame.source.folder.root)
        LogisticRegression(**PARAMS).fit(VectorAssembler(inputCols=["age", "dose", "pressure"], outputCol="features").transform(rows))
        (counts,) = sessions[-1].crossings.values()
        return counts, sum(part.length for part in rows.source.manifest.parts)

    yield fit
    for session in sessions:
        session.stop()


@pytest.mark.parametrize("barrier", ["true", "false"])
def test_a_fit_is_counted(fitted, barrier):
    """Each request has its answer, a round takes a frame from each of two tasks, and parts that an enclave holds do not cross again."""
    first, parts = fitted(barrier=barrier, shares="2", **{"enclave.memory": "33m" if barrier == "true" else "34m"})
    again, _ = fitted(barrier=barrier, shares="2", **{"enclave.memory": "33m" if barrier == "true" else "34m"})
    assert first.frames_in == first.frames_out
    assert first.frames_in >= 2 * 5
    assert first.bytes_in - again.bytes_in == pytest.approx(parts, rel=0.05)
    assert 0 < first.largest < parts


@pytest.mark.parametrize("barrier", ["true", "false"])
def test_statistics_of_the_aggregators_executor_do_not_cross(spark, deployment, settings, barrier):
    """Where a stage's tasks run on one executor its enclave keeps what it adds; rounds of jobs of their own send it out and back."""
    columns, size = [f"f{index}" for index in range(60)], 60 * 60 * 8
    rows = np.random.default_rng(3).normal(size=(200, 60))
    path = deployment.dataset(pa.table(dict(zip(columns, rows.T, strict=True))), f"wide-{barrier}", rows_per_part=100)
    session = SecureSession(spark, deployment.url, {**settings, "spark.securemllib.barrier": barrier, "spark.securemllib.shares": "2"})
    try:
        features = VectorAssembler(inputCols=columns, outputCol="features").transform(session.read(path))
        PCA(k=1, inputCol="features").fit(features)
        (counts,) = session.crossings.values()
    finally:
        session.stop()
    assert (counts.bytes_out < size) is (barrier == "true")
    assert barrier == "true" or counts.bytes_out > 2 * size
