"""An executor's enclave: found or started by the first task that needs it, and granted keys once for all of the executor's tasks."""

import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from pyspark.core.files import SparkFiles

from securemllib.errors import ConnectionLostError, FreshnessError, UnavailableError
from securemllib.spark.broker_client import Asked, broker_client
from securemllib.spark.enclave_client import EnclaveClient
from securemllib.spark.relay_job import RelayJob
from securemllib.spark.settings import EnclaveSettings
from securemllib.wire.signed import Signed
from securemllib.wire.task import Attest, Attested, End, Ended, Install, Installed

__all__ = ["ANY_GENERATION", "Node", "granted", "node_folder", "reached"]

# For a task that is content with the keys of whichever attempt came last.
ANY_GENERATION = ""

_START_SECONDS = 60.0
# Under SGX all of the enclave's memory is added before its first instruction.
_IMAGE_START_SECONDS = 600.0
_GRAMINE, _IMAGE_NAME = "gramine-sgx", "enclave"
_LOOPBACK = "127.0.0.1"
# A child that outlives its `Popen` object would be reported as leaked.
_STARTED: list[subprocess.Popen[bytes]] = []


def node_folder() -> Path:
    """Return the folder that this executor's tasks share and other executors do not see."""
    return Path(SparkFiles.getRootDirectory() or ".").absolute()


class Node:
    """One task's connection to its executor's enclave.

    Args:
        folder: What this executor's tasks share.
        enclave: The connection.
        address: The enclave's address.
        generation: Names the attempt: another one gets keys, and the head of the job's states, anew.

    Attributes:
        enclave: The connection.
        jobs: The jobs whose keys the task uses.
    """

    def __init__(self, folder: Path, enclave: EnclaveClient, address: str, generation: str) -> None:
        self.enclave = enclave
        self.jobs: list[str] = []
        self._folder, self._address, self._generation = folder, address, generation

    def grant(self, job: RelayJob, asked: Asked | None = None) -> int | None:
        """Let the enclave hold a job's keys, and return the round of the head that came with them.

        Args:
            job: The job.
            asked: A challenge that this task alone answers, if it is the one that gets the keys; a fresh one is asked for where it is none.
        """
        users = _users(self._folder, job.job_id)
        self.enclave.blocks = job.blocks
        with _locked(self._folder):
            found: dict[str, Any] = _read(users)
            if found.get("address") != self._address or self._generation not in {found.get("generation"), ANY_GENERATION}:
                found = {"generation": self._generation, "address": self._address, "head": _attest(self.enclave, job, asked)}
            _write(users, {**found, "job": job.job_id, "users": [*found.get("users", ()), os.getpid()]})
        self.jobs.append(job.job_id)
        head: int | None = found["head"]
        return head


@contextmanager
def reached(job: RelayJob, generation: str, *, keep: bool = False) -> Iterator[Node]:
    """Give a connection to this executor's enclave, which is started where there is none.

    The last task that leaves drops the keys of each job.

    Args:
        job: Says how the executor finds its enclave, and whose keys it will get.
        generation: Names the attempt.
        keep: Leave the keys for a later Spark job of the same generation.
    """
    folder = node_folder()
    with _locked(folder):
        _reap(folder, job.enclave.idle)
        client, address = _reach(folder, job.enclave, job.broker.url)
    node = Node(folder, client, address, generation)
    try:
        yield node
    finally:
        with client, _locked(folder):
            for job_id in node.jobs:
                _leave(_users(folder, job_id), generation, keep)


@contextmanager
def granted(
    job: RelayJob, generation: str, *, keep: bool = False, asked: Asked | None = None
) -> Iterator[tuple[EnclaveClient, int | None]]:
    """Give a connection to this executor's enclave, which holds one job's keys, and the round of the head that came with them.

    Arguments as those of `reached` and `Node.grant`.
    """
    with reached(job, generation, keep=keep) as node:
        yield node.enclave, node.grant(job, asked)


def _users(folder: Path, job_id: str) -> Path:
    return folder / f"securemllib-{job_id[:32]}.json"


def _leave(users: Path, generation: str, keep: bool) -> None:
    found = _read(users)
    if generation not in {found.get("generation"), ANY_GENERATION} or not found:
        return
    left = [user for user in found["users"] if user != os.getpid() and _is_alive(user)]
    if left or keep:
        _write(users, {**found, "users": left})
    else:
        _forget(users, found)


def _reap(folder: Path, idle: float) -> None:
    """Let the enclave drop the keys of jobs whose tasks were killed before they said so, or that nobody went on with for so long."""
    for users in folder.glob("securemllib-*.json"):
        found = _read(users)
        is_kept = not found.get("users") and time.time() - users.stat().st_mtime < idle
        if found and not is_kept and not any(map(_is_alive, found["users"])):
            _forget(users, found)


