"""Do two brokers over one PostgreSQL, behind one address, act as one broker that outlives either?"""

import contextlib
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from broker_world import Enclave, Owner, b64, envelope_body, job_on, rule_for

from securemllib.broker.audit_log import entries, signed_head, verify_log
from securemllib.broker.keystore import create_keystore
from securemllib.broker.rollback import check_generation
from securemllib.broker.store import Database
from securemllib.crypto.identity import PrivateIdentity
from securemllib.errors import FreshnessError, PolicyError, SecureMLlibError
from securemllib.owner.identity_file import save_public
from securemllib.spark.broker_client import BrokerAddress, BrokerClient
from securemllib.wire.attestation import Head
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.job import JobSpecification
from securemllib.wire.plan import ModelRef, Plan

JOBS, RUNS, ROUNDS = 8, 6, 12


class Forwarder:
    """One TCP address before several: each connection goes to the next backend that takes it."""

    def __init__(self, *ports: int) -> None:
        self._turns = itertools.cycle(ports)
        self._attempts = len(ports)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.taken: Counter[int] = Counter()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        with client:
            for port in itertools.islice(self._turns, self._attempts):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as backend:
                    self.taken[port] += 1
                    back = threading.Thread(target=self._pump, args=(backend, client))
                    back.start()
                    self._pump(client, backend)
                    back.join()
                    return

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@dataclass
class Process:
    """A broker's process."""

    home: Path
    process: subprocess.Popen[str]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=10)


def start(home: Path, url: str, owner: Path) -> Process:
    """Start `securemllib broker serve` on a free port and wait until it listens."""
    program = [sys.executable, "-c", "from securemllib.cli import main; main()", "broker", "serve", "--port", "0"]
    options = ["--home", str(home), "--database", url, "--owner", str(owner)]
    with (home / "log").open("a") as log:
        process = subprocess.Popen([*program, *options], stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ.copy())
    for line in process.stdout or ():
        if found := re.match(r"listening http://127\.0\.0\.1:(\d+)", line):
            return Process(home=home, process=process, port=int(found[1]))
    raise RuntimeError((home / "log").read_text())


@dataclass
class Pair:
    """Two brokers' processes, an owner with a dataset, and an analyst."""

    one: Process
    two: Process
    url: str
    broker: PublicIdentity
    owner: Owner
    analyst: PrivateIdentity = field(default_factory=lambda: PrivateIdentity.generate("analyst"))
    clients: list[BrokerClient] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.manifest = self.owner.manifest()

    def client(self, at: "Process | Forwarder", wait: float = 5) -> BrokerClient:
        client = BrokerClient(BrokerAddress(url=at.url, wait=wait))
        self.clients.append(client)
        return client

    def enrol(self, client: BrokerClient, runs: int | None) -> None:
        path = f"/v1/datasets/{self.owner.dataset_id}"
        client._call("PUT", path, {"enrolment": b64(self.owner.enrolment(self.manifest))})
        policy = self.owner.policy(rule_for(self.analyst.public, maximum_runs=runs))
        client._call("PUT", f"{path}/policy", envelope_body(policy))

    def job(self) -> JobSpecification:
        plan = Plan(source=self.manifest.reference, steps=())
        return job_on(plan, self.analyst.public, self.broker, created=int(time.time()), checkpoint_interval=1)


@pytest.fixture
def pair(tmp_path: Path, postgresql: str) -> Iterator[Pair]:
    """Two processes with one keystore, each with a head file of its own, over one fresh database."""
    from sqlalchemy import create_engine, text

    engine = create_engine(postgresql)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    homes = tmp_path / "one", tmp_path / "two"
    homes[0].mkdir(mode=0o700)
    broker = create_keystore(homes[0] / "keystore.sml", "broker", None).identity.public
    shutil.copytree(homes[0], homes[1])
    owner = Owner(broker=broker)
    save_public(owner.identity.public, tmp_path / "owner.pub")
    with ThreadPoolExecutor() as pool:
        one, two = pool.map(lambda home: start(home, postgresql, tmp_path / "owner.pub"), homes)
    pair = Pair(one=one, two=two, url=postgresql, broker=broker, owner=owner)
    yield pair
    for client in pair.clients:
        client.close()
    for process in (one, two):
        process.process.kill()
        process.process.communicate(timeout=10)


