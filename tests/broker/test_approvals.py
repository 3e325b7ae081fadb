"""Can a host, or an owner alone, get past the approvals that a policy asks for?"""

import json
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from broker_world import DATASET, Owner, World, apply_model, envelope_body, job_on, release_of, resigned, rule_for

from securemllib.broker.service import Broker
from securemllib.crypto.identity import PrivateIdentity
from securemllib.errors import FormatError, FreshnessError, PolicyError, SignatureError
from securemllib.policy.approval import ReleaseApproval, Revocation
from securemllib.policy.envelope import Envelope, open_envelope, seal_statement
from securemllib.policy.model import Approvals, Policy, Quorum
from securemllib.wire.job import JobSpecification
from securemllib.wire.notices import KeyRotation
from securemllib.wire.plan import ModelRef, Plan
from securemllib.wire.signed import Signed

BOB, CAROL, DAVE, EVE = (PrivateIdentity.generate(name) for name in ("bob", "carol", "dave", "eve"))


def quorum(threshold: int, *approvers: PrivateIdentity) -> Quorum:
    """Return a quorum."""
    return Quorum(threshold=threshold, approvers=tuple(b64encode(approver.public.to_bytes()).decode() for approver in approvers))


TWO_OF_THREE = quorum(2, BOB, CAROL, DAVE)
GUARDED = Approvals(policy_change=TWO_OF_THREE, model_release=TWO_OF_THREE)


def guarded(world: World, **more: Any) -> None:
    """Enrol the world's dataset with a policy that asks for approvals."""
    world.enrol(approvals=GUARDED, **more)


def put(world: World, envelope: Envelope) -> int:
    """Hand a policy to the broker."""
    return world.broker.set_policy(world.owner.dataset_id, envelope)


def open_to_all(world: World, serial: int = 2, **more: Any) -> Envelope:
    """Return a policy of the owner that asks for no approval."""
    return world.owner.policy(rule_for(world.analyst.public), serial=serial, **more)


def test_a_policy_changes_with_k_approvals_of_those_that_the_old_one_names(world: World) -> None:
    """The owner alone, one approver, strangers, the owner's own approval and a borrowed name do not change it; two approvers do."""
    guarded(world)
    new = open_to_all(world)
    stolen = json.loads(new.signed_by(BOB).signed_by(EVE).to_bytes())
    stolen["signatures"][2]["keyid"] = CAROL.public.fingerprint
    for short in (
        new,
        new.signed_by(BOB),
        new.signed_by(BOB).signed_by(BOB),
        new.signed_by(BOB).signed_by(EVE).signed_by(world.owner.identity),
        Envelope.from_bytes(json.dumps(stolen).encode()),
    ):
        with pytest.raises(PolicyError) as caught:
            put(world, short)
        assert caught.value.error_code == "refused.policy.approval"
    with pytest.raises(PolicyError, match="not signed by the owner"):
        put(world, resigned(new, BOB).signed_by(CAROL))
    assert put(world, new.signed_by(BOB).signed_by(DAVE)) == 2
    assert put(world, open_to_all(world, 3)) == 3


def test_the_new_policys_approvers_do_not_approve_it(world: World) -> None:
    """A policy that names other approvers, or fewer, is not approved by them: those of the policy in force decide."""
    guarded(world)
    own = Approvals(policy_change=quorum(1, world.owner.identity))
    new = open_to_all(world, approvals=own)
    with pytest.raises(PolicyError, match="asks for 2 approvals"):
        put(world, new.signed_by(world.owner.identity))
    put(world, new.signed_by(BOB).signed_by(CAROL))


