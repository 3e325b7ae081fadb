"""The attester for machines without a TEE: the whole message flow, and no protection against the machine's operator.

Its report is signed by a software key that the operator holds, so the report proves nothing to somebody who distrusts the operator.
A verifier therefore accepts it only where the owner's policy says ``allow_insecure: true``.
"""

from dataclasses import dataclass
from typing import ClassVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from securemllib.wire.record import Record
from securemllib.wire.signed import pre_authentication_encoding

__all__ = ["TEE", "InsecureAttester", "SoftwareClaims", "SoftwareReport"]

TEE = "insecure"
# Grows when a change of the enclave's code mends a weakness that owners must be able to demand.
SECURITY_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftwareClaims(Record):
    """What a report claims."""

    TYPE: ClassVar[str] = "securemllib/insecure-claims/v1"

    report_data: bytes
    measurement: bytes
    security_version: int
    debug: bool
    protections: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftwareReport(Record):
    """Claims, signed by a software key."""

    TYPE: ClassVar[str] = "securemllib/insecure-report/v1"

    claims: bytes
    verification_key: bytes
    signature: bytes


class InsecureAttester:
    """Signs reports with a software key made at start."""

    tee = TEE

    def __init__(self, measurement: bytes, protections: tuple[str, ...], *, debug: bool = False) -> None:
        self._key = Ed25519PrivateKey.generate()
        self._measurement = measurement
        self._protections = protections
        self._debug = debug

    def report(self, report_data: bytes) -> bytes:
        """Return a report over 64 bytes of report data."""
        claims = SoftwareClaims(
            report_data=report_data,
            measurement=self._measurement,
            security_version=SECURITY_VERSION,
            debug=self._debug,
            protections=self._protections,
        ).to_bytes()
        signature = self._key.sign(pre_authentication_encoding(SoftwareClaims.TYPE, claims))
        return SoftwareReport(claims=claims, verification_key=self._key.public_key().public_bytes_raw(), signature=signature).to_bytes()
