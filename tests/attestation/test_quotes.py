"""Does the appraisal decide as the policy says, on quotes of a test root that differ from an accepted one in a single point?"""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securemllib.attestation import tdx
from securemllib.attestation.dcap import Endorsements, check_collateral
from securemllib.attestation.verifier import appraise, findings, verify_evidence
from securemllib.crypto.identity import PrivateIdentity
from securemllib.errors import AttestationError, FormatError
from securemllib.wire.attestation import Challenge, Evidence, report_data
from securemllib.wire.policy import TCB_STATUSES, AppraisalPolicy, SignerRule
from tests.attestation.pki import FMSPC, NOW, SgxBody, State, TdBody, TestRoot

ROOT, OTHER_ROOT = TestRoot(), TestRoot()
BROKER, ENCLAVE, OTHER_ENCLAVE = (PrivateIdentity.generate(name).public for name in ("broker", "enclave", "other"))
CHALLENGE = Challenge(nonce=b"n" * 32, broker=BROKER, job_id="job")
BODY, GOOD_STATE = SgxBody(), State()
POLICY = AppraisalPolicy(
    allow_insecure=True,
    tees=("sgx", "tdx"),
    measurements=(b"x" * 32, BODY.measurement),
    minimum_security_version=0,
    insecure_roots=(ROOT.digest,),
)
RULE = SignerRule(signer=BODY.signer, product_id=BODY.product_id, minimum_security_version=BODY.security_version)
BY_SIGNER = replace(POLICY, measurements=(), signers=(RULE,))


def evidence(body=BODY, *, root=ROOT, challenge=CHALLENGE, identity=ENCLAVE):
    """Return an SGX enclave's evidence."""
    quote = root.sgx_quote(replace(body, report_data=report_data(challenge, identity)))
    return Evidence(tee="sgx", report=quote, identity=identity)


def domain(body=None, *, version=4):
    """Return a trust domain's evidence."""
    quote = ROOT.tdx_quote(replace(body or TdBody(), report_data=report_data(CHALLENGE, ENCLAVE)), version=version)
    return Evidence(tee="tdx", report=quote, identity=ENCLAVE)


def endorsed(state=GOOD_STATE, *, root=ROOT, now=NOW):
    """Return collateral of a root and a time."""
    return Endorsements(collateral=lambda model: root.collateral(model.tee, state), now=now)


GENUINE, ENDORSED = evidence(), endorsed()


def accepted(found=GENUINE, *, policy=POLICY, endorsements=ENDORSED, challenge=CHALLENGE):
    """Return the claims of accepted evidence."""
    return appraise(found, challenge=challenge, policy=policy, endorsements=endorsements)


def refused(code, found=GENUINE, **keywords):
    """Check that evidence is refused, and with that code."""
    with pytest.raises(AttestationError) as caught:
        accepted(found, **keywords)
    assert caught.value.error_code == f"refused.attestation.{code}"


def test_the_twin_that_is_accepted():
    """The quote that all refusals differ from in one point is accepted, by its measurement and by its signer; it is no TEE's evidence."""
    for policy in (POLICY, BY_SIGNER):
        claims = accepted(policy=policy)
        assert (claims.tee, claims.measurement, claims.signer) == ("insecure", BODY.measurement, BODY.signer)
        assert (claims.product_id, claims.security_version, claims.debug) == (BODY.product_id, BODY.security_version, False)
        assert claims.platform.tcb_statuses == ("UpToDate",)
        assert claims.platform.advisories == ()


def test_another_root_than_intels_needs_two_words_of_the_owner():
    """A quote under a test root is refused by a policy that does not name the root, or that does not allow insecure evidence."""
    refused("root", policy=replace(POLICY, insecure_roots=()))
    refused("root", policy=replace(POLICY, insecure_roots=(OTHER_ROOT.digest,)))
    refused("insecure", policy=replace(POLICY, allow_insecure=False))
    accepted(policy=replace(POLICY, insecure_roots=(OTHER_ROOT.digest, ROOT.digest)))


def test_a_quote_that_names_an_accepted_root_must_stand_under_it():
    """Certificates that bear the accepted root's name but not its key's signature are refused, and so is another root's collateral."""
    refused("root", evidence(root=OTHER_ROOT))
    mixed = TestRoot()
    mixed.root = ROOT.root
    refused("quote", evidence(root=mixed))
    with pytest.raises(AttestationError):
        accepted(endorsements=endorsed(root=OTHER_ROOT))


