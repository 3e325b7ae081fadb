"""Claims of an SGX quote: the enclave's measurement, signer, product and versions."""

from collections.abc import Iterable

from securemllib.attestation import insecure
from securemllib.attestation.claims import Claims
from securemllib.attestation.dcap import Endorsements, verify_quote
from securemllib.errors import AttestationError

__all__ = ["TEE", "verify_report"]

TEE = "sgx"
# Intel SDM volume 3D, table 38-3: bit 1 of ATTRIBUTES is DEBUG.
_DEBUG = 0b10


def verify_report(
    report: bytes, expected_report_data: bytes, *, endorsements: Endorsements | None, insecure_roots: Iterable[bytes] = ()
) -> Claims:
    """Return the claims of a quote.

    1. The quote is genuine, and its collateral valid: see `dcap.verify_quote`.
    2. It is an SGX enclave's.
    3. It was made over the expected report data.

    Raises:
        AttestationError: One of them does not hold.
    """
    quoted = verify_quote(report, endorsements=endorsements, insecure_roots=insecure_roots)
    if quoted.kind != "SgxEnclave":
        raise AttestationError("The quote is no SGX enclave's.", code="refused.attestation.tee")
    body = quoted.body
    if bytes.fromhex(body["report_data"]) != expected_report_data:
        raise AttestationError("The quote answers another challenge, or binds other keys.", code="refused.attestation.report_data")
    return Claims(
        tee=insecure.TEE if quoted.is_insecure else TEE,
        measurement=bytes.fromhex(body["mr_enclave"]),
        security_version=body["isv_svn"],
        debug=bool(bytes.fromhex(body["attributes"])[0] & _DEBUG),
        protections=(),
        signer=bytes.fromhex(body["mr_signer"]),
        product_id=body["isv_prod_id"],
        platform=quoted.platform,
    )
