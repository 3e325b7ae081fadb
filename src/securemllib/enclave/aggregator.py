"""The aggregator: sealed statistics of all shares, or their masked sum, to the next state, to the model."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

from securemllib.algorithms.codec import pack, to_tree, unpack
from securemllib.algorithms.fixed_point import Exponents
from securemllib.algorithms.registry import types_of
from securemllib.algorithms.summary import Summary
from securemllib.crypto.aead import seal, unseal
from securemllib.crypto.keys import DataKey
from securemllib.enclave.addition import MASKED, MEASURED, Addition, add_masked, fetch_masked
from securemllib.enclave.exchange import after_exchange
from securemllib.enclave.going_on import first_state, keep_statistics, seal_tree, statistics_behind
from securemllib.enclave.host import Host
from securemllib.enclave.results import require_group, sealed_result
from securemllib.enclave.rounds import CHECKPOINT, STATE, SealedState, open_state, open_statistics, seal_state, statistics_context
from securemllib.enclave.session import Session
from securemllib.enclave.worker import no_rows
from securemllib.errors import CoverError, FormatError, FreshnessError, IntegrityError, UnavailableError, UnsealError
from securemllib.wire.attestation import Head, HeadUpdate, head_acknowledgement_context, head_context
from securemllib.wire.encoding import encode
from securemllib.wire.job import OutputKind
from securemllib.wire.record import Record
from securemllib.wire.result import SealedModel, piece_name
from securemllib.wire.task import Advanced, Finished, Gathered, Recording, Update

__all__ = ["Aggregator"]

Reply = tuple[Record, bytes | memoryview]


@dataclass(slots=True)
class _Sum:
    """The statistics of a round's shares so far.

    Attributes:
        shares: How many were added.
        total: Their sum; None where none of them has parts.
        measured: In a measured round, the exponents of each.
    """

    shares: int = 0
    total: Any = None
    measured: list[Exponents | None] = field(default_factory=list)


class Aggregator:
    """One job's aggregator, from its recorded head on.

    Args:
        session: The job.
        checkpoint: The sealed checkpoint of the head that the broker recorded; empty where it recorded none.
        host: Keeps the checkpoint's pieces where it is large.

    Raises:
        FreshnessError: The checkpoint is not the recorded head.
    """

    def __init__(self, session: Session, checkpoint: memoryview, host: Host) -> None:
        self._session = session
        self._head = session.grant.head
        self._lock = Lock()
        self._pending: tuple[bytes, Head, Reply] | None = None
        self._algorithm = session.algorithm
        self._torn = False
        self._behind: Any = None
        self._sum = _Sum()
        self._current = SealedState(round=0, state=None) if self._head is None else self._resume(self._head, checkpoint, host)
        self._state: Any = self._current.value(self._algorithm)

    def _resume(self, head: Head, checkpoint: memoryview, host: Host) -> SealedState:
        try:
            state = open_state(self._session, checkpoint, head.round, host, CHECKPOINT)
        except UnsealError:
            raise FreshnessError(f"The checkpoint is not that of round {head.round}.", code="integrity.freshness.checkpoint") from None
        if state.digest != head.state:
            raise FreshnessError(f"The checkpoint of round {head.round} is not the recorded one.", code="integrity.freshness.checkpoint")
        return state

    def begin(self, host: Host) -> Reply:
        """Return the state to start from."""
        return self._advanced(host)

    def update(self, request: Update, statistics: list[memoryview], host: Host) -> Reply:
        """Add the statistics of some shares, and return the next state, or what has to be recorded first, once no more will follow.

        1. Every share sent its statistics, once, computed from the current state: the contexts are built here, not read.
        2. The sum's source rows are those of the manifest, which 1 implies share by share.

        Raises:
            CoverError: 1 does not hold.
        """
        with self._lock:
            self._require_idle()
            self._gather(request.first, statistics, host)
            if request.more:
                return Gathered(), b""
            found, self._sum = self._sum, _Sum()
            return self._after(lambda: self._step_sealed(found), host)

    def update_sum(self, salts: tuple[bytes, ...], total: memoryview, host: Host) -> Reply:
        """Return the next state, or what has to be recorded first, from the host's sum of a masked round.

        Raises:
            CoverError: The sum is not that of every share's masked statistics, once each, computed from the current state.
        """
        with self._lock:
            self._require_idle()
            return self._after(lambda: self._step_masked(salts, total, host), host)

    def _require_idle(self) -> None:
        if self._pending is not None:
            raise FormatError("The aggregator waits for the broker's acknowledgement.")

    def _after(self, step: Callable[[], None], host: Host) -> Reply:
        if self._behind is None:
            self._behind = statistics_behind(self._session, host)
        step()
        if self._algorithm.is_done(self._state):
            return self._finish(host)
        if self._current.round % self._session.job.checkpoint_interval == 0:
            checkpoint = seal_state(self._session, self._current, CHECKPOINT, host)
            return self._record(self._current.digest, checkpoint, None, self._advanced(host))
        return self._advanced(host)

    def recorded(self, acknowledgement: bytes) -> Reply:
        """Return what waited for the broker, once its acknowledgement is genuine; `UnsealError` otherwise."""
        with self._lock:
            if self._pending is None:
                raise FormatError("Nothing waits for an acknowledgement.")
            update, head, reply = self._pending
            unseal(self._session.job_key, head_acknowledgement_context(self._session.job_id, update), acknowledgement)
            self._head, self._pending = head, None
            return reply

    def _gather(self, first: int, statistics: list[memoryview], host: Host) -> None:
        found, kind, current = self._sum if first else _Sum(), self._current.addition.kind, self._current
        # Whatever fails on the way may leave half a sum, which nothing is added to any more.
        self._sum = _Sum()
        if kind == MASKED or first != found.shares or first + len(statistics) > self._session.job.shares:
            raise CoverError(f"{len(statistics)} sealed statistics came after {found.shares} in round {current.round}.")
        for share, message in enumerate(statistics, first):
            held = None if len(message) or kind == MEASURED else self._session.held.take(share, current.digest)
            try:
                packed = open_statistics(self._session, current, share, message, host) if held is None else held
            except UnsealError:
                raise CoverError(f"The statistics of share {share} are not those of round {current.round}.") from None
            if kind == MEASURED:
                found.measured.append(None if packed.tree is None else unpack(Exponents, packed))
            elif packed.tree is not None:
                one = unpack(Summary if self._state is None else types_of(type(self._algorithm))[1], packed)
                found.total = one if found.total is None else found.total + one
            found.shares += 1
        self._sum = found

    def _step_sealed(self, found: _Sum) -> None:
        addition = self._current.addition
        if found.shares != self._session.job.shares:
            raise CoverError(f"{found.shares} statistics came for {self._session.job.shares} shares.")
        if addition.kind == MEASURED:
            self._again(addition.after_measuring(found.measured, self._current.digest))
        else:
            self._step(found.total)

    def _step_masked(self, salts: tuple[bytes, ...], masked: memoryview, host: Host) -> None:
        session, current = self._session, self._current
        if current.addition.kind != MASKED or len(salts) != session.job.shares:
            raise CoverError(f"A masked sum of {len(salts)} shares came in round {current.round}, which is not of that kind.")
        shares = [(statistics_context(session, current, share), salt) for share, salt in enumerate(salts)]
        like = no_rows(session, self._state, current.addition.columns)
        if not len(masked):
            masked = fetch_masked(session, current.round, salts, like, host)
        try:
            total = add_masked(session, current.digest, shares, masked, current.addition, like)
        except IntegrityError:
            raise CoverError(f"The masked sum is not that of every share in round {current.round}, once each.") from None
        if total is None:
            self._again(Addition(kind=MEASURED, columns=current.addition.columns))
        else:
            self._step(total)

    def _again(self, addition: Addition) -> None:
        """Open a further round of the same state."""
        self._current = replace(self._current, round=self._current.round + 1, addition=addition)

    def _step(self, total: Any) -> None:
        if self._torn:
            raise UnavailableError("A step of this aggregator failed: go on from the job's recorded head.", code="unavailable.session")
        # Without memory a step ends anywhere, and the round's statistics may not move the state a second time.
        self._torn = True
        addition, heaviest, exchanged = self._current.addition, self._current.heaviest, self._current.exchanged
        if self._state is None:
            self._state, group = first_state(self._session, total, self._behind)
            require_group(self._session, (OutputKind.METRIC, OutputKind.SUMMARY), group)
            heaviest = 0.0 if total is None else total.heaviest
            addition = replace(addition, columns=0 if total is None else total.columns)
        else:
            if hasattr(self._algorithm, "exchange"):
                exchanged = after_exchange(self._current, self._algorithm.stage(self._state))
            if self._behind is not None:
                total = total + self._algorithm.behind(self._state, self._behind)
            self._state = self._algorithm.update(self._state, total)
        addition = addition.after_update(self._session, self._state)
        self._current = SealedState(
            round=self._current.round + 1, state=pack(self._state), addition=addition, heaviest=heaviest, exchanged=exchanged
        )
        self._torn = False

    def _advanced(self, host: Host) -> Reply:
        return Advanced(round=self._current.round), seal_state(self._session, self._current, STATE, host)

    def _record(self, state: bytes, checkpoint: bytes | memoryview, model: SealedModel | None, reply: Reply) -> Reply:
        session = self._session
        head = Head(round=self._current.round, state=state, epoch=session.grant.epoch)
        update = HeadUpdate(previous=self._head, head=head, model=None if model is None else model.reference)
        sealed = seal(session.job_key, head_context(session.job_id), update.to_bytes())
        self._pending = (sealed, head, reply)
        return Recording(round=self._current.round, update=sealed), checkpoint

    def _finish(self, host: Host) -> Reply:
        session = self._session
        model = self._algorithm.to_model(self._state)
        # Of rows or of weight: neither light rows nor heavy ones make a group larger than it is.
        require_group(session, (OutputKind.SUMMARY,), getattr(model, "smallest_group", math.inf) / max(self._current.heaviest, 1.0))
        tree = to_tree(model)
        sealed: SealedModel | None = None
        if session.job.output(OutputKind.SEALED_MODEL):

            def keep(index: int, piece: bytes) -> None:
                host.keep(session.job_id, piece_name(index), piece)

            key = DataKey(session.grant.model_key)
            sealed = seal_tree(session, key, session.job.operation, tree, keep, getattr(model, "shards", ()))
        if session.job.output(OutputKind.SEALED_STATISTICS):
            keep_statistics(session, self._state, host)
        summary = {name: tree[name] if name in tree else getattr(model, name) for name in model.SUMMARY}
        released = {OutputKind.METRIC: tree.get("value"), OutputKind.SUMMARY: summary}
        left = [output for output in session.job.outputs if output.kind in released]
        results = [sealed_result(session, output, encode(released[output.kind])) for output in left]
        finished = Finished(
            round=self._current.round,
            model=b"" if sealed is None else sealed.to_bytes(),
            results=tuple(result.to_bytes() for result in results),
        )
        return self._record(self._current.digest, finished.to_bytes(), sealed, (finished, b""))
