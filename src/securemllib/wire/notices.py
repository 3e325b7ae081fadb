"""Short signed notices between a broker and those who hold keys: about a job, a key, a share, or the broker's store."""

from dataclasses import dataclass
from typing import ClassVar

from securemllib.wire.attestation import Challenge
from securemllib.wire.encoding import length_prefixed
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.record import Record

__all__ = ["JobEnd", "KeyRevocation", "KeyRotation", "RecoveryShare", "StoreAcceptance", "broker_challenge", "recovery_share_context"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnd(Record):
    """The results of a job have come, or are not waited for any more: it needs no more keys. Signed by the job's analyst.

    Attributes:
        job_id: The job.
        broker: The fingerprint of the broker that accepted it.
    """

    TYPE: ClassVar[str] = "securemllib/job-end/v1"

    job_id: str
    broker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRotation(Record):
    """An owner or analyst goes on under another identity. Signed by the old one, and by the new one.

    Attributes:
        old: The identity that is no longer used.
        new: The identity that takes its place wherever a policy names the old one.
        broker: The fingerprint of the broker that is told.
        created: Seconds since 1970.
    """

    TYPE: ClassVar[str] = "securemllib/key-rotation/v1"

    old: PublicIdentity
    new: PublicIdentity
    broker: str
    created: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRevocation(Record):
    """An identity is not to be trusted from now on. Signed by that identity.

    Attributes:
        revoked: The identity.
        broker: The fingerprint of the broker that is told.
        created: Seconds since 1970.
    """

    TYPE: ClassVar[str] = "securemllib/key-revocation/v1"

    revoked: PublicIdentity
    broker: str
    created: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreAcceptance(Record):
    """An owner goes on with a broker whose store was restored, though all after the named entry is forgotten. Signed by the owner.

    Attributes:
        broker: The broker's fingerprint.
        sequence: The last entry of the restored audit log.
        entry: Its digest.
        created: Seconds since 1970.
    """

    TYPE: ClassVar[str] = "securemllib/store-acceptance/v1"

    broker: str
    sequence: int
    entry: bytes
    created: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryShare(Record):
    """One custodian's share of a broker's recovery key. Signed by the broker.

    Attributes:
        broker: The broker.
        custodian: The fingerprint of the identity that the words are wrapped for.
        wrapped: The words, HPKE-wrapped for the custodian with `recovery_share_context`.
    """

    TYPE: ClassVar[str] = "securemllib/recovery-share/v1"

    broker: PublicIdentity
    custodian: str
    wrapped: bytes


def recovery_share_context(broker: str, custodian: str) -> bytes:
    """Return the HPKE ``info`` of a custodian's share."""
    return length_prefixed(RecoveryShare.TYPE, broker, custodian)


def broker_challenge(nonce: bytes, broker: PublicIdentity) -> Challenge:
    """Return the challenge that a broker's own evidence answers. No job has this id: theirs are digests."""
    return Challenge(nonce=nonce, broker=broker, job_id="broker")