def test_an_approval_of_one_policy_is_none_of_another(world: World) -> None:
    """Signatures under a policy do not move to a policy that differs in one field."""
    guarded(world)
    approved = json.loads(open_to_all(world).signed_by(BOB).signed_by(CAROL).to_bytes())
    changed = json.loads(open_to_all(world, expires=datetime(2040, 1, 1, tzinfo=UTC)).to_bytes())
    mixed = {**changed, "signatures": [*changed["signatures"], *approved["signatures"][1:]]}
    with pytest.raises(PolicyError, match="2 are missing"):
        put(world, Envelope.from_bytes(json.dumps(mixed).encode()))
    put(world, Envelope.from_bytes(json.dumps(approved).encode()))


def test_a_policy_is_of_its_dataset_and_owner(world: World) -> None:
    """A genuine policy that a host hands over for another dataset of its owner is not put in force there, nor is one in another's name."""
    world.enrol()
    other = Owner(broker=world.broker.identity, identity=world.owner.identity, dataset_id="e" * 32)
    world.broker.enrol(other.dataset_id, other.enrolment(other.manifest()))
    mine = other.policy(rule_for(EVE.public), serial=2)
    named = replace(open_envelope(mine, Policy, world.owner.identity.public), owner=EVE.public.fingerprint)
    for dataset_id, wrong in ((DATASET, mine), (other.dataset_id, seal_statement(named, world.owner.identity))):
        with pytest.raises(PolicyError) as caught:
            world.broker.set_policy(dataset_id, wrong)
        assert caught.value.error_code == "refused.policy.owner"
    world.granted(world.submit())
    assert world.broker.set_policy(other.dataset_id, mine) == 2


def test_revoking_does_not_shake_off_the_approvers(world: World) -> None:
    """The owner alone ends a policy, and nothing is allowed then; the next policy still needs the approvals of the one that ended."""
    guarded(world)
    job_id = world.submit()
    ended = Revocation(dataset_id=world.owner.dataset_id, owner=world.owner.identity.public.fingerprint, serial=2, reason="study over")
    for wrong in (
        seal_statement(ended, EVE),
        resigned(seal_statement(ended, world.owner.identity), EVE, as_=world.owner.identity.public.fingerprint),
        seal_statement(replace(ended, dataset_id="e" * 32), world.owner.identity),
        open_to_all(world),
    ):
        with pytest.raises((PolicyError, SignatureError)):
            world.broker.revoke_policy(world.owner.dataset_id, wrong)
    with pytest.raises(FreshnessError):
        world.broker.revoke_policy(world.owner.dataset_id, seal_statement(replace(ended, serial=1), world.owner.identity))
    world.granted(job_id)
    assert world.broker.revoke_policy(world.owner.dataset_id, seal_statement(ended, world.owner.identity)) == 2
    for refused in (world.submit, lambda: world.granted(job_id)):
        with pytest.raises(PolicyError) as caught:
            refused()
        assert caught.value.error_code == "refused.policy.missing"
    with pytest.raises(PolicyError, match="asks for 2 approvals"):
        put(world, open_to_all(world, 3))
    with pytest.raises(FreshnessError):
        put(world, open_to_all(world, 2).signed_by(BOB).signed_by(CAROL))
    put(world, open_to_all(world, 3).signed_by(BOB).signed_by(CAROL))
    world.granted(job_id)


def approval_of(world: World, model: ModelRef, **changes: Any) -> ReleaseApproval:
    """Return an approval of the model's release to the analyst."""
    base = ReleaseApproval(
        broker=world.broker.identity.fingerprint,
        model_id=model.model_id,
        model_digest=model.digest.hex(),
        recipients=(world.analyst.public.fingerprint,),
        expires=int(world.clock.now) + 1000,
    )
    return replace(base, **changes)


def approve(world: World, approval: ReleaseApproval, *approvers: PrivateIdentity) -> None:
    """Hand approvals to the broker."""
    for approver in approvers:
        world.broker.approve_release(seal_statement(approval, approver))


def ask(world: World, model: ModelRef, *recipients: Any) -> Any:
    """Ask for a release."""
    return world.broker.release(world.analyst.sign(release_of(model, world.analyst.public, world.broker.identity, *recipients)))


