"""Who somebody is: two public keys and the fingerprint that policies name."""

from base64 import b32encode
from dataclasses import dataclass
from typing import ClassVar

from securemllib.errors import FormatError
from securemllib.wire.encoding import digest
from securemllib.wire.record import Record

__all__ = ["PublicIdentity"]

_ED25519_BYTES = 32
# X25519 (32) and ML-KEM-768 (1184, FIPS 203 table 3) public keys, concatenated.
_HPKE_BYTES = 32 + 1184


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicIdentity(Record):
    """The public half of an owner, an analyst, a broker or an enclave.

    Attributes:
        name: What people call it; not covered by the fingerprint and never trusted.
        verification_key: The raw Ed25519 public key, 32 bytes.
        recipient_key: The raw HPKE (ML-KEM-768 and X25519) public key, 1216 bytes.
    """

    TYPE: ClassVar[str] = "securemllib/identity/v1"

    name: str
    verification_key: bytes
    recipient_key: bytes

    def __post_init__(self) -> None:
        if len(self.verification_key) != _ED25519_BYTES or len(self.recipient_key) != _HPKE_BYTES:
            raise FormatError(f"An identity has keys of {_ED25519_BYTES} and {_HPKE_BYTES} bytes.")

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of both keys in lower-case base32: 52 characters."""
        return b32encode(digest(self.TYPE, self.verification_key, self.recipient_key)).decode().rstrip("=").lower()
