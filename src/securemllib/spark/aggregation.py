"""The relay's side of the aggregator: statistics in; states, records of the head, and at last the results out."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from securemllib.errors import FormatError, FreshnessError, UnavailableError
from securemllib.spark.addition import MaskedSum, Shares
from securemllib.spark.broker_client import broker_client
from securemllib.spark.enclave_client import EnclaveClient
from securemllib.spark.relay_job import RelayJob
from securemllib.wire.encoding import decode
from securemllib.wire.record import Record
from securemllib.wire.task import FRAME_BYTES, Advanced, Begin, Finished, Gathered, Recorded, Recording, Update, UpdateSum

__all__ = ["FINISHED_CODE", "Aggregation", "portions", "stored_result"]

T = TypeVar("T")

# With it the broker refuses keys of a job whose model it recorded.
FINISHED_CODE = "integrity.freshness.finished"

_CHECKPOINT_LIMIT = 2**31


class Aggregation:
    """Drives the enclave that aggregates one job.

    Args:
        job: The job.
        enclave: A connection to an enclave that was granted it.
        head: The round of the head that the grant holds, None where it holds none.
    """

    def __init__(self, job: RelayJob, enclave: EnclaveClient, head: int | None) -> None:
        self._job = job
        self._enclave = enclave
        self._head = head

    def begin(self) -> tuple[Record, memoryview]:
        """Return `Advanced` with the state to go on from, or `Finished` where the job was done and only its result was lost."""
        checkpoint = b"" if self._head is None else _checkpoint(self._job, self._head)
        if (done := _finished(checkpoint)) is not None:
            return done, memoryview(b"")
        return self._follow(Begin(job_id=self._job.job_id), checkpoint)

    def update(self, statistics: Shares) -> tuple[Record, memoryview]:
        """Return `Advanced` with the next state, or `Finished`.

        Args:
            statistics: The statistics of all shares.
        """
        job = self._job
        shares = statistics.salts if isinstance(statistics, MaskedSum) else statistics
        if shares.keys() != set(range(job.shares)):
            raise FormatError(f"There are statistics of {len(shares)} of {job.shares} shares.")
        if isinstance(statistics, MaskedSum):
            salts = tuple(statistics.salts[share] for share in range(job.shares))
            return self._follow(UpdateSum(job_id=job.job_id, salts=salts), statistics.payload())
        *others, last = portions([statistics[share] for share in range(job.shares)], len)
        first = 0
        for some in others:
            request = Update(job_id=job.job_id, lengths=tuple(map(len, some)), first=first, more=True)
            self._enclave.ask(request, *some, types=(Gathered,))
            first += len(some)
        return self._follow(Update(job_id=job.job_id, lengths=tuple(map(len, last)), first=first), *last)

    def _follow(self, request: Record, *payload: bytes | memoryview) -> tuple[Record, memoryview]:
        reply, body = self._enclave.ask(request, *payload, types=(Advanced, Recording, Finished))
        while isinstance(reply, Recording):
            # Stored before it is recorded: a recorded head without its checkpoint could not be resumed from.
            self._job.checkpoints.write(_name(reply.round), body)
            acknowledgement = broker_client(self._job.broker).record(self._job.job_id, reply.update)
            recorded = Recorded(job_id=self._job.job_id, acknowledgement=acknowledgement)
            recorded_round = reply.round
            reply, body = self._enclave.ask(recorded, types=(Advanced, Recording, Finished))
            self._job.blocks.prune(None if isinstance(reply, Finished) else recorded_round)
        if isinstance(reply, Advanced):
            self._job.blocks.discard(self._enclave.carried.get(self._job.job_id, set()), reply.round)
        return reply, body


def portions(items: list[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """Yield some items after the other, of as many bytes together as an enclave takes in a frame, or one that is larger alone."""
    some: list[T] = []
    for item in items:
        if some and sum(map(size, some)) + size(item) > FRAME_BYTES:
            yield some
            some = []
        some.append(item)
    yield some


def stored_result(job: RelayJob, refusal: FreshnessError) -> Finished:
    """Return the results of a job that an earlier attempt finished, whose way to the driver was cut off.

    Args:
        job: The job.
        refusal: The broker's; it is raised where it does not say that the job is finished.
    """
    head = broker_client(job.broker).head(job.job_id) if refusal.error_code == FINISHED_CODE else None
    found = None if head is None else _finished(_checkpoint(job, head))
    if found is None:
        raise refusal
    return found


def _checkpoint(job: RelayJob, head: int) -> bytes:
    try:
        return job.checkpoints.read(_name(head))
    except UnavailableError as error:
        raise UnavailableError(
            f"The checkpoint of round {head} of job {job.job_id} is not in {job.checkpoints.root}.",
            next_step="Set spark.securemllib.storage to a folder that every executor reaches.",
            code="unavailable.storage",
        ) from error


def _name(round_number: int) -> str:
    return f"checkpoint-{round_number:06d}.sml"


def _finished(checkpoint: bytes) -> Finished | None:
    """Return the results that the last checkpoint of a job holds, None for every other one, which is sealed."""
    try:
        tree = decode(checkpoint, limit=_CHECKPOINT_LIMIT)
        return Finished.from_tree(tree)
    except FormatError:
        return None
