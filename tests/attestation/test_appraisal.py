"""Which evidence does the verifier accept? Each refusal stands beside the twin that differs in nothing else and is accepted."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securemllib.attestation.insecure import SECURITY_VERSION, TEE, InsecureAttester
from securemllib.attestation.measurement import measure_package
from securemllib.attestation.verifier import appraise, verify_evidence
from securemllib.crypto.identity import PrivateIdentity
from securemllib.errors import AttestationError, FormatError, IntegrityError
from securemllib.wire.attestation import Challenge, Evidence, report_data
from securemllib.wire.policy import AppraisalPolicy

MEASUREMENT = b"m" * 32
BROKER, OTHER_BROKER = PrivateIdentity.generate("broker").public, PrivateIdentity.generate("other broker").public
ENCLAVE, OTHER_ENCLAVE = PrivateIdentity.generate("enclave").public, PrivateIdentity.generate("other enclave").public
CHALLENGE = Challenge(nonce=b"n" * 32, broker=BROKER, job_id="job")
POLICY = AppraisalPolicy(allow_insecure=True, tees=(), measurements=(b"x" * 32, MEASUREMENT), minimum_security_version=SECURITY_VERSION)
ATTESTER = InsecureAttester(MEASUREMENT, ("not-dumpable",))


def evidence(attester=ATTESTER, *, challenge=CHALLENGE, identity=ENCLAVE):
    """Return evidence of an attester for a challenge and identity."""
    return Evidence(tee=attester.tee, report=attester.report(report_data(challenge, identity)), identity=identity)


GENUINE = evidence()


def refused(code, found, *, challenge=CHALLENGE, policy=POLICY):
    """Check that appraisal refuses, and with that code."""
    with pytest.raises(AttestationError) as error:
        appraise(found, challenge=challenge, policy=policy)
    assert error.value.error_code == f"refused.attestation.{code}"


def test_genuine_evidence_is_accepted():
    """Evidence that answers the challenge, of a measurement that the policy names, gives its claims."""
    claims = appraise(GENUINE, challenge=CHALLENGE, policy=POLICY)
    assert claims.tee == TEE
    assert claims.measurement == MEASUREMENT
    assert claims.security_version == SECURITY_VERSION
    assert not claims.debug
    assert claims.protections == ("not-dumpable",)


def test_evidence_survives_the_wire():
    """Evidence decoded from its encoding is appraised like the original."""
    again = Evidence.from_bytes(GENUINE.to_bytes())
    assert appraise(again, challenge=CHALLENGE, policy=POLICY) == appraise(GENUINE, challenge=CHALLENGE, policy=POLICY)


def test_insecure_needs_the_owners_word():
    """Evidence without a TEE is refused unless the policy allows insecure, also where the policy lists the word among its TEEs."""
    refused("insecure", GENUINE, policy=replace(POLICY, allow_insecure=False))
    refused("insecure", GENUINE, policy=replace(POLICY, allow_insecure=False, tees=(TEE, "sgx")))


@pytest.mark.parametrize("measurements", [(), (b"x" * 32,), (MEASUREMENT[:-1],), (MEASUREMENT + b"m",), (b"",)], ids=len)
def test_another_measurement_is_refused(measurements):
    """A policy that names no measurement accepts none, and one that names others does not accept this one."""
    refused("measurement", GENUINE, policy=replace(POLICY, measurements=measurements))


def test_other_code_is_refused():
    """The same policy refuses an attester whose code has another measurement."""
    refused("measurement", evidence(InsecureAttester(b"c" * 32, ())))


def test_a_debug_enclave_is_refused():
    """A debug enclave is refused though everything else fits."""
    refused("debug", evidence(InsecureAttester(MEASUREMENT, (), debug=True)))


def test_an_old_security_version_is_refused():
    """A policy that demands a later security version refuses this one; one that demands an earlier one accepts it."""
    refused("security_version", GENUINE, policy=replace(POLICY, minimum_security_version=SECURITY_VERSION + 1))
    appraise(GENUINE, challenge=CHALLENGE, policy=replace(POLICY, minimum_security_version=SECURITY_VERSION - 1))


@pytest.mark.parametrize(
    "challenge",
    [replace(CHALLENGE, nonce=b"o" * 32), replace(CHALLENGE, broker=OTHER_BROKER), replace(CHALLENGE, job_id="other job")],
    ids=["nonce", "broker", "job"],
)
def test_evidence_for_another_challenge_is_refused(challenge):
    """Replayed evidence, evidence for another broker and evidence for another job answer nothing."""
    refused("report_data", GENUINE, challenge=challenge)
    appraise(evidence(challenge=challenge), challenge=challenge, policy=POLICY)


@pytest.mark.parametrize(
    "identity",
    [
        OTHER_ENCLAVE,
        replace(ENCLAVE, recipient_key=OTHER_ENCLAVE.recipient_key),
        replace(ENCLAVE, verification_key=OTHER_ENCLAVE.verification_key),
    ],
    ids=["both", "recipient", "verification"],
)
def test_keys_that_the_report_does_not_bind_are_refused(identity):
    """A host that puts its own keys into genuine evidence gets no keys wrapped for them."""
    refused("report_data", replace(GENUINE, identity=identity))
    appraise(evidence(identity=identity), challenge=CHALLENGE, policy=POLICY)


@pytest.mark.parametrize("tee", ["", "INSECURE", "insecure ", "SGX", "sev-snp", "sample"])
def test_an_unknown_tee_is_refused(tee):
    """Evidence of a kind without a verifier is refused, also where the policy would accept its name."""
    refused("tee", replace(GENUINE, tee=tee), policy=replace(POLICY, tees=(tee,)))


@pytest.mark.parametrize("tee", ["sgx", "tdx"])
def test_a_software_report_is_no_quote(tee):
    """A report of the insecure attester that is announced as a TEE's is refused, also where the policy accepts that TEE."""
    refused("quote", replace(GENUINE, tee=tee), policy=replace(POLICY, tees=(tee,)))


