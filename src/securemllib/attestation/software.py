"""Claims of a report that a software key signed, which is no evidence of a TEE: what `insecure` attests, verified.

Apart from the attester, because the enclave verifies nobody.
"""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from securemllib.attestation.claims import Claims
from securemllib.attestation.insecure import TEE, SoftwareClaims, SoftwareReport
from securemllib.errors import AttestationError
from securemllib.wire.signed import pre_authentication_encoding

__all__ = ["verify_report"]


def verify_report(report: bytes, expected_report_data: bytes) -> Claims:
    """Return the claims of a report.

    1. The report is signed by the software key that it names.
    2. It was made over the expected report data.

    Raises:
        AttestationError: 1 or 2 does not hold.
        FormatError: The bytes are no report.
    """
    decoded = SoftwareReport.from_bytes(report)
    try:
        key = Ed25519PublicKey.from_public_bytes(decoded.verification_key)
        key.verify(decoded.signature, pre_authentication_encoding(SoftwareClaims.TYPE, decoded.claims))
    except (InvalidSignature, ValueError):
        raise AttestationError("The report's signature does not fit.", code="refused.attestation.signature") from None
    claimed = SoftwareClaims.from_bytes(decoded.claims)
    if claimed.report_data != expected_report_data:
        raise AttestationError("The report answers another challenge, or binds other keys.", code="refused.attestation.report_data")
    return Claims(
        tee=TEE,
        measurement=claimed.measurement,
        security_version=claimed.security_version,
        debug=claimed.debug,
        protections=claimed.protections,
    )
