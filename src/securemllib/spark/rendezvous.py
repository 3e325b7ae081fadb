"""The rendezvous of a barrier stage's tasks, in the driver: they learn each other's addresses in one round trip, and leave what they found.

Spark's own ``allGather`` polls once a second, which is longer than most trainings of a small dataset take; and what a stage returns takes
Spark's scheduler a fifth of a short training to bring.
"""

import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from securemllib.errors import ConnectionLostError, FormatError, SecureMLlibError
from securemllib.spark.broker_client import Asked
from securemllib.spark.relay_job import CROSSED, TaskRow
from securemllib.spark.relay_messages import Begin, Join, Peers, Progress, Stop
from securemllib.spark.sockets import tuned
from securemllib.wire.framing import receive, send

__all__ = ["Admission", "Gathering", "OnRound", "Rendezvous"]

OnRound = Callable[[int, int, int], None]

# Between the end of a stage that went well and the last byte of what its tasks sent before.
_ARRIVAL_SECONDS = 60.0


class _Attempt:
    """The tasks of one attempt of a stage.

    Attributes:
        tasks: How many there are.
        arrived: Those that are here.
        rows: What they left so far.
        left: Those that have sent their last row.
    """

    def __init__(self, tasks: int) -> None:
        self.tasks = tasks
        self.arrived: dict[int, tuple[socket.socket, Join]] = {}
        self.rows: list[TaskRow] = []
        self.left: set[int] = set()


class _Places:
    """Which task's shares each executor computed last: its enclave holds their rows."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: dict[int, dict[int, str]] = {}

    def deal(self, nodes: list[str]) -> tuple[int, ...]:
        """Return a place for each task, by the executors they run on: one that its executor had before, else one that is left."""
        with self._lock:
            before = self._taken.get(len(nodes), {})
            had = {node: [place for place, owner in before.items() if owner == node] for node in nodes}
            kept = {task: had[node].pop(0) for task, node in enumerate(nodes) if had[node]}
            left = iter(sorted(set(range(len(nodes))) - set(kept.values())))
            places = tuple(kept[task] if task in kept else next(left) for task in range(len(nodes)))
            self._taken[len(nodes)] = dict(zip(places, nodes, strict=True))
        return places

    def claim(self, tasks: int, node: str, free: list[int]) -> int:
        """Return one of the places that are free, of so many, for an executor: one that it had before, else one that nobody had."""
        with self._lock:
            before = self._taken.setdefault(tasks, {})
            had, new = [place for place in free if before.get(place) == node], [place for place in free if place not in before]
            place = (had or new or free)[0]
            before[place] = node
        return place


class Gathering:
    """The tasks of one stage: they are let go once its jobs were accepted, and the last whole attempt's rows are its results.

    Args:
        on_round: Called with each round's number, the bytes read again and the jobs in training.
        places: Of this driver's stages.
    """

    def __init__(self, on_round: OnRound, places: _Places | None = None) -> None:
        self._on_round = on_round
        self._places = places or _Places()
        self._changed = threading.Condition()
        self._asked: tuple[Asked | None, ...] | None = None
        self._attempt = _Attempt(0)
        self._left: list[TaskRow] | None = None
        self._working: set[socket.socket] = set()
        self._ended = self._dismissed = False
        self._error: Exception | None = None

    def begin(self, tasks: int) -> None:
        """Expect so many tasks; those that came and did not begin are forgotten: they belong to an attempt of the stage that was lost."""
        with self._changed:
            self._attempt = _Attempt(tasks)

    def accept(self, asked: tuple[Asked | None, ...]) -> None:
        """Let the tasks begin, with the challenges of the jobs' first enclaves."""
        with self._changed:
            self._asked = asked
            self._let_go()

    def dismiss(self) -> None:
        """Send home who waits to begin, and whoever comes later; who is at work is hung up on, and so ends with its round."""
        with self._changed:
            attempt, self._attempt, self._dismissed = self._attempt, _Attempt(0), True
            working = () if self._left is not None else tuple(self._working)
        for waiting, _ in attempt.arrived.values():
            with suppress(ConnectionLostError):
                send(waiting, Stop())
        for connection in working:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def is_dismissed(self) -> bool:
        """Whether nobody waits for the tasks any more."""
        return self._dismissed

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Take note that the stage is over when the block is left, and for whoever waits for its rows, of what failed."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - raised again by whoever waits for the rows
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def rows(self) -> list[TaskRow]:
        """Wait for the rows of all tasks and return them; what ended the stage before they were here is raised."""
        with self._changed:
            self._changed.wait_for(lambda: self._left is not None or self._ended)
            if self._error is None:
                self._changed.wait_for(lambda: self._left is not None, _ARRIVAL_SECONDS)
            if self._left is not None:
                return self._left
            raise self._error or FormatError("The tasks ended, and what they found did not arrive.")

    def serve(self, connection: socket.socket, join: Join) -> None:
        """Take part in one task's work until it is over; `FormatError` where it is none of the stage's, or leaves more than a task does."""
        with self._changed:
            if self._dismissed:
                return send(connection, Stop())
            attempt = self._attempt
            if join.tasks != attempt.tasks or not 0 <= join.task < attempt.tasks:
                raise FormatError(f"Task {join.task} of {join.tasks} is none of the {attempt.tasks} that were sent out.")
            attempt.arrived[join.task] = (connection, join)
            self._let_go()
        try:
            while True:
                message, payload = receive(connection, (Progress, TaskRow))
                if isinstance(message, Progress):
                    self._on_round(message.round, message.read_again, message.jobs)
                elif isinstance(message, TaskRow) and self._take(attempt, join.task, replace(message, payload=bytes(payload))):
                    return None
        finally:
            with self._changed:
                self._working.discard(connection)

    def _let_go(self) -> None:
        """Tell the tasks of a whole attempt where task 0 is; those that come later belong to another attempt."""
        attempt = self._attempt
        if self._asked is None or not attempt.arrived or len(attempt.arrived) < attempt.tasks:
            return
        self._attempt = _Attempt(attempt.tasks)
        first = attempt.arrived[0][1]
        nodes = [attempt.arrived[task][1].node for task in range(attempt.tasks)]
        places, beside = self._places.deal(nodes), tuple(node == first.node for node in nodes)
        peers = Peers(generation=secrets.token_hex(16), host=first.host, port=first.port, asked=self._asked, places=places, beside=beside)
        for arrived, _ in attempt.arrived.values():
            self._working.add(arrived)
            try:
                send(arrived, peers)
            except ConnectionLostError:
                # That task belonged to an attempt that died: the others notice when it does not say hello.
                continue

    def _take(self, attempt: _Attempt, task: int, row: TaskRow) -> bool:
        """Keep a task's row and return whether it is its last: a result of each job, or an error, and from each task what it counted."""
        is_last = row.kind == CROSSED
        with self._changed:
            if len(attempt.rows) >= len(self._asked or ()) + attempt.tasks:
                raise FormatError("The tasks of a stage leave more rows than it has results.")
            attempt.rows.append(row)
            attempt.left |= {task} if is_last else set()
            if len(attempt.left) == attempt.tasks:
                self._left = attempt.rows
                self._changed.notify_all()
        return is_last


