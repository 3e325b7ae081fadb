"""The analyst's agent: signs jobs and opens results for programs that must not hold the analyst's keys, like ssh-agent.

The socket has mode 0600 in a directory of mode 0700, and the kernel's word on the peer's user id is checked as well: only processes of
the same user are served. Every job is shown before it is signed, in words made from the bytes that are signed.
"""

import contextlib
import os
import socket
import stat
import struct
import threading
from collections.abc import Callable
from itertools import accumulate, pairwise
from pathlib import Path

from securemllib.crypto.identity import PrivateIdentity
from securemllib.errors import ConnectionLostError, FormatError, RefusedError, SecureMLlibError, UsageError
from securemllib.owner.opening import open_model, open_result
from securemllib.owner.query_literals import LiteralEncoder
from securemllib.wire.agent import (
    REQUESTS,
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
from securemllib.wire.encoding import encode
from securemllib.wire.framing import receive, send
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.job import JobSpecification, OutputKind
from securemllib.wire.notices import JobEnd
from securemllib.wire.record import Record
from securemllib.wire.result import SealedModel, SealedResult

__all__ = ["Agent", "AgentServer", "describe"]

_PEER_CREDENTIALS = struct.Struct("3i")
_CONNECTIONS = 32
_PAYLOAD_LIMIT = 512 * 2**20
# sockaddr_un holds 108 bytes, the last one a zero.
_PATH_LIMIT = 107
_OTHERS = 0o077
_SHOWN_ITEMS = 12
# People's names are shorter, and whatever else a name holds is not worth more of the line.
_NAME_LIMIT = 64


class Agent:
    """Answers requests with one analyst's identity.

    Args:
        identity: The analyst.
        broker: The broker that the analyst trusts; without it jobs are signed and nothing is opened.
        show: Receives the description of each job and of each thing opened.
        confirm: Asked with the description before a job is signed or literals are encoded; None does both without asking.
        literals: Encodes the literals of queries over encoded columns; None declines them.
    """

    __slots__ = ("_broker", "_confirm", "_confirming", "_identity", "_literals", "_show")

    def __init__(
        self,
        identity: PrivateIdentity,
        broker: PublicIdentity | None,
        *,
        show: Callable[[str], None],
        confirm: Callable[[str], bool] | None = None,
        literals: LiteralEncoder | None = None,
    ) -> None:
        self._identity = identity
        self._broker = broker
        self._show = show
        self._confirm = confirm
        self._confirming = threading.Lock()
        self._literals = literals

    def answer(self, request: Record, payload: memoryview) -> tuple[Record, bytes]:
        """Return the reply to a request and the reply's payload; a `Declined` for what was refused."""
        try:
            if isinstance(request, Identify):
                return Identified(identity=self._identity.public, broker=self._broker), b""
            if isinstance(request, Sign):
                return self._sign(request), b""
            if isinstance(request, SignEnd):
                # All that this can do is to end one of the analyst's own jobs, which the asking program could also let lie.
                return Signature(signed=self._identity.sign(JobEnd(job_id=request.job_id, broker=request.broker))), b""
            if isinstance(request, Open):
                return self._open(request, payload)
            if isinstance(request, OpenModel):
                return self._open_model(request, payload)
            if isinstance(request, EncodeLiterals):
                return self._encode(request), b""
            raise UsageError(f"The agent does not answer a {request.TYPE}.")
        except SecureMLlibError as error:
            self._show(f"declined: {error}")
            return Declined(code=error.error_code, reason=error.reason, next_step=error.next_step), b""

    def _sign(self, request: Sign) -> Signature:
        """Sign a job.

        1. It is a job, in its only encoding.
        2. Its analyst is the agent's, with all keys.
        3. Its broker is the trusted one, where one is.
        4. The analyst saw it, and agreed where the agent asks.
        """
        job = JobSpecification.from_bytes(request.job)  # 1
        public = self._identity.public
        if (job.analyst.fingerprint, job.analyst) != (public.fingerprint, public):  # 2
            raise RefusedError(f"The job's analyst is {job.analyst.fingerprint}, not {public.fingerprint}.", code="refused.analyst")
        if self._broker is not None and job.broker != self._broker.fingerprint:  # 3
            raise RefusedError(
                f"The job is for the broker {job.broker}, not for the trusted {self._broker.fingerprint}.",
                next_step="Configure the session with the broker that the agent trusts.",
                code="refused.broker",
            )
        self._agree(describe(job))  # 4
        return Signature(signed=self._identity.sign(job))

    def _open(self, request: Open, payload: memoryview) -> tuple[Opened, bytes]:
        result = SealedResult.from_bytes(payload, limit=len(payload))
        opened = open_result(result, identity=self._identity, broker=self._trusted_broker(), job_id=request.job_id)
        tee = opened.attestation.tee
        self._show(f"opened {opened.kind.value} of job {opened.job_id[:16]} (TEE: {_printable(tee)})")
        reply = Opened(
            job_id=opened.job_id, kind=opened.kind, ordinal=opened.ordinal, parts=opened.parts, behind=opened.behind, operation="", tee=tee
        )
        return reply, opened.content

    def _open_model(self, request: OpenModel, payload: memoryview) -> tuple[Opened, bytes]:
        first, *pieces = _split(payload, request.lengths)
        model = SealedModel.from_bytes(first, limit=len(first))
        opened = open_model(model, request.key, identity=self._identity, broker=self._trusted_broker(), pieces=pieces)
        self._show(f"opened the {_printable(model.operation)} model {model.model_id[:16]} (TEE: {_printable(model.tee)})")
        named = {"job_id": model.model_id, "operation": model.operation, "tee": model.tee}
        reply = Opened(kind=OutputKind.PLAIN_MODEL, ordinal=0, parts=1, behind=0, **named)
        return reply, encode([opened.tree, list(opened.shards)])

    def _encode(self, request: EncodeLiterals) -> EncodedLiterals:
        if self._literals is None:
            raise RefusedError(
                "The agent encodes no literals of queries.",
                next_step="Start it as the owner of the columns with `securemllib agent --literals 100`.",
                code="refused.literals",
            )
        shown = [f"  {literal.column} ({literal.encoding.value}) {literal.place.value} {literal.text}" for literal in request.literals]
        self._agree("\n".join([f"query on {_printable(request.directory)}: encodes {len(shown)} literals", *map(_printable, shown)]))
        return EncodedLiterals(codes=self._literals.encode(Path(request.directory), request.companion, request.literals))

    def _agree(self, description: str) -> None:
        self._show(description)
        if self._confirm is not None:
            with self._confirming:
                if not self._confirm(description):
                    raise RefusedError(
                        "The analyst did not agree.", next_step="Change the job or the query, or agree.", code="refused.analyst"
                    )

    def _trusted_broker(self) -> PublicIdentity:
        if self._broker is None:
            raise UsageError(
                "The agent was started without a trusted broker, so it cannot tell a genuine result.",
                next_step="Run `securemllib trust-broker`, then start the agent again.",
                code="usage.no_broker",
            )
        return self._broker


def _split(payload: memoryview, lengths: tuple[int, ...]) -> list[memoryview]:
    if not lengths or min(lengths) < 0 or sum(lengths) != len(payload):
        raise FormatError("The lengths of a model and its pieces do not fit the payload.")
    starts = [0, *accumulate(lengths)]
    return [payload[start:stop] for start, stop in pairwise(starts)]


def describe(job: JobSpecification) -> str:
    """Return what a job does, from its own bytes, in a few lines of printable text."""
    params = ", ".join(f"{name}={value}" for name, value in job.params.items())
    lines = [f"job {job.job_id[:16]}: {job.operation}({params})"]
    if job.plan is not None:
        source = job.plan.source
        lines.append(f"  reads dataset {source.dataset_id} version {source.version}, {len(job.plan.steps)} steps before")
        columns = sorted(job.result_columns)
        more = f" and {len(columns) - _SHOWN_ITEMS} more" if len(columns) > _SHOWN_ITEMS else ""
        lines.append(f"  columns: {', '.join(columns[:_SHOWN_ITEMS]) or 'none'}{more}")
    lines += [f"  uses model {model.model_id[:16]}" for model in job.models]
    for output in job.outputs:
        own = output.recipient.fingerprint == job.analyst.fingerprint
        # Programs choose names and columns, and a long line is cut: who opens it comes first, known by the fingerprint alone.
        to = "you" if own else f"{output.recipient.fingerprint}, named {output.recipient.name[:_NAME_LIMIT]!r}"
        columns_out = f", {len(output.columns)} columns: {', '.join(output.columns)}" if output.columns else ""
        lines.append(f"  output: {output.kind.value} to {to}{columns_out}")
    lines.append(f"  broker: {job.broker}")
    return "\n".join(_printable(line) for line in lines)


def _printable(text: str) -> str:
    """Return the text without characters that could move a terminal's cursor or hide other text."""
    return "".join(character if character.isprintable() else "?" for character in text)[:500]


class AgentServer:
    """Serves an agent on a UNIX socket until it is closed.

    Args:
        agent: Who answers.
        path: The socket; its directory is made if missing, and must be this user's alone.
    """

    __slots__ = ("_agent", "_closed", "_free", "_listener", "_path")

    def __init__(self, agent: Agent, path: Path) -> None:
        self._agent = agent
        self._path = path
        self._closed = threading.Event()
        self._free = threading.Semaphore(_CONNECTIONS)
        self._listener = _listen(path)

    def serve(self) -> None:
        """Answer connections, each in a thread, until `close`."""
        while not self._closed.is_set():
            self._free.acquire()
            try:
                connection, _ = self._listener.accept()
            except OSError:
                break
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def close(self) -> None:
        """Stop serving and remove the socket."""
        if not self._closed.is_set():
            self._closed.set()
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._path.unlink(missing_ok=True)

    def _converse(self, connection: socket.socket) -> None:
        try:
            with connection:
                _check_peer(connection)
                while True:
                    request, payload = receive(connection, REQUESTS, payload_limit=_PAYLOAD_LIMIT)
                    send(connection, *self._agent.answer(request, payload))
        except SecureMLlibError:
            return
        finally:
            self._free.release()


def _listen(path: Path) -> socket.socket:
    if len(os.fsencode(path)) > _PATH_LIMIT:
        raise UsageError(f"The socket's path is longer than {_PATH_LIMIT} bytes.", next_step="Set SECUREMLLIB_AGENT_SOCK to a shorter one.")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.parent.stat()
    if status.st_mode & _OTHERS or status.st_uid != os.getuid():
        raise UsageError(f"{path.parent} is open to others.", next_step=f"Run `chmod 700 {path.parent}`.", code="usage.permissions")
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(os.fspath(path))
        path.chmod(0o600)
        listener.listen()
    except OSError as error:
        listener.close()
        raise ConnectionLostError(f"The agent cannot listen at {path}: {os.strerror(error.errno or 0)}.") from error
    return listener


def _remove_stale(path: Path) -> None:
    """Remove the socket of an agent that is gone; `UsageError` if one answers, or if something else is there."""
    if not path.exists():
        return
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise UsageError(f"{path} exists and is no socket.", next_step="Choose another path.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(os.fspath(path))
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise UsageError(f"An agent listens at {path} already.", next_step="Use it, or stop it first.", code="usage.agent_runs")


def _check_peer(connection: socket.socket) -> None:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    _, user, _ = _PEER_CREDENTIALS.unpack(credentials)
    if user != os.getuid():
        raise RefusedError(f"A process of user {user} asked the agent of user {os.getuid()}.", code="refused.user")
