"""Claims of a TDX quote. A trust domain's measurement is one digest over every register that says what runs in it.

MRTD alone measures the virtual firmware: a host could start any kernel under it. The digest therefore covers the run-time registers, the
configuration and the attributes, too, so that a policy names all of them by one value.
"""

from collections.abc import Iterable, Mapping
from hashlib import sha384

from securemllib.attestation import insecure
from securemllib.attestation.claims import Claims
from securemllib.attestation.dcap import Endorsements, verify_quote
from securemllib.errors import AttestationError
from securemllib.wire.encoding import length_prefixed

__all__ = ["REGISTERS", "TEE", "measurement_of", "verify_report"]

TEE = "tdx"
# In the order in which they are digested; Intel's TDX module ABI, TDINFO_STRUCT.
REGISTERS = (
    "td_attributes", "xfam", "mr_td", "mr_config_id", "mr_owner", "mr_owner_config", "rt_mr0", "rt_mr1", "rt_mr2", "rt_mr3",
)  # fmt: skip
_DEBUG = 0b1


def verify_report(
    report: bytes, expected_report_data: bytes, *, endorsements: Endorsements | None, insecure_roots: Iterable[bytes] = ()
) -> Claims:
    """Return the claims of a quote.

    1. The quote is genuine, and its collateral valid: see `dcap.verify_quote`.
    2. It is a trust domain's.
    3. It was made over the expected report data.

    Raises:
        AttestationError: One of them does not hold.
    """
    quoted = verify_quote(report, endorsements=endorsements, insecure_roots=insecure_roots)
    if not quoted.kind.startswith("TD"):
        raise AttestationError("The quote is no trust domain's.", code="refused.attestation.tee")
    body = _flat(quoted.body)
    if body["report_data"] != expected_report_data:
        raise AttestationError("The quote answers another challenge, or binds other keys.", code="refused.attestation.report_data")
    return Claims(
        tee=insecure.TEE if quoted.is_insecure else TEE,
        measurement=measurement_of(body),
        security_version=0,
        debug=bool(body["td_attributes"][0] & _DEBUG),
        protections=(),
        platform=quoted.platform,
    )


def measurement_of(registers: Mapping[str, bytes]) -> bytes:
    """Return the SHA-384 over `REGISTERS`: 48 bytes, what a policy names."""
    return sha384(length_prefixed("securemllib/td-measurement/v1", *(registers[name] for name in REGISTERS))).digest()


def _flat(body: Mapping[str, object]) -> dict[str, bytes]:
    """Return all fields of a report, the earlier versions' that it contains included."""
    inner = body.get("base")
    fields = {name: bytes.fromhex(value) for name, value in body.items() if isinstance(value, str)}
    return {**(_flat(inner) if isinstance(inner, dict) else {}), **fields}
