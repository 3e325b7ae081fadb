"""One share's side of an exchange: blocks that enclaves of one job seal for each other, and that hosts carry and keep.

A block has one sender, one receiver and one round. The receiver names all three itself when it asks, with the digest of the state
that opened the round, so a block that the host drops, duplicates, swaps for another or keeps from an earlier round does not open, and the
round does not end. What a share sends is a function of that state, its parts and what it received, so a rerun sends the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from securemllib.algorithms.base import Block, Scratch
from securemllib.algorithms.codec import from_tree, to_tree
from securemllib.crypto.aead import seal, unseal
from securemllib.crypto.keys import DataKey
from securemllib.crypto.models import seal_piece
from securemllib.enclave.host import Host
from securemllib.enclave.rounds import STATE_LIMIT, Exchanged, SealedState
from securemllib.enclave.session import Session
from securemllib.errors import CoverError, UnsealError, UsageError
from securemllib.wire.context import ExchangeContext
from securemllib.wire.encoding import decode, encode
from securemllib.wire.result import piece_name

__all__ = ["SealedShard", "after_exchange"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedShard:
    """One share in one round: `securemllib.algorithms.base.Shard` over sealed blocks.

    Attributes:
        session: The job.
        opened: The state that opened the round.
        stage: What the algorithm calls the round.
        index: The share.
        rows: Its own blocks of rows, one after the other.
        scratch: What it derived from what it received.
        host: The relay.
    """

    session: Session
    opened: SealedState
    stage: str
    index: int
    rows: Iterator[Block]
    scratch: Scratch
    host: Host

    @property
    def count(self) -> int:
        """How many shares there are."""
        return self.session.job.shares

    def send(self, receiver: int, value: Any, piece: int = 0) -> None:
        """Seal a value for one share, which reads it in a later round."""
        sent = Exchanged(stage=self.stage, round=self.opened.round, state=self.opened.digest)
        context = self._context(sent, self.index, receiver, piece)
        block = seal(self.session.job_key, context, encode(to_tree(value)))
        self.host.keep(self.session.job_id, _name(sent, self.index, receiver, piece), block)

    def received(self, kind: type[T], stage: str, sender: int, piece: int = 0) -> T:
        """Return what a share sent to this one when it last went through a stage.

        Raises:
            CoverError: The host's block is another one: of another round, stage, sender, receiver or piece.
        """
        sent = next((found for found in self.opened.exchanged if found.stage == stage), None)
        if sent is None:
            raise UsageError(f"No round of stage {stage!r} came before.")
        envelope = self.host.block(self.session.job_id, _name(sent, sender, self.index, piece))
        try:
            plaintext = unseal(self.session.job_key, self._context(sent, sender, self.index, piece), envelope)
        except UnsealError:
            raise CoverError(f"A block of share {sender} for share {self.index} is not that of round {sent.round}.") from None
        return from_tree(kind, decode(plaintext, limit=STATE_LIMIT))

    def publish(self, value: Any) -> bytes:
        """Seal a value as this share's piece of the job's model, and return the digest that the model names it by."""
        plaintext = encode(to_tree(value))
        envelope, digest = seal_piece(DataKey(self.session.grant.model_key), self.session.job_id, self.index, plaintext)
        self.host.keep(self.session.job_id, piece_name(self.index), envelope)
        return digest

    def _context(self, sent: Exchanged, sender: int, receiver: int, piece: int) -> bytes:
        return ExchangeContext(
            job_id=self.session.job_id,
            stage=sent.stage,
            round=sent.round,
            state=sent.state,
            sender=sender,
            receiver=receiver,
            shares=self.count,
            piece=piece,
        ).to_bytes()


def after_exchange(current: SealedState, stage: str) -> tuple[Exchanged, ...]:
    """Return the rounds of the stages after a round of one of them."""
    others = tuple(sent for sent in current.exchanged if sent.stage != stage)
    return (*others, Exchanged(stage=stage, round=current.round, state=current.digest))


def _name(sent: Exchanged, sender: int, receiver: int, piece: int) -> str:
    return f"{sent.stage}-{sent.round}-{sender}-{receiver}-{piece}"
