"""One conversation with a relay: requests in, replies out; whatever goes wrong, only an error code leaves."""

import socket
from threading import Lock
from typing import Protocol

from securemllib.crypto.identity import PrivateIdentity
from securemllib.enclave.aggregator import Aggregator
from securemllib.enclave.cache import BlockCache, failed_allocation
from securemllib.enclave.host import Host
from securemllib.enclave.predictor import materialise
from securemllib.enclave.session import Session, install, open_grant
from securemllib.enclave.worker import Asked, Reply, compute
from securemllib.errors import CapacityError, ConnectionLostError, FormatError, RefusedError, SecureMLlibError, UnavailableError
from securemllib.wire import task
from securemllib.wire.attestation import Challenge, Evidence, report_data
from securemllib.wire.dataset import Part
from securemllib.wire.framing import receive, send
from securemllib.wire.record import Record

__all__ = ["Attester", "Conversation", "Enclave"]

# Challenges that wait for their grant, and jobs with keys; a host that asks for more only makes the oldest void.
_PENDING_LIMIT = 64
_SESSION_LIMIT = 64


class Attester(Protocol):
    """Makes reports over report data: the TEE, or the insecure attester."""

    tee: str

    def report(self, report_data: bytes) -> bytes:
        """Return a report over 64 bytes of report data."""


class Enclave:
    """What all conversations of the process share.

    Args:
        attester: Of this process.
        memory_limit: Bytes that decrypted blocks may take, and the largest part that is accepted.
    """

    def __init__(self, attester: Attester, *, memory_limit: int) -> None:
        self.attester = attester
        self.memory_limit = memory_limit
        self.cache = BlockCache(memory_limit)
        self._lock = Lock()
        # The fingerprint of the broker whose tenants the process serves, from its first grant on.
        self._broker = ""
        self._pending: dict[bytes, tuple[Challenge, PrivateIdentity]] = {}
        self._sessions: dict[str, Session] = {}
        self._aggregators: dict[str, Aggregator] = {}

    def attest(self, request: task.Attest) -> task.Attested:
        """Return evidence with a fresh identity for the challenge's job."""
        challenge, identity = request.challenge, PrivateIdentity.generate("enclave")
        report = self.attester.report(report_data(challenge, identity.public))
        with self._lock:
            while len(self._pending) >= _PENDING_LIMIT:
                self._pending.pop(next(iter(self._pending)))
            self._pending[challenge.nonce] = (challenge, identity)
        return task.Attested(evidence=Evidence(tee=self.attester.tee, report=report, identity=identity.public).to_bytes())

    def install(self, request: task.Install, host: Host) -> task.Installed:
        """Open a session with a grant that answers one of the pending challenges, which is then spent.

        Raises:
            IntegrityError: It answers none, or what came with it is not what it is for.
            RefusedError: An earlier grant was another broker's. Who runs one chooses the states and models that its jobs open, so rows of
                two are never in one process, where a flaw in reading them could lead from those of one to those of the other.
        """
        with self._lock:
            candidates = [pending for pending in self._pending.values() if pending[0].broker.fingerprint == request.grant.signer]
        error: SecureMLlibError = FormatError("No challenge waits for this grant.", code="integrity.grant")
        for challenge, identity in reversed(candidates):
            try:
                grant = open_grant(request.grant, challenge, identity)
            except SecureMLlibError as refused:
                error = refused
                continue
            with self._lock:
                self._broker = self._broker or challenge.broker.fingerprint
            if challenge.broker.fingerprint != self._broker:
                raise RefusedError("This process serves another broker.", code="refused.tenant")
            session = install(grant, request, challenge=challenge, identity=identity, host=host)
            with self._lock:
                if self._pending.pop(challenge.nonce, None) is None:
                    raise FormatError("The grant was installed before.", code="integrity.grant")
                self._keep(session)
            return task.Installed(job_id=session.job_id)
        raise error

    def _keep(self, session: Session) -> None:
        self._drop(session.job_id)
        while len(self._sessions) >= _SESSION_LIMIT:
            self._drop(next(iter(self._sessions)))
        self._sessions[session.job_id] = session

    def _drop(self, job_id: str) -> None:
        self._sessions.pop(job_id, None)
        self._aggregators.pop(job_id, None)
        self.cache.forget(job_id)

    def session(self, job_id: str) -> Session:
        """Return a job's session; `UnavailableError` where the enclave was not granted it."""
        with self._lock:
            if job_id not in self._sessions:
                raise UnavailableError("The enclave holds no keys of this job.", code="unavailable.session")
            self._sessions[job_id] = session = self._sessions.pop(job_id)  # the order of the dictionary is that of use
            return session

    def settle(self, job_id: str) -> None:
        """Forget what a computation kept for a job that ended while it ran."""
        with self._lock:
            if job_id not in self._sessions:
                self._drop(job_id)

    def begin(self, request: task.Begin, checkpoint: memoryview, host: Host) -> tuple[Record, bytes | memoryview]:
        """Become a job's aggregator."""
        session = self.session(request.job_id)
        aggregator = Aggregator(session, checkpoint, host)
        with self._lock:
            if self._sessions.get(request.job_id) is not session:
                raise UnavailableError("The job ended meanwhile.", code="unavailable.session")
            self._aggregators[request.job_id] = aggregator
        return aggregator.begin(host)

    def aggregator(self, job_id: str) -> Aggregator:
        """Return a job's aggregator; `UnavailableError` where another enclave is it."""
        with self._lock:
            if job_id not in self._aggregators:
                raise UnavailableError("The enclave does not aggregate this job.", code="unavailable.session")
            return self._aggregators[job_id]

    def end(self, request: task.End) -> task.Ended:
        """Drop a job's keys. Blocks stay in the cache, where only a holder of the dataset secret finds them."""
        with self._lock:
            self._drop(request.job_id)
        return task.Ended()


