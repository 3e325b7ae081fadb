"""Intel's collateral as it lies in a file: for which kind of platform it is, and from when until when it counts.

What is read here is only where to look and when to look again. Whether the collateral is genuine is asked of its signatures, each time
that a quote is verified with it.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.x509 import CertificateRevocationList, load_der_x509_crl
from cryptography.x509.oid import NameOID

from securemllib.attestation import sgx, tdx
from securemllib.attestation.dcap import Model, check_collateral
from securemllib.errors import FormatError

__all__ = ["Collateral", "read_collateral"]

_FMSPC = re.compile(r"[0-9A-F]{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Collateral:
    """One piece of collateral.

    Attributes:
        model: The kind of platform that it is for.
        issued: When the latest of its parts was issued, in seconds since 1970.
        expires: When the first of its parts expires.
        text: All of it, in `dcap_qvl`'s JSON.
    """

    model: Model
    issued: int
    expires: int
    text: str


def read_collateral(text: str) -> Collateral:
    """Return collateral from JSON; `FormatError` where it is none."""
    parsed = check_collateral(text)
    try:
        tcb, identity = json.loads(parsed.tcb_info), json.loads(parsed.qe_identity)
        lists = [load_der_x509_crl(bytes(found)) for found in (parsed.root_ca_crl, parsed.pck_crl)]
        model = Model(tee=str(tcb["id"]).lower(), fmspc=str(tcb["fmspc"]).upper(), ca=_authority(lists[1]))
        # It names a file, long before anybody asks for Intel's signature.
        if model.tee not in {sgx.TEE, tdx.TEE} or not _FMSPC.fullmatch(model.fmspc):
            raise FormatError("The collateral is for no kind of platform.", code="integrity.collateral")
        issued = max(_seconds(tree["issueDate"]) for tree in (tcb, identity))
        expires = min(*(_seconds(tree["nextUpdate"]) for tree in (tcb, identity)), *_ends(lists))
    except (ValueError, TypeError, KeyError, RecursionError):
        raise FormatError("The collateral's parts cannot be read.", code="integrity.collateral") from None
    return Collateral(model=model, issued=issued, expires=expires, text=parsed.to_json())


def _authority(crl: CertificateRevocationList) -> str:
    names = [str(attribute.value) for attribute in crl.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)]
    # Intel's two authorities are "Intel SGX PCK Platform CA" and "Intel SGX PCK Processor CA".
    return "platform" if any("Platform" in name for name in names) else "processor"


def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def _ends(lists: Iterable[CertificateRevocationList]) -> list[int]:
    return [int((found.next_update_utc or datetime.fromtimestamp(0, tz=UTC)).timestamp()) for found in lists]