def refused_release(world: World, model: ModelRef, *recipients: Any) -> PolicyError:
    """Return the refusal of a release that lacks approvals."""
    with pytest.raises(PolicyError) as caught:
        ask(world, model, *recipients)
    assert caught.value.error_code == "refused.policy.approval"
    return caught.value


def test_a_model_leaves_with_k_approvals(world: World) -> None:
    """Without approvals, with one, and with one repeated the release is refused and says what to ask for; with two it is answered."""
    guarded(world)
    model = world.trained()
    error = refused_release(world, model)
    assert "2 of 3 approvals" in error.reason
    assert f"--model {model.model_id}" in error.next_step
    approve(world, approval_of(world, model), BOB, BOB)
    approve(world, approval_of(world, model, expires=int(world.clock.now) + 7), BOB)
    assert "there are 1" in refused_release(world, model).reason
    approve(world, approval_of(world, model), CAROL)
    assert ask(world, model)


def test_approvals_are_of_one_model_for_its_recipients_and_a_time(world: World) -> None:
    """Approvals of another model, for other recipients, or that have expired do not count; those of this one do."""
    partner = PrivateIdentity.generate("partner").public
    rule = rule_for(world.analyst.public)
    both = {kind: replace(output, recipients=(*output.recipients, partner.fingerprint)) for kind, output in rule.outputs.items()}
    guarded_rule = replace(rule, outputs=both)
    world.enrol(guarded_rule, approvals=GUARDED)
    model, other = world.trained(), world.trained()
    approve(world, approval_of(world, other), BOB, CAROL)
    approve(world, approval_of(world, model, recipients=(partner.fingerprint,)), BOB, CAROL)
    refused_release(world, model)
    refused_release(world, model, world.analyst.public, partner)
    assert ask(world, model, partner)
    approve(world, approval_of(world, model, expires=int(world.clock.now) + 10), BOB, CAROL)
    world.clock.now += 11
    refused_release(world, model)
    approve(world, approval_of(world, model), BOB, CAROL)
    assert ask(world, model)


def test_only_named_approvers_are_heard(world: World) -> None:
    """Approvals of strangers, of the owner, forged, for another broker, expired or of no model are refused; an approver's is kept."""
    guarded(world)
    model = world.trained()
    good = approval_of(world, model)
    for wrong in (
        seal_statement(good, EVE),
        seal_statement(good, world.owner.identity),
        resigned(seal_statement(good, BOB), EVE, as_=BOB.public.fingerprint),
        seal_statement(good, BOB).signed_by(CAROL),
        seal_statement(replace(good, broker=EVE.public.fingerprint), BOB),
        seal_statement(replace(good, expires=int(world.clock.now) - 1), BOB),
        seal_statement(replace(good, model_digest="00" * 32), BOB),
        seal_statement(replace(good, model_id="unknown"), BOB),
        world.owner.policy(serial=9),
    ):
        with pytest.raises((PolicyError, SignatureError, FormatError)):
            world.broker.approve_release(wrong)
    assert world.broker.approve_release(seal_statement(good, BOB)) == (world.owner.dataset_id,)


@pytest.mark.parametrize(
    "field",
    [b'"expires":9007199254740992', b'"expires":1e3', b'"expires":%d' % 10**400, b'"expires":NaN', b'"expires":-1'],
    ids=lambda field: field[:20].decode(),
)
def test_a_number_that_canonical_json_does_not_have_is_a_refusal_like_any(world: World, client: httpx.Client, field: bytes) -> None:
    """An approval with a number beyond 2**53, or that is none, is refused as malformed, recorded and counted; the greatest is read."""
    guarded(world)
    good = approval_of(world, world.trained(), expires=2**53 - 1)
    sealed = seal_statement(good, BOB)
    payload = good.to_json().replace(b'"expires":9007199254740991', field)
    wrong = Envelope(type(sealed.dsse)(payload, sealed.payload_type, {})).signed_by(BOB)

    def refusals_left() -> int:
        rates = world.broker.rates
        return rates._limiter.get_window_stats(rates._refusals, "refused", "127.0.0.1").remaining

    before, left = len(world.events()), refusals_left()
    assert client.post("/v1/approvals", json=envelope_body(wrong)).json()["code"] == "integrity.format"
    assert (len(world.events()), refusals_left()) == (before + 1, left - 1)
    assert client.post("/v1/approvals", json=envelope_body(sealed)).status_code == 200
    assert (len(world.events()), refusals_left()) == (before + 2, left - 1)


