"""Short signed notices to a broker: what a key holder says about their own job, key, or the broker's store."""

from dataclasses import dataclass
from typing import ClassVar

from securemllib.wire.identity import PublicIdentity
from securemllib.wire.record import Record

__all__ = ["JobEnd", "KeyRevocation", "KeyRotation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnd(Record):
    """The results of a job that leaves no model have come: it needs no more keys. Signed by the job's analyst.

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
