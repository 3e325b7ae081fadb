"""The attester for machines without a TEE: the whole message flow, and no protection against the machine's operator.

Its report is signed by a software key that the operator holds, so the report proves nothing to somebody who distrusts the operator.
A verifier therefore accepts it only where the owner's policy says ``allow_insecure: true``.
"""

from dataclasses import dataclass
from typing import ClassVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from securemllib.attestation.claims import Claims
from securemllib.errors import AttestationError
from securemllib.wire.record import Record
from securemllib.wire.signed import pre_authentication_encoding

__all__ = ["TEE", "InsecureAttester", "verify_report"]

TEE = "insecure"
# Grows when a change of the enclave's code mends a weakness that owners must be able to demand.
SECURITY_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claimed(Record):
    TYPE: ClassVar[str] = "securemllib/insecure-claims/v1"

    report_data: bytes
    measurement: bytes
    security_version: int
    debug: bool
    protections: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report(Record):
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
        claims = _Claimed(
            report_data=report_data,
            measurement=self._measurement,
            security_version=SECURITY_VERSION,
            debug=self._debug,
            protections=self._protections,
        ).to_bytes()
        signature = self._key.sign(pre_authentication_encoding(_Claimed.TYPE, claims))
        return _Report(claims=claims, verification_key=self._key.public_key().public_bytes_raw(), signature=signature).to_bytes()


def verify_report(report: bytes, expected_report_data: bytes) -> Claims:
    """Return the claims of a report.

    1. The report is signed by the software key that it names.
    2. It was made over the expected report data.

    Raises:
        AttestationError: 1 or 2 does not hold.
        FormatError: The bytes are no report.
    """
    decoded = _Report.from_bytes(report)
    try:
        key = Ed25519PublicKey.from_public_bytes(decoded.verification_key)
        key.verify(decoded.signature, pre_authentication_encoding(_Claimed.TYPE, decoded.claims))
    except (InvalidSignature, ValueError):
        raise AttestationError("The report's signature does not fit.", code="refused.attestation.signature") from None
    claimed = _Claimed.from_bytes(decoded.claims)
    if claimed.report_data != expected_report_data:
        raise AttestationError("The report answers another challenge, or binds other keys.", code="refused.attestation.report_data")
    return Claims(
        tee=TEE,
        measurement=claimed.measurement,
        security_version=claimed.security_version,
        debug=claimed.debug,
        protections=claimed.protections,
    )
