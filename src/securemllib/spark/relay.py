"""A task of the resident barrier stage: it carries sealed bytes between its node's enclave, the other tasks and the broker."""

import json
import secrets
import socket
from collections.abc import Iterator
from contextlib import ExitStack

from pyspark.taskcontext import BarrierTaskContext

from securemllib.errors import ConnectionLostError, FormatError, FreshnessError, SecureMLlibError, error_from_code
from securemllib.spark.addition import MaskedSum, Shares, gathered
from securemllib.spark.aggregation import Aggregation, stored_result
from securemllib.spark.crossings import Crossings
from securemllib.spark.enclave_client import EnclaveClient
from securemllib.spark.failures import is_passing
from securemllib.spark.node import granted
from securemllib.spark.relay_job import FAILED, FINISHED, RelayJob, TaskRow, crossed
from securemllib.spark.relay_messages import Hello, Join, Peers, Progress, Round, Statistics, Stop
from securemllib.spark.sockets import connect, listen, tuned
from securemllib.wire.framing import receive, send
from securemllib.wire.record import Record
from securemllib.wire.task import Advanced, Compute, Computed, Finished, Masked

__all__ = ["BarrierRelay", "compute_shares", "failed"]

_HELLO_SECONDS = 60.0


class BarrierRelay:
    """The function of the stage, called once a task.

    Args:
        job: The job.
    """

    def __init__(self, job: RelayJob) -> None:
        self._job = job

    def __call__(self) -> Iterator[TaskRow]:
        """Do one task's part of the job; task 0 yields the row of its result."""
        context = BarrierTaskContext.get()
        with ExitStack() as stack:
            yield from _Task(self._job, context, stack).run()


