"""A relay's connection to an enclave: one request, its reply, and the parts that the enclave asks for in between."""

from types import TracebackType
from typing import Self, TypeVar

from securemllib.errors import CapacityError, ConnectionLostError, FormatError, IntegrityError
from securemllib.spark.addition import sum_of
from securemllib.spark.blocks import Blocks
from securemllib.spark.crossings import CountedConnection, Crossings
from securemllib.spark.failures import failure
from securemllib.spark.sockets import connect
from securemllib.spark.storage import Folder
from securemllib.wire.framing import receive, send
from securemllib.wire.record import Record
from securemllib.wire.task import FRAME_BYTES, REPLIES, BlockBytes, Failed, KeepBlock, NeedBlock, NeedPart, NeedSum, PartBytes

__all__ = ["EnclaveClient"]

R = TypeVar("R", bound=Record)


class EnclaveClient:
    """A connection.

    Args:
        host: Where the enclave listens.
        port: Its port.

    Attributes:
        is_broken: Whether the conversation cannot go on.
        read_again: Bytes of parts that the enclave did not keep and asked for again.
        blocks: Where sealed blocks are kept; None where the enclave has none to ask for.
        carried: The names of the blocks that the enclave kept or asked for, by job.
    """

    def __init__(self, host: str, port: int) -> None:
        self._connection = CountedConnection(connect(host, port))
        self._handed: set[int] = set()
        self.is_broken = False
        self.read_again = 0
        self.blocks: Blocks | None = None
        self.carried: dict[str, set[str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._connection.close()

    def ask(
        self,
        request: Record,
        *payload: bytes | memoryview,
        types: tuple[type[R], ...],
        dataset: Folder | None = None,
        parts: tuple[tuple[str, int], ...] = (),
    ) -> tuple[R, memoryview]:
        """Return the enclave's reply, of one of the given types, and its payload.

        Args:
            request: The request.
            payload: What goes behind it, one after the other.
            types: The replies that answer it.
            dataset: Where the parts are that the enclave may ask for.
            parts: Their file names and lengths, by ordinal.

        Raises:
            SecureMLlibError: The error whose code the enclave replied.
            CapacityError: The payload is larger than the enclave takes.
            ConnectionLostError: The enclave is gone.
        """
        length = sum(map(len, payload))
        if length > FRAME_BYTES:
            raise CapacityError(
                f"A message of {length} bytes is larger than the {FRAME_BYTES} that an enclave takes.", code="unavailable.capacity.message"
            )
        try:
            send(self._connection, request, *payload)
            self._connection.sent_frame(length)
            while True:
                reply, body = receive(self._connection, REPLIES)
                self._connection.received_frame(len(body))
                if isinstance(reply, NeedPart):
                    self._hand_over(reply.ordinal, dataset, parts)
                elif isinstance(reply, (KeepBlock, NeedBlock, NeedSum)):
                    self._carry(reply, body)
                else:
                    break
        except (ConnectionLostError, FormatError):
            self.is_broken = True
            raise
        if isinstance(reply, Failed):
            raise failure(reply.code, reply.needed)
        if not isinstance(reply, types):
            self.is_broken = True
            raise FormatError(f"The enclave answered {request.TYPE} with {reply.TYPE}.")
        return reply, body

    def crossings(self, job_id: str) -> Crossings:
        """Return what went over this connection, as one job's."""
        return self._connection.crossings(job_id)

    def _hand_over(self, ordinal: int, dataset: Folder | None, parts: tuple[tuple[str, int], ...]) -> None:
        if dataset is None or not 0 <= ordinal < len(parts):
            self.is_broken = True
            raise FormatError(f"The enclave asked for part {ordinal} of {len(parts)}.")
        try:
            data = _part(dataset, *parts[ordinal])
        except BaseException:
            # The enclave still waits for this part, so the conversation cannot go on.
            self.is_broken = True
            raise
        self.read_again += len(data) if ordinal in self._handed else 0
        self._handed.add(ordinal)
        send(self._connection, PartBytes(ordinal=ordinal), data)
        self._connection.sent_frame(0)

    def _carry(self, reply: KeepBlock | NeedBlock | NeedSum, body: memoryview) -> None:
        if self.blocks is None:
            self.is_broken = True
            raise FormatError("The enclave asked for a block outside of a job.")
        self.carried.setdefault(reply.job_id, set()).update(reply.names if isinstance(reply, NeedSum) else (reply.name,))
        block: bytes | memoryview
        try:
            if isinstance(reply, KeepBlock):
                self.blocks.keep(reply.job_id, reply.name, body)
                return
            if isinstance(reply, NeedSum):
                block = sum_of(self.blocks.read(reply.job_id, name) for name in reply.names)
            else:
                block = self.blocks.read(reply.job_id, reply.name)
        except BaseException:
            # The enclave goes on as if it were kept, or waits for it.
            self.is_broken = True
            raise
        send(self._connection, BlockBytes(), block)
        self._connection.sent_frame(len(block))


def _part(dataset: Folder, name: str, length: int) -> bytes:
    """Return a part's bytes; the enclave would stop reading one that is too long, which looks like a lost connection."""
    data = dataset.read(name)
    if len(data) != length:
        raise IntegrityError(f"The part {name} has {len(data)} bytes, not {length}.", code="integrity.part")
    return data
