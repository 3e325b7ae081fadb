"""Evidence and attestation results (RFC 9334), and the keys that are released against them."""

from dataclasses import dataclass
from hashlib import sha512
from typing import ClassVar

from securemllib.errors import FormatError
from securemllib.wire.dataset import DatasetRef
from securemllib.wire.encoding import length_prefixed
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.plan import ModelRef
from securemllib.wire.record import Record
from securemllib.wire.signed import Signed

__all__ = [
    "AttestationResult",
    "Challenge",
    "DatasetGrant",
    "Evidence",
    "Grant",
    "Head",
    "HeadUpdate",
    "ModelGrant",
    "WrappedGrant",
    "grant_context",
    "head_acknowledgement_context",
    "head_context",
    "report_data",
]

_NONCE_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge(Record):
    """A broker's single-use question to an enclave about one job."""

    TYPE: ClassVar[str] = "securemllib/challenge/v1"

    nonce: bytes
    broker: PublicIdentity
    job_id: str

    def __post_init__(self) -> None:
        if len(self.nonce) != _NONCE_BYTES:
            raise FormatError(f"A challenge's nonce has {_NONCE_BYTES} bytes.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence(Record):
    """What an attester says of itself.

    Attributes:
        tee: ``insecure``, ``sgx`` or ``tdx``: which verifier understands the report.
        report: The TEE's report or quote over `report_data`.
        identity: The enclave's fresh identity, bound by the report data.
    """

    TYPE: ClassVar[str] = "securemllib/evidence/v1"

    tee: str
    report: bytes
    identity: PublicIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationResult(Record):
    """What the verifier found, signed by the broker: who opens a result checks its enclave by it.

    Attributes:
        job_id: The job that the enclave was granted.
        identity: The enclave's identity.
        tee: The TEE; ``insecure`` means none.
        measurement: The measurement of the enclave's code.
        protections: The protections that the evidence claims.
        issued: Seconds since 1970 by the broker's clock.
    """

    TYPE: ClassVar[str] = "securemllib/attestation-result/v1"

    job_id: str
    identity: PublicIdentity
    tee: str
    measurement: bytes
    protections: tuple[str, ...]
    issued: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetGrant(Record):
    """The secret of one dataset version."""

    TYPE: ClassVar[str] = "dataset-grant"

    dataset: DatasetRef
    secret: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelGrant(Record):
    """The key of one sealed model."""

    TYPE: ClassVar[str] = "model-grant"

    model: ModelRef
    key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Head(Record):
    """The last state of a job that the broker recorded.

    Attributes:
        round: The state's round.
        state: The digest of the state's plaintext; for a finished job, of its model.
        epoch: The grant to whose aggregator the broker listens; an older aggregator is fenced.
    """

    TYPE: ClassVar[str] = "head"

    round: int
    state: bytes
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant(Record):
    """The keys of one job for one enclave.

    Attributes:
        job: The signed specification that the broker authorised, as its encoding.
        epoch: Counts the grants of this job, from 1.
        job_key: Seals everything between the job's enclaves.
        model_key: Seals the model that the job trains.
        datasets: Secrets of the plan's datasets.
        models: Keys of the plan's models.
        head: The last recorded state, None for a job that recorded none yet.
        result: The signed `AttestationResult` of this enclave.
        min_group_size: The fewest rows that a metric, a summary, or a group in a summary may be of.
        statistics: The key of the statistics beside the model that the job goes on from; empty where it reads none.
    """

    TYPE: ClassVar[str] = "securemllib/grant/v1"

    job: bytes
    epoch: int
    job_key: bytes
    model_key: bytes
    datasets: tuple[DatasetGrant, ...]
    models: tuple[ModelGrant, ...]
    head: Head | None
    result: Signed
    min_group_size: int = 0
    statistics: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrappedGrant(Record):
    """A `Grant`, HPKE-wrapped for the enclave's identity with `grant_context`, which binds its job; the broker signs this record."""

    TYPE: ClassVar[str] = "securemllib/wrapped-grant/v1"

    wrapped: bytes


def report_data(challenge: Challenge, identity: PublicIdentity) -> bytes:
    """Return the 64 bytes that bind evidence to the challenge, the broker, the job and the enclave's fresh keys."""
    bound = length_prefixed(
        "securemllib/report-data/v1",
        challenge.nonce,
        challenge.broker.fingerprint,
        challenge.job_id,
        identity.verification_key,
        identity.recipient_key,
    )
    return sha512(bound).digest()


def grant_context(job_id: str, enclave: str) -> bytes:
    """Return the HPKE ``info`` of a grant for the enclave of that fingerprint."""
    return length_prefixed(Grant.TYPE, job_id, enclave)


def head_context(job_id: str) -> bytes:
    """Return the associated data of a `HeadUpdate`, sealed by the aggregator under the job key."""
    return length_prefixed("securemllib/head-update/v1", job_id)


def head_acknowledgement_context(job_id: str, update: bytes) -> bytes:
    """Return the associated data of the broker's acknowledgement of one sealed update: an empty message under the job key."""
    return length_prefixed("securemllib/head-acknowledgement/v1", job_id, update)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadUpdate(Record):
    """An aggregator's request to move a job's head: compare with ``previous``, then swap.

    Attributes:
        previous: The head that the aggregator continued from, None at the first.
        head: The new head, with the aggregator's own epoch.
        model: The sealed model that the job finished with, else None.
    """

    TYPE: ClassVar[str] = "securemllib/head-update/v1"

    previous: Head | None
    head: Head
    model: ModelRef | None