class Conversation:
    """The requests of one connection, one after the other."""

    def __init__(self, enclave: Enclave, connection: socket.socket) -> None:
        self._enclave = enclave
        self._connection = connection

    def run(self) -> None:
        """Answer requests until the relay hangs up or sends bytes that are no frame."""
        try:
            while True:
                request, payload = receive(self._connection, task.REQUESTS, payload_limit=task.FRAME_BYTES)
                reply, out = self._answer(request, payload)
                send(self._connection, reply, out)
        except ConnectionLostError:
            return
        except SecureMLlibError as error:
            # After a broken frame the next frame's beginning is unknown, so the conversation ends.
            send(self._connection, task.Failed(code=error.error_code))

    def _answer(self, request: Record, payload: memoryview) -> tuple[Record, bytes | memoryview]:
        try:
            return self._handle(request, payload)
        except ConnectionLostError:
            raise
        except SecureMLlibError as error:
            return task.Failed(code=error.error_code, needed=_power_of_two(getattr(error, "needed", 0))), b""
        except MemoryError as error:
            return task.Failed(code="unavailable.capacity.memory", needed=_power_of_two(failed_allocation(error))), b""
        except Exception:  # noqa: BLE001 - a message of an unforeseen error could hold a value, so none leaves
            return task.Failed(code="error.enclave"), b""

    def _handle(self, request: Record, payload: memoryview) -> tuple[Record, bytes | memoryview]:
        enclave = self._enclave
        match request:
            case task.Attest():
                return enclave.attest(request), b""
            case task.Install():
                return enclave.install(request, self), b""
            case task.Begin():
                return enclave.begin(request, payload, self)
            case task.Update():
                return enclave.aggregator(request.job_id).update(request, _split(payload, request.lengths), self)
            case task.UpdateSum():
                return enclave.aggregator(request.job_id).update_sum(request.salts, payload, self)
            case task.Recorded():
                return enclave.aggregator(request.job_id).recorded(request.acknowledgement)
            case task.End():
                return enclave.end(request), b""
            case _:
                return self._work(request, payload)

    def _work(self, request: Record, payload: memoryview) -> tuple[Record, bytes | memoryview]:
        if isinstance(request, task.Compute):
            return self._compute((request,), [payload])[0]
        if isinstance(request, task.ComputeTogether):
            found = self._compute(request.requests, _split(payload, request.lengths))
            lengths = tuple(len(out) for _, out in found)
            return task.ComputedTogether(replies=tuple(reply for reply, _ in found), lengths=lengths), b"".join(out for _, out in found)
        if isinstance(request, task.Materialise):
            session = self._enclave.session(request.job_id)
            rows = materialise(session, ordinal=request.ordinal, output=request.output, cache=self._enclave.cache, host=self)
            return task.Materialised(), rows
        raise FormatError("Bytes came that nobody asked for.")

    def _compute(self, requests: tuple[task.Compute, ...], states: list[memoryview]) -> list[Reply]:
        enclave, shares = self._enclave, {request.share for request in requests}
        if len(requests) != len(states) or len(shares) != 1:
            raise FormatError(f"{len(requests)} jobs came with {len(states)} states, for {len(shares)} shares.")
        try:
            asked = [
                Asked(session=enclave.session(request.job_id), round=request.round, state=state, stays=request.stays)
                for request, state in zip(requests, states, strict=True)
            ]
            return compute(asked, share=shares.pop(), cache=enclave.cache, host=self)
        finally:
            for request in requests:
                enclave.settle(request.job_id)

    def part(self, part: Part) -> memoryview:
        """Return a part's encrypted file, which the relay is asked for."""
        if part.length > self._enclave.memory_limit:
            raise CapacityError(
                f"Part {part.ordinal} has {part.length} bytes, over the enclave's bound of {self._enclave.memory_limit}.",
                code="unavailable.capacity.part",
            )
        send(self._connection, task.NeedPart(ordinal=part.ordinal))
        reply, data = receive(self._connection, (task.PartBytes,), payload_limit=part.length)
        if not isinstance(reply, task.PartBytes) or reply.ordinal != part.ordinal:
            raise ConnectionLostError(f"The relay did not send part {part.ordinal}.")
        return data

    def keep(self, job_id: str, name: str, block: bytes | memoryview) -> None:
        """Hand a sealed block to the relay."""
        send(self._connection, task.KeepBlock(job_id=job_id, name=name), block)

    def block(self, job_id: str, name: str, size: int | None = None) -> memoryview:
        """Return a sealed block, which the relay is asked for."""
        send(self._connection, task.NeedBlock(job_id=job_id, name=name))
        return receive(self._connection, (task.BlockBytes,), payload_limit=self._enclave.memory_limit if size is None else size)[1]

    def block_sum(self, job_id: str, names: tuple[str, ...], size: int) -> memoryview:
        """Return the sum of masked blocks, which the relay is asked for."""
        send(self._connection, task.NeedSum(job_id=job_id, names=names))
        return receive(self._connection, (task.BlockBytes,), payload_limit=size)[1]


def _power_of_two(size: int) -> int:
    """Return the next power of two: the exact size of what rows became is theirs."""
    return 1 << (size - 1).bit_length() if size > 0 else 0


def _split(payload: memoryview, lengths: tuple[int, ...]) -> list[memoryview]:
    if any(length < 0 for length in lengths) or sum(lengths) != len(payload):
        raise FormatError("The lengths of the statistics do not fit the payload.")
    pieces, start = [], 0
    for length in lengths:
        pieces.append(payload[start : start + length])
        start += length
    return pieces
