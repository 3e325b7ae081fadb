"""Messages between enclaves of one job whose arrays may be large: a sealed root, and behind it the arrays in sealed pieces.

::

    4 bytes length of the root's envelope | the root's envelope | the pieces' envelopes, where the message fits into a frame

The root is the tree, the sizes of the arrays and a random token. Each piece is some of the arrays' bytes, sealed from where they lie and
opened to where they belong. Its associated data are the message's own, which the receiver builds, with the token, the piece's index
and the number of pieces: the token is drawn for each message, so no piece of another one opens in its place, not even of the same share,
computed once more. The pieces of a message that is too large for a frame are kept by the host, and asked for one at a time.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from securemllib.algorithms.codec import Packed
from securemllib.crypto.aead import OVERHEAD, seal, seal_into, unseal, unseal_into
from securemllib.crypto.keys import DataKey
from securemllib.enclave.host import Host
from securemllib.errors import UnsealError
from securemllib.wire.encoding import decode, encode, length_prefixed
from securemllib.wire.task import MESSAGE_BYTES

__all__ = ["PIECE_BYTES", "Kept", "open_message", "seal_message"]

# What sender and receiver hold of a message beside its arrays.
PIECE_BYTES = 16 * 2**20
_LENGTH_BYTES, _TOKEN_BYTES = 4, 16
# Arrays begin where numpy reads any type fastest.
_ALIGNMENT = 64
# Of what an enclave sealed: it bounds nothing of a host's.
_ROOT_LIMIT = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Where the host keeps the pieces of a message that is too large for a frame.

    Attributes:
        host: The relay.
        job_id: The job.
        channel: What the message is, in lower case.
        round: Its round.
        share: Its share.
    """

    host: Host
    job_id: str
    channel: str
    round: int
    share: int = 0

    def name(self, token: bytes, index: int) -> str:
        """Return the name of one piece."""
        return f"{self.channel}-{self.round}-{self.share}-{int.from_bytes(token, 'big')}-{index}"


def seal_message(key: DataKey, context: bytes, packed: Packed, kept: Kept) -> memoryview:
    """Return a sealed message, the pieces of which are with the host already where it is too large for a frame."""
    sizes, token = [array.nbytes for array in packed.arrays], os.urandom(_TOKEN_BYTES)
    whole = sum(map(_aligned, sizes))
    root = seal(key, context, encode({"tree": packed.tree, "sizes": sizes, "token": token}))
    start, pieces = _LENGTH_BYTES + len(root), -(-whole // PIECE_BYTES)
    is_kept = start + whole > MESSAGE_BYTES
    payload = np.empty(start + (0 if is_kept else whole + pieces * OVERHEAD), dtype=np.uint8).data
    payload[:_LENGTH_BYTES], payload[_LENGTH_BYTES:start] = len(root).to_bytes(_LENGTH_BYTES, "big"), root
    for index in range(pieces):
        plaintext = _piece(packed.arrays, index * PIECE_BYTES, min((index + 1) * PIECE_BYTES, whole))
        end = start + len(plaintext) + OVERHEAD
        envelope = np.empty(end - start, dtype=np.uint8).data if is_kept else payload[start:end]
        seal_into(key, _piece_context(context, token, index, pieces), plaintext, envelope)
        if is_kept:
            kept.host.keep(kept.job_id, kept.name(token, index), envelope)
        else:
            start = end
    return payload


def open_message(key: DataKey, context: bytes, payload: bytes | memoryview, kept: Kept) -> Packed:
    """Return what was sealed; `UnsealError` for any other message or piece."""
    view = memoryview(payload)
    start = _LENGTH_BYTES + int.from_bytes(view[:_LENGTH_BYTES], "big")
    root: Any = decode(unseal(key, context, view[_LENGTH_BYTES:start]), limit=_ROOT_LIMIT)
    sizes, token, rest = root["sizes"], root["token"], view[start:]
    whole = sum(map(_aligned, sizes))
    pieces = -(-whole // PIECE_BYTES)
    fetch: Callable[[int, int], memoryview] = partial(_sent, rest)
    if pieces and not len(rest):
        fetch = lambda index, size: kept.host.block(kept.job_id, kept.name(token, index), size)  # noqa: E731 - an answer to one question
    elif len(rest) != whole + pieces * OVERHEAD:
        raise UnsealError(f"A sealed message has {len(rest)} bytes of pieces, not those of its {pieces}.")
    buffer = np.empty(whole, dtype=np.uint8).data
    for index in range(pieces):
        piece = buffer[index * PIECE_BYTES : (index + 1) * PIECE_BYTES]
        unseal_into(key, _piece_context(context, token, index, pieces), fetch(index, len(piece) + OVERHEAD), piece)
    return Packed(root["tree"], tuple(_split(buffer, sizes)))


def _piece(arrays: tuple[memoryview, ...], start: int, end: int) -> bytes | memoryview:
    """Return some of the arrays' bytes as they stand one after the other, each aligned: a view where they are one array's."""
    found: list[bytes | memoryview] = []
    position = 0
    for array in arrays:
        after = position + _aligned(array.nbytes)
        if position < end and start < after:
            inside = array[max(start - position, 0) : end - position]
            found += [inside, bytes(min(end, after) - max(start, position) - len(inside))]
        position = after
    parts = [part for part in found if len(part)]
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _split(buffer: memoryview, sizes: list[int]) -> Iterator[memoryview]:
    start = 0
    for size in sizes:
        yield buffer[start : start + size]
        start += _aligned(size)


def _sent(pieces: memoryview, index: int, size: int) -> memoryview:
    start = index * (PIECE_BYTES + OVERHEAD)
    return pieces[start : start + size]


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _piece_context(context: bytes, token: bytes, index: int, pieces: int) -> bytes:
    return length_prefixed("securemllib/piece/v1", context, token, index, pieces)
