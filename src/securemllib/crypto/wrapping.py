"""Wrapping keys and results for one recipient: HPKE (RFC 9180) with ML-KEM-768 and X25519, HKDF-SHA256 and AES-256-GCM."""

from typing import ClassVar, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, MLKEM768X25519PublicKey, Suite

from securemllib.errors import FormatError, UnsealError

__all__ = ["RecipientKey", "wrap"]

_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_MLKEM_PUBLIC_BYTES = 1184
_MLKEM_SEED_BYTES = 64
_X25519_BYTES = 32


class RecipientKey:
    """A private HPKE key: opens what `wrap` made for its public bytes."""

    SECRET_BYTES: ClassVar[int] = _MLKEM_SEED_BYTES + _X25519_BYTES
    __slots__ = ("_mlkem", "_x25519")

    def __init__(self, mlkem: MLKEM768PrivateKey, x25519: X25519PrivateKey) -> None:
        self._mlkem = mlkem
        self._x25519 = x25519

    @classmethod
    def generate(cls) -> "RecipientKey":
        """Return a fresh key."""
        return cls(MLKEM768PrivateKey.generate(), X25519PrivateKey.generate())

    @classmethod
    def from_secret(cls, secret: bytes) -> "RecipientKey":
        """Return the key whose `expose` gave ``secret``; `FormatError` where it has another length."""
        if len(secret) != cls.SECRET_BYTES:
            raise FormatError(f"{len(secret)} bytes are no recipient key's secret.")
        mlkem = MLKEM768PrivateKey.from_seed_bytes(secret[:_MLKEM_SEED_BYTES])
        return cls(mlkem, X25519PrivateKey.from_private_bytes(secret[_MLKEM_SEED_BYTES:]))

    def expose(self) -> bytes:
        """Return the private key, to be wrapped at once."""
        return self._mlkem.private_bytes_raw() + self._x25519.private_bytes_raw()

    @property
    def public_bytes(self) -> bytes:
        """The public key, 1216 bytes."""
        return self._mlkem.public_key().public_bytes_raw() + self._x25519.public_key().public_bytes_raw()

    def unwrap(self, wrapped: bytes, info: bytes) -> bytes:
        """Return what was wrapped for this key with the same ``info``; `UnsealError` otherwise."""
        private = MLKEM768X25519PrivateKey(self._mlkem, self._x25519)
        try:
            return bytes(_SUITE.decrypt(wrapped, private, info=info))
        except (InvalidTag, ValueError):
            raise UnsealError(f"{len(wrapped)} wrapped bytes are not for this key in this context.") from None

    def __repr__(self) -> str:
        return "RecipientKey(...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a recipient key cannot be pickled or copied")


def wrap(public_bytes: bytes, info: bytes, plaintext: bytes) -> bytes:
    """Return ``plaintext`` wrapped so that only the owner of the public key opens it, and only with the same ``info``.

    Args:
        public_bytes: `RecipientKey.public_bytes` of the recipient.
        info: What both sides know of the context.
        plaintext: Keys, or results of at most a few megabytes.

    Raises:
        FormatError: The bytes are no public key, or one of the few with which every shared secret is zero.
    """
    try:
        mlkem = MLKEM768PublicKey.from_public_bytes(public_bytes[:_MLKEM_PUBLIC_BYTES])
        x25519 = X25519PublicKey.from_public_bytes(public_bytes[_MLKEM_PUBLIC_BYTES:])
        return bytes(_SUITE.encrypt(plaintext, MLKEM768X25519PublicKey(mlkem, x25519), info=info))
    except ValueError as error:
        raise FormatError(f"{len(public_bytes)} bytes are no HPKE public key.") from error
