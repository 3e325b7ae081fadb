"""The tasks of one stage, as the driver sees them: who is there, who may begin, and what they left."""

import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from securemllib.errors import ConnectionLostError, FormatError
from securemllib.spark.broker_client import Asked
from securemllib.spark.relay_job import CROSSED, TaskRow
from securemllib.spark.relay_messages import Join, Peers, Progress, Stop
from securemllib.wire.framing import receive, send

__all__ = ["Gathering", "OnRound", "Places"]

OnRound = Callable[[int, int, int], None]

# Between the end of a stage that went well and the last byte of what its tasks sent before.
_ARRIVAL_SECONDS = 60.0
# How often somebody looks for tasks that wait in vain.
_LOOK_SECONDS = 1.0


class _Attempt:
    """The tasks of one attempt of a stage.

    Attributes:
        tasks: How many there are.
        arrived: Those that are here.
        since: When the first of them came, by the monotonic clock.
        is_dissolved: Whether they were sent home, because some did not come.
        rows: What they left so far.
        is_done: Whether task 0, which has the results, sent its last row.
        left: Those that have sent their last row, or are gone.
    """

    def __init__(self, tasks: int) -> None:
        self.tasks = tasks
        self.arrived: dict[int, tuple[socket.socket, Join]] = {}
        self.since = 0.0
        self.is_dissolved = self.is_done = False
        self.rows: list[TaskRow] = []
        self.left: set[int] = set()


class Places:
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
        patience: Seconds for which tasks that are there wait for those that Spark did not start yet; None where it starts all at once.
    """

    def __init__(self, on_round: OnRound, places: Places | None = None, patience: float | None = None) -> None:
        self._on_round = on_round
        self._places = places or Places()
        self._patience = patience
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
    def came(self) -> int:
        """How many tasks came, where they were sent home because others did not; 0 elsewhere."""
        return len(self._attempt.arrived) if self._attempt.is_dissolved else 0

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
            while not self._changed.wait_for(lambda: self._left is not None or self._ended, self._patience and _LOOK_SECONDS):
                self._dissolve()
            if self._error is None:
                self._changed.wait_for(lambda: self._left is not None, _ARRIVAL_SECONDS)
            if self._left is not None:
                return self._left
            raise self._error or FormatError("The tasks ended, and what they found did not arrive.")

    def serve(self, connection: socket.socket, join: Join) -> None:
        """Take part in one task's work until it is over; `FormatError` where it is none of the stage's, or leaves more than a task does."""
        with self._changed:
            attempt = self._attempt
            if self._dismissed or attempt.is_dissolved:
                return send(connection, Stop())
            if join.tasks != attempt.tasks or not 0 <= join.task < attempt.tasks:
                raise FormatError(f"Task {join.task} of {join.tasks} is none of the {attempt.tasks} that were sent out.")
            attempt.since = attempt.since if attempt.arrived else time.monotonic()
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
                self._leave(attempt, join.task)

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
            attempt.is_done |= is_last and task == 0
        return is_last

    def _leave(self, attempt: _Attempt, task: int) -> None:
        """Take note that a task is gone: once task 0 has sent the results, those of the others that are lost take nothing with them."""
        attempt.left.add(task)
        if attempt.is_done and len(attempt.left) == attempt.tasks:
            self._left = attempt.rows
            self._changed.notify_all()

    def _dissolve(self) -> None:
        """Send home the tasks that have waited for long enough, so that the stage ends and another one begins with as many."""
        attempt = self._attempt
        # A second attempt of one task, for which Spark speculates, waits until the first one is done.
        if self._asked is None or self._working or not attempt.arrived or time.monotonic() - attempt.since < (self._patience or 0.0):
            return
        attempt.is_dissolved = True
        for waiting, _ in attempt.arrived.values():
            with suppress(ConnectionLostError):
                send(waiting, Stop())