def test_another_measurement_is_refused():
    """Other code is refused by a policy that names measurements, and a policy that names none accepts none."""
    refused("measurement", evidence(replace(BODY, measurement=b"\x12" * 32)))
    refused("measurement", policy=replace(POLICY, measurements=()))
    refused("measurement", policy=replace(POLICY, measurements=(BODY.signer,)))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"signer": b"\x23" * 32}, "signer"),
        ({"product_id": 8}, "product"),
        ({"product_id": 6}, "product"),
        ({"security_version": 2}, "security_version"),
        ({"security_version": 0}, "security_version"),
    ],
)
def test_a_signers_rule_is_the_whole_of_it(change, code):
    """A signer's rule accepts its product from its security version on, and nothing else of or beside the signer."""
    refused(code, evidence(replace(BODY, **change)), policy=BY_SIGNER)


@pytest.mark.parametrize("change", [{"measurement": b"\x12" * 32}, {"security_version": 4}, {"security_version": 65535}])
def test_a_signers_rule_accepts_its_later_versions(change):
    """Any measurement of the signer's product is accepted, at the floor and above it."""
    accepted(evidence(replace(BODY, **change)), policy=BY_SIGNER)


def test_signers_rules_do_not_mix():
    """The signer of one rule with the product or version of another is refused; each rule accepts its own."""
    other = SignerRule(signer=b"\x99" * 32, product_id=9, minimum_security_version=0)
    policy = replace(BY_SIGNER, signers=(RULE, other))
    refused("product", evidence(replace(BODY, product_id=9)), policy=policy)
    refused("security_version", evidence(replace(BODY, security_version=0)), policy=policy)
    accepted(evidence(replace(BODY, signer=b"\x99" * 32, product_id=9, security_version=0)), policy=policy)


def test_the_floor_of_the_policy_holds_for_every_enclave():
    """A security version below the policy's own floor is refused, whatever names the enclave; the floor itself is accepted."""
    for policy in (POLICY, BY_SIGNER):
        refused("security_version", policy=replace(policy, minimum_security_version=BODY.security_version + 1))
        accepted(policy=replace(policy, minimum_security_version=BODY.security_version))


def test_a_debug_enclave_is_refused():
    """No policy accepts an enclave whose DEBUG bit is set."""
    refused("debug", evidence(replace(BODY, attributes=BODY.attributes | 0b10)))
    accepted(evidence(replace(BODY, attributes=BODY.attributes | 0b10000)))


@pytest.mark.parametrize("tees", [(), ("tdx",), ("insecure",), ("SGX",)])
def test_the_tee_must_be_named(tees):
    """An SGX enclave is refused where the policy does not name SGX."""
    refused("tee", policy=replace(POLICY, tees=tees))


# Intel gives these by comparing a trust domain's two levels; no list of levels holds them.
LISTED = [status for status in TCB_STATUSES if not status.startswith("TD")]


@pytest.mark.parametrize("status", LISTED)
def test_each_tcb_status_is_accepted_by_name_only(status):
    """A platform of a status is accepted by policies that name it; every other policy refuses it."""
    endorsements = endorsed(State(status=status))
    accepted(policy=replace(POLICY, tcb_statuses=(status,)), endorsements=endorsements)
    others = tuple(other for other in TCB_STATUSES if other != status)
    refused("tcb_status", policy=replace(POLICY, tcb_statuses=others), endorsements=endorsements)
    refused("tcb_status", policy=replace(POLICY, tcb_statuses=()), endorsements=endorsements)


def test_only_up_to_date_without_a_word():
    """A policy that says nothing of statuses accepts no other than UpToDate."""
    silent = AppraisalPolicy(
        allow_insecure=True, tees=("sgx",), measurements=(BODY.measurement,), minimum_security_version=0, insecure_roots=(ROOT.digest,)
    )
    accepted(policy=silent)
    for status in LISTED[1:]:
        refused("tcb_status", policy=silent, endorsements=endorsed(State(status=status)))


def test_a_quoting_enclave_that_is_out_of_date_counts():
    """The quoting enclave's status makes the platform's: an old one is refused unless the policy accepts OutOfDate."""
    endorsements = endorsed(State(qe_status="OutOfDate"))
    refused("tcb_status", endorsements=endorsements)
    accepted(policy=replace(POLICY, tcb_statuses=("OutOfDate",)), endorsements=endorsements)


@pytest.mark.parametrize("state", [State(status="Revoked"), State(qe_status="Revoked")], ids=["platform", "quoting enclave"])
def test_a_revoked_status_is_always_refused(state):
    """A revoked TCB is refused though the policy lists every status, that one included."""
    refused("revoked", policy=replace(POLICY, tcb_statuses=(*TCB_STATUSES, "Revoked")), endorsements=endorsed(state))


