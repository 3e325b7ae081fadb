"""Does a connection give frames whole or end with one of two errors?"""

import socket
import struct
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securemllib.errors import ConnectionLostError, FormatError
from securemllib.wire.framing import HEADER_LIMIT, PAYLOAD_LIMIT, receive, send
from securemllib.wire.task import Failed, NeedPart, PartBytes

PREFIX = struct.Struct(">4sIQ")
RECORD = NeedPart(ordinal=3)


def received(raw, *, types=(NeedPart,), **options):
    """Return what arrives when a peer sends these bytes and hangs up."""
    ours, theirs = socket.socketpair()
    sender = threading.Thread(target=_send_and_close, args=(theirs, raw))
    sender.start()
    try:
        ours.settimeout(20)
        return receive(ours, types, **options)
    finally:
        ours.close()
        sender.join()


def _send_and_close(connection, raw):
    with connection:
        try:
            connection.sendall(raw)
        except OSError:
            return


def frame(header=None, payload=b"", *, magic=b"SML1", header_length=None, payload_length=None):
    """Return a frame whose announced lengths may lie."""
    header = RECORD.to_bytes() if header is None else header
    announced = len(header) if header_length is None else header_length, len(payload) if payload_length is None else payload_length
    return PREFIX.pack(magic, *announced) + header + payload


@given(ordinal=st.integers(0, 2**32), payload=st.binary(max_size=2000), others=st.integers(0, 2))
def test_frames_arrive_in_order_and_whole(ordinal, payload, others):
    """What was sent arrives: the record, its payload, and then the next frame, whatever the kernel cut between."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for _ in range(others + 1):
            send(theirs, PartBytes(ordinal=ordinal), payload)
        for _ in range(others + 1):
            record, data = receive(ours, (NeedPart, PartBytes))
            assert (record, bytes(data)) == (PartBytes(ordinal=ordinal), payload)


def test_a_payload_larger_than_the_kernels_buffers_arrives():
    """A payload of many megabytes is put together from many pieces."""
    payload = bytes(range(256)) * 40_000
    assert bytes(received(frame(payload=payload))[1]) == payload


def test_every_cut_of_a_frame_is_a_lost_connection():
    """A peer that hangs up within a frame is a lost connection at every byte, and a whole frame is none."""
    whole = frame(payload=b"payload")
    assert received(whole)[0] == RECORD
    for length in range(len(whole)):
        with pytest.raises(ConnectionLostError):
            received(whole[:length])


@pytest.mark.parametrize(
    "raw",
    [
        frame(magic=b"HTTP"),
        b"GET / HTTP/1.1\r\nHost: enclave\r\n\r\n",
        frame(header_length=HEADER_LIMIT + 1),
        frame(header_length=2**32 - 1),
        frame(payload_length=PAYLOAD_LIMIT + 1),
        frame(payload_length=2**64 - 1),
        frame(header=b""),
        frame(header=b"\xff" * 20),
        frame(header=RECORD.to_bytes() + b"\x00"),
        frame(header=Failed(code="error").to_bytes()),
        frame(header=b"\x80"),
    ],
    ids=["magic", "http", "header", "largest header", "payload", "largest payload", "empty", "junk", "trailing", "other type", "list"],
)
def test_bytes_that_are_no_frame_are_a_format_error(raw):
    """Another protocol, announced lengths over the bounds, and headers that are none of the expected records are refused."""
    assert received(frame())[0] == RECORD
    with pytest.raises(FormatError):
        received(raw)


def test_a_length_is_checked_before_memory_is_taken(monkeypatch):
    """A frame that announces too much is refused although nothing of it was sent, so no buffer was made for it."""
    limit = 10
    assert bytes(received(frame(payload=b"x" * limit), payload_limit=limit)[1]) == b"x" * limit
    with pytest.raises(FormatError, match="announces"):
        received(frame(payload_length=limit + 1), payload_limit=limit)


def test_sending_to_a_peer_that_is_gone_is_a_lost_connection():
    """A broken connection is the same error for sender and receiver."""
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours, pytest.raises(ConnectionLostError):
        send(ours, RECORD, b"x" * 2**20)


def test_a_closed_socket_is_a_lost_connection():
    """Receiving on a socket that was closed on this side is a lost connection, no other error."""
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs, pytest.raises(ConnectionLostError):
        receive(ours, (NeedPart,))


@given(junk=st.binary(max_size=64))
def test_invented_bytes_end_in_one_of_two_errors(junk):
    """Whatever a stranger sends is no frame, or too short for one."""
    with pytest.raises((FormatError, ConnectionLostError)):
        received(junk)
