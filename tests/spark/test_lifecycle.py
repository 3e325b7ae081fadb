"""What is left when a session or a fit ends before its time, and what do its frames and models say then?"""

import copy
import os
import pickle
import shutil
import signal
import socket
import tempfile
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy import select

from securemllib.broker.schema import ACCEPTED, JobRow
from securemllib.errors import DataError, UsageError
from securemllib.ml.classification import LogisticRegression
from securemllib.ml.clustering import LDA
from securemllib.ml.feature import VectorAssembler
from securemllib.owner import identity_file
from securemllib.owner.home import Home
from securemllib.spark import SecureSession, agent_client
from securemllib.spark.agent_client import AgentClient


def train(session, frame):
    """Train in a session on a frame's dataset."""
    rows = VectorAssembler(inputCols=["age", "dose"], outputCol="features").transform(session.read(frame.source.folder.root))
    return rows, LogisticRegression(labelCol="ill", maxIter=3).fit(rows)


def test_a_session_leaves_a_spark_that_was_there(deployment, spark, settings, frame):
    """A session that was given no Spark session takes the one that there is, and does not end it when it ends itself."""
    session = SecureSession.builder.broker(deployment.url).config("spark.securemllib.enclave.idle", "60").getOrCreate()
    assert session.spark.sparkContext is spark.sparkContext
    assert SecureSession.active() is session
    session.stop()
    assert spark.range(3).count() == 3
    assert repr(session) == f"SecureSession[broker: {deployment.url}, stopped]"


def test_a_session_that_ended_says_so(deployment, spark, settings, session, frame, monkeypatch):
    """Its frames name the end and what to do; its models go on in the session that is left, which is the active one again."""
    monkeypatch.setattr(SecureSession, "_sessions", [session])
    ended = SecureSession(spark, deployment.url, settings)
    rows, model = train(ended, frame)
    assert SecureSession.active() is ended
    ended.stop()
    stream = rows.writeStream.option("checkpointLocation", "unused")
    for job in (
        lambda: LogisticRegression(labelCol="ill").fit(rows),
        lambda: rows.release(columns=["age"]),
        lambda: stream.start("unused"),
    ):
        with pytest.raises(UsageError) as caught:
            job()
        assert caught.value.error_code == "usage.stopped"
    assert SecureSession.active() is session
    assert SecureSession.builder.getOrCreate() is session
    assert model.release().coefficients == train(session, frame)[1].release().coefficients


def test_what_holds_a_session_does_not_leave_the_driver(session, frame, features):
    """A frame or model that a task's function captured by mistake is refused by its own name; a plain copy of a frame works."""
    with pytest.raises(UsageError, match="tasks get no sealed rows"):
        pickle.dumps(frame)
    with pytest.raises(UsageError) as caught:
        copy.deepcopy(features)
    assert caught.value.error_code == "usage.pickled"
    assert copy.copy(frame).columns == frame.columns
    assert repr(session).startswith("SecureSession[broker: http://")


@contextmanager
def ctrl_c(seconds):
    """Press Ctrl-C after a time, where only Python hears of it, as in a notebook."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, before)


def waiting_jobs(deployment):
    """Return the jobs that the broker would give keys to."""
    with deployment.broker._custody.look() as transaction:
        return set(transaction.session.scalars(select(JobRow.job_id).where(JobRow.status == ACCEPTED)))


def test_ctrl_c_ends_the_job(deployment, session, frame):
    """The tasks of a fit that was interrupted end with their round, its job gets no more keys, and the next fit gets their slots."""
    before = waiting_jobs(deployment)
    rows = VectorAssembler(inputCols=["age", "weight"], outputCol="features").transform(frame)
    with ctrl_c(2.0):
        LDA(k=2, maxIter=1_000_000, optimizer="em").fit(rows)
    assert waiting_jobs(deployment) == before
    for stage in session._engine._stages:
        stage.join(30.0)
        assert not stage.is_alive()
    assert LDA(k=2, maxIter=1).fit(rows).release().vocabSize() == 2


def test_a_fit_that_fails_leaves_no_job(deployment, session, frame):
    """Jobs that were accepted, and that an enclave refused or failed at, get no more keys: neither one that trains nor one of rows."""
    before = waiting_jobs(deployment)
    rows = VectorAssembler(inputCols=["age", "dose"], outputCol="features").transform(frame)
    with pytest.raises(DataError):
        LogisticRegression(labelCol="pressure").fit(rows)
    with pytest.raises(DataError):
        frame.filter(frame["age"] / (frame["age"] - frame["age"]) > 1).release(columns=["age"])
    assert waiting_jobs(deployment) == before


@pytest.fixture
def short():
    """A folder with a name that leaves room for a socket's."""
    folder = Path(tempfile.mkdtemp(prefix="sml"))
    yield folder
    shutil.rmtree(folder)


def test_an_answer_that_was_not_waited_for_is_not_the_next_one(deployment, short):
    """Ctrl-C while the agent asks the analyst leaves a client whose next question gets its own answer."""
    released, listener = threading.Event(), socket.socket(socket.AF_UNIX)
    listener.bind(str(short / "slow.sock"))
    listener.listen()

    def carry(connection):
        with suppress(OSError), connection, socket.socket(socket.AF_UNIX) as agent:
            agent.connect(str(deployment.socket))
            while asked := connection.recv(2**16):
                agent.sendall(asked)
                answer = agent.recv(2**16)
                released.wait(10.0)
                connection.sendall(answer)

    def serve():
        for _ in range(2):
            threading.Thread(target=carry, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    with listener, AgentClient(short / "slow.sock") as client:
        with ctrl_c(0.3):
            client.sign_end("j" * 64, deployment.broker.identity.fingerprint)
        released.set()
        assert client.identify().identity == deployment.analyst.public


def test_the_agent_of_a_driver_outlives_its_ctrl_c(short, monkeypatch):
    """An agent that the session started is in the terminal's process group, whose Ctrl-C is not for it."""
    home = Home(short)
    home.make()
    identity_file.create(home.path, "analyst", None)
    monkeypatch.setenv("SECUREMLLIB_HOME", str(short))
    monkeypatch.setattr(agent_client.shutil, "which", lambda _: None)
    started = []
    popen = agent_client.subprocess.Popen

    def start(command, **how):
        started.append(popen(command, **how))
        return started[-1]

    monkeypatch.setattr(agent_client.subprocess, "Popen", start)
    with AgentClient(short / "agent.sock") as client:
        started[0].send_signal(signal.SIGINT)
        assert client.sign_end("j" * 64, "b" * 52).signer == client.identify().identity.fingerprint
        started[0].terminate()
        assert started[0].wait(10.0) is not None
