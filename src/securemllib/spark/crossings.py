"""What went over an enclave's border, counted on the host's side: frames and bytes, which the host sees anyway."""

import socket
from dataclasses import dataclass
from typing import ClassVar

from securemllib.wire.record import Record

__all__ = ["CountedConnection", "Crossings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossings(Record):
    """What went over the border of enclaves.

    Attributes:
        job_id: The job; empty for a sum over jobs.
        frames_in: Frames that an enclave received.
        frames_out: Frames that it sent.
        bytes_in: Their bytes, headers included.
        bytes_out: The same of those that it sent.
        largest: Bytes of the largest frame that is no part of a dataset: a sealed state, or sealed or masked statistics.
    """

    TYPE: ClassVar[str] = "crossings"

    job_id: str = ""
    frames_in: int = 0
    frames_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    largest: int = 0

    def __add__(self, other: "Crossings") -> "Crossings":
        return Crossings(
            job_id=self.job_id if self.job_id == other.job_id else "",
            frames_in=self.frames_in + other.frames_in,
            frames_out=self.frames_out + other.frames_out,
            bytes_in=self.bytes_in + other.bytes_in,
            bytes_out=self.bytes_out + other.bytes_out,
            largest=max(self.largest, other.largest),
        )


class CountedConnection:
    """A connected socket that counts what frames send and receive over it.

    Attributes:
        sent: Bytes towards the enclave.
        received: Bytes from it.
        frames_in: Frames towards the enclave, as `sent_frame` was told.
        frames_out: Frames from it, as `received_frame` was told.
        largest: Bytes of the largest frame that was told to be no part of a dataset.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.sent = self.received = 0
        self.frames_in = self.frames_out = self.largest = 0

    def close(self) -> None:
        """Close the socket."""
        self._connection.close()

    def sendall(self, data: bytes | memoryview, /) -> None:
        """Send all bytes."""
        self._connection.sendall(data)
        self.sent += len(data)

    def recv_into(self, buffer: memoryview, /) -> int:
        """Receive some bytes and return how many."""
        count = self._connection.recv_into(buffer)
        self.received += count
        return count

    def sent_frame(self, payload: int) -> None:
        """Count a frame towards the enclave; the payload's bytes are 0 for a part of a dataset."""
        self.frames_in += 1
        self.largest = max(self.largest, payload)

    def received_frame(self, payload: int) -> None:
        """Count a frame from the enclave."""
        self.frames_out += 1
        self.largest = max(self.largest, payload)

    def crossings(self, job_id: str) -> Crossings:
        """Return what was counted, as one job's."""
        return Crossings(
            job_id=job_id,
            frames_in=self.frames_in,
            frames_out=self.frames_out,
            bytes_in=self.sent,
            bytes_out=self.received,
            largest=self.largest,
        )
