"""The verifier: evidence against what is expected, claims against an owner's appraisal policy."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from securemllib.attestation import insecure, sgx, software, tdx
from securemllib.attestation.claims import Claims, Platform
from securemllib.attestation.dcap import Endorsements
from securemllib.errors import AttestationError
from securemllib.wire.attestation import Challenge, Evidence, report_data
from securemllib.wire.policy import AppraisalPolicy

__all__ = ["Finding", "appraise", "appraise_named", "closest", "findings", "verify_evidence"]

_VERIFIERS = {sgx.TEE: sgx.verify_report, tdx.TEE: tdx.verify_report}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a policy says of one claim.

    Attributes:
        claim: The claim's name.
        found: Its value.
        refusal: Why the policy does not accept it; None where it does.
        code: The refusal's code without its class's.
    """

    claim: str
    found: str
    code: str
    refusal: str | None


def verify_evidence(
    evidence: Evidence, *, challenge: Challenge, endorsements: Endorsements | None = None, insecure_roots: Iterable[bytes] = ()
) -> Claims:
    """Return the claims of evidence that answers ``challenge``; `AttestationError` otherwise."""
    expected = report_data(challenge, evidence.identity)
    if evidence.tee == insecure.TEE:
        return software.verify_report(evidence.report, expected)
    verify_report = _VERIFIERS.get(evidence.tee)
    if verify_report is None:
        raise AttestationError(f"No verifier for evidence of the kind {evidence.tee[:20]!r}.", code="refused.attestation.tee")
    return verify_report(evidence.report, expected, endorsements=endorsements, insecure_roots=insecure_roots)


def appraise(evidence: Evidence, *, challenge: Challenge, policy: AppraisalPolicy, endorsements: Endorsements | None = None) -> Claims:
    """Return the claims of evidence that an owner accepts.

    1. The evidence is genuine, answers the challenge and binds the enclave's keys.
    2. The policy accepts its TEE; evidence without one, or under another root than Intel's, only with ``allow_insecure``.
    3. The enclave is no debug enclave.
    4. The policy names its measurement, or its signer, product and a security version that it reaches.
    5. Its security version is at least the policy's.
    6. The policy accepts every TCB status of its platform.
    7. The policy accepts every advisory that applies to its platform.

    Raises:
        AttestationError: One of them does not hold.
    """
    claims = verify_evidence(evidence, challenge=challenge, endorsements=endorsements, insecure_roots=policy.insecure_roots)
    for finding in findings(evidence.tee, claims, policy):
        if finding.refusal is not None:
            raise AttestationError(finding.refusal, code=f"refused.attestation.{finding.code}")
    return claims


def appraise_named(
    evidence: Evidence, *, challenge: Challenge, policies: Mapping[str, AppraisalPolicy], endorsements: Endorsements | None = None
) -> tuple[str, Claims]:
    """Return the name of the first policy that accepts evidence, and its claims. The policies are one owner's: one for each named enclave.

    Raises:
        AttestationError: None of them accepts it, as `appraise` would; the reason is that of the policy that accepts most of it.
    """
    if not policies:
        raise AttestationError("The policy names no enclave.", code="refused.attestation.measurement")
    roots = {root for policy in policies.values() for root in policy.insecure_roots}
    claims = verify_evidence(evidence, challenge=challenge, endorsements=endorsements, insecure_roots=roots)
    name, refusals = closest(evidence.tee, claims, policies)
    if refusals:
        raise AttestationError(str(refusals[0].refusal), code=f"refused.attestation.{refusals[0].code}")
    return name, claims


def closest(kind: str, claims: Claims, policies: Mapping[str, AppraisalPolicy]) -> tuple[str, list[Finding]]:
    """Return the name of the policy that refuses least of verified claims, and what it refuses."""
    refused = {name: [line for line in findings(kind, claims, policy) if line.refusal is not None] for name, policy in policies.items()}
    name = min(refused, key=lambda name: len(refused[name]))
    return name, refused[name]


def findings(kind: str, claims: Claims, policy: AppraisalPolicy) -> Iterator[Finding]:
    """Yield what a policy says of each claim of verified evidence, in the order of `appraise`.

    Args:
        kind: What the evidence calls its TEE.
        claims: Its claims.
        policy: The policy.
    """
    accepted = kind == insecure.TEE or kind in policy.tees
    yield Finding(claim="TEE", found=kind, code="tee", refusal=None if accepted else f"The policy does not accept the TEE {kind}.")
    yield _trust(claims, policy)
    refusal = "The enclave is a debug enclave: its host can look inside." if claims.debug else None
    yield Finding(claim="debug", found=str(claims.debug).lower(), code="debug", refusal=refusal)
    yield _code(claims, policy)
    if claims.signer is not None:
        yield Finding(claim="signer", found=claims.signer.hex(), code="measurement", refusal=None)
        yield Finding(claim="product id", found=str(claims.product_id), code="measurement", refusal=None)
    low = claims.security_version < policy.minimum_security_version
    refusal = f"The enclave's security version is {claims.security_version}, below {policy.minimum_security_version}." if low else None
    yield Finding(claim="security version", found=str(claims.security_version), code="security_version", refusal=refusal)
    if claims.platform is not None:
        yield from _platform(claims.platform, policy)


def _trust(claims: Claims, policy: AppraisalPolicy) -> Finding:
    if claims.tee != insecure.TEE:
        return Finding(claim="root of trust", found="Intel", code="insecure", refusal=None)
    refusal = None if policy.allow_insecure else "The enclave has no TEE, and the policy does not allow that."
    found = "a software key" if claims.platform is None else "a root that is not Intel's"
    return Finding(claim="root of trust", found=f"insecure: {found}", code="insecure", refusal=refusal)


def _code(claims: Claims, policy: AppraisalPolicy) -> Finding:
    """Return whether the policy names the code, and which part of a signer's rule is missing where one comes near."""
    code, refusal = "measurement", f"The policy does not name the measurement {claims.measurement.hex()}."
    products = [rule for rule in policy.signers if rule.signer == claims.signer]
    versions = [rule for rule in products if rule.product_id == claims.product_id]
    is_named = claims.measurement in policy.measurements
    if is_named or any(claims.security_version >= rule.minimum_security_version for rule in versions):
        return Finding(claim="measurement", found=claims.measurement.hex(), code=code, refusal=None)
    if versions:
        floor = min(rule.minimum_security_version for rule in versions)
        code, refusal = (
            "security_version",
            f"The enclave's security version is {claims.security_version}, below its signer's floor {floor}.",
        )
    elif products:
        code, refusal = (
            "product",
            f"The policy does not name product {claims.product_id} of the signer {claims.signer and claims.signer.hex()}.",
        )
    elif policy.signers and claims.signer is not None:
        code, refusal = (
            "signer",
            f"The policy names neither the measurement {claims.measurement.hex()} nor the signer {claims.signer.hex()}.",
        )
    return Finding(claim="measurement", found=claims.measurement.hex(), code=code, refusal=refusal)


def _platform(platform: Platform, policy: AppraisalPolicy) -> Iterator[Finding]:
    for status in platform.tcb_statuses:
        refusal = None if status in policy.tcb_statuses else f"The platform's TCB status is {status}, which the policy does not accept."
        yield Finding(claim="TCB status", found=status, code="tcb_status", refusal=refusal)
    for advisory in platform.advisories:
        refusal = (
            None if advisory in policy.advisories else f"The advisory {advisory} applies to the platform; the policy does not accept it."
        )
        yield Finding(claim="advisory", found=advisory, code="advisory", refusal=refusal)
