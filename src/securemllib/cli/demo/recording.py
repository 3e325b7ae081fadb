"""A TCP proxy that records what passes, as whoever operates a cluster's network can."""

import socket
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

__all__ = ["RecordingProxy"]

_CHUNK = 256 * 1024
_LOOPBACK = "127.0.0.1"


class RecordingProxy:
    """Forwards each connection to a port of this machine, and writes both directions to files.

    Args:
        target: The port.
        folder: Where the recordings go, two files a connection.
    """

    def __init__(self, target: int, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._target, self._folder = target, folder
        self._listener = socket.create_server((_LOOPBACK, 0))
        self._threads: list[threading.Thread] = []
        self._connections: list[socket.socket] = []

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    @property
    def recorded(self) -> int:
        """Bytes recorded so far."""
        return sum(file.stat().st_size for file in self._folder.iterdir())

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="recording-proxy", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # `shutdown` wakes a thread that waits in `accept` or `recv`; `close` alone does not.
        for connection in (self._listener, *self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        number = 0
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection((_LOOPBACK, self._target))
            except OSError:
                # The enclave is gone; its client learns it from the closed connection.
                client.close()
                continue
            number += 1
            for source, sink, name in ((client, server, "sent"), (server, client, "received")):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._connections.append(source)
                path = self._folder / f"{number:05d}-{name}.bin"
                thread = threading.Thread(target=self._pump, args=(source, sink, path), daemon=True)
                self._threads.append(thread)
                thread.start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket, path: Path) -> None:
        # Unbuffered: a search sees what has passed.
        recording: BinaryIO
        with path.open("wb", 0) as recording, suppress(OSError):
            while data := source.recv(_CHUNK):
                recording.write(data)
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
