"""The associated data of what enclaves of one job send each other: each receiver builds it from its own expectation."""

from dataclasses import dataclass
from typing import ClassVar

from securemllib.wire.record import Record

__all__ = ["ExchangeContext", "StateContext", "StatisticsContext"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StateContext(Record):
    """Where a sealed state belongs.

    Attributes:
        job_id: The job.
        channel: ``state`` for workers, ``checkpoint`` for the aggregator's own storage.
        round: The round that the state opens.
    """

    TYPE: ClassVar[str] = "securemllib/state-context/v1"

    job_id: str
    channel: str
    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticsContext(Record):
    """Where sealed statistics belong.

    Attributes:
        job_id: The job.
        round: The round.
        state: The digest of the sealed state that they were computed from.
        share: Which share of the parts.
        shares: Of how many.
        parts: The ordinals that they cover.
        source_rows: The rows of those parts in the manifest.
    """

    TYPE: ClassVar[str] = "securemllib/statistics-context/v1"

    job_id: str
    round: int
    state: bytes
    share: int
    shares: int
    parts: tuple[int, ...]
    source_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeContext(Record):
    """Where a sealed block belongs that one share sent to another.

    Attributes:
        job_id: The job.
        stage: What the round is called that sent it.
        round: That round.
        state: The digest of the sealed state that opened it.
        sender: The share that computed it.
        receiver: The share that it is for.
        shares: How many the job has.
        piece: Which of the sender's blocks for this receiver.
    """

    TYPE: ClassVar[str] = "securemllib/exchange-context/v1"

    job_id: str
    stage: str
    round: int
    state: bytes
    sender: int
    receiver: int
    shares: int
    piece: int
