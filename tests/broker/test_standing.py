"""Does a rotated identity hand over what it had, and does a revoked one count for nothing?"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from broker_world import World, b64, job_on, make_world, release_of, rule_for

from securemllib.broker.keystore import Keystore
from securemllib.crypto.identity import PrivateIdentity
from securemllib.errors import FreshnessError, PolicyError, RefusedError, SecureMLlibError, SignatureError, UsageError
from securemllib.kms.file import FileKey
from securemllib.owner.broker_client import BrokerClient
from securemllib.policy.model import OutputRule
from securemllib.wire.enrolment import AuditRequest
from securemllib.wire.job import Output, OutputKind
from securemllib.wire.notices import KeyRevocation, KeyRotation
from securemllib.wire.signed import Signed


def rotation(world: World, old: PrivateIdentity, new: PrivateIdentity, **changes: object) -> tuple[Signed, Signed]:
    """Return a rotation as both identities sign it."""
    base = KeyRotation(old=old.public, new=new.public, broker=world.broker.identity.fingerprint, created=int(world.clock.now))
    record = replace(base, **changes)
    return old.sign(record), new.sign(record)


def revocation(world: World, identity: PrivateIdentity) -> Signed:
    """Return an identity's own revocation."""
    broker, now = world.broker.identity.fingerprint, int(world.clock.now)
    return identity.sign(KeyRevocation(revoked=identity.public, broker=broker, created=now))


def submitted(world: World, analyst: PrivateIdentity, **changes: object) -> str:
    """Submit a job of an analyst."""
    return world.broker.submit(analyst.sign(job_on(world.plan(), analyst.public, world.broker.identity, **changes)))


def refused(call: Callable[[], object], code: str) -> None:
    """Expect a refusal with that code."""
    with pytest.raises(SecureMLlibError) as found:
        call()
    assert found.value.error_code == code


def test_an_analysts_new_identity_takes_the_place_of_the_old(world: World) -> None:
    """What the policy grants to the old identity is granted to the new one, over two rotations, and no more to the old."""
    world.enrol()
    model, running = world.trained(), world.submit()
    second, third = PrivateIdentity.generate("second"), PrivateIdentity.generate("third")
    with pytest.raises(PolicyError):
        submitted(world, second)
    world.broker.rotate(*rotation(world, world.analyst, second))
    between = submitted(world, second)
    world.broker.rotate(*rotation(world, second, third))
    world.granted(between)
    world.granted(submitted(world, third))
    world.broker.release(third.sign(release_of(model, third.public, world.broker.identity)))
    for old in (world.analyst, second):
        refused(lambda old=old: submitted(world, old), "refused.key.rotated")
    enclave = world.granted(running)
    world.broker.move_head(running, enclave.update(None, enclave.head(1)))


def test_an_owners_new_identity_owns_the_datasets(world: World) -> None:
    """The policy stays in force; the new identity signs the next one and the next version, and reads the log; the old one does nothing."""
    world.enrol()
    old, new = world.owner.identity, PrivateIdentity.generate("new")
    world.broker.rotate(*rotation(world, old, new))
    job_id = world.submit()
    world.granted(job_id)
    for call in (
        lambda: world.broker.set_policy(world.owner.dataset_id, world.owner.policy(rule_for(world.analyst.public), serial=2)),
        lambda: world.broker.enrol(world.owner.dataset_id, world.owner.enrolment(world.manifest)),
        lambda: world.broker.trust_owner(old.public),
        lambda: world.broker.audit(audit(world, old)),
    ):
        refused(call, "refused.key.rotated")
    world.owner.identity = new
    world.broker.set_policy(world.owner.dataset_id, world.owner.policy(rule_for(world.analyst.public), serial=2))
    newer = world.owner.manifest(2, world.manifest.reference.digest)
    world.broker.enrol(world.owner.dataset_id, world.owner.enrolment(newer))
    assert {"rotate-key", "enrol"} <= {entry["event"] for entry in world.broker.audit(audit(world, new))[0]}


