"""The verifier: evidence against what is expected, claims against an owner's appraisal policy."""

from securemllib.attestation import insecure
from securemllib.attestation.claims import Claims
from securemllib.errors import AttestationError
from securemllib.wire.attestation import Challenge, Evidence, report_data
from securemllib.wire.policy import AppraisalPolicy

__all__ = ["appraise", "verify_evidence"]

_VERIFIERS = {insecure.TEE: insecure.verify_report}


def verify_evidence(evidence: Evidence, *, challenge: Challenge) -> Claims:
    """Return the claims of evidence that answers ``challenge``; `AttestationError` otherwise."""
    verify_report = _VERIFIERS.get(evidence.tee)
    if verify_report is None:
        raise AttestationError(f"No verifier for evidence of the kind {evidence.tee[:20]!r}.", code="refused.attestation.tee")
    return verify_report(evidence.report, report_data(challenge, evidence.identity))


def appraise(evidence: Evidence, *, challenge: Challenge, policy: AppraisalPolicy) -> Claims:
    """Return the claims of evidence that an owner accepts.

    1. The evidence answers the challenge and binds the enclave's keys.
    2. The policy accepts its TEE; evidence without one only with ``allow_insecure``.
    3. The enclave is no debug enclave.
    4. The policy names its measurement.
    5. Its security version is at least the policy's.

    Raises:
        AttestationError: One of them does not hold.
    """
    claims = verify_evidence(evidence, challenge=challenge)
    if claims.tee == insecure.TEE:
        if not policy.allow_insecure:
            raise AttestationError("The enclave has no TEE, and the policy does not allow that.", code="refused.attestation.insecure")
    elif claims.tee not in policy.tees:
        raise AttestationError(f"The policy does not accept the TEE {claims.tee}.", code="refused.attestation.tee")
    if claims.debug:
        raise AttestationError("The enclave is a debug enclave: its host can look inside.", code="refused.attestation.debug")
    if claims.measurement not in policy.measurements:
        raise AttestationError(
            f"The policy does not name the measurement {claims.measurement.hex()}.", code="refused.attestation.measurement"
        )
    if claims.security_version < policy.minimum_security_version:
        raise AttestationError(
            f"The enclave's security version is {claims.security_version}, below {policy.minimum_security_version}.",
            code="refused.attestation.security_version",
        )
    return claims