def test_each_advisory_must_be_accepted():
    """Every advisory that applies must be among the accepted ones; accepted ones that do not apply change nothing."""
    endorsements = endorsed(State(status="SWHardeningNeeded", advisories=("INTEL-SA-00334", "INTEL-SA-00615")))
    policy = replace(POLICY, tcb_statuses=("SWHardeningNeeded",))
    refused("advisory", policy=policy, endorsements=endorsements)
    refused("advisory", policy=replace(policy, advisories=("INTEL-SA-00334",)), endorsements=endorsements)
    accepted(policy=replace(policy, advisories=("INTEL-SA-00615", "INTEL-SA-00001", "INTEL-SA-00334")), endorsements=endorsements)


def test_an_advisory_counts_on_an_up_to_date_platform_too():
    """An advisory without a worse status is refused like any other."""
    endorsements = endorsed(State(advisories=("INTEL-SA-00837",)))
    refused("advisory", endorsements=endorsements)
    accepted(policy=replace(POLICY, advisories=("INTEL-SA-00837",)), endorsements=endorsements)


@pytest.mark.parametrize("piece", ["tcb_until", "qe_until", "pck_crl_until", "root_crl_until"])
def test_each_expired_piece_of_collateral_is_refused(piece):
    """TCB info, quoting enclave's identity and both revocation lists are refused after their time, and accepted before."""
    refused("expired", endorsements=endorsed(State(**{piece: NOW - 1})))
    claims = accepted(endorsements=endorsed(State(**{piece: NOW + 3600})))
    assert claims.platform.expires == NOW + 3600


def test_collateral_of_the_future_is_refused():
    """A verifier whose clock is before the collateral's issue refuses it, as it refuses an enclave's certificate that is not valid yet."""
    refused("expired", endorsements=endorsed(State(issued=NOW + 60)))
    refused("expired", endorsements=endorsed(now=NOW - 400 * 86400))
    refused("expired", endorsements=endorsed(now=NOW + 4000 * 86400))


@pytest.mark.parametrize("certificate", ["platform", "authority", "signing"])
def test_a_revoked_certificate_is_refused(certificate):
    """The platform's certificate, its authority's and the collateral's signer's are each refused once revoked."""
    refused("revoked", endorsements=endorsed(State(revoked=certificate)))


def test_a_platform_below_every_level_is_refused():
    """A platform that is older than all that the collateral lists is refused; one at the lowest level has that level's status."""
    refused("tcb_status", endorsements=endorsed(State(level_svn=6)))
    accepted(endorsements=endorsed(State(level_svn=5)))


def test_another_platforms_collateral_is_refused():
    """Genuine collateral of another kind of platform, or of the other TEE, says nothing of this one."""
    refused("collateral", endorsements=endorsed(State(fmspc=bytes(6))))
    accepted(endorsements=endorsed(State(fmspc=FMSPC)))
    with pytest.raises(AttestationError):
        accepted(endorsements=Endorsements(collateral=lambda model: ROOT.collateral("tdx"), now=NOW))


@pytest.mark.parametrize("part", ["tcb_info", "qe_identity", "tcb_info_signature", "qe_identity_signature", "root_ca_crl", "pck_crl"])
def test_changed_collateral_is_refused(part):
    """One changed character in any signed piece of the collateral is refused."""
    text = ROOT.collateral()
    place = text.index(f'"{part}": "') + len(part) + 120
    changed = text[:place] + ("1" if text[place] != "1" else "2") + text[place + 1 :]
    assert changed != text
    with pytest.raises((AttestationError, FormatError)):
        accepted(endorsements=Endorsements(collateral=lambda model: changed, now=NOW))
    accepted(endorsements=Endorsements(collateral=lambda model: text, now=NOW))


def test_a_certificate_chain_in_the_collateral_does_not_replace_the_quotes():
    """Collateral that was fetched for one platform's quote serves another's of its kind: its certificate chain is left out."""
    text = ROOT.collateral()
    foreign = text[:-1] + f', "pck_certificate_chain": {OTHER_ROOT.pck.pem + OTHER_ROOT.root.pem!r}'.replace("'", '"') + "}"
    accepted(endorsements=Endorsements(collateral=lambda model: foreign, now=NOW))


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "{", '{"tcb_info": 1}', "[" * 100_000, '"' + "x" * 2**21])
def test_what_is_no_collateral_is_refused(text):
    """Text that is no collateral is refused by its format."""
    with pytest.raises(FormatError):
        check_collateral(text)
    check_collateral(ROOT.collateral())


@pytest.mark.parametrize(
    "challenge",
    [replace(CHALLENGE, nonce=b"o" * 32), replace(CHALLENGE, broker=OTHER_ENCLAVE), replace(CHALLENGE, job_id="other job")],
    ids=["nonce", "broker", "job"],
)
def test_a_quote_for_another_challenge_is_refused(challenge):
    """A quote that was made for another nonce, broker or job answers nothing."""
    refused("report_data", challenge=challenge)
    accepted(evidence(challenge=challenge), challenge=challenge)


