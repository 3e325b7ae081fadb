"""Identities: an Ed25519 key to sign with and an HPKE key to receive with."""

from typing import NoReturn, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from securemllib.crypto.keys import KEY_BYTES
from securemllib.crypto.wrapping import RecipientKey
from securemllib.errors import FormatError, SignatureError
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.record import Record
from securemllib.wire.signed import Signed, pre_authentication_encoding

__all__ = ["PrivateIdentity", "verify"]

RecordT = TypeVar("RecordT", bound=Record)


class PrivateIdentity:
    """The private half of an identity: signs records and opens what was wrapped for it."""

    __slots__ = ("_signing_key", "public", "recipient")

    def __init__(self, name: str, signing_key: Ed25519PrivateKey, recipient: RecipientKey) -> None:
        self._signing_key = signing_key
        self.recipient = recipient
        self.public = PublicIdentity(
            name=name, verification_key=signing_key.public_key().public_bytes_raw(), recipient_key=recipient.public_bytes
        )

    @classmethod
    def generate(cls, name: str) -> "PrivateIdentity":
        """Return a fresh identity."""
        return cls(name, Ed25519PrivateKey.generate(), RecipientKey.generate())

    @classmethod
    def from_secret(cls, name: str, secret: bytes) -> "PrivateIdentity":
        """Return the identity whose `expose` gave ``secret``."""
        if len(secret) != KEY_BYTES + RecipientKey.SECRET_BYTES:
            raise FormatError(f"{len(secret)} bytes are no identity's secret.")
        signing_key = Ed25519PrivateKey.from_private_bytes(secret[:KEY_BYTES])
        return cls(name, signing_key, RecipientKey.from_secret(secret[KEY_BYTES:]))

    def expose(self) -> bytes:
        """Return both private keys, to be wrapped at once."""
        return self._signing_key.private_bytes_raw() + self.recipient.expose()

    def sign(self, record: Record) -> Signed:
        """Return the record under this identity's signature."""
        payload = record.to_bytes()
        signature = self.signature(record.TYPE, payload)
        return Signed(payload_type=record.TYPE, payload=payload, signer=self.public.fingerprint, signature=signature)

    def signature(self, payload_type: str, payload: bytes) -> bytes:
        """Return the 64 bytes of this identity's DSSE signature over a payload and its type."""
        return self._signing_key.sign(pre_authentication_encoding(payload_type, payload))

    def __repr__(self) -> str:
        return f"PrivateIdentity({self.public.name!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private identity cannot be pickled or copied")


def verify(signed: Signed, expected_type: type[RecordT], expected_signer: PublicIdentity) -> RecordT:
    """Return the record that ``expected_signer`` signed.

    1. The payload says that it is of the expected type.
    2. The signature is the expected signer's, over type and payload.
    3. The payload is the only encoding of a record of that type.

    Raises:
        SignatureError: 1 or 2 does not hold.
        FormatError: 3 does not hold.
    """
    if signed.payload_type != expected_type.TYPE:
        raise SignatureError(f"A {signed.payload_type} was signed where a {expected_type.TYPE} was expected.")
    if signed.signer != expected_signer.fingerprint:
        raise SignatureError(f"Signed by {signed.signer}, not by {expected_signer.fingerprint}.")
    try:
        key = Ed25519PublicKey.from_public_bytes(expected_signer.verification_key)
        key.verify(signed.signature, pre_authentication_encoding(signed.payload_type, signed.payload))
    except InvalidSignature:
        raise SignatureError(f"The signature of {signed.signer} does not fit its {expected_type.TYPE}.") from None
    return expected_type.from_bytes(signed.payload)
