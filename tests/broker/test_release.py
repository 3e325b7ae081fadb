"""Which enclave gets the keys, of which job, and how often?"""

from base64 import urlsafe_b64encode
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from broker_world import MEASUREMENT, Enclave, Owner, World, apply_model, appraisal, release_of, rule_for
from joserfc import jwt
from joserfc.jwk import OKPKey

from securemllib.attestation.claims import Claims
from securemllib.broker.release import CHALLENGE_SECONDS, TOKEN_SECONDS
from securemllib.broker.token import TokenSubject, check_token, issue_token
from securemllib.crypto.identity import PrivateIdentity, verify
from securemllib.crypto.models import statistics_key
from securemllib.errors import AttestationError, FreshnessError, PolicyError, SignatureError, UnsealError, UsageError
from securemllib.policy.model import OutputRule, Rule
from securemllib.wire.attestation import AttestationResult, Evidence, WrappedGrant, grant_context
from securemllib.wire.job import Output, OutputKind
from securemllib.wire.plan import ModelRef, Parts
from securemllib.wire.result import WrappedModelKey, model_key_context
from securemllib.wire.signed import Signed


def test_a_job_is_the_analysts(world: World) -> None:
    """A job that was altered, or signed by another than its analyst, is refused; the genuine one is one job however often it is sent."""
    world.enrol(rule_for(world.analyst.public, maximum_runs=1))
    job = world.job()
    signed = world.analyst.sign(job)
    with pytest.raises(SignatureError):
        world.broker.submit(replace(signed, payload=replace(job, seed=2).to_bytes()))
    with pytest.raises(SignatureError):
        world.broker.submit(PrivateIdentity.generate("other").sign(job))
    assert world.broker.submit(signed) == world.broker.submit(signed) == job.job_id
    with pytest.raises(PolicyError, match="runs"):
        world.submit()


def test_each_job_has_keys_of_its_own(world: World) -> None:
    """What seals one job's messages or model opens nothing of another job's: all keys are different, and stay the job's."""
    world.enrol()
    jobs = [world.submit() for _ in range(2)]
    grants = [grant for job_id in (*jobs, *jobs) if (grant := world.granted(job_id).grant) is not None]
    assert len({key for grant in grants for key in (grant.job_key, grant.model_key)}) == 4
    assert [(grant.job_key, grant.model_key) for grant in grants[:2]] == [(grant.job_key, grant.model_key) for grant in grants[2:]]
    assert not any(len(set(key)) == 1 for grant in grants for key in (grant.job_key, grant.model_key))


def test_a_new_policy_does_not_start_the_count_again(world: World) -> None:
    """Runs belong to the rule's name, across serials of the policy; a higher maximum allows more."""
    rule = rule_for(world.analyst.public, maximum_runs=1)
    world.enrol(rule)
    world.submit()
    world.broker.set_policy(world.owner.dataset_id, world.owner.policy(rule, serial=2))
    with pytest.raises(PolicyError, match="runs"):
        world.submit()
    world.broker.set_policy(world.owner.dataset_id, world.owner.policy(replace(rule, maximum_runs=2), serial=3))
    world.submit()


def test_a_job_is_granted_by_the_rule_that_counted_it(world: World) -> None:
    """A job that a rule with large groups took is not granted by one with small groups whose runs are used up, or raised since."""
    fine = rule_for(world.analyst.public, name="fine", maximum_runs=1)
    coarse = rule_for(world.analyst.public, name="coarse", min_group_size=100)
    world.enrol(fine, coarse)
    first, second = world.submit(), world.submit()

    def group_sizes() -> list[int]:
        grants = [world.granted(job_id).grant for job_id in (first, second)]
        return [grant.min_group_size for grant in grants if grant is not None]

    assert group_sizes() == [0, 100]
    raised = replace(fine, maximum_runs=2)
    world.broker.set_policy(world.owner.dataset_id, world.owner.policy(raised, coarse, serial=2))
    assert group_sizes() == [0, 100]
    world.broker.set_policy(world.owner.dataset_id, world.owner.policy(fine, serial=3))
    with pytest.raises(PolicyError, match="runs"):
        world.granted(second)
    world.granted(first)


