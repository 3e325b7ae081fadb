"""Intel's quotes (DCAP: SGX version 3, TDX versions 4 and 5), verified offline by `dcap_qvl` with collateral that somebody fetched before.

The library verifies signatures, certificates, revocation lists and validity, and matches the platform with a TCB level. It refuses debug
enclaves and revoked platforms, whatever a policy says. It compares no measurement and judges no TCB status: the appraisal does both.

Quotes are malleable: bytes that nobody signed can change, and bytes can follow. Nothing may be keyed on a quote's digest.

Not in the enclave's import closure: only the broker and the owner's commands verify evidence.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import dcap_qvl
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import InvalidVersion, load_pem_x509_certificates

from securemllib.attestation.claims import Platform
from securemllib.errors import AttestationError, FormatError

__all__ = ["Endorsements", "Model", "Quoted", "check_collateral", "model_of", "verify_quote"]

# A version 5 quote with its certificates has about 5 KiB.
_QUOTE_LIMIT = 64 * 2**10
_COLLATERAL_LIMIT = 2**20
_REASON_LIMIT = 200

# What the library says, what it means for whoever reads the refusal, and its code; the first that fits.
_REFUSALS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("Debug mode is enabled", "TD profiling is enabled"), "debug", "The enclave is a debug enclave: its host can look inside."),
    (("Revoked",), "revoked", "A certificate in the quote's chain, or the platform's TCB, is revoked."),
    (
        ("expired", "Expired", "issue date is in the future", "NotValidYet"),
        "expired",
        "The collateral, or a certificate of the quote, is not valid at this time.",
    ),
    (("No matching TCB level", "below minimum required"), "tcb_status", "The platform's TCB is older than every level that Intel lists."),
    (
        ("UnknownIssuer", "InvalidCrlSignatureForPublicKey"),
        "root",
        "The quote, or its collateral, stands under no root that the policy accepts.",
    ),
    (("Fmspc mismatch", "TCB info in the collateral"), "collateral", "The collateral is that of another kind of platform."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A kind of platform: what one piece of collateral is good for.

    Attributes:
        tee: ``sgx`` or ``tdx``.
        fmspc: Intel's number of the processor's family, model, stepping, platform and kind: 12 hexadecimal digits.
        ca: ``platform`` or ``processor``: which authority certified it.
    """

    tee: str
    fmspc: str
    ca: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Endorsements:
    """What a verifier needs beside the evidence.

    Attributes:
        collateral: Returns Intel's collateral for a kind of platform, as `dcap_qvl` writes it in JSON; None where there is none.
        now: Seconds since 1970 by the verifier's own clock.
    """

    collateral: Callable[[Model], str | None]
    now: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoted:
    """What a verified quote says.

    Attributes:
        kind: The name of the report's structure: ``SgxEnclave``, ``TD10``, ``TD15`` or ``TD15Ex``.
        body: The report's fields; bytes in hexadecimal.
        platform: The state of the platform.
        is_insecure: Whether it stands under a root that is not Intel's.
    """

    kind: str
    body: dict[str, Any]
    platform: Platform
    is_insecure: bool


def model_of(quote: bytes) -> Model:
    """Return the kind of platform that an unverified quote names.

    Raises:
        AttestationError: The bytes are no quote, or hold no certificate chain.
    """
    parsed = _parsed(quote)
    try:
        return Model(tee=str(parsed.quote_type()).lower(), fmspc=str(parsed.fmspc()), ca=str(parsed.ca()))
    except ValueError as error:
        raise _refused(error) from None


def check_collateral(collateral: str) -> Any:
    """Return the library's form of collateral in JSON, without the certificate chain of the quote that it was fetched for.

    Raises:
        FormatError: It is none.
    """
    try:
        # Reading no more than the limit leaves longer texts without their end, and so no JSON.
        tree = json.loads(collateral[:_COLLATERAL_LIMIT])
        tree.pop("pck_certificate_chain", None)
        return dcap_qvl.QuoteCollateralV3.from_json(json.dumps(tree))
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise FormatError(
            "The text is no collateral in JSON.",
            next_step="`securemllib attest collateral` writes such a file.",
            code="integrity.collateral",
        ) from None