def _is_alive(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


def _forget(users: Path, found: dict[str, Any]) -> None:
    users.unlink(missing_ok=True)
    host, _, port = str(found["address"]).rpartition(":")
    # A connection of its own: after an error the task's own may be in the middle of a frame. A lost enclave holds no keys.
    with suppress(ConnectionLostError), EnclaveClient(host, int(port)) as client:
        client.ask(End(job_id=str(found["job"])), types=(Ended,))


def _attest(client: EnclaveClient, job: RelayJob, asked: Asked | None) -> int | None:
    """Get the keys into the enclave and return the round of the head among them."""
    try:
        grant, head = _admitted(client, job, asked or broker_client(job.broker).challenge(job.job_id, job.enclave.announced))
    except FreshnessError:
        # An attempt before this one has answered the job's first challenge, it expired while the tasks waited for slots, or the broker
        # went away after it had taken the answer and before its own came.
        grant, head = _admitted(client, job, broker_client(job.broker).challenge(job.job_id, job.enclave.announced))
    client.ask(Install(grant=grant, manifest=job.manifest, models=job.models), types=(Installed,))
    return head


def _admitted(client: EnclaveClient, job: RelayJob, asked: Asked) -> tuple[Signed, int | None]:
    attested, _ = client.ask(Attest(challenge=asked.challenge), types=(Attested,))
    return broker_client(job.broker).admit(asked.session, attested.evidence, job.job_id)


def _reach(folder: Path, settings: EnclaveSettings, broker: str) -> tuple[EnclaveClient, str]:
    if settings.address:
        host, port = _operators(settings.address)
        return EnclaveClient(host, port), f"{host}:{port}"
    # A session of another broker, or that sets another memory bound, gets an enclave of its own; the one before ends when it was idle for
    # long enough.
    which = sha256("\n".join((broker, settings.image or str(settings.memory))).encode()).hexdigest()[:16]
    known = folder / f"securemllib-enclave-{which}.address"
    try:
        host, _, port_text = known.read_text().partition(":")
        return EnclaveClient(host, int(port_text)), known.read_text()
    except (OSError, ValueError, ConnectionLostError):
        port = _start(folder, settings)
    known.write_text(f"{_LOOPBACK}:{port}")
    return EnclaveClient(_LOOPBACK, port), f"{_LOOPBACK}:{port}"


def _operators(address: str) -> tuple[str, int]:
    text = address
    if "/" in address:
        try:
            text = Path(address).read_text().strip()
        except OSError as error:
            raise UnavailableError(f"The enclave's address file {address} cannot be read.", code="unavailable.enclave.address") from error
    host, _, port = text.rpartition(":")
    if not port.isdigit():
        raise UnavailableError(f"The enclave's address {text!r} is not like host:port.", code="unavailable.enclave.address")
    return host or _LOOPBACK, int(port)


def _start(folder: Path, settings: EnclaveSettings) -> int:
    command = _command(settings)
    with (folder / "securemllib-enclave.log").open("wb") as log:
        # Its own session: Spark ends the process group of its Python workers when an executor stops.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env=_environment(),
            start_new_session=True,
            cwd=settings.image or "/",
        )
    _STARTED.append(process)
    line = _first_line(process, _IMAGE_START_SECONDS if settings.image else _START_SECONDS)
    if not line.startswith(b"listening "):
        raise UnavailableError(
            f"The enclave of {folder} did not start: see securemllib-enclave.log there.", code="unavailable.enclave.start"
        )
    return int(line.rpartition(b":")[2])


def _command(settings: EnclaveSettings) -> list[str]:
    if not settings.image:
        return [sys.executable, "-I", "-m", "securemllib.enclave", "--memory", str(settings.memory), "--idle", str(settings.idle)]
    program = shutil.which(_GRAMINE)
    if program is None:
        raise UnavailableError(
            f"{_GRAMINE} is not on the PATH of this executor, and the session asks for enclaves of {settings.image}.",
            next_step="Install Gramine 1.9 on every node, or unset spark.securemllib.enclave.image.",
            code="unavailable.enclave.gramine",
        )
    if not (Path(settings.image) / f"{_IMAGE_NAME}.sig").is_file():
        raise UnavailableError(
            f"{settings.image} holds no signed enclave image on this executor.",
            next_step="Copy the folder that `securemllib enclave sign` signed to every node.",
            code="unavailable.enclave.image",
        )
    return [program, _IMAGE_NAME]


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}


def _first_line(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    stream = process.stdout
    if stream is None:
        return b""
    deadline, line = time.monotonic() + seconds, b""
    with stream:
        while not line.endswith(b"\n") and (left := deadline - time.monotonic()) > 0:
            if not select.select([stream], [], [], left)[0]:
                break
            if not (data := os.read(stream.fileno(), 256)):
                break
            line += data
    return line


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "securemllib-enclave.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value))