def test_a_job_that_moves_to_another_rule_is_a_run_of_that_one(world: World) -> None:
    """Jobs of a rule that ends get no more grants by another than it has runs, each counted once; one that goes back and forth pays."""
    first, second = (rule_for(world.analyst.public, name=name, maximum_runs=runs) for name, runs in (("first", 3), ("second", 2)))
    serials = count(2)

    def allow(*rules: Rule) -> None:
        world.broker.set_policy(world.owner.dataset_id, world.owner.policy(*rules, serial=next(serials)))

    world.enrol(first)
    one, two, three = (world.submit() for _ in range(3))
    allow(second)
    for job_id in (one, two, one, two):
        world.granted(job_id)
    for more in (world.submit, lambda: world.granted(three)):
        with pytest.raises(PolicyError, match="runs"):
            more()
    allow(first, second)
    world.granted(one)
    assert world.events()[-1]["rules"] == {world.owner.dataset_id: "second"}
    world.granted(three)
    assert world.events()[-1]["rules"] == {world.owner.dataset_id: "first"}
    allow(first)
    with pytest.raises(PolicyError, match="runs"):
        world.granted(one)
    allow(replace(first, maximum_runs=4))
    world.granted(one)
    with pytest.raises(PolicyError, match="runs"):
        world.granted(two)


def test_a_grant_that_is_refused_is_no_run(world: World) -> None:
    """A job that moves to another rule with an enclave that is not accepted costs that rule nothing; with one that is, a run."""
    world.enrol(rule_for(world.analyst.public, name="first"))
    one, two = world.submit(), world.submit()
    world.broker.set_policy(world.owner.dataset_id, world.owner.policy(rule_for(world.analyst.public, maximum_runs=1), serial=2))
    with pytest.raises(AttestationError):
        world.broker.admit(*refused_evidence(world, one), one)
    world.granted(two)
    with pytest.raises(PolicyError, match="runs"):
        world.granted(one)


def refused_evidence(world: World, job_id: str) -> tuple[str, Evidence]:
    """Return a session and the evidence in it of an enclave that no policy names."""
    session, challenge = world.broker.challenge(job_id, "insecure")
    return session, Enclave(b"\x22" * 32).evidence(challenge)


def test_an_older_version_gets_no_job_and_no_grant(world: World) -> None:
    """Once a newer version is enrolled, jobs on the older one are refused, and an accepted one gets no more grants."""
    world.enrol()
    accepted = world.submit()
    world.granted(accepted)
    second = world.owner.manifest(2, world.manifest.reference.digest)
    world.broker.enrol(world.owner.dataset_id, world.owner.enrolment(second))
    with pytest.raises(FreshnessError, match="the latest is 2"):
        world.submit()
    with pytest.raises(FreshnessError, match="the latest is 2"):
        world.granted(accepted)
    world.manifest = second
    world.granted(world.submit())


def test_a_challenge_is_answered_once(world: World) -> None:
    """The first answer gets a token; the same evidence again, or after a refused answer, gets none."""
    world.enrol()
    job_id = world.submit()
    session, challenge = world.broker.challenge(job_id, "insecure")
    evidence = Enclave().evidence(challenge)
    world.broker.attest(session, evidence)
    with pytest.raises(FreshnessError, match="answered before"):
        world.broker.attest(session, evidence)
    session, challenge = world.broker.challenge(job_id, "insecure")
    with pytest.raises(AttestationError):
        world.broker.attest(session, Enclave(b"\x22" * 32).evidence(challenge))
    with pytest.raises(FreshnessError, match="answered before"):
        world.broker.attest(session, Enclave().evidence(challenge))


@pytest.mark.parametrize(("waited", "accepted"), [(CHALLENGE_SECONDS - 1, True), (CHALLENGE_SECONDS, False)])
def test_a_challenge_expires(world: World, waited: int, accepted: bool) -> None:
    """A challenge is good for its seconds and not one more."""
    world.enrol()
    session, challenge = world.broker.challenge(world.submit(), "insecure")
    world.clock.now += waited
    if accepted:
        world.broker.attest(session, Enclave().evidence(challenge))
    else:
        with pytest.raises(FreshnessError, match="expired"):
            world.broker.attest(session, Enclave().evidence(challenge))


