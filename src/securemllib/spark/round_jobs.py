"""The engine without a barrier stage: one Spark job a round, whose tasks may land on any executor; and the tasks that hand out rows.

Placement is Spark's, so the aggregator of a round may be another enclave than that of the round before. It then begins from the head that
the broker recorded; this is why such jobs checkpoint every round.
"""

from collections.abc import Callable, Iterator

from pyspark.taskcontext import TaskContext

from securemllib.errors import FormatError, FreshnessError, SecureMLlibError, UnavailableError
from securemllib.spark.addition import MaskedRow, MaskedSum, Shares, gathered
from securemllib.spark.aggregation import FINISHED_CODE, Aggregation, stored_result
from securemllib.spark.failures import is_passing
from securemllib.spark.node import ANY_GENERATION, granted
from securemllib.spark.relay import failed, join
from securemllib.spark.relay_job import FINISHED, MASKED, ROWS, STATE, STATISTICS, RelayJob, TaskRow, crossed, rows_file
from securemllib.spark.relay_messages import Begin, Stop
from securemllib.spark.sockets import connect
from securemllib.spark.training import compute_shares
from securemllib.wire.framing import receive
from securemllib.wire.record import Record
from securemllib.wire.task import Advanced, Finished, Materialise, Materialised

__all__ = ["RowsRelay", "run_round_jobs"]

# As often as Spark runs a stage again (spark.stage.maxConsecutiveAttempts).
_ATTEMPTS = 4

Run = Callable[[Callable[[], Iterator[TaskRow]], int, bool], list[TaskRow]]


class _Relay:
    """The frame of a task's function: what fails for good becomes a row, what may pass is raised so that Spark tries again."""

    def __init__(self, job: RelayJob) -> None:
        self._job = job

    def __call__(self) -> Iterator[TaskRow]:
        context = TaskContext.get()
        index = 0 if context is None else context.partitionId()
        try:
            yield from self._work(index)
        except SecureMLlibError as error:
            if is_passing(error):
                raise
            yield failed(error)

    def _work(self, task: int) -> Iterator[TaskRow]:
        raise NotImplementedError


class _Compute(_Relay):
    """Statistics of one round."""

    def __init__(self, job: RelayJob, round_number: int, state: bytes) -> None:
        super().__init__(job)
        self._round, self._state = round_number, state

    def _work(self, task: int) -> Iterator[TaskRow]:
        with granted(self._job, ANY_GENERATION, keep=True) as (enclave, _):
            # Which executor aggregates is not known yet.
            (found,) = compute_shares([(self._job, self._round, self._state)], enclave, task, stays=False)
            if isinstance(found, MaskedSum):
                yield TaskRow(kind=MASKED, number=task, payload=MaskedRow.of(found).to_bytes())
            else:
                for share, envelope in found.items():
                    yield TaskRow(kind=STATISTICS, number=share, payload=bytes(envelope))
            yield crossed(enclave.crossings(self._job.job_id))


class _Update(_Relay):
    """One step of the aggregator; without statistics it only begins."""

    def __init__(self, job: RelayJob, round_number: int, statistics: Shares, attempt: int) -> None:
        super().__init__(job)
        self._round, self._statistics, self._attempt = round_number, statistics, attempt

    def _work(self, task: int) -> Iterator[TaskRow]:
        del task
        try:
            yield from self._step()
        except FreshnessError as refusal:
            yield _row(stored_result(self._job, refusal), b"")

    def _step(self) -> Iterator[TaskRow]:
        # Each attempt is granted anew: a grant holds the head that the broker recorded last, and Begin compares the checkpoint with it.
        context = TaskContext.get()
        again = 0 if context is None else context.attemptNumber()
        asked = self._job.asked if (self._round, self._attempt, again) == (-1, 0, 0) else None
        with granted(self._job, f"{self._round}.{self._attempt}.{again}", keep=True, asked=asked) as (enclave, head):
            aggregation = Aggregation(self._job, enclave, head)
            reply, state = aggregation.begin()
            # An attempt before this one may have moved the head: then these statistics are used already.
            if isinstance(reply, Advanced) and reply.round == self._round and self._statistics:
                reply, state = aggregation.update(self._statistics)
            yield _row(reply, state)
            yield crossed(enclave.crossings(self._job.job_id))