class _Task:
    """One task: it meets the others first, so that whatever fails later can be told to task 0."""

    def __init__(self, job: RelayJob, context: BarrierTaskContext, stack: ExitStack) -> None:
        self._job, self._context, self._stack = job, context, stack
        self._index = context.partitionId()
        self._crossings = Crossings(job_id=job.job_id)

    def run(self) -> Iterator[TaskRow]:
        """Do the task's part of the job, and yield the result from task 0, and from each what it counted."""
        if self._index == 0:
            yield self._lead()
        else:
            self._follow()
        yield crossed(self._crossings)

    def _meet(self, port: int) -> tuple[Peers, socket.socket | None]:
        """Return where task 0 is, and the connection for progress where the driver can be reached."""
        job = self._job
        if job.rendezvous is None:
            messages = self._context.allGather(f"{secrets.token_hex(16)} {port} {_own_address()}")
            generation, first, host = messages[0].split(" ")
            return Peers(generation=generation, host=host, port=int(first)), None
        driver = self._stack.enter_context(connect(*job.rendezvous))
        own = str(driver.getsockname()[0])
        send(driver, Join(job_id=job.job_id, task=self._index, tasks=job.tasks, host=own, port=port))
        peers, _ = receive(driver, (Peers,), payload_limit=0)
        if not isinstance(peers, Peers):
            raise FormatError("The driver did not say where task 0 is.")
        return peers, driver

    def _lead(self) -> TaskRow:
        listener = self._stack.enter_context(listen("", self._job.ports))
        met, driver = self._meet(listener.getsockname()[1])
        others = self._accept(listener, met.generation)
        try:
            finished = self._finish(met.generation, others, driver)
            row = TaskRow(kind=FINISHED, number=finished.round, payload=finished.to_bytes())
        except SecureMLlibError as error:
            if is_passing(error):
                raise
            row = failed(error)
        for other in others.values():
            send(other, Stop())
        return row

    def _finish(self, generation: str, others: dict[int, socket.socket], driver: socket.socket | None) -> Finished:
        try:
            # The tasks that follow ask for keys once a round begins, so nobody else answers the job's first challenge.
            with granted(self._job, generation, asked=self._job.asked) as (enclave, head):
                finished = self._rounds(Aggregation(self._job, enclave, head), enclave, others, driver)
                self._crossings = enclave.crossings(self._job.job_id)
                return finished
        except FreshnessError as refusal:
            return stored_result(self._job, refusal)

    def _rounds(
        self, aggregation: Aggregation, enclave: EnclaveClient, others: dict[int, socket.socket], driver: socket.socket | None
    ) -> Finished:
        reply, state = aggregation.begin()
        while isinstance(reply, Advanced):
            if driver is not None:
                send(driver, Progress(round=reply.round, read_again=enclave.read_again))
            for other in others.values():
                send(other, Round(round=reply.round), state)
            found = [compute_shares(self._job, enclave, reply.round, state, self._index)]
            found += [self._collect(task, other) for task, other in others.items()]
            reply, state = aggregation.update(gathered(found))
        if not isinstance(reply, Finished):
            raise FormatError(f"The enclave ended the job with {reply.TYPE}.")
        return reply

    def _collect(self, task: int, other: socket.socket) -> Shares:
        answer, payload = receive(other, (Statistics,))
        if not isinstance(answer, Statistics):
            raise FormatError(f"Task {task} did not send statistics.")
        if answer.code:
            raise error_from_code(answer.code, answer.reason, answer.next_step)
        shares = self._job.shares_of(task)
        if answer.salts:
            return MaskedSum.of(dict(zip(shares, answer.salts, strict=True)), payload)
        found: dict[int, bytes | memoryview] = {}
        start = 0
        for share, length in zip(shares, answer.lengths, strict=True):
            found[share] = payload[start : start + length]
            start += length
        return found

    def _accept(self, listener: socket.socket, generation: str) -> dict[int, socket.socket]:
        others: dict[int, socket.socket] = {}
        listener.settimeout(_HELLO_SECONDS)
        while len(others) < self._job.tasks - 1:
            try:
                connection, _ = listener.accept()
            except TimeoutError as error:
                raise ConnectionLostError(f"{len(others)} of {self._job.tasks - 1} tasks said hello.") from error
            hello, _ = receive(tuned(connection), (Hello,), payload_limit=0)
            if isinstance(hello, Hello) and hello.generation == generation and 0 < hello.task < self._job.tasks:
                others[hello.task] = self._stack.enter_context(connection)
            else:
                connection.close()
        return dict(sorted(others.items()))

    def _follow(self) -> None:
        peers, _ = self._meet(0)
        first = self._stack.enter_context(connect(peers.host, peers.port))
        send(first, Hello(generation=peers.generation, task=self._index))
        message, state = receive(first, (Round, Stop))
        try:
            if isinstance(message, Round):
                with granted(self._job, peers.generation) as (enclave, _):
                    while isinstance(message, Round):
                        found = compute_shares(self._job, enclave, message.round, state, self._index)
                        _answer(first, found)
                        message, state = receive(first, (Round, Stop))
                    self._crossings = enclave.crossings(self._job.job_id)
        except SecureMLlibError as error:
            if is_passing(error):
                raise
            send(first, Statistics(code=error.error_code, reason=error.reason, next_step=error.next_step))
            _wait_for_stop(first)


def _answer(first: socket.socket, found: Shares) -> None:
    if isinstance(found, MaskedSum):
        send(first, Statistics(salts=tuple(found.salts.values()), code="", reason="", next_step=""), found.payload())
    else:
        lengths = tuple(len(envelope) for envelope in found.values())
        send(first, Statistics(lengths=lengths, code="", reason="", next_step=""), b"".join(found.values()))


def _wait_for_stop(first: socket.socket) -> None:
    message: Record | None = None
    while not isinstance(message, Stop):
        message, _ = receive(first, (Round, Stop))


def compute_shares(job: RelayJob, enclave: EnclaveClient, round_number: int, state: bytes | memoryview, task: int) -> Shares:
    """Return the statistics of one task's shares: sealed ones, or the sum of masked ones."""
    found: list[Shares] = []
    for share in job.shares_of(task):
        request = Compute(job_id=job.job_id, round=round_number, share=share)
        reply, payload = enclave.ask(request, state, types=(Computed, Masked), dataset=job.dataset, parts=job.parts)
        found.append(MaskedSum.of({share: reply.salt}, payload) if isinstance(reply, Masked) else {share: payload})
    return gathered(found)


def failed(error: SecureMLlibError) -> TaskRow:
    """Return the row of an error that running again would not help."""
    return TaskRow(kind=FAILED, number=0, payload=json.dumps([error.error_code, error.reason, error.next_step]).encode())


def _own_address() -> str:
    return socket.gethostbyname(socket.gethostname())