def admitted(client: BrokerClient, job_id: str, broker: PublicIdentity) -> Enclave:
    """Return an enclave with the job's keys; an answer that a dying broker had taken is given again to a new challenge."""
    enclave = Enclave()
    for attempt in range(3):
        asked = client.challenge(job_id)
        try:
            grant, _ = client.admit(asked.session, enclave.evidence(asked.challenge).to_bytes(), job_id)
        except FreshnessError:
            if attempt == 2:
                raise
            continue
        enclave.install(grant, broker)
        return enclave
    raise AssertionError


def train(pair: Pair, forwarder: Forwarder, moved: threading.Semaphore) -> str:
    """Run one job over the shared address as a host does, and return its outcome."""
    client = pair.client(forwarder, wait=30)
    job = pair.job()
    try:
        client.submit(pair.analyst.sign(job))
    except PolicyError:
        return "refused"
    enclave, head = admitted(client, job.job_id, pair.broker), None
    for round_ in range(1, ROUNDS + 1):
        model = ModelRef(model_id=job.job_id, digest=b"m" * 32) if round_ == ROUNDS else None
        following: Head = enclave.head(round_, state=bytes([round_]) * 32)
        update = enclave.update(head, following, model)
        enclave.check(update, client.record(job.job_id, update))
        head = following
        moved.release()
    assert client.head(job.job_id) == ROUNDS
    return job.job_id


def test_jobs_outlive_the_death_of_a_broker(pair: Pair) -> None:
    """Six of eight jobs are allowed and run through both brokers; one dies in mid-job; all six end, counted, and the log is whole."""
    forwarder = Forwarder(pair.one.port, pair.two.port)
    pair.enrol(pair.client(pair.one), RUNS)
    moved = threading.Semaphore(0)
    with ThreadPoolExecutor(JOBS) as pool:
        running = [pool.submit(train, pair, forwarder, moved) for _ in range(JOBS)]
        for _ in range(RUNS * ROUNDS // 3):
            assert moved.acquire(timeout=10), [job.exception(0) for job in running if job.done()]
        assert set(forwarder.taken) == {pair.one.port, pair.two.port}
        pair.one.kill()
        outcomes = [job.result(timeout=60) for job in running]
    assert outcomes.count("refused") == JOBS - RUNS
    database = Database(pair.url)
    with database.transaction() as session:
        found, head = list(entries(session)), signed_head(session)
        assert head is not None
        verify_log(found, head, pair.broker)
        assert None not in [check_generation(process.home / "head.sml", session, pair.broker) for process in (pair.one, pair.two)]
    decided = Counter(event for entry in found for event in re.findall(r'"decision":"accepted".*"event":"(\w+)"', entry.payload))
    # A broker that dies between its commit and its answer leaves an entry, and the same request sent again another one.
    assert decided["job"] >= RUNS
    assert decided["head"] >= RUNS * ROUNDS
    with pytest.raises(PolicyError, match="runs"):
        pair.client(pair.two).submit(pair.analyst.sign(pair.job()))
    again = start(pair.one.home, pair.url, pair.one.home.parent / "owner.pub")
    assert {pair.client(again).head(job) for job in outcomes if job != "refused"} == {ROUNDS}
    again.process.kill()
    again.process.communicate(timeout=10)
    forwarder.close()
    database.close()


def test_both_brokers_guard_one_head_and_one_challenge(pair: Pair) -> None:
    """Of updates from one head sent to both at once one is recorded; a challenge of one is answered at the other, and once."""
    clients = pair.client(pair.one), pair.client(pair.two)
    pair.enrol(clients[0], None)
    job_id = clients[1].submit(pair.analyst.sign(pair.job())).job_id
    enclave = Enclave()
    asked = clients[0].challenge(job_id)
    evidence = enclave.evidence(asked.challenge).to_bytes()
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda client: _outcome(lambda: client.admit(asked.session, evidence, job_id)), clients))
    assert sorted(map(type, answers), key=str) == sorted([tuple, FreshnessError], key=str)
    grant = next(answer for answer in answers if isinstance(answer, tuple))
    enclave.install(grant[0], pair.broker)
    updates = [enclave.update(None, enclave.head(1, state=bytes([index]) * 32)) for index in range(8)]
    with ThreadPoolExecutor() as pool:
        fresh = [pair.client(process) for process in (pair.one, pair.two) for _ in range(4)]
        found = list(pool.map(lambda item: _outcome(lambda: item[0].record(job_id, item[1])), zip(fresh, updates, strict=True)))
    assert Counter(map(type, found)) == {bytes: 1, FreshnessError: 7}
    assert [client.head(job_id) for client in clients] == [1, 1]


def _outcome(call: object) -> object:
    assert callable(call)
    try:
        return call()
    except SecureMLlibError as error:
        return error