def test_evidence_answers_its_own_challenge(world: World) -> None:
    """Evidence over another session's challenge, with other keys, or of an unannounced TEE is refused."""
    world.enrol()
    job_id = world.submit()
    enclave = Enclave()
    _, other = world.broker.challenge(job_id, "insecure")
    session, _ = world.broker.challenge(job_id, "insecure")
    with pytest.raises(AttestationError, match="another challenge"):
        world.broker.attest(session, enclave.evidence(other))
    session, challenge = world.broker.challenge(job_id, "insecure")
    with pytest.raises(AttestationError, match="another challenge"):
        world.broker.attest(session, replace(enclave.evidence(challenge), identity=Enclave().identity.public))
    session, challenge = world.broker.challenge(job_id, "sgx")
    with pytest.raises(AttestationError, match="announced"):
        world.broker.attest(session, enclave.evidence(challenge))
    with pytest.raises(FreshnessError):
        world.broker.attest("no session", enclave.evidence(challenge))
    world.granted(job_id, enclave)


@pytest.mark.parametrize(
    ("changes", "debug"),
    [({"allow_insecure": False}, False), ({"measurements": ()}, False), ({"minimum_security_version": 99}, False), ({}, True)],
)
def test_enclaves_satisfy_the_appraisal_policy(world: World, changes: dict[str, object], debug: bool) -> None:
    """An enclave that one point of the policy does not accept gets no token; the accepted twin gets its grant."""
    world.enrol(enclaves=appraisal(**changes))
    job_id = world.submit()
    with pytest.raises(AttestationError):
        world.granted(job_id, Enclave(debug=debug))
    world.broker.set_policy(world.owner.dataset_id, world.owner.policy(rule_for(world.analyst.public), serial=2))
    world.granted(job_id)


def test_the_analyst_may_name_measurements(world: World) -> None:
    """A job that names measurements goes to no other enclave."""
    world.enrol()
    with pytest.raises(AttestationError, match="does not name"):
        world.granted(world.submit(measurements=(b"\x33" * 32,)))
    world.granted(world.submit(measurements=(b"\x33" * 32, MEASUREMENT)))


def test_every_owner_behind_a_model_appraises(world: World) -> None:
    """An enclave gets a model's key only when the owners behind the model accept it too."""
    world.enrol()
    model = world.trained()
    second = Owner(broker=world.broker.identity, dataset_id="f" * 32)
    world.broker.trust_owner(second.identity.public)
    manifest = second.manifest()
    world.broker.enrol(second.dataset_id, second.enrolment(manifest))
    enclaves = appraisal(measurements=(MEASUREMENT, b"\x22" * 32))
    world.broker.set_policy(second.dataset_id, second.policy(rule_for(world.analyst.public), enclaves=enclaves))
    world.manifest = manifest
    job_id = world.submit()
    world.granted(job_id, Enclave(b"\x22" * 32))
    scoring = world.submit(apply_model(model), inputs={"features": "p"})
    with pytest.raises(AttestationError):
        world.granted(scoring, Enclave(b"\x22" * 32))
    grant = world.granted(scoring).grant
    assert grant is not None
    assert [known.model for known in grant.models] == [model]
    assert [known.dataset.dataset_id for known in grant.datasets] == [second.dataset_id]


def test_a_grant_is_for_one_enclave(world: World) -> None:
    """The broker signs the grant, only the attested enclave opens it, and it holds the signed result of that enclave."""
    world.enrol()
    job_id = world.submit()
    session, challenge = world.broker.challenge(job_id, "insecure")
    enclave, other = Enclave(), Enclave()
    signed = world.broker.grant(session, world.broker.attest(session, enclave.evidence(challenge)), job_id)
    wrapped = verify(signed, WrappedGrant, world.broker.identity).wrapped
    with pytest.raises(UnsealError):
        other.identity.recipient.unwrap(wrapped, grant_context(job_id, enclave.identity.public.fingerprint))
    grant = enclave.install(signed, world.broker.identity)
    result = verify(grant.result, AttestationResult, world.broker.identity)
    assert (result.identity, result.measurement, result.tee) == (enclave.identity.public, MEASUREMENT, "insecure")
    assert Signed.from_bytes(grant.job).signer == world.analyst.public.fingerprint
    assert (grant.epoch, grant.head) == (1, None)
    second = world.granted(job_id).grant
    assert second is not None
    assert (second.epoch, second.job_key, second.model_key) == (2, grant.job_key, grant.model_key)