def test_approvers_that_the_policy_no_longer_names_do_not_count(world: World) -> None:
    """The policy in force names who approves: approvals of those whom it dropped count no more."""
    guarded(world)
    model = world.trained()
    approve(world, approval_of(world, model), BOB, CAROL)
    without_bob = Approvals(policy_change=TWO_OF_THREE, model_release=quorum(2, CAROL, DAVE))
    put(world, open_to_all(world, approvals=without_bob).signed_by(BOB).signed_by(DAVE))
    refused_release(world, model)
    approve(world, approval_of(world, model), DAVE)
    assert ask(world, model)


def test_release_approvals_cannot_stand_without_change_approvals(world: World) -> None:
    """A signed policy with approvals of releases only is refused: its owner could drop them alone. With both it is taken."""
    world.enrol()
    tree = json.loads(open_to_all(world, approvals=GUARDED).payload)
    tree["approvals"]["policy_change"] = None
    payload = json.dumps(tree, sort_keys=True, separators=(",", ":")).encode()
    good = open_to_all(world)
    unguarded = Envelope(type(good.dsse)(payload, good.payload_type, {})).signed_by(world.owner.identity)
    with pytest.raises(FormatError):
        put(world, unguarded)
    put(world, open_to_all(world, approvals=GUARDED))


def second_owner(world: World, *rules: Any, **policy: Any) -> tuple[Owner, Plan]:
    """Return another owner with a dataset of their own at the same broker, and a plan that reads it."""
    second = Owner(broker=world.broker.identity, identity=PrivateIdentity.generate("second"), dataset_id="b" * 32)
    world.broker.trust_owner(second.identity.public)
    manifest = second.manifest()
    world.broker.enrol(second.dataset_id, second.enrolment(manifest))
    world.broker.set_policy(second.dataset_id, second.policy(*rules, **policy))
    return second, Plan(source=manifest.reference, steps=())


def trained_on_both(world: World, plan: Plan) -> ModelRef:
    """Return a model of the world's dataset behind which another one stands, too."""
    first = world.finish(world.granted(world.broker.submit(world.analyst.sign(job_on(plan, world.analyst.public, world.broker.identity)))))
    return world.finish(world.granted(world.submit(apply_model(first), inputs={"features": "p"})))


def test_every_owner_behind_a_model_has_their_own_approvers(world: World) -> None:
    """A model of two owners' data leaves only with the approvals that each of their policies asks for."""
    guarded(world)
    other = Approvals(policy_change=quorum(1, EVE), model_release=quorum(1, EVE))
    model = trained_on_both(world, second_owner(world, rule_for(world.analyst.public), approvals=other)[1])
    approve(world, approval_of(world, model), BOB, CAROL)
    refused_release(world, model)
    approve(world, approval_of(world, model), EVE)
    assert ask(world, model)


