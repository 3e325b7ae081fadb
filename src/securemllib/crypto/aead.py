"""Sealed messages: AES-256-GCM under a fresh key a message, committing, with associated data that the receiver builds.

Layout of an envelope::

    1 byte version | 32 bytes salt | 32 bytes commitment | ciphertext | 16 bytes tag

The salt gives each message its own encryption key and commitment (HKDF-Expand), so no nonce can repeat; the commitment closes
the attack in which one GCM ciphertext opens under two keys.
"""

import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from securemllib.crypto.keys import KEY_BYTES, DataKey
from securemllib.errors import UnsealError

__all__ = ["OVERHEAD", "seal", "seal_into", "unseal", "unseal_into"]

_VERSION = b"\x01"
_SALT_BYTES = 32
_COMMITMENT_BYTES = 32
_TAG_BYTES = 16
_HEADER_BYTES = 1 + _SALT_BYTES + _COMMITMENT_BYTES
OVERHEAD = _HEADER_BYTES + _TAG_BYTES
# The key is used for one message, so the nonce is a constant (NIST SP 800-38D section 8.2.1 asks for uniqueness under one key).
_NONCE = bytes(12)


def seal(key: DataKey, associated_data: bytes, plaintext: bytes | memoryview) -> bytes:
    """Return the envelope that only ``key`` with the same associated data opens."""
    envelope = bytearray(len(plaintext) + OVERHEAD)
    seal_into(key, associated_data, plaintext, memoryview(envelope))
    return bytes(envelope)


def seal_into(key: DataKey, associated_data: bytes, plaintext: bytes | memoryview, envelope: memoryview) -> None:
    """Write what `seal` returns into a buffer of exactly its size."""
    salt = os.urandom(_SALT_BYTES)
    cipher, commitment = _message_key(key, salt)
    envelope[:_HEADER_BYTES] = _VERSION + salt + commitment
    cipher.encrypt_into(_NONCE, plaintext, associated_data, envelope[_HEADER_BYTES:])


def unseal(key: DataKey, associated_data: bytes, envelope: bytes | memoryview) -> bytes:
    """Return the plaintext of an envelope.

    Args:
        key: The key that the receiver expects.
        associated_data: The context that the receiver expects, never one that came with the envelope.
        envelope: What `seal` returned.

    Raises:
        UnsealError: Any bit of the envelope, the key or the context differs.
    """
    plaintext = bytearray(max(len(envelope) - OVERHEAD, 0))
    unseal_into(key, associated_data, envelope, memoryview(plaintext))
    return bytes(plaintext)


def unseal_into(key: DataKey, associated_data: bytes, envelope: bytes | memoryview, plaintext: memoryview) -> None:
    """Write what `unseal` returns into a buffer of exactly its size, which holds nothing to rely on where that raises `UnsealError`."""
    view = memoryview(envelope)
    if len(view) != len(plaintext) + OVERHEAD or bytes(view[:1]) != _VERSION:
        raise UnsealError(f"{len(view)} bytes are no sealed message of version 1 and {len(plaintext)} bytes.")
    cipher, commitment = _message_key(key, bytes(view[1 : 1 + _SALT_BYTES]))
    if not hmac.compare_digest(commitment, view[1 + _SALT_BYTES : _HEADER_BYTES]):
        raise UnsealError(f"A sealed message of {len(view)} bytes was made with another key.")
    try:
        cipher.decrypt_into(_NONCE, view[_HEADER_BYTES:], associated_data, plaintext)
    except InvalidTag:
        raise UnsealError(f"A sealed message of {len(view)} bytes was changed, or belongs to another context.") from None


def _message_key(key: DataKey, salt: bytes) -> tuple[AESGCM, bytes]:
    derived = key.derive_bytes(KEY_BYTES + _COMMITMENT_BYTES, "securemllib/seal/v1", salt)
    return AESGCM(derived[:KEY_BYTES]), derived[KEY_BYTES:]
