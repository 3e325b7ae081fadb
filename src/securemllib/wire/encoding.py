"""The one encoding of a value: deterministic CBOR (RFC 8949 section 4.2), and length-prefixed digests.

A decoder that accepts two encodings of one value lets a host change bytes without changing meaning,
so a decoded value is encoded again and compared.
"""

from collections.abc import Iterator
from hashlib import sha256

import cbor2

from securemllib.errors import FormatError

__all__ = ["MESSAGE_LIMIT", "Value", "decode", "digest", "encode", "length_prefixed"]

Value = None | bool | int | float | str | bytes | list["Value"] | dict[str, "Value"]

# The largest manifest in practice (10,000 parts) takes 3 MB; rows and statistics travel outside of messages or with their own limit.
MESSAGE_LIMIT = 64 * 2**20
_DEPTH_LIMIT = 64
# CBOR's own integers; beyond them it takes a tag, and Python refuses to print what a host could announce.
_LEAST_INTEGER, _GREATEST_INTEGER = -(2**64), 2**64 - 1


def encode(value: object) -> bytes:
    """Return the deterministic CBOR encoding of a tree of basic values.

    Raises:
        FormatError: The tree holds anything but None, bool, int of 64 bits, float, str, bytes, list and dict with string keys.
    """
    _check(value, _DEPTH_LIMIT)
    try:
        return cbor2.dumps(value, canonical=True)
    except (ValueError, OverflowError, cbor2.CBORError) as error:
        raise FormatError("The value has no encoding.") from error


def decode(data: bytes | memoryview, *, limit: int = MESSAGE_LIMIT) -> Value:
    """Return the value whose only encoding is ``data``.

    Raises:
        FormatError: The bytes are longer than ``limit``, no CBOR, hold a tag, or are not the deterministic encoding.
    """
    if len(data) > limit:
        raise FormatError(f"A message of {len(data)} bytes is longer than its limit of {limit}.")
    raw = bytes(data)
    try:
        value: Value = cbor2.loads(raw)
    except Exception as error:
        raise FormatError(f"{len(raw)} bytes are no CBOR.") from error
    if encode(value) != raw:
        raise FormatError(f"{len(raw)} bytes are not the deterministic encoding of their value.")
    return value


def _check(value: object, depth: int) -> None:
    if depth == 0:
        raise FormatError(f"A value is nested deeper than {_DEPTH_LIMIT} levels.")
    if isinstance(value, dict):
        if not all(type(key) is str for key in value):
            raise FormatError("A map has a key that is no text.")
        for item in value.values():
            _check(item, depth - 1)
    elif isinstance(value, list):
        for item in value:
            _check(item, depth - 1)
    else:
        _check_scalar(value)


def _check_scalar(value: object) -> None:
    if type(value) is int:
        if not _LEAST_INTEGER <= value <= _GREATEST_INTEGER:
            raise FormatError("An integer has more than 64 bits.")
    elif value is not None and type(value) not in {bool, float, str, bytes}:
        raise FormatError(f"A value of type {type(value).__name__} has no encoding.")


def length_prefixed(*parts: bytes | memoryview | str | int) -> bytes:
    """Return the parts one after the other, each behind its length in 8 bytes, so that no two lists give the same bytes."""
    return b"".join(_prefixed(parts))


def digest(tag: str, *parts: bytes | memoryview | str | int) -> bytes:
    """Return the SHA-256 of the length-prefixed tag and parts: 32 bytes."""
    found = sha256()
    for piece in _prefixed((tag, *parts)):
        found.update(piece)
    return found.digest()


def _prefixed(parts: tuple[bytes | memoryview | str | int, ...]) -> Iterator[bytes | memoryview]:
    for part in parts:
        raw = part if isinstance(part, bytes | memoryview) else str(part).encode()
        yield len(raw).to_bytes(8, "big")
        yield raw