class RowsRelay(_Relay):
    """The sealed rows of a task's parts, for each of the job's outputs of rows.

    Args:
        job: The job.
        outputs: How many outputs of rows it has.
    """

    def __init__(self, job: RelayJob, outputs: int) -> None:
        super().__init__(job)
        self._outputs = outputs

    def _work(self, task: int) -> Iterator[TaskRow]:
        job = self._job
        begin = self._begin(task)
        if begin is None:
            return
        with granted(job, "rows", asked=begin.asked) as (enclave, _):
            first, end = job.reads
            for ordinal in range(begin.place, end - first, job.tasks):
                for index in range(self._outputs):
                    request = Materialise(job_id=job.job_id, ordinal=ordinal, output=index)
                    _, sealed = enclave.ask(request, types=(Materialised,), dataset=job.dataset, parts=job.parts)
                    if job.out is not None:
                        # Whoever loses them with a machine's power asks again, as of any file that Spark writes.
                        job.out.write(rows_file(ordinal), sealed, is_synced=False)
                        sealed = sealed[:0]
                    yield TaskRow(kind=ROWS, number=ordinal, payload=bytes(sealed))
            yield crossed(enclave.crossings(job.job_id))

    def _begin(self, task: int) -> Begin | None:
        """Return which parts the task hands out, once the job is accepted; None where it was refused."""
        job = self._job
        if job.rendezvous is None:
            return Begin(place=task, asked=job.asked if task == 0 else None)
        with connect(*job.rendezvous) as driver:
            join(driver, job, task)
            begin, _ = receive(driver, (Begin, Stop), payload_limit=0)
        return begin if isinstance(begin, Begin) else None


def run_round_jobs(job: RelayJob, run: Run, on_round: Callable[[int], None]) -> Finished:
    """Return the results of a job of rounds, with two Spark jobs a round.

    Args:
        job: The job.
        run: Runs a function in so many tasks and returns their rows.
        on_round: Called with each round's number.
    """
    round_number, state, lost = -1, b"", 0
    while True:
        try:
            row = _step(job, run, round_number, state, lost)
        except UnavailableError:
            lost += 1
            if lost == _ATTEMPTS:
                raise
            continue
        if row.kind == FINISHED:
            return Finished.from_bytes(row.payload)
        if row.number > round_number:
            lost = 0
        round_number, state = row.number, row.payload
        on_round(round_number)


def _step(job: RelayJob, run: Run, round_number: int, state: bytes, attempt: int) -> TaskRow:
    """Return the row of the next state, or of the results."""
    statistics: Shares = {}
    if round_number >= 0:
        try:
            statistics = _statistics(job, run, round_number, state)
        except FreshnessError as refusal:
            # A job that is finished gets no keys to compute with; the aggregator's task then finds the stored results.
            if refusal.error_code != FINISHED_CODE:
                raise
    (row,) = run(_Update(job, round_number, statistics, attempt), 1, False)
    return row


def _statistics(job: RelayJob, run: Run, round_number: int, state: bytes) -> Shares:
    rows = run(_Compute(job, round_number, state), job.tasks, False)
    return gathered([MaskedRow.from_bytes(row.payload).sum() if row.kind == MASKED else {row.number: row.payload} for row in rows])


def _row(reply: Record, state: bytes | memoryview) -> TaskRow:
    if isinstance(reply, Advanced):
        return TaskRow(kind=STATE, number=reply.round, payload=bytes(state))
    if isinstance(reply, Finished):
        return TaskRow(kind=FINISHED, number=reply.round, payload=reply.to_bytes())
    raise FormatError(f"The enclave ended a round with {reply.TYPE}.")
