"""The rendezvous of a stage's tasks, in the driver: they learn each other's addresses in one round trip, and leave what they found.

Spark's own ``allGather`` polls once a second, which is longer than most trainings of a small dataset take; and what a stage returns takes
Spark's scheduler a fifth of a short training to bring.
"""

import socket
import threading

from securemllib.errors import FormatError, SecureMLlibError
from securemllib.spark.broker_client import Asked
from securemllib.spark.gathering import Gathering, OnRound, Places
from securemllib.spark.relay_messages import Begin, Join, Stop
from securemllib.spark.sockets import tuned
from securemllib.wire.framing import receive, send

__all__ = ["Admission", "Rendezvous"]


class Admission:
    """The tasks of a stage that need not meet: each begins once the job was accepted, and again where Spark runs it again.

    Args:
        tasks: How many there are.
        places: Of this driver's stages.
    """

    def __init__(self, tasks: int, places: Places) -> None:
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
        self._places = Places()
        threading.Thread(target=self._accept, name="securemllib-rendezvous", daemon=True).start()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port for the tasks."""
        return self._host, int(self._listener.getsockname()[1])

    def open(self, job_id: str, on_round: OnRound, patience: float | None = None) -> Gathering:
        """Expect the tasks of a job; `Gathering` says what ``on_round`` and ``patience`` are."""
        gathering = Gathering(on_round, self._places, patience)
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
