"""The driver's side of the analyst's agent: the driver asks for signatures and opened results, and holds no key."""

import atexit
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self, TypeVar

from securemllib.errors import FormatError, UnavailableError, error_from_code
from securemllib.wire.agent import (
    REPLIES,
    Declined,
    EncodedLiterals,
    EncodeLiterals,
    Identified,
    Identify,
    Open,
    Opened,
    OpenModel,
    Sign,
    Signature,
    SignEnd,
)
from securemllib.wire.encoding import Value, decode
from securemllib.wire.framing import receive, send
from securemllib.wire.job import JobSpecification, OutputKind
from securemllib.wire.query import LiteralCodes, QueryLiteral
from securemllib.wire.record import Record
from securemllib.wire.signed import Signed

__all__ = ["AgentClient", "agent_socket"]

_START_SECONDS = 20.0
_POLL_SECONDS = 0.1
# A large model's tree; the agent opens nothing larger either.
_TREE_LIMIT = 512 * 2**20

R = TypeVar("R", bound=Record)


def agent_socket() -> Path:
    """Return the agent's socket: ``SECUREMLLIB_AGENT_SOCK``, else in the analyst's home directory of this project."""
    named = os.environ.get("SECUREMLLIB_AGENT_SOCK")
    if named:
        return Path(named)
    return Path(os.environ.get("SECUREMLLIB_HOME") or Path.home() / ".securemllib") / "agent.sock"


class AgentClient:
    """A connection to the agent; one is started where none runs.

    Args:
        path: The agent's socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: socket.socket | None = _connect(path) or _started(path)
        # Fits of one session may run in several threads; a request and its reply belong together.
        self._lock = Lock()
        self._identified: Identified | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Hang up; another question calls again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def identify(self) -> Identified:
        """Return the analyst, and the broker that the agent trusts."""
        if self._identified is None:
            self._identified, _ = self._ask(Identify(), b"", Identified)
        return self._identified

    def sign(self, job: JobSpecification) -> Signed:
        """Return the signed job; the analyst may be asked."""
        reply, _ = self._ask(Sign(job=job.to_bytes()), b"", Signature)
        return reply.signed

    def sign_end(self, job_id: str, broker: str) -> Signed:
        """Return the signed notice that a job's results have come."""
        reply, _ = self._ask(SignEnd(job_id=job_id, broker=broker), b"", Signature)
        return reply.signed

    def open_tree(self, job_id: str, result: bytes) -> Value:
        """Return the numbers of a summary or metric."""
        _, payload = self._ask(Open(job_id=job_id), result, Opened)
        return decode(payload, limit=_TREE_LIMIT)

    def open_table(self, job_id: str, result: bytes) -> tuple[Opened, memoryview]:
        """Return what a result of rows is, and its rows as an Arrow IPC stream."""
        reply, payload = self._ask(Open(job_id=job_id), result, Opened)
        if reply.kind is not OutputKind.ROWS:
            raise FormatError(f"The result holds no rows but {reply.kind.value}.")
        return reply, payload

    def open_model(self, model: bytes, pieces: Iterable[bytes], key: Signed) -> tuple[Value, list[Value]]:
        """Return the tree of a released model, and those of its shards where it is sharded."""
        sealed = [model, *pieces]
        _, payload = self._ask(OpenModel(key=key, lengths=tuple(map(len, sealed))), b"".join(sealed), Opened)
        opened = decode(payload, limit=_TREE_LIMIT)
        if not isinstance(opened, list) or len(opened) != 2 or not isinstance(opened[1], list):
            raise FormatError("The agent opened no model.")
        return opened[0], opened[1]

    def encode_literals(self, directory: str, companion: bytes, literals: tuple[QueryLiteral, ...]) -> tuple[LiteralCodes, ...]:
        """Return the codes of literals in the columns of a companion, which the agent verifies."""
        reply, _ = self._ask(EncodeLiterals(directory=directory, companion=companion, literals=literals), b"", EncodedLiterals)
        if len(reply.codes) != len(literals):
            raise FormatError(f"The agent encoded {len(reply.codes)} of {len(literals)} literals.")
        return reply.codes

    def _ask(self, request: Record, payload: bytes, kind: type[R]) -> tuple[R, memoryview]:
        with self._lock:
            self._connection = connection = self._connection or _connect(self._path) or _started(self._path)
            try:
                send(connection, request, payload)
                reply, body = receive(connection, REPLIES)
            except BaseException:
                # After Ctrl-C, too: the next answer on this connection would be that to this question.
                self.close()
                raise
        if isinstance(reply, Declined):
            raise error_from_code(reply.code, reply.reason, reply.next_step)
        if not isinstance(reply, kind):
            raise FormatError(f"The agent answered {request.TYPE} with {reply.TYPE}.")
        return reply, body


def _connect(path: Path) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(os.fspath(path))
    except OSError:
        connection.close()
        return None
    return connection


def _started(path: Path) -> socket.socket:
    program = shutil.which("securemllib")
    command = [program] if program else [sys.executable, "-c", "from securemllib.cli import main; main()"]
    # It keeps the terminal's standard error, on which it shows what it signs, but not its Ctrl-C, which is for the driver's work.
    command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command, "agent", "--socket", os.fspath(path)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    atexit.register(process.terminate)
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if (connection := _connect(path)) is not None:
            return connection
        time.sleep(_POLL_SECONDS)
    if process.poll() is None:
        process.terminate()
        process.wait()
    raise UnavailableError(
        f"No agent answers at {path}, and none could be started.",
        next_step="Start one with `securemllib agent`, or set SECUREMLLIB_AGENT_SOCK to the socket of a running one.",
        code="unavailable.agent",
    )
