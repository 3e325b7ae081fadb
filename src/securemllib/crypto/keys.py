"""Symmetric keys that stay where they are: no repr of the secret, no copy, no pickle, no comparison."""

import os
from typing import NoReturn

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from securemllib.errors import FormatError
from securemllib.wire.encoding import length_prefixed

__all__ = ["KEY_BYTES", "DataKey"]

KEY_BYTES = 32


class DataKey:
    """A 256-bit secret from which keys of one purpose each are derived."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise FormatError(f"A key has {KEY_BYTES} bytes, not {len(secret)}.")
        self._secret = bytes(secret)

    @classmethod
    def generate(cls) -> "DataKey":
        """Return a fresh random key."""
        return cls(os.urandom(KEY_BYTES))

    def derive(self, purpose: str, *context: bytes | str | int) -> "DataKey":
        """Return the key of one purpose and context (HKDF-Expand with SHA-256, RFC 5869)."""
        return DataKey(self.derive_bytes(KEY_BYTES, purpose, *context))

    def derive_bytes(self, length: int, purpose: str, *context: bytes | str | int) -> bytes:
        """Return ``length`` pseudo-random bytes for one purpose and context."""
        return HKDFExpand(SHA256(), length, length_prefixed(purpose, *context)).derive(self._secret)

    def expose(self) -> bytes:
        """Return the secret itself, to be wrapped at once: the only way out."""
        return self._secret

    def __repr__(self) -> str:
        return "DataKey(...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key cannot be pickled or copied; wrap it first")

    def __eq__(self, other: object) -> NoReturn:
        raise TypeError("keys are not compared")

    __hash__ = None  # type: ignore[assignment]
