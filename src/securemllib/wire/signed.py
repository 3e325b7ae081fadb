"""A signed payload: DSSE's pre-authentication encoding, so that the payload's type is under the signature."""

from dataclasses import dataclass
from typing import ClassVar

from securemllib.errors import FormatError
from securemllib.wire.record import Record

__all__ = ["Signed", "pre_authentication_encoding"]

_ED25519_SIGNATURE_BYTES = 64


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes that are signed (DSSE v1, ``PAE``)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed(Record):
    """A payload, its type, and its Ed25519 signature.

    Attributes:
        payload_type: The record type of the payload.
        payload: The record's only encoding.
        signer: The fingerprint of the identity that claims to have signed.
        signature: 64 bytes over the pre-authentication encoding.
    """

    TYPE: ClassVar[str] = "securemllib/signed/v1"

    payload_type: str
    payload: bytes
    signer: str
    signature: bytes

    def __post_init__(self) -> None:
        if len(self.signature) != _ED25519_SIGNATURE_BYTES:
            raise FormatError(f"A signature has {_ED25519_SIGNATURE_BYTES} bytes, not {len(self.signature)}.")
