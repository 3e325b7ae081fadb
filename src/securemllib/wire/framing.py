"""Frames between a relay and an enclave: a small record and, behind it, one large payload that is never decoded.

::

    4 bytes "SML1" | 4 bytes header length | 8 bytes payload length | header | payload

Lengths are checked before anything is allocated.
"""

import struct
from typing import Protocol

from securemllib.errors import ConnectionLostError, FormatError
from securemllib.wire.encoding import decode
from securemllib.wire.record import Record

__all__ = ["HEADER_LIMIT", "PAYLOAD_LIMIT", "Connection", "receive", "send"]

_MAGIC = b"SML1"
_PREFIX = struct.Struct(">4sIQ")
HEADER_LIMIT = 16 * 2**20
# Larger than any part or statistics that the defaults make; a server may be started with a lower one.
PAYLOAD_LIMIT = 2**31
# Up to here one segment with a copy is faster than two, the second of which may wait 40 ms for the first one's acknowledgement.
_COPIED_BYTES = 2**16


class Connection(Protocol):
    """The two methods of a connected socket that frames need."""

    def sendall(self, data: bytes | memoryview, /) -> None:
        """Send all bytes."""

    def recv_into(self, buffer: memoryview, /) -> int:
        """Receive some bytes and return how many."""


def send(connection: Connection, header: Record, *payload: bytes | memoryview) -> None:
    """Send one frame.

    Args:
        connection: Where to.
        header: Its record.
        payload: What follows it, one after the other.

    Raises:
        ConnectionLostError: The other side is gone.
    """
    raw, length = header.to_bytes(), sum(map(len, payload))
    try:
        start = _PREFIX.pack(_MAGIC, len(raw), length) + raw
        for part in (b"".join((start, *payload)),) if length <= _COPIED_BYTES else (start, *payload):
            connection.sendall(part)
    except OSError as error:
        raise ConnectionLostError(f"A frame of {len(raw) + length} bytes could not be sent.") from error


def receive(connection: Connection, types: tuple[type[Record], ...], *, payload_limit: int = PAYLOAD_LIMIT) -> tuple[Record, memoryview]:
    """Return the next frame's record, of one of the given types, and its payload.

    Raises:
        ConnectionLostError: The other side closed the connection.
        FormatError: The bytes are no frame, are too long, or hold a record of another type.
    """
    magic, header_length, payload_length = _PREFIX.unpack(_receive_exactly(connection, _PREFIX.size))
    if magic != _MAGIC:
        raise FormatError("The bytes on the connection are no frame.")
    if header_length > HEADER_LIMIT or payload_length > payload_limit:
        raise FormatError(f"A frame announces {header_length} + {payload_length} bytes, over {HEADER_LIMIT} + {payload_limit}.")
    raw = bytes(_receive_exactly(connection, header_length))
    return _decode(raw, types), _receive_exactly(connection, payload_length)


def _decode(raw: bytes, types: tuple[type[Record], ...]) -> Record:
    tree = decode(raw, limit=HEADER_LIMIT)
    for kind in types:
        if isinstance(tree, dict) and tree.get("@") == kind.TYPE:
            return kind.from_tree(tree)
    raise FormatError(f"The frame is none of {[kind.TYPE for kind in types]}.")


def _receive_exactly(connection: Connection, length: int) -> memoryview:
    buffer = bytearray(length)
    view = memoryview(buffer)
    received = 0
    while received < length:
        try:
            count = connection.recv_into(view[received:])
        except OSError as error:
            raise ConnectionLostError("The connection broke.") from error
        if count == 0:
            raise ConnectionLostError(f"The connection was closed after {received} of {length} bytes.")
        received += count
    return view
