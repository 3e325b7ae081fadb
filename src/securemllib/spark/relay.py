"""A task of the resident stage: it carries sealed bytes between its node's enclave, the other tasks and the broker.

A stage trains one job, or several over the same rows, each pass being a round of all of them: what a job computes, what it seals and what
the broker records of it is the same as if it were alone.
"""

import json
import secrets
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

from pyspark.taskcontext import BarrierTaskContext, TaskContext

from securemllib.errors import ConnectionLostError, FormatError, SecureMLlibError, error_from_code
from securemllib.spark.addition import MaskedSum, Shares
from securemllib.spark.crossings import Crossings
from securemllib.spark.enclave_client import EnclaveClient
from securemllib.spark.failures import is_passing
from securemllib.spark.node import Node, node_folder, reached
from securemllib.spark.relay_job import FAILED, FINISHED, RelayJob, TaskRow, crossed
from securemllib.spark.relay_messages import Hello, Join, Peers, Progress, Round, Statistics, Stop
from securemllib.spark.sockets import connect, listen, tuned
from securemllib.spark.training import JobRound, Training, compute_shares
from securemllib.wire.framing import receive, send
from securemllib.wire.record import Record
from securemllib.wire.task import Finished

__all__ = ["ResidentRelay", "failed", "join"]

_HELLO_SECONDS = 60.0


class ResidentRelay:
    """The function of the stage, called once a task.

    Args:
        jobs: The jobs, over the same parts, shares and tasks: each pass over the rows is a round of all that are not done.
    """

    def __init__(self, jobs: tuple[RelayJob, ...]) -> None:
        self._jobs = jobs

    def __call__(self) -> Iterator[TaskRow]:
        """Do one task's part of the jobs; where the driver has no rendezvous, task 0 yields the rows of their results, in order."""
        context = TaskContext.get()
        if context is None:
            raise FormatError("The function of a stage runs in Spark's tasks only.")
        with ExitStack() as stack:
            yield from _Task(self._jobs, context, stack).run()


