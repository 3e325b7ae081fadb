"""The enclave's server: frames on loopback TCP, a thread a connection, until nobody asks any more."""

import argparse
import os
import socket
import sys
import threading
import time

import pyarrow as pa

from securemllib.attestation.insecure import InsecureAttester
from securemllib.attestation.measurement import measure_package
from securemllib.enclave.hardening import harden
from securemllib.enclave.service import Conversation, Enclave

__all__ = ["Server", "main"]

_LOOPBACK = "127.0.0.1"
_DEFAULT_MEMORY = 4 * 2**30
_DEFAULT_IDLE_SECONDS = 600
_POLL_SECONDS = 1.0
_CONNECTION_LIMIT = 256


class Server:
    """Accepts relays on a loopback port.

    Args:
        enclave: What answers.
        port: 0 for any free one.
    """

    def __init__(self, enclave: Enclave, port: int) -> None:
        self._enclave = enclave
        self._listener = socket.create_server((_LOOPBACK, port), backlog=128)
        self._listener.settimeout(_POLL_SECONDS)
        self._slots = threading.BoundedSemaphore(_CONNECTION_LIMIT)
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


def main(arguments: list[str] | None = None) -> None:
    """Run the process: measure the package, harden, listen, and say where on standard output."""
    parser = argparse.ArgumentParser(prog="securemllib.enclave", description="The enclave process, without a TEE: insecure.")
    parser.add_argument("--port", type=int, default=0, help="loopback port; 0 for any free one")
    parser.add_argument("--memory", type=int, default=_DEFAULT_MEMORY, help="bytes for decrypted blocks, and for the largest part")
    parser.add_argument("--idle", type=float, default=_DEFAULT_IDLE_SECONDS, help="seconds without a connection before the process ends")
    options = parser.parse_args(arguments)
    measurement = measure_package()
    protections = harden()
    # The system's allocator gives freed blocks back, which keeps the resident size near the bound.
    pa.set_memory_pool(pa.system_memory_pool())
    enclave = Enclave(InsecureAttester(measurement, protections), memory_limit=options.memory)
    server = Server(enclave, options.port)
    sys.stdout.write(f"listening {_LOOPBACK}:{server.port}\n")
    sys.stdout.flush()
    _detach_output()
    server.serve(options.idle)


def _detach_output() -> None:
    # A library that prints could print a value: after the first line nothing is written anywhere.
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