class Admission:
    """The tasks of a stage that need not meet: each begins once the job was accepted, and again where Spark runs it again.

    Args:
        tasks: How many there are.
        places: Of this driver's stages.
    """

    def __init__(self, tasks: int, places: _Places) -> None:
        self._tasks, self._places = tasks, places
        self._changed = threading.Condition()
        self._first: str | None = None
        self._asked: Asked | None = None
        self._dealt: dict[int, int] = {}
        self._accepted = self._dismissed = False

    def accept(self, asked: Asked | None) -> None:
        """Let the tasks begin, those on the executor of the first of them with the challenge of the job's first enclave."""
        with self._changed:
            self._asked, self._accepted = asked, True
            self._changed.notify_all()

    def dismiss(self) -> None:
        """Send home who waits to begin, and whoever comes later."""
        with self._changed:
            self._dismissed = True
            self._changed.notify_all()

    def serve(self, connection: socket.socket, join: Join) -> None:
        """Tell a task when to begin, and with which place; `FormatError` where it is none of the stage's."""
        if join.tasks != self._tasks or not 0 <= join.task < self._tasks:
            raise FormatError(f"Task {join.task} of {join.tasks} is none of the {self._tasks} that were sent out.")
        with self._changed:
            self._first = self._first or join.node
            self._changed.wait_for(lambda: self._accepted or self._dismissed)
            if self._dismissed:
                return send(connection, Stop())
            place = self._place(join)
        return send(connection, Begin(place=place, asked=self._asked if join.node == self._first else None))

    def _place(self, join: Join) -> int:
        """Return a task's place, which it keeps when Spark runs it again, on whichever executor."""
        if join.task not in self._dealt:
            free = [place for place in range(self._tasks) if place not in self._dealt.values()]
            self._dealt[join.task] = self._places.claim(self._tasks, join.node, free)
        return self._dealt[join.task]


class Rendezvous:
    """Listens for the tasks of this driver's jobs.

    Args:
        host: The driver's address as executors know it.
        bind: The address to listen on.
    """

    def __init__(self, host: str, bind: str) -> None:
        self._listener = socket.create_server((bind, 0), backlog=256)
        self._host = host
        self._lock = threading.Lock()
        self._jobs: dict[str, Gathering | Admission] = {}
        self._places = _Places()
        threading.Thread(target=self._accept, name="securemllib-rendezvous", daemon=True).start()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port for the tasks."""
        return self._host, int(self._listener.getsockname()[1])

    def open(self, job_id: str, on_round: OnRound) -> Gathering:
        """Expect the tasks of a job; `Gathering` says what ``on_round`` is."""
        gathering = Gathering(on_round, self._places)
        with self._lock:
            self._jobs[job_id] = gathering
        return gathering

    def admit(self, job_id: str, tasks: int) -> Admission:
        """Expect the tasks of a job that need not meet."""
        admission = Admission(tasks, self._places)
        with self._lock:
            self._jobs[job_id] = admission
        return admission

    def close(self, job_id: str) -> None:
        """Expect them no more: those that come, or wait to begin, are sent home, and no round begins whose results nobody waits for."""
        with self._lock:
            expected = self._jobs.pop(job_id, None)
        if expected is not None:
            expected.dismiss()

    def stop(self) -> None:
        """Listen no more."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), name="securemllib-relay", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                tuned(connection)
                join, _ = receive(connection, (Join,), payload_limit=0)
                if isinstance(join, Join):
                    self._welcome(connection, join)
            except (SecureMLlibError, OSError):
                # The task is gone; Spark runs its stage again, and the new attempt joins anew.
                return

    def _welcome(self, connection: socket.socket, join: Join) -> None:
        with self._lock:
            expected = self._jobs.get(join.job_id)
        if expected is None:
            send(connection, Stop())
        else:
            expected.serve(connection, join)