@pytest.mark.parametrize("key", ["verification_key", "recipient_key"])
def test_keys_that_the_quote_does_not_bind_are_refused(key):
    """A host that puts a key of its own beside a genuine quote gets nothing wrapped for it."""
    identity = replace(ENCLAVE, **{key: getattr(OTHER_ENCLAVE, key)})
    refused("report_data", replace(GENUINE, identity=identity))
    accepted(evidence(identity=identity))


def test_a_quote_without_our_report_data_is_refused():
    """A genuine enclave's quote over report data of its own binds no key of ours."""
    refused("report_data", replace(GENUINE, report=ROOT.sgx_quote(BODY)))


@pytest.mark.parametrize("version", [4, 5])
def test_a_trust_domain(version):
    """A trust domain is accepted by the digest of its registers, and refused with another kernel, as debug or without SEPT_VE_DISABLE."""
    kernel = TdBody(registers={"rt_mr1": b"\x41" * 48})
    claims = verify_evidence(domain(kernel, version=version), challenge=CHALLENGE, endorsements=ENDORSED, insecure_roots=[ROOT.digest])
    assert (claims.signer, claims.product_id, claims.security_version) == (None, None, 0)
    policy = replace(POLICY, measurements=(claims.measurement,))
    accepted(domain(kernel, version=version), policy=policy)
    other = TdBody(registers={"rt_mr1": b"\x42" * 48})
    refused("measurement", domain(other, version=version), policy=policy)
    refused("debug", domain(replace(kernel, attributes=kernel.attributes | 1), version=version), policy=policy)
    refused("quote", domain(replace(kernel, attributes=0), version=version), policy=policy)
    refused("tee", domain(kernel, version=version), policy=replace(policy, tees=("sgx",)))


def test_a_signers_rule_never_names_a_trust_domain():
    """A trust domain has no signer, so that a policy that names signers only refuses it."""
    policy = replace(POLICY, measurements=(), signers=(replace(RULE, signer=bytes(32), product_id=0, minimum_security_version=0),))
    refused("measurement", domain(), policy=policy)
    assert tdx.measurement_of({name: bytes(48) for name in tdx.REGISTERS}) not in policy.measurements


def test_a_trust_domains_advisories_and_status_count():
    """The same state of the platform is refused and accepted as for an SGX enclave."""
    claims = verify_evidence(domain(), challenge=CHALLENGE, endorsements=ENDORSED, insecure_roots=[ROOT.digest])
    policy = replace(POLICY, measurements=(claims.measurement,))
    endorsements = endorsed(State(status="OutOfDate", advisories=("INTEL-SA-01036",)))
    refused("tcb_status", domain(), policy=policy, endorsements=endorsements)
    named = replace(policy, tcb_statuses=("OutOfDate",))
    refused("advisory", domain(), policy=named, endorsements=endorsements)
    accepted(domain(), policy=replace(named, advisories=("INTEL-SA-01036",)), endorsements=endorsements)


def test_the_findings_name_every_claim():
    """The findings hold each claim once, and refuse exactly what the appraisal refuses."""
    claims = accepted()
    found = list(findings("sgx", claims, POLICY))
    names = [finding.claim for finding in found]
    assert names == ["TEE", "root of trust", "debug", "measurement", "signer", "product id", "security version", "TCB status"]
    assert all(finding.refusal is None for finding in found)
    strict = replace(POLICY, measurements=(), tcb_statuses=(), tees=())
    assert [finding.claim for finding in findings("sgx", claims, strict) if finding.refusal] == ["TEE", "measurement", "TCB status"]


@settings(max_examples=200, deadline=None)
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_refused_or_changes_no_claim(position, bit):
    """Whatever bit of accepted evidence's quote is flipped, it is refused or its claims are the same."""
    quote = bytearray(GENUINE.report)
    quote[int(position * len(quote))] ^= 1 << bit
    try:
        claims = accepted(replace(GENUINE, report=bytes(quote)))
    except AttestationError:
        return
    assert claims == accepted()


@settings(max_examples=100, deadline=None)
@given(start=st.integers(0, 5000), junk=st.binary(max_size=200), version=st.sampled_from([3, 4, 5]))
def test_a_quote_with_a_foreign_stretch_is_refused_or_changes_no_claim(start, junk, version):
    """Bytes of a stranger anywhere in a quote of any version are refused, or change no claim; no other error comes of them."""
    found = GENUINE if version == 3 else domain(version=version)
    genuine = verify_evidence(found, challenge=CHALLENGE, endorsements=ENDORSED, insecure_roots=[ROOT.digest])
    quote = found.report[:start] + junk + found.report[start + len(junk) :]
    try:
        claims = verify_evidence(replace(found, report=quote), challenge=CHALLENGE, endorsements=ENDORSED, insecure_roots=[ROOT.digest])
    except AttestationError:
        return
    assert claims == genuine