def test_a_job_that_adds_a_dataset_is_another_job(world: World) -> None:
    """A host that adds a dataset to an accepted job breaks its signature; signed anew it is another job, which the other owner decides."""
    world.enrol()
    second, plan = second_owner(world, rule_for(world.analyst.public))
    model = world.finish(world.granted(world.broker.submit(world.analyst.sign(job_on(plan, world.analyst.public, world.broker.identity)))))
    accepted = world.analyst.sign(world.job())
    job_id = world.broker.submit(accepted)
    job = JobSpecification.from_bytes(accepted.payload)
    wider = replace(job, plan=world.plan(apply_model(model)), inputs={"features": "p"})
    forged = Signed(payload_type=accepted.payload_type, payload=wider.to_bytes(), signer=accepted.signer, signature=accepted.signature)
    with pytest.raises(SignatureError):
        world.broker.submit(forged)
    world.broker.set_policy(second.dataset_id, second.policy(serial=2))
    with pytest.raises(PolicyError, match=second.dataset_id):
        world.broker.submit(world.analyst.sign(wider))
    world.granted(job_id)
    world.broker.set_policy(second.dataset_id, second.policy(rule_for(world.analyst.public), serial=3))
    assert world.broker.submit(world.analyst.sign(wider)) not in {job_id, model.model_id}


def test_approving_a_model_approves_no_other_lineage(world: World) -> None:
    """Approvals of a model of one dataset do not release the analyst's next model, behind which another dataset stands."""
    guarded(world)
    model = world.trained()
    approve(world, approval_of(world, model), BOB, CAROL)
    wider = trained_on_both(world, second_owner(world, rule_for(world.analyst.public))[1])
    refused_release(world, wider)
    assert ask(world, model)


def test_a_policy_ends_by_itself(world: World) -> None:
    """After its `expires` a policy allows no job and no grant; before it does."""
    end = datetime.fromtimestamp(world.clock.now + 100, tz=UTC)
    world.enrol(expires=end)
    job_id = world.submit()
    world.granted(job_id)
    world.clock.now += 101
    for refused in (lambda: world.submit(created=int(world.clock.now)), lambda: world.granted(job_id)):
        with pytest.raises(PolicyError) as caught:
            refused()
        assert caught.value.error_code == "refused.policy.expired"


def test_a_production_broker_takes_no_development_policy(world: World) -> None:
    """A policy of the profile development, which need not name the risk, is refused; one of production that names it is taken."""
    world.enrol()
    development = open_to_all(world, profile="development", insecure_risk=None)
    with pytest.raises(PolicyError) as caught:
        put(world, development)
    assert caught.value.error_code == "refused.policy.profile"
    put(world, open_to_all(world))
    lenient = Broker(world.keystore, f"sqlite:///{world.folder / 'd.db'}", world.folder / "d.sml", clock=world.clock, profile="development")
    lenient.trust_owner(world.owner.identity.public)
    lenient.enrol(world.owner.dataset_id, world.owner.enrolment(world.manifest))
    assert lenient.set_policy(world.owner.dataset_id, development) == 2
    lenient.close()


def test_a_policy_goes_into_force_at_the_broker_that_it_names(world: World) -> None:
    """A policy for another broker, such as one for tests, is refused by code and name; one for this broker, or for any, is taken."""
    world.enrol()
    for serial, broker in ((3, world.broker.identity.fingerprint), (4, None)):
        staging = PrivateIdentity.generate("staging").public.fingerprint
        with pytest.raises(PolicyError, match=staging) as caught:
            put(world, open_to_all(world, serial=serial, broker=staging))
        assert caught.value.error_code == "refused.policy.broker"
        assert put(world, open_to_all(world, serial=serial, broker=broker)) == serial


