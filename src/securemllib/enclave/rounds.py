"""What worker and aggregator must agree on to the byte: the sealed state, and the context of statistics."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from securemllib.algorithms.codec import from_tree, to_tree
from securemllib.crypto.aead import seal, unseal
from securemllib.enclave.addition import Addition
from securemllib.enclave.session import Session
from securemllib.errors import FormatError
from securemllib.wire.context import StateContext, StatisticsContext
from securemllib.wire.encoding import decode, digest, encode

__all__ = ["CHECKPOINT", "STATE", "STATE_LIMIT", "Exchanged", "SealedState", "open_state", "seal_state", "statistics_context"]

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
        state: The algorithm's state as a tree, or None in the first round, which computes the summary.
        addition: How the round's statistics are added.
        heaviest: The largest weight of a row, by which groups are measured; 0 before the summary.
        exchanged: The rounds in which the algorithm's shares last sent each other blocks, by stage.
    """

    round: int
    state: Any
    addition: Addition = field(default_factory=Addition)
    heaviest: float = 0.0
    exchanged: tuple[Exchanged, ...] = ()

    def to_bytes(self) -> bytes:
        """Return the plaintext of the sealed state."""
        exchanged = [to_tree(sent) for sent in self.exchanged]
        tree = {"round": self.round, "state": self.state, "addition": to_tree(self.addition), "heaviest": self.heaviest}
        return encode({**tree, "exchanged": exchanged})

    @cached_property
    def digest(self) -> bytes:
        """What names this state in statistics and at the broker."""
        return digest("securemllib/state/v1", self.to_bytes())


def seal_state(session: Session, state: SealedState, channel: str) -> bytes:
    """Return the envelope of a state for the workers or for the checkpoint."""
    return seal(session.job_key, _context(session, state.round, channel), state.to_bytes())


def open_state(session: Session, envelope: bytes | memoryview, round_number: int, channel: str = STATE) -> SealedState:
    """Return the state of exactly that round and channel; `UnsealError` for any other."""
    plaintext = unseal(session.job_key, _context(session, round_number, channel), envelope)
    tree = decode(plaintext, limit=STATE_LIMIT)
    if not isinstance(tree, dict) or tree.keys() != _FIELDS or tree["round"] != round_number or not isinstance(tree["exchanged"], list):
        raise FormatError("The bytes are no state of that round.")
    return SealedState(
        round=round_number,
        state=tree["state"],
        addition=from_tree(Addition, tree["addition"]),
        heaviest=from_tree(float, tree["heaviest"]),
        exchanged=tuple(from_tree(Exchanged, sent) for sent in tree["exchanged"]),
    )


def _context(session: Session, round_number: int, channel: str) -> bytes:
    return StateContext(job_id=session.job_id, channel=channel, round=round_number).to_bytes()


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
