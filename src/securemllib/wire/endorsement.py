"""An owner's word about a broker: what the owner's verifier found, in a form that is kept. RFC 9334 calls it an attestation result."""

from dataclasses import dataclass
from typing import ClassVar

from securemllib.wire.identity import PublicIdentity
from securemllib.wire.record import Record

__all__ = ["BrokerEndorsement"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerEndorsement(Record):
    """A broker whose evidence satisfied a policy of the owner's. Signed by the owner.

    Attributes:
        owner: The owner's fingerprint.
        broker: Whose evidence it was: the identity under whose signature enclaves take keys.
        tee: The TEE; ``insecure`` means none.
        measurement: The measurement of the broker's code.
        signer: Who signed that code (MRSIGNER), None where nobody is known to have.
        security_version: The code's security version.
        accepted_as: The name under which the policy accepts such code.
        verified: When, in seconds since 1970: of two endorsements of one broker the later one counts.
        expires: Until when datasets may be written on the strength of it.
    """

    TYPE: ClassVar[str] = "securemllib/broker-endorsement/v1"

    owner: str
    broker: PublicIdentity
    tee: str
    measurement: bytes
    signer: bytes | None
    security_version: int
    accepted_as: str
    verified: int
    expires: int
