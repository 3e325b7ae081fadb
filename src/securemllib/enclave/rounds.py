"""What worker and aggregator must agree on to the byte: the sealed state, and the context of statistics."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from securemllib.algorithms.codec import Packed, from_tree, pack, to_tree, unpack
from securemllib.algorithms.registry import types_of
from securemllib.enclave.addition import Addition
from securemllib.enclave.host import Host
from securemllib.enclave.messages import Kept, open_message, seal_message
from securemllib.enclave.session import Session
from securemllib.errors import FormatError
from securemllib.wire.context import StateContext, StatisticsContext
from securemllib.wire.encoding import digest, encode

__all__ = [
    "CHECKPOINT", "STATE", "STATE_LIMIT", "Exchanged", "SealedState", "open_state", "open_statistics", "seal_state", "seal_statistics",
    "statistics_context",
]  # fmt: skip

STATE = "state"
CHECKPOINT = "checkpoint"
# States and statistics of the algorithms here stay far below this; it bounds what a decoder allocates.
STATE_LIMIT = 2**31
_FIELDS = {"round", "state", "addition", "heaviest", "exchanged"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanged:
    """When the shares last sent each other the blocks of one stage.

    Attributes:
        stage: What the algorithm calls it.
        round: The round.
        state: The digest of the sealed state that opened it.
    """

    stage: str
    round: int
    state: bytes


# Without slots: the digest is kept, because it is asked for once a share.
@dataclass(frozen=True, kw_only=True)
class SealedState:
    """A state at the start of a round.

    Attributes:
        round: The round that it opens.
        state: The algorithm's state, or None in the first round, which computes the summary.
        addition: How the round's statistics are added.
        heaviest: The largest weight of a row, by which groups are measured; 0 before the summary.
        exchanged: The rounds in which the algorithm's shares last sent each other blocks, by stage.
    """

    round: int
    state: Packed | None
    addition: Addition = field(default_factory=Addition)
    heaviest: float = 0.0
    exchanged: tuple[Exchanged, ...] = ()

    @property
    def packed(self) -> Packed:
        """The plaintext of the sealed state."""
        exchanged = [to_tree(sent) for sent in self.exchanged]
        state = Packed(None) if self.state is None else self.state
        tree = {"round": self.round, "state": state.tree, "addition": to_tree(self.addition), "heaviest": self.heaviest}
        return Packed({**tree, "exchanged": exchanged}, state.arrays)

    @cached_property
    def digest(self) -> bytes:
        """What names this state in statistics and at the broker."""
        packed = self.packed
        return digest("securemllib/state/v1", encode(packed.tree), *packed.arrays)

    def value(self, algorithm: Any) -> Any:
        """Return an algorithm's state, whose arrays are not to be written to; None before the summary."""
        return None if self.state is None else unpack(types_of(type(algorithm))[0], self.state)


def seal_state(session: Session, state: SealedState, channel: str, host: Host) -> memoryview:
    """Return the sealed message of a state for the workers or for the checkpoint."""
    context, kept = _context(session, state.round, channel), Kept(host=host, job_id=session.job_id, channel=channel, round=state.round)
    return seal_message(session.job_key, context, state.packed, kept)


def open_state(session: Session, message: bytes | memoryview, round_number: int, host: Host, channel: str = STATE) -> SealedState:
    """Return the state of exactly that round and channel; `UnsealError` for any other."""
    kept = Kept(host=host, job_id=session.job_id, channel=channel, round=round_number)
    packed = open_message(session.job_key, _context(session, round_number, channel), message, kept)
    tree = packed.tree
    if not isinstance(tree, dict) or tree.keys() != _FIELDS or tree["round"] != round_number or not isinstance(tree["exchanged"], list):
        raise FormatError("The bytes are no state of that round.")
    return SealedState(
        round=round_number,
        state=None if tree["state"] is None else Packed(tree["state"], tuple(array.toreadonly() for array in packed.arrays)),
        addition=from_tree(Addition, tree["addition"]),
        heaviest=from_tree(float, tree["heaviest"]),
        exchanged=tuple(from_tree(Exchanged, sent) for sent in tree["exchanged"]),
    )


def _context(session: Session, round_number: int, channel: str) -> bytes:
    return StateContext(job_id=session.job_id, channel=channel, round=round_number).to_bytes()


def seal_statistics(session: Session, state: SealedState, share: int, value: Any, host: Host) -> memoryview:
    """Return the sealed message of one share's statistics, or of None."""
    return seal_message(session.job_key, statistics_context(session, state, share), pack(value), _kept(session, state, share, host))


def open_statistics(session: Session, state: SealedState, share: int, message: memoryview, host: Host) -> Packed:
    """Return exactly that share's statistics, computed from that state; `UnsealError` for any other."""
    return open_message(session.job_key, statistics_context(session, state, share), message, _kept(session, state, share, host))


def _kept(session: Session, state: SealedState, share: int, host: Host) -> Kept:
    return Kept(host=host, job_id=session.job_id, channel="statistics", round=state.round, share=share)


def statistics_context(session: Session, state: SealedState, share: int) -> bytes:
    """Return the associated data of one share's statistics: which rows, computed from which state."""
    parts = session.share(share)
    return StatisticsContext(
        job_id=session.job_id,
        round=state.round,
        state=state.digest,
        share=share,
        shares=session.job.shares,
        parts=tuple(part.ordinal for part in parts),
        source_rows=sum(part.rows for part in parts),
    ).to_bytes()
