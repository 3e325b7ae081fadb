"""DSSE envelopes: canonical JSON under the Ed25519 signatures of one or more identities. A signature's key id is a fingerprint."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Protocol, Self, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass
from securesystemslib.dsse import Envelope as Dsse
from securesystemslib.exceptions import FormatError as DsseFormatError
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer._key import SSlibKey
from securesystemslib.signer._signature import Signature

from securemllib.crypto.identity import PrivateIdentity
from securemllib.errors import FormatError, SignatureError
from securemllib.policy.approval import ReleaseApproval, Revocation
from securemllib.policy.model import Policy
from securemllib.wire.identity import PublicIdentity

__all__ = ["PAYLOAD_TYPES", "Envelope", "Statement", "open_envelope", "seal_statement", "signers_among"]

# The type is under the signature: an approval is never taken for a policy.
PAYLOAD_TYPES: dict[type[Any], str] = {
    Policy: "application/vnd.securemllib.policy.v1+json",
    Revocation: "application/vnd.securemllib.revocation.v1+json",
    ReleaseApproval: "application/vnd.securemllib.release-approval.v1+json",
}
# A policy's approvers carry keys of 1,700 characters; nothing written by hand comes near it.
_LIMIT = 2**20
_SIGNATURES, _TEXT = 64, 128
_STRICT = ConfigDict(extra="forbid", strict=True)


class Statement(Protocol):
    """What an envelope may hold."""

    def to_json(self) -> bytes:
        """Return its only encoding."""

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Return the statement of an encoding."""


StatementT = TypeVar("StatementT", bound=Statement)


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class _SignatureTree:
    keyid: Annotated[str, Field(max_length=_TEXT)]
    sig: Annotated[str, Field(max_length=_TEXT)]


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class _EnvelopeTree:
    payload: str
    payloadType: Annotated[str, Field(max_length=_TEXT)]  # noqa: N815 - the specification's name
    signatures: Annotated[list[_SignatureTree], Field(min_length=1, max_length=_SIGNATURES)]


_TREE: TypeAdapter[_EnvelopeTree] = TypeAdapter(_EnvelopeTree)


class Envelope:
    """A payload, its type and its signatures (DSSE v1), in one JSON encoding."""

    __slots__ = ("dsse",)

    def __init__(self, dsse: Dsse) -> None:
        self.dsse = dsse

    @classmethod
    def from_bytes(cls, data: bytes) -> "Envelope":
        """Return the envelope of its JSON; `FormatError` for anything else."""
        if len(data) > _LIMIT:
            raise FormatError(f"An envelope of {len(data)} bytes is longer than its limit of {_LIMIT}.")
        try:
            return cls(Dsse.from_dict(_TREE.dump_python(_TREE.validate_json(data))))
        except (ValueError, DsseFormatError):
            # Pydantic's errors and those of base64 are ValueErrors, too.
            raise FormatError(f"{len(data)} bytes are no DSSE envelope.") from None

    def to_bytes(self) -> bytes:
        """Return the envelope as JSON."""
        return json.dumps(self.dsse.to_dict(), sort_keys=True).encode()

    @property
    def signers(self) -> tuple[str, ...]:
        """Who claims to have signed, by fingerprint."""
        return tuple(self.dsse.signatures)

    @property
    def payload(self) -> bytes:
        """What is signed."""
        return self.dsse.payload

    @property
    def payload_type(self) -> str:
        """What the payload says that it is; under the signature."""
        return self.dsse.payload_type

    def signed_by(self, identity: PrivateIdentity) -> "Envelope":
        """Return the envelope with one more signature."""
        signature = Signature(identity.public.fingerprint, identity.signature(self.payload_type, self.payload).hex())
        return Envelope(Dsse(self.payload, self.payload_type, {**self.dsse.signatures, signature.keyid: signature}))


def seal_statement(statement: Statement, signer: PrivateIdentity) -> Envelope:
    """Return a statement under its first signature."""
    return Envelope(Dsse(statement.to_json(), PAYLOAD_TYPES[type(statement)], {})).signed_by(signer)


def open_envelope(envelope: Envelope, expected_type: type[StatementT], signer: PublicIdentity) -> StatementT:
    """Return the statement that ``signer`` signed, maybe among others.

    1. The payload says that it is of the expected type.
    2. One of the signatures is the expected signer's, over type and payload.
    3. The payload is the only encoding of such a statement.

    Raises:
        SignatureError: 1 or 2 does not hold.
        FormatError: 3 does not hold.
    """
    if envelope.payload_type != PAYLOAD_TYPES[expected_type]:
        raise SignatureError(f"{envelope.payload_type[:100]!r} was signed where {PAYLOAD_TYPES[expected_type]} was expected.")
    if signers_among(envelope, {signer.fingerprint: signer}) != {signer.fingerprint}:
        raise SignatureError(f"There is no signature of {signer.fingerprint} that fits.")
    return expected_type.from_json(envelope.payload)


def signers_among(envelope: Envelope, known: Mapping[str, PublicIdentity]) -> frozenset[str]:
    """Return the fingerprints of those among ``known`` whose signature fits; the others' signatures do not matter."""
    return frozenset(fingerprint for fingerprint, identity in known.items() if _fits(envelope, identity))


def _fits(envelope: Envelope, identity: PublicIdentity) -> bool:
    key = SSlibKey(identity.fingerprint, "ed25519", "ed25519", {"public": identity.verification_key.hex()})
    try:
        envelope.dsse.verify([key], 1)
    except VerificationError:
        return False
    return True
