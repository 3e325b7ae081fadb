"""Messages of the driver and the relays of one barrier stage: addresses, rounds, and the sealed bytes behind them."""

from dataclasses import dataclass
from typing import ClassVar

from securemllib.spark.broker_client import Asked
from securemllib.wire.record import Record

__all__ = ["Begin", "Hello", "Join", "Peers", "Progress", "Round", "Statistics", "Stop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Join(Record):
    """A task tells the driver where it listens, and which executor it runs on."""

    TYPE: ClassVar[str] = "relay-join"

    job_id: str
    task: int
    tasks: int
    node: str
    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers(Record):
    """The driver tells each task of one attempt of the stage where task 0 listens.

    Attributes:
        generation: Names the attempt: a rerun has another one.
        host: Task 0's host.
        port: Task 0's port.
        asked: For each job the challenge of its first enclave, where there is one.
        places: Whose shares each task computes: they stay with the enclave that holds their rows, wherever Spark puts the task.
        beside: Whether each task runs on task 0's executor, as far as the driver knows: they share the enclave that aggregates.
    """

    TYPE: ClassVar[str] = "relay-peers"

    generation: str
    host: str
    port: int
    asked: tuple[Asked | None, ...]
    places: tuple[int, ...]
    beside: tuple[bool, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin(Record):
    """The driver lets a task begin that need not meet the others.

    Attributes:
        place: Whose parts it computes, as `Peers` says.
        asked: A challenge of the job's first enclave, where it is this executor's.
    """

    TYPE: ClassVar[str] = "relay-begin"

    place: int
    asked: Asked | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(Record):
    """Task 0 tells the driver that a pass begins.

    Attributes:
        round: The highest of its rounds.
        jobs: How many jobs are still in training.
        read_again: Bytes of parts that its enclave did not keep and asked for again, so far.
    """

    TYPE: ClassVar[str] = "relay-progress"

    round: int
    jobs: int
    read_again: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello(Record):
    """A task introduces itself to task 0."""

    TYPE: ClassVar[str] = "relay-hello"

    generation: str
    task: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Round(Record):
    """Task 0 begins a round of one of the stage's jobs; the payload is the sealed state.

    Attributes:
        round: Its number.
        job: Which job.
        more: Whether a round of another job follows, which is computed in the same pass.
    """

    TYPE: ClassVar[str] = "relay-round"

    round: int
    job: int
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics(Record):
    """A task's answer for one job of a pass; the payload is the statistics of its shares, or empty where the whole pass failed.

    Attributes:
        lengths: Bytes of each share's sealed statistics, which follow one another; empty where they are masked.
        salts: Each share's where the payload is their masked sum.
        code: An error's code, or empty.
        reason: Its reason.
        next_step: What the analyst can do.
    """

    TYPE: ClassVar[str] = "relay-statistics"

    lengths: tuple[int, ...] = ()
    salts: tuple[bytes, ...] = ()
    code: str
    reason: str
    next_step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop(Record):
    """Task 0 tells that all jobs are over, or the driver that nobody waits for them."""

    TYPE: ClassVar[str] = "relay-stop"