def test_a_session_fetches_one_grant_of_its_job(world: World) -> None:
    """A token opens nothing with another session, another job, after its grant, or after its time."""
    world.enrol()
    job_id, other = world.submit(), world.submit()
    session, challenge = world.broker.challenge(job_id, "insecure")
    token = world.broker.attest(session, Enclave().evidence(challenge))
    second, asked = world.broker.challenge(job_id, "insecure")
    with pytest.raises(SignatureError):
        world.broker.grant(second, token, job_id)
    world.broker.attest(second, Enclave().evidence(asked))
    with pytest.raises(SignatureError):
        world.broker.grant(second, token, job_id)
    with pytest.raises(SignatureError):
        world.broker.grant(session, token, other)
    with pytest.raises(SignatureError):
        world.broker.grant(session, token[:-4] + "AAAA", job_id)
    with pytest.raises(FreshnessError):
        world.broker.grant("no session", token, job_id)
    world.broker.grant(session, token, job_id)
    with pytest.raises(FreshnessError, match="no grant to fetch"):
        world.broker.grant(session, token, job_id)
    third, asked = world.broker.challenge(job_id, "insecure")
    token = world.broker.attest(third, Enclave().evidence(asked))
    world.clock.now += TOKEN_SECONDS
    with pytest.raises(FreshnessError, match="expired"):
        world.broker.grant(third, token, job_id)


def test_a_revoked_permission_stops_grants(world: World) -> None:
    """A policy that no longer allows the job, or the enclave, stops the next grant, even between token and grant."""
    world.enrol()
    job_id = world.submit()
    session, challenge = world.broker.challenge(job_id, "insecure")
    token = world.broker.attest(session, Enclave().evidence(challenge))
    world.broker.set_policy(world.owner.dataset_id, world.owner.policy(serial=2))
    with pytest.raises(PolicyError):
        world.broker.grant(session, token, job_id)
    none = world.owner.policy(rule_for(world.analyst.public), serial=3, enclaves=appraisal(measurements=()))
    world.broker.set_policy(world.owner.dataset_id, none)
    with pytest.raises(AttestationError):
        world.broker.grant(session, token, job_id)
    world.broker.set_policy(world.owner.dataset_id, world.owner.policy(rule_for(world.analyst.public), serial=4))
    world.broker.grant(session, token, job_id)


def test_a_finished_job_gets_no_more_grants(world: World) -> None:
    """No challenge for a job that is finished, unknown, or a release."""
    world.enrol()
    model = world.trained()
    with pytest.raises(FreshnessError, match="finished"):
        world.broker.challenge(model.model_id, "insecure")
    with pytest.raises(UsageError, match="no job"):
        world.broker.challenge("unknown", "insecure")
    release = release_of(model, world.analyst.public, world.broker.identity)
    world.broker.release(world.analyst.sign(release))
    with pytest.raises(FreshnessError, match="released"):
        world.broker.challenge(release.job_id, "insecure")


def test_a_models_key_goes_to_named_recipients(world: World) -> None:
    """Each recipient that the policy names opens the key, others do not; a release is answered once, and asks for nothing else."""
    partner = PrivateIdentity.generate("partner")
    rule = rule_for(world.analyst.public)
    both = {kind: replace(output, recipients=(*output.recipients, partner.public.fingerprint)) for kind, output in rule.outputs.items()}
    world.enrol(replace(rule, outputs=both))
    model = world.trained()
    release = release_of(model, world.analyst.public, world.broker.identity, world.analyst.public, partner.public)
    keys, attestation = world.broker.release(world.analyst.sign(release))
    assert verify(attestation, AttestationResult, world.broker.identity).job_id == model.model_id
    opened = set()
    for recipient, signed in zip((world.analyst, partner), keys, strict=True):
        wrapped = verify(signed, WrappedModelKey, world.broker.identity)
        opened.add(recipient.recipient.unwrap(wrapped.wrapped, model_key_context(release.job_id, model, recipient.public.fingerprint)))
    assert len(opened) == 1
    with pytest.raises(FreshnessError, match="answered before"):
        world.broker.release(world.analyst.sign(release))
    stranger = PrivateIdentity.generate("stranger").public
    with pytest.raises(PolicyError, match="outputs"):
        world.broker.release(world.analyst.sign(release_of(model, world.analyst.public, world.broker.identity, stranger)))
    other = ModelRef(model_id=model.model_id, digest=b"x" * 32)
    with pytest.raises(PolicyError, match="another digest"):
        world.broker.release(world.analyst.sign(release_of(other, world.analyst.public, world.broker.identity)))