class _Task:
    """One task: it meets the others first, so that whatever fails later can be told to task 0."""

    def __init__(self, jobs: tuple[RelayJob, ...], context: TaskContext, stack: ExitStack) -> None:
        self._jobs, self._job = jobs, jobs[0]
        self._context, self._stack = context, stack
        self._index = context.partitionId()
        # Jobs of one pass share its frames: they are counted as the first job's.
        self._crossings = Crossings(job_id=self._job.job_id)
        self._driver: socket.socket | None = None

    def run(self) -> Iterator[TaskRow]:
        """Do the task's part of the jobs: task 0 has their results, and each what it counted.

        The rows go to the driver on the task's own connection, and are yielded where there is none.
        """
        listener = self._stack.enter_context(listen("", self._job.ports)) if self._index == 0 else None
        peers = self._meet(0 if listener is None else listener.getsockname()[1])
        if peers is None:
            return
        rows = self._follow(peers) if listener is None else self._lead(peers, listener)
        rows.append(crossed(self._crossings))
        if self._driver is None:
            yield from rows
            return
        for row in rows:
            send(self._driver, replace(row, payload=b""), row.payload)

    def _meet(self, port: int) -> Peers | None:
        """Return where task 0 is; None where nobody waits for the jobs any more, because one was refused."""
        job = self._job
        if job.rendezvous is None:
            messages = BarrierTaskContext.get().allGather(f"{secrets.token_hex(16)} {port} {_own_address()}")
            generation, first, host = messages[0].split(" ")
            asked = tuple(job.asked for job in self._jobs)
            return Peers(
                generation=generation, host=host, port=int(first), asked=asked, places=tuple(range(job.tasks)), beside=(False,) * job.tasks
            )
        self._driver = driver = self._stack.enter_context(connect(*job.rendezvous))
        join(driver, job, self._index, port)
        peers, _ = receive(driver, (Peers, Stop), payload_limit=0)
        return peers if isinstance(peers, Peers) else None

    def _lead(self, met: Peers, listener: socket.socket) -> list[TaskRow]:
        others = self._accept(listener, met.generation)
        try:
            found = self._finish(met, others)
            rows = [TaskRow(kind=FINISHED, number=finished.round, payload=finished.to_bytes()) for finished in found]
        except SecureMLlibError as error:
            if is_passing(error):
                raise
            rows = [failed(error)]
        for other in others.values():
            send(other, Stop())
        return rows

    def _finish(self, met: Peers, others: dict[int, socket.socket]) -> list[Finished]:
        # The tasks that follow ask for keys once a round begins, so nobody else answers the jobs' first challenges.
        node = self._reach(met)
        trainings = [Training(replace(job, asked=asked), node) for job, asked in zip(self._jobs, met.asked, strict=True)]
        while active := {index: training for index, training in enumerate(trainings) if training.finished is None}:
            self._pass(node.enclave, active, others, met.places)
        self._crossings = node.enclave.crossings(self._job.job_id)
        return [training.finished for training in trainings if training.finished is not None]

    def _reach(self, met: Peers) -> Node:
        """Return a connection to this executor's enclave; it ends with the task, after what the driver waits for was sent."""
        return self._stack.enter_context(reached(self._job, met.generation))

    def _pass(self, enclave: EnclaveClient, active: dict[int, Training], others: dict[int, socket.socket], places: tuple[int, ...]) -> None:
        """Compute a round of every job that is not done."""
        if self._driver is not None:
            highest = max(training.round for training in active.values())
            send(self._driver, Progress(round=highest, jobs=len(active), read_again=enclave.read_again))
        for other in others.values():
            for left, (index, training) in zip(range(len(active) - 1, -1, -1), active.items(), strict=True):
                send(other, Round(round=training.round, job=index, more=left > 0), training.state)
        rounds = [(training.job, training.round, training.state) for training in active.values()]
        own = compute_shares(rounds, enclave, places[self._index], stays=True)
        for training, shares in zip(active.values(), own, strict=True):
            training.gather(shares)
        for task, other in others.items():
            for training in active.values():
                training.gather(self._collect(task, other, training.job.shares_of(places[task])))
        for training in active.values():
            training.update()

    def _collect(self, task: int, other: socket.socket, shares: tuple[int, ...]) -> Shares:
        answer, payload = receive(other, (Statistics,))
        if not isinstance(answer, Statistics):
            raise FormatError(f"Task {task} did not send statistics.")
        if answer.code:
            raise error_from_code(answer.code, answer.reason, answer.next_step)
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

    def _follow(self, peers: Peers) -> list[TaskRow]:
        first = self._stack.enter_context(connect(peers.host, peers.port))
        send(first, Hello(generation=peers.generation, task=self._index))
        rounds = self._rounds(first)
        try:
            if rounds:
                node = self._reach(peers)
                while rounds:
                    for job, _, _ in rounds:
                        if job.job_id not in node.jobs:
                            node.grant(job)
                    for found in compute_shares(rounds, node.enclave, peers.places[self._index], stays=peers.beside[self._index]):
                        _answer(first, found)
                    rounds = self._rounds(first)
                self._crossings = node.enclave.crossings(self._job.job_id)
        except SecureMLlibError as error:
            if is_passing(error):
                raise
            send(first, Statistics(code=error.error_code, reason=error.reason, next_step=error.next_step))
            _wait_for_stop(first)
        return []

    def _rounds(self, first: socket.socket) -> list[JobRound]:
        """Return the rounds of the next pass; none once all jobs are over."""
        rounds: list[JobRound] = []
        more = True
        while more:
            message, state = receive(first, (Round, Stop))
            if not isinstance(message, Round):
                return []
            rounds.append((self._jobs[message.job], message.round, state))
            more = message.more
        return rounds


def _answer(first: socket.socket, found: Shares) -> None:
    if isinstance(found, MaskedSum):
        send(first, Statistics(salts=tuple(found.salts.values()), code="", reason="", next_step=""), found.payload())
    else:
        lengths = tuple(len(envelope) for envelope in found.values())
        send(first, Statistics(lengths=lengths, code="", reason="", next_step=""), *found.values())


def _wait_for_stop(first: socket.socket) -> None:
    message: Record | None = None
    while not isinstance(message, Stop):
        message, _ = receive(first, (Round, Stop))


def join(driver: socket.socket, job: RelayJob, task: int, port: int = 0) -> None:
    """Tell the driver that a task is here, which executor it runs on, and where it listens."""
    node, own = f"{socket.gethostname()}:{node_folder()}", str(driver.getsockname()[0])
    send(driver, Join(job_id=job.job_id, task=task, tasks=job.tasks, node=node, host=own, port=port))


def failed(error: SecureMLlibError) -> TaskRow:
    """Return the row of an error that running again would not help."""
    return TaskRow(kind=FAILED, number=0, payload=json.dumps([error.error_code, error.reason, error.next_step]).encode())


def _own_address() -> str:
    return socket.gethostbyname(socket.gethostname())
