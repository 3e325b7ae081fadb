"""The rendezvous of a barrier stage's tasks, in the driver: they learn each other's addresses in one round trip.

Spark's own ``allGather`` polls once a second, which is longer than most trainings of a small dataset take.
"""

import secrets
import socket
import threading
from collections.abc import Callable

from securemllib.errors import ConnectionLostError, SecureMLlibError
from securemllib.spark.relay_messages import Join, Peers, Progress
from securemllib.spark.sockets import tuned
from securemllib.wire.framing import receive, send

__all__ = ["Rendezvous"]

OnRound = Callable[[int, int, int], None]


class _Gathering:
    """The tasks of one job that have arrived."""

    def __init__(self, on_round: OnRound) -> None:
        self.on_round = on_round
        self.arrived: dict[int, tuple[socket.socket, Join]] = {}


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
        self._jobs: dict[str, _Gathering] = {}
        threading.Thread(target=self._accept, name="securemllib-rendezvous", daemon=True).start()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port for the tasks."""
        return self._host, int(self._listener.getsockname()[1])

    def open(self, job_id: str, on_round: OnRound) -> None:
        """Expect the tasks of a job; ``on_round`` is called with each round's number, the bytes read again and the jobs in training."""
        with self._lock:
            self._jobs[job_id] = _Gathering(on_round)

    def close(self, job_id: str) -> None:
        """Expect them no more."""
        with self._lock:
            self._jobs.pop(job_id, None)

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
                if isinstance(join, Join) and (gathering := self._jobs.get(join.job_id)) is not None:
                    self._gather(gathering, connection, join)
                    self._follow(gathering, connection)
            except (SecureMLlibError, OSError):
                # The task is gone; Spark runs its stage again, and the new attempt joins anew.
                return

    def _gather(self, gathering: _Gathering, connection: socket.socket, join: Join) -> None:
        with self._lock:
            gathering.arrived[join.task] = (connection, join)
            if len(gathering.arrived) < join.tasks:
                return
            everybody, gathering.arrived = gathering.arrived, {}
        first = everybody[0][1]
        peers = Peers(generation=secrets.token_hex(16), host=first.host, port=first.port)
        for arrived, _ in everybody.values():
            try:
                send(arrived, peers)
            except ConnectionLostError:
                # That task belonged to an attempt that died: the others notice when it does not say hello.
                continue

    def _follow(self, gathering: _Gathering, connection: socket.socket) -> None:
        while True:
            message, _ = receive(connection, (Progress,), payload_limit=0)
            if isinstance(message, Progress):
                gathering.on_round(message.round, message.read_again, message.jobs)