def test_the_key_of_statistics_goes_to_who_may_leave_some(world: World) -> None:
    """Enclaves of a job that goes on and leaves statistics get the key of those behind; no other job does, and no release."""
    rule = rule_for(world.analyst.public)
    world.enrol(replace(rule, outputs={**rule.outputs, OutputKind.SEALED_STATISTICS: OutputRule(recipients=())}))
    alone, beside = (
        tuple(Output(kind=kind, recipient=world.analyst.public) for kind in kinds)
        for kinds in ((OutputKind.SEALED_MODEL,), (OutputKind.SEALED_MODEL, OutputKind.SEALED_STATISTICS))
    )
    first = world.granted(world.submit(Parts(first=0, end=1), outputs=beside))
    model = world.finish(first)
    key = statistics_key(first.job_key, model.model_id).expose()

    def given(*steps: Any, **changes: Any) -> bytes:
        grant = world.granted(world.submit(*steps, **changes)).grant
        assert grant is not None
        return grant.statistics

    assert given(Parts(first=1, end=2), model=model, outputs=beside) == key
    assert world.events()[-1]["job_id"] != model.model_id
    assert given(Parts(first=1, end=2), model=model, outputs=alone) == b""
    assert given(Parts(first=1, end=2), outputs=beside) == b""
    assert given(apply_model(model), inputs={"features": "p"}) == b""
    release = release_of(model, world.analyst.public, world.broker.identity)
    (signed,), _ = world.broker.release(world.analyst.sign(release))
    wrapped = verify(signed, WrappedModelKey, world.broker.identity).wrapped
    released = world.analyst.recipient.unwrap(wrapped, model_key_context(release.job_id, model, world.analyst.public.fingerprint))
    assert released not in {key, first.job_key.expose()}


def test_jobs_and_releases_are_not_confused(world: World) -> None:
    """A release is no job for enclaves, a job is no release, and a release has plain models only."""
    world.enrol()
    model = world.trained()
    release = release_of(model, world.analyst.public, world.broker.identity)
    for wrong in (
        lambda: world.broker.submit(world.analyst.sign(release)),
        lambda: world.broker.release(world.analyst.sign(world.job())),
        lambda: world.broker.release(world.analyst.sign(replace(release, outputs=()))),
        lambda: world.broker.release(
            world.analyst.sign(replace(release, outputs=(Output(kind=OutputKind.SEALED_MODEL, recipient=world.analyst.public),)))
        ),
    ):
        with pytest.raises(UsageError):
            wrong()
    world.broker.release(world.analyst.sign(release))


@pytest.mark.parametrize(("tee", "status"), [("sgx", "affirming"), ("insecure", "warning")])
def test_the_token_is_an_attestation_result(tee: str, status: str) -> None:
    """The token is an EAR: anybody with the broker's key reads which enclave it is of, and that no TEE is no affirmation."""
    broker, enclave = PrivateIdentity.generate("broker"), PrivateIdentity.generate("enclave").public
    claims = Claims(tee=tee, measurement=MEASUREMENT, security_version=1, debug=False, protections=("no core dumps",))
    subject = TokenSubject(job_id="j", session="s", expires=100)
    token = issue_token(broker, subject, enclave, claims, now=10)
    public = urlsafe_b64encode(broker.public.verification_key).rstrip(b"=").decode()
    key = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": public})
    read = jwt.decode(token, key, algorithms=["Ed25519"]).claims
    assert read["eat_profile"] == "tag:github.com,2023:veraison/ear"
    assert read["ear.verifier-id"]["build"] == broker.public.fingerprint
    submodule = read["submods"]["enclave"]
    assert (submodule["ear.status"], submodule["ear.attester-id"]) == (status, enclave.fingerprint)
    check_token(broker, token, subject=subject, now=99)
    with pytest.raises(SignatureError):
        check_token(PrivateIdentity.generate("other"), token, subject=subject, now=99)
