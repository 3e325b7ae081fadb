"""The JSON bodies of the broker's HTTP interface. Records travel as standard base64 of their one encoding."""

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from securemllib.errors import FormatError

__all__ = [
    "AcceptanceBody",
    "AcceptanceResult",
    "Acknowledgement",
    "ApprovalResult",
    "AttestationRequest",
    "AuditBody",
    "AuditEntries",
    "AuthenticationParameters",
    "AuthenticationRequest",
    "ChallengeBody",
    "ChallengeParameters",
    "EndBody",
    "EnrolmentBody",
    "EnrolmentResult",
    "EnvelopeBody",
    "EvidenceBody",
    "EvidenceResult",
    "GrantBody",
    "HeadBody",
    "HeadUpdateBody",
    "IdentityBody",
    "JobBody",
    "JobResult",
    "KeyResult",
    "PolicyBody",
    "PolicyResult",
    "ProblemBody",
    "ReleaseResult",
    "RevocationBody",
    "RotationBody",
    "TokenBody",
    "from_base64",
    "to_base64",
]

Base64 = Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})]


def to_base64(data: bytes) -> str:
    """Return standard, padded base64."""
    return b64encode(data).decode()


def from_base64(text: str) -> bytes:
    """Return the bytes of standard, padded base64, in its only form; `FormatError` for anything else."""
    try:
        found = b64decode(text, validate=True)
    except (Base64Error, ValueError):
        found = None
    # The library takes padding without end, and bits behind the last byte.
    if found is None or to_base64(found) != text:
        raise FormatError(f"{len(text)} characters are no base64.")
    return found


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class IdentityBody(_Body):
    """A `PublicIdentity`."""

    identity: Base64


class EnrolmentBody(_Body):
    """A signed `Enrolment`."""

    enrolment: Base64


class EnrolmentResult(_Body):
    """The dataset version that is enrolled."""

    dataset_id: str
    version: int


class SignatureBody(_Body):
    """One signature of an envelope; the key id is the signer's fingerprint."""

    keyid: str = Field(max_length=128)
    sig: Base64


class EnvelopeBody(_Body):
    """A DSSE envelope."""

    payload: Base64
    payload_type: str = Field(alias="payloadType", max_length=128)
    signatures: list[SignatureBody] = Field(max_length=64)


class PolicyBody(_Body):
    """The envelope of a policy, of its revocation, or of an approval."""

    envelope: EnvelopeBody


class PolicyResult(_Body):
    """The policy in force."""

    dataset_id: str
    serial: int


class RotationBody(_Body):
    """A `KeyRotation`, signed by the old identity and by the new one."""

    rotation: Base64
    confirmation: Base64


class RevocationBody(_Body):
    """A signed `KeyRevocation`."""

    revocation: Base64


class KeyResult(_Body):
    """The identity in force after a rotation, or the one that was revoked."""

    fingerprint: str


class EvidenceBody(_Body):
    """32 random bytes."""

    nonce: Base64


class EvidenceResult(_Body):
    """An `Evidence` of the broker."""

    evidence: Base64


class AcceptanceBody(_Body):
    """A signed `StoreAcceptance`."""

    acceptance: Base64


class AcceptanceResult(_Body):
    """The owner's datasets, which may be used again."""

    datasets: list[str]


class ApprovalResult(_Body):
    """The datasets whose policies count the approval."""

    datasets: list[str]


class JobBody(_Body):
    """A signed `JobSpecification`."""

    job: Base64


class SubmissionBody(JobBody):
    """A job, and the TEE of its first enclave where its challenge is to come with the answer."""

    tee: str | None = Field(default=None, max_length=32)


class JobResult(_Body):
    """The accepted job, and the session and `Challenge` of its first enclave where they were asked for and the job takes enclaves."""

    job_id: str
    session: str | None = None
    challenge: Base64 | None = None


class AdmissionBody(_Body):
    """An `Evidence` that answers a session's challenge."""

    session: str = Field(max_length=64)
    evidence: Base64


class AdmissionResult(_Body):
    """A signed `WrappedGrant`, and the round of the head in it, null where none is recorded."""

    grant: Base64
    round: int | None


class AuthenticationParameters(_Body):
    """Which job the enclave is for."""

    job_id: str = Field(max_length=128)


class AuthenticationRequest(_Body):
    """The first request of the key broker protocol."""

    version: str = Field(max_length=16)
    tee: str = Field(max_length=32)
    extra_params: AuthenticationParameters = Field(alias="extra-params")


class ChallengeParameters(_Body):
    """A `Challenge`."""

    challenge: Base64


class ChallengeBody(_Body):
    """The challenge; its nonce stands beside it, as the key broker protocol has it."""

    nonce: Base64
    extra_params: ChallengeParameters = Field(alias="extra-params")


class AttestationRequest(_Body):
    """An `Evidence`."""

    tee_evidence: Base64 = Field(alias="tee-evidence")


class TokenBody(_Body):
    """An EAT attestation result."""

    token: str


class GrantBody(_Body):
    """A signed `WrappedGrant`."""

    grant: Base64


class HeadBody(_Body):
    """The recorded head; the round is null where none is recorded."""

    round: int | None
    state: str | None = None


class HeadUpdateBody(_Body):
    """A `HeadUpdate`, sealed under the job key."""

    update: Base64


class Acknowledgement(_Body):
    """An empty message, sealed under the job key for this update."""

    acknowledgement: Base64


class EndBody(_Body):
    """A signed `JobEnd`."""

    end: Base64


class ReleaseResult(_Body):
    """Signed `WrappedModelKey` records, and the signed `AttestationResult` of the enclave that trained the model."""

    keys: list[Base64]
    attestation: Base64


class AuditBody(_Body):
    """A signed `AuditRequest`."""

    request: Base64


class AuditEntries(_Body):
    """Audit entries and the log's signed head."""

    entries: list[dict[str, object]]
    head: Base64 | None


class ProblemBody(_Body):
    """An error (RFC 9457) with SecureMLlib's code, reason and next step."""

    type: str
    title: str
    status: int
    code: str
    reason: str
    next_step: str