def test_insecure_enclaves_need_their_risk_named_at_the_broker_too(world: World) -> None:
    """A production policy that allows insecure enclaves without naming the risk is refused although its owner signed it by other means."""
    world.enrol()
    good = open_to_all(world)
    tree = {**json.loads(good.payload), "insecure_risk": None}
    payload = json.dumps(tree, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(FormatError):
        put(world, Envelope(type(good.dsse)(payload, good.payload_type, {})).signed_by(world.owner.identity))
    put(world, good)


def test_the_log_says_what_became_wider(world: World) -> None:
    """A policy's entry names who approved it and, in words, what it allows that the one before did not."""
    guarded(world)
    put(world, open_to_all(world).signed_by(BOB).signed_by(CAROL))
    entry = world.events()[-1]
    assert (entry["event"], entry["serial"]) == ("policy", 2)
    assert entry["approvers"] == sorted([BOB.public.fingerprint, CAROL.public.fingerprint])
    assert "a policy change needs no approvals" in entry["wider"]
    assert Policy.from_json(open_to_all(world).payload).approvals == Approvals()


def test_over_http(world: World, client: httpx.Client) -> None:
    """A policy with its approvals, a revocation and an approval go through the HTTP interface; an envelope with a field more does not."""
    guarded(world)
    model = world.trained()
    path = f"/v1/datasets/{world.owner.dataset_id}/policy"
    approval = seal_statement(approval_of(world, model), BOB)
    assert client.post("/v1/approvals", json=envelope_body(approval)).json() == {"datasets": [world.owner.dataset_id]}
    new = open_to_all(world)
    assert client.put(path, json=envelope_body(new)).status_code == 403
    signed = new.signed_by(BOB).signed_by(CAROL)
    body = envelope_body(signed)
    body["envelope"]["more"] = 1
    assert client.put(path, json=body).status_code == 422
    assert client.put(path, json=envelope_body(signed)).json()["serial"] == 2
    ended = Revocation(dataset_id=world.owner.dataset_id, owner=world.owner.identity.public.fingerprint, serial=3)
    revoked = client.post(f"{path}/revocation", json=envelope_body(seal_statement(ended, world.owner.identity)))
    assert revoked.json() == {"dataset_id": world.owner.dataset_id, "serial": 3}


def rotate(world: World, old: PrivateIdentity, new: PrivateIdentity) -> None:
    """Let a new identity take an old one's place."""
    notice = KeyRotation(old=old.public, new=new.public, broker=world.broker.identity.fingerprint, created=int(world.clock.now))
    world.broker.rotate(old.sign(notice), new.sign(notice))


def test_a_revoked_approver_does_not_count(world: World) -> None:
    """What a revoked identity approved, before or after, counts for neither a change nor a release; the others' approvals do."""
    guarded(world)
    model = world.trained()
    approve(world, approval_of(world, model), BOB, CAROL)
    world.broker.revoke_by_operator(BOB.public.fingerprint)
    refused_release(world, model)
    with pytest.raises(PolicyError):
        approve(world, approval_of(world, model), BOB)
    with pytest.raises(PolicyError, match="1 are missing"):
        put(world, open_to_all(world).signed_by(BOB).signed_by(CAROL))
    approve(world, approval_of(world, model), DAVE)
    assert ask(world, model)
    put(world, open_to_all(world).signed_by(DAVE).signed_by(CAROL))


def test_a_rotated_approver_signs_with_the_new_identity(world: World) -> None:
    """An approver's successor approves in their place; the old identity no more; and two who rotated to one identity are one."""
    guarded(world)
    second = PrivateIdentity.generate("bob's second")
    rotate(world, BOB, second)
    with pytest.raises(PolicyError, match="1 are missing"):
        put(world, open_to_all(world).signed_by(BOB).signed_by(CAROL))
    rotate(world, DAVE, second)
    with pytest.raises(PolicyError, match="1 are missing"):
        put(world, open_to_all(world).signed_by(second).signed_by(DAVE))
    put(world, open_to_all(world).signed_by(second).signed_by(CAROL))


def test_an_owner_does_not_shake_off_approvers_by_rotating(world: World) -> None:
    """A rotated owner's next policy needs the approvals that the policy of the identity before asks for."""
    guarded(world)
    new = PrivateIdentity.generate("owner's second")
    rotate(world, world.owner.identity, new)
    world.broker.revoke_by_operator(world.owner.identity.public.fingerprint)
    world.owner.identity = new
    with pytest.raises(PolicyError, match="2 are missing"):
        put(world, open_to_all(world))
    put(world, open_to_all(world).signed_by(BOB).signed_by(CAROL))
    world.granted(world.submit())
