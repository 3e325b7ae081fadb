"""The enclave's server: frames on loopback TCP, a thread a connection, until nobody asks any more."""

import os
import socket
import sys
import threading
import time
from pathlib import Path

from securemllib.attestation import gramine
from securemllib.attestation.insecure import InsecureAttester
from securemllib.attestation.measurement import measure_package
from securemllib.enclave.service import Attester, Conversation, Enclave

__all__ = ["Server", "choose_attester", "serve"]

_POLL_SECONDS = 1.0
_CONNECTION_LIMIT = 256


class Server:
    """Accepts relays on a loopback port.

    Args:
        enclave: What answers.
        listener: A listening socket on the loopback address.
        connections: How many it serves at once; it hangs up on others.
    """

    def __init__(self, enclave: Enclave, listener: socket.socket, connections: int = _CONNECTION_LIMIT) -> None:
        self._enclave = enclave
        self._listener = listener
        self._listener.settimeout(_POLL_SECONDS)
        self._slots = threading.BoundedSemaphore(connections)
        self._active = 0
        self._last_active = time.monotonic()
        self._lock = threading.Lock()

    @property
    def port(self) -> int:
        """The port."""
        return int(self._listener.getsockname()[1])

    def serve(self, idle_seconds: float) -> None:
        """Answer until no connection was open for ``idle_seconds``."""
        with self._listener:
            while self._active or time.monotonic() - self._last_active < idle_seconds:
                try:
                    connection, _ = self._listener.accept()
                except TimeoutError:
                    continue
                if not self._slots.acquire(blocking=False):
                    connection.close()
                    continue
                self._count(1)
                threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(None)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                Conversation(self._enclave, connection).run()
        finally:
            self._count(-1)
            self._slots.release()

    def _count(self, change: int) -> None:
        with self._lock:
            self._active += change
            self._last_active = time.monotonic()


def serve(
    listener: socket.socket,
    output: int,
    *,
    protections: tuple[str, ...],
    memory_limit: int,
    idle_seconds: float,
    connections: int = _CONNECTION_LIMIT,
) -> None:
    """Serve as a freshly measured enclave, after saying on standard output where.

    Args:
        listener: A listening socket on the loopback address.
        output: A descriptor of the null device, where everything written later goes.
        protections: What `harden` returned.
        memory_limit: Bytes that decrypted blocks may take, and the largest part that is accepted.
        idle_seconds: Seconds without a connection after which the process ends.
        connections: How many it serves at once.
    """
    enclave = Enclave(choose_attester(protections), memory_limit=memory_limit)
    server = Server(enclave, listener, connections)
    sys.stdout.write(f"listening 127.0.0.1:{server.port}\n")
    sys.stdout.flush()
    # A library that prints could print a value: after the first line nothing is written anywhere.
    for descriptor in (0, 1, 2):
        os.dup2(output, descriptor)
    server.serve(idle_seconds)


def choose_attester(protections: tuple[str, ...], directory: Path = gramine.DIRECTORY) -> Attester:
    """Return Gramine's attester where Gramine offers one in ``directory``, else the insecure one."""
    if gramine.is_available(directory):
        return gramine.GramineAttester(directory)
    return InsecureAttester(measure_package(), protections)