def test_wrapped_secrets_survive_a_rotation(tmp_path: Path, keystore: Keystore) -> None:
    """Where a key-encryption key wraps dataset secrets, old versions and new ones still open after their owner's rotation."""
    world = make_world(tmp_path, keystore, f"sqlite:///{tmp_path / 'broker.db'}", kek=FileKey.create(tmp_path / "kek", None))
    world.enrol()
    new = PrivateIdentity.generate("new")
    world.broker.rotate(*rotation(world, world.owner.identity, new))
    world.granted(world.submit())
    world.owner.identity = new
    newer = world.owner.manifest(2, world.manifest.reference.digest)
    world.broker.enrol(world.owner.dataset_id, world.owner.enrolment(newer))
    world.manifest = newer
    world.broker.set_policy(world.owner.dataset_id, world.owner.policy(rule_for(world.analyst.public), serial=2))
    grant = world.granted(world.submit()).grant
    assert grant is not None
    assert grant.datasets[0].secret == world.owner.secret.expose()
    world.broker.close()


def audit(world: World, owner: PrivateIdentity) -> Signed:
    """Return an owner's request for their entries."""
    return owner.sign(AuditRequest(owner=owner.public, broker=world.broker.identity.fingerprint, created=int(world.clock.now)))


def test_a_rotation_needs_both_identities_now_and_here(world: World) -> None:
    """One that another signed, that the new identity did not confirm, or of another time or broker is refused; the right one is not."""
    world.enrol()
    new, thief = PrivateIdentity.generate("new"), PrivateIdentity.generate("thief")
    good = rotation(world, world.analyst, new)
    record = KeyRotation.from_bytes(good[0].payload)
    for pair, kind in (
        ((thief.sign(record), good[1]), SignatureError),
        ((good[0], thief.sign(record)), SignatureError),
        ((good[0], rotation(world, world.analyst, new, created=int(world.clock.now) - 1)[1]), UsageError),
        (rotation(world, world.analyst, new, created=1), FreshnessError),
        (rotation(world, world.analyst, new, broker="other"), FreshnessError),
        (rotation(world, world.analyst, world.analyst), UsageError),
    ):
        with pytest.raises(kind):
            world.broker.rotate(*pair)
    world.broker.rotate(*good)
    refused(lambda: world.broker.rotate(*rotation(world, world.analyst, thief)), "refused.key.rotated")
    refused(lambda: world.broker.rotate(*rotation(world, new, world.analyst)), "refused.key.rotated")


@pytest.mark.parametrize("by_operator", [False, True])
def test_a_revoked_analyst_gets_nothing_more(world: World, by_operator: bool) -> None:
    """From that moment its jobs are refused, an accepted job gets no keys, and one that has keys moves no head and leaves no model."""
    world.enrol()
    accepted, running = world.submit(), world.submit()
    enclave = world.granted(running)
    head = enclave.head(1)
    world.broker.move_head(running, enclave.update(None, head))
    if by_operator:
        world.broker.revoke_by_operator(world.analyst.public.fingerprint)
    else:
        assert world.broker.revoke(revocation(world, world.analyst)) == world.analyst.public.fingerprint
    for call in (
        world.submit,
        lambda: world.granted(accepted),
        lambda: world.granted(running),
        lambda: world.broker.move_head(running, enclave.update(head, enclave.head(2))),
        lambda: world.finish(enclave),
        lambda: world.broker.rotate(*rotation(world, world.analyst, PrivateIdentity.generate("next"))),
    ):
        refused(call, "refused.key.revoked")
    other = PrivateIdentity.generate("other")
    world.broker.set_policy(world.owner.dataset_id, world.owner.policy(rule_for(other.public), serial=2))
    world.granted(submitted(world, other))


def test_a_revoked_analyst_ends_no_job(world: World) -> None:
    """An identity that was revoked does not end its jobs either; before that it does, and so does one that took a rotated one's place."""
    world.enrol()
    outputs = (Output(kind=OutputKind.METRIC, recipient=world.analyst.public),)
    first, second, third = (world.submit(outputs=outputs) for _ in range(3))
    world.broker.finish(first, world.end(first))
    new = PrivateIdentity.generate("new")
    world.broker.rotate(*rotation(world, world.analyst, new))
    world.analyst = new
    world.broker.finish(second, world.end(second))
    world.broker.revoke(revocation(world, new))
    refused(lambda: world.broker.finish(third, world.end(third)), "refused.key.revoked")


