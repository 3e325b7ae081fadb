"""How an owner puts a dataset under a broker's guard, and asks it questions."""

from dataclasses import dataclass
from typing import ClassVar

from securemllib.wire.encoding import length_prefixed
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.record import Record
from securemllib.wire.signed import Signed

__all__ = ["AuditRequest", "Enrolment", "enrolment_context"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment(Record):
    """A dataset version and its secret; signed by the owner.

    Attributes:
        owner: The owner; the signer of this record and of the manifest.
        manifest: The signed `Manifest`.
        secret: The dataset secret, HPKE-wrapped for the broker with `enrolment_context`.
    """

    TYPE: ClassVar[str] = "securemllib/enrolment/v1"

    owner: PublicIdentity
    manifest: Signed
    secret: bytes


def enrolment_context(dataset_id: str, version: int, owner: str) -> bytes:
    """Return the HPKE ``info`` of an enrolled dataset secret."""
    return length_prefixed(Enrolment.TYPE, dataset_id, version, owner)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRequest(Record):
    """An owner's request for the audit entries of their datasets; signed by the owner.

    Attributes:
        owner: The signer.
        broker: The fingerprint of the broker asked.
        created: Seconds since 1970; the broker refuses old ones.
    """

    TYPE: ClassVar[str] = "securemllib/audit-request/v1"

    owner: PublicIdentity
    broker: str
    created: int