@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_of_a_report_is_refused(position, bit):
    """No bit of a report can change: refused by signature or by format, and no other error."""
    index = int(position * len(GENUINE.report))
    report = GENUINE.report[:index] + bytes([GENUINE.report[index] ^ (1 << bit)]) + GENUINE.report[index + 1 :]
    with pytest.raises((AttestationError, FormatError)):
        appraise(replace(GENUINE, report=report), challenge=CHALLENGE, policy=POLICY)


@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_of_encoded_evidence_is_refused_or_only_renames(position, bit):
    """No bit of the encoding can change but those of the name that people call the enclave, which nothing trusts."""
    encoded = GENUINE.to_bytes()
    index = int(position * len(encoded))
    changed = encoded[:index] + bytes([encoded[index] ^ (1 << bit)]) + encoded[index + 1 :]
    try:
        found = Evidence.from_bytes(changed)
        appraise(found, challenge=CHALLENGE, policy=POLICY)
    except (AttestationError, FormatError):
        return
    assert replace(found, identity=replace(found.identity, name=ENCLAVE.name)) == GENUINE


@given(junk=st.binary(max_size=200))
def test_an_invented_report_is_refused(junk):
    """Bytes of a stranger are no report."""
    with pytest.raises((AttestationError, IntegrityError)):
        verify_evidence(replace(GENUINE, report=junk), challenge=CHALLENGE)


def test_claims_signed_for_another_attesters_key_are_refused():
    """The claims of one report under the signature and key of another are refused."""
    from securemllib.attestation.insecure import SoftwareReport

    mine, other = (SoftwareReport.from_bytes(evidence(attester).report) for attester in (ATTESTER, InsecureAttester(b"c" * 32, ())))
    for forged in (
        replace(mine, claims=other.claims),
        replace(mine, signature=other.signature),
        replace(mine, verification_key=other.verification_key),
    ):
        refused("signature", replace(GENUINE, report=forged.to_bytes()))


def test_the_installed_packages_measurement_is_32_bytes_and_stable():
    """Measuring twice gives the same 32 bytes, so a policy can name them."""
    assert measure_package() == measure_package()
    assert len(measure_package()) == 32