def test_a_revoked_owners_policies_allow_nothing(world: World) -> None:
    """No job on the datasets of a revoked owner is accepted, granted or goes on; nor is anything that the owner signs."""
    world.enrol()
    running = world.submit()
    enclave = world.granted(running)
    world.broker.revoke(revocation(world, world.owner.identity))
    for call in (
        world.submit,
        lambda: world.granted(running),
        lambda: world.broker.move_head(running, enclave.update(None, enclave.head(1))),
        lambda: world.broker.set_policy(world.owner.dataset_id, world.owner.policy(rule_for(world.analyst.public), serial=2)),
        lambda: world.broker.trust_owner(world.owner.identity.public),
    ):
        refused(call, "refused.key.revoked")


def test_a_policy_of_a_key_that_leaked_later_must_be_signed_again(world: World) -> None:
    """Where the old identity is revoked after its rotation, its policy allows nothing until the new identity signs it."""
    world.enrol()
    new = PrivateIdentity.generate("new")
    world.broker.rotate(*rotation(world, world.owner.identity, new))
    world.submit()
    world.broker.revoke(revocation(world, world.owner.identity))
    refused(world.submit, "refused.key.revoked")
    world.owner.identity = new
    world.broker.set_policy(world.owner.dataset_id, world.owner.policy(rule_for(world.analyst.public), serial=2))
    world.submit()


def test_no_model_is_released_to_a_revoked_recipient(world: World) -> None:
    """A recipient that the policy names and that was revoked gets no key, though the analyst is in force; another recipient does."""
    world.enrol()
    partner = PrivateIdentity.generate("partner")
    rule = rule_for(world.analyst.public)
    outputs = {kind: replace(output, recipients=(*output.recipients, partner.public.fingerprint)) for kind, output in rule.outputs.items()}
    world.broker.set_policy(world.owner.dataset_id, world.owner.policy(replace(rule, outputs=outputs), serial=2))
    model = world.trained()
    world.broker.release(world.analyst.sign(release_of(model, world.analyst.public, world.broker.identity, partner.public)))
    world.broker.revoke(revocation(world, partner))
    job = release_of(model, world.analyst.public, world.broker.identity, partner.public)
    refused(lambda: world.broker.release(world.analyst.sign(job)), "refused.key.revoked")
    world.broker.release(world.analyst.sign(release_of(model, world.analyst.public, world.broker.identity)))


def test_a_job_for_a_revoked_recipient_gets_no_keys(world: World) -> None:
    """An accepted job whose result would go to an identity that is revoked gets no more keys and moves no head."""
    other = PrivateIdentity.generate("other")
    outputs = {OutputKind.METRIC: OutputRule(recipients=(other.public.fingerprint,))}
    world.enrol(rule_for(world.analyst.public, outputs=outputs))
    job_id = world.submit(outputs=(Output(kind=OutputKind.METRIC, recipient=other.public),))
    enclave = world.granted(job_id)
    world.broker.revoke(revocation(world, other))
    refused(lambda: world.granted(job_id), "refused.key.revoked")
    refused(lambda: world.broker.move_head(job_id, enclave.update(None, enclave.head(1))), "refused.key.revoked")


def test_nobody_revokes_anothers_identity(world: World) -> None:
    """A revocation that another identity signed, or that is from another time, is refused."""
    world.enrol()
    thief = PrivateIdentity.generate("thief")
    record = KeyRevocation.from_bytes(revocation(world, world.analyst).payload)
    with pytest.raises(SignatureError):
        world.broker.revoke(thief.sign(record))
    with pytest.raises(FreshnessError):
        world.broker.revoke(world.analyst.sign(replace(record, created=1)))
    world.submit()


def test_identities_are_rotated_and_revoked_over_http(world: World, client: httpx.Client) -> None:
    """The owner's client rotates and revokes at a real broker, and the refusal that follows is raised as an error."""
    world.clock.now = time.time()
    world.enrol()
    new = PrivateIdentity.generate("new")
    with BrokerClient(str(client.base_url), world.broker.identity.fingerprint) as broker:
        broker.rotate(world.owner.identity, new)
        with pytest.raises(RefusedError, match="rotated"):
            broker.audit(world.owner.identity)
        assert broker.audit(new)
        broker.revoke(new)
        with pytest.raises(RefusedError, match="revoked"):
            broker.audit(new)
    assert client.post("/v1/keys/revoke", json={"revocation": b64(revocation(world, new))}).status_code == 200