def verify_quote(quote: bytes, *, endorsements: Endorsements | None, insecure_roots: Iterable[bytes] = ()) -> Quoted:
    """Return what a quote says.

    1. There is collateral for its kind of platform.
    2. Under Intel's root, or the one of ``insecure_roots`` that the quote itself names: the certificates of the quote and of the collateral
       are valid now and not revoked, the collateral is signed and not expired, the quoting enclave is Intel's, and it signed the report.
    3. The enclave is no debug enclave, and the platform is not revoked.

    Raises:
        AttestationError: One of them does not hold.
    """
    model = model_of(quote)
    found = endorsements.collateral(model) if endorsements is not None else None
    if endorsements is None or found is None:
        raise AttestationError(
            f"There is no collateral for {model.tee} platforms {model.fmspc} ({model.ca}).",
            next_step="Give the broker a PCCS address or a collateral file.",
            code="refused.attestation.collateral",
        )
    root = _insecure_root(quote, frozenset(insecure_roots))
    collateral = check_collateral(found)
    try:
        policy = dcap_qvl.QuotePolicy.claims_only(endorsements.now)
        verified = dcap_qvl.QuoteVerifier(root).verify_with_policy(quote, collateral, endorsements.now, policy)
    except ValueError:
        raise _explained(quote, collateral, root, endorsements.now) from None
    return _quoted(json.loads(verified.to_json()), is_insecure=root is not None)


def _quoted(tree: dict[str, Any], *, is_insecure: bool) -> Quoted:
    ((kind, body),) = tree["report"].items()
    platform, levels = tree["platform"], [tree["platform"]["tcb_level"], tree["qe"]["tcb_level"]]
    statuses = [tree["tcb"]["status"]]
    if platform["current_tcb_level"] is not None:
        levels.append(platform["current_tcb_level"])
        statuses.append(platform["current_tcb_level"]["tcbStatus"])
    advisories = {*tree["tcb"]["advisory_ids"], *(advisory for level in levels for advisory in level["advisoryIDs"])}
    state = Platform(
        tcb_statuses=tuple(dict.fromkeys(statuses)),
        advisories=tuple(sorted(advisories)),
        expires=int(tree["earliest_expiration_date"]),
    )
    return Quoted(kind=kind, body=body, platform=state, is_insecure=is_insecure)


def _parsed(quote: bytes) -> Any:
    if len(quote) > _QUOTE_LIMIT:
        raise AttestationError(f"The quote has {len(quote)} bytes, more than {_QUOTE_LIMIT}.", code="refused.attestation.quote")
    try:
        return dcap_qvl.parse_quote(quote)
    except ValueError as error:
        raise _refused(error) from None


def _insecure_root(quote: bytes, accepted: frozenset[bytes]) -> bytes | None:
    """Return the root certificate in the quote's chain if it is among the accepted ones, else None for Intel's."""
    chain = _parsed(quote).cert_chain_pem_bytes() if accepted else None
    if chain is None:
        return None
    try:
        root = load_pem_x509_certificates(chain)[-1].public_bytes(Encoding.DER)
    except (ValueError, InvalidVersion):
        return None
    return root if sha256(root).digest() in accepted else None


def _explained(quote: bytes, collateral: Any, root: bytes | None, now: int) -> AttestationError:
    # The claims interface tells the outermost reason only; this one, refusing for the same reason, tells the whole chain.
    try:
        if root is None:
            dcap_qvl.verify(quote, collateral, now)
        else:
            dcap_qvl.verify_with_root_ca(quote, collateral, root, now)
    except ValueError as error:
        return _refused(error)
    return AttestationError("The quote cannot be verified.", code="refused.attestation.quote")


def _refused(error: ValueError) -> AttestationError:
    text = str(error)
    for signs, code, reason in _REFUSALS:
        if any(sign in text for sign in signs):
            return AttestationError(reason, code=f"refused.attestation.{code}")
    told = " ".join(text.split())[:_REASON_LIMIT]
    return AttestationError(f"The quote is not genuine: {told}.", code="refused.attestation.quote")
