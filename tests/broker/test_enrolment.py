"""Who may enrol what, and which policy is in force?"""

from dataclasses import replace

import pytest
from broker_world import Owner, World, resigned, rule_for

from securemllib.crypto.identity import PrivateIdentity
from securemllib.errors import FreshnessError, IntegrityError, PolicyError, SignatureError, UnsealError
from securemllib.wire.dataset import ClearPart, Column
from securemllib.wire.enrolment import Enrolment


def test_only_trusted_owners_enrol(world: World) -> None:
    """An owner whom the operator has not named is refused; the same enrolment passes afterwards, and once more."""
    enrolment = world.owner.enrolment(world.manifest)
    with pytest.raises(PolicyError, match="does not know the owner"):
        world.broker.enrol(world.owner.dataset_id, enrolment)
    world.broker.trust_owner(world.owner.identity.public)
    assert world.broker.enrol(world.owner.dataset_id, enrolment).is_new
    assert not world.broker.enrol(world.owner.dataset_id, world.owner.enrolment(world.manifest)).is_new


def test_a_dataset_belongs_to_its_first_owner(world: World) -> None:
    """Another trusted owner can take over neither a dataset nor its policy."""
    world.enrol()
    thief = Owner(broker=world.broker.identity)
    world.broker.trust_owner(thief.identity.public)
    manifest = thief.manifest(2, world.manifest.reference.digest)
    with pytest.raises(PolicyError, match="belongs to another owner"):
        world.broker.enrol(thief.dataset_id, thief.enrolment(manifest))
    with pytest.raises(PolicyError, match="not signed by the owner"):
        world.broker.set_policy(thief.dataset_id, thief.policy(serial=9))
    world.broker.set_policy(world.owner.dataset_id, world.owner.policy(serial=2))


def test_versions_follow_each_other(world: World) -> None:
    """The next version with the latest one's digest is enrolled, and one behind a gap; a fork and an older version are refused."""
    world.enrol()
    first = world.manifest.reference.digest
    for manifest in (world.owner.manifest(2, b"x" * 32), world.owner.manifest(name="fork")):
        with pytest.raises(FreshnessError, match="does not follow"):
            world.broker.enrol(world.owner.dataset_id, world.owner.enrolment(manifest))
    second = world.owner.manifest(2, first)
    assert world.broker.enrol(world.owner.dataset_id, world.owner.enrolment(second)).version == 2
    fourth = world.owner.manifest(4, b"3" * 32)
    assert world.broker.enrol(world.owner.dataset_id, world.owner.enrolment(fourth)).version == 4
    for manifest in (world.manifest, second, world.owner.manifest(3, second.reference.digest)):
        with pytest.raises(FreshnessError, match="does not follow"):
            world.broker.enrol(world.owner.dataset_id, world.owner.enrolment(manifest))


def test_an_enrolment_is_whole(world: World) -> None:
    """Foreign signatures, foreign datasets, foreign secrets and manifests whose two sections disagree are refused."""
    owner, broker = world.owner, world.broker
    broker.trust_owner(owner.identity.public)
    good = owner.enrolment(world.manifest)
    with pytest.raises(SignatureError):
        broker.enrol(owner.dataset_id, replace(good, signature=bytes(64)))
    with pytest.raises(IntegrityError, match="of dataset"):
        broker.enrol("f" * 32, good)
    other = PrivateIdentity.generate("other")
    manifest = Enrolment.from_bytes(good.payload)
    with pytest.raises(SignatureError):
        broker.enrol(owner.dataset_id, owner.identity.sign(replace(manifest, manifest=other.sign(world.manifest))))
    with pytest.raises(UnsealError, match="does not open the manifest"):
        broker.enrol(owner.dataset_id, owner.enrolment(world.manifest, secret=bytes(32)))
    elsewhere = Owner(broker=other.public, identity=owner.identity, secret=owner.secret)
    with pytest.raises(UnsealError):
        broker.enrol(owner.dataset_id, elsewhere.enrolment(world.manifest))
    column = Column(name="age", type="double", nullable=False, encoding="sealed")
    changes = [{"rows": 6}, {"columns": (column,)}, {"parts": (ClearPart(file="other", length=10),)}]
    for change in changes:
        with pytest.raises(IntegrityError, match="disagree"):
            broker.enrol(owner.dataset_id, owner.enrolment(owner.manifest(**change)))
    broker.enrol(owner.dataset_id, good)


def test_a_policys_serial_grows(world: World) -> None:
    """A higher serial replaces the policy, the same bytes are accepted again, and lower or equal serials are refused."""
    world.enrol(serial=5)
    in_force = world.owner.policy(serial=6)
    assert world.broker.set_policy(world.owner.dataset_id, in_force) == 6
    assert world.broker.set_policy(world.owner.dataset_id, in_force) == 6
    for serial in (5, 6):
        with pytest.raises(FreshnessError, match="6 is in force"):
            world.broker.set_policy(world.owner.dataset_id, world.owner.policy(rule_for(world.analyst.public), serial=serial))
    with pytest.raises(PolicyError):
        world.submit()


def test_a_policy_is_its_owners(world: World) -> None:
    """A policy that somebody else signed, or that is of another dataset, is refused."""
    world.enrol()
    good = world.owner.policy(rule_for(world.analyst.public), serial=2)
    with pytest.raises(SignatureError):
        world.broker.set_policy(world.owner.dataset_id, resigned(good, world.analyst, as_=world.owner.identity.public.fingerprint))
    with pytest.raises(PolicyError, match="not signed by the owner"):
        world.broker.set_policy(world.owner.dataset_id, resigned(good, world.analyst))
    with pytest.raises(PolicyError, match="not enrolled"):
        world.broker.set_policy("f" * 32, good)
    other = replace(world.owner, dataset_id="e" * 32)
    with pytest.raises(PolicyError, match="not of dataset"):
        world.broker.set_policy(world.owner.dataset_id, other.policy(serial=2))
    assert world.broker.set_policy(world.owner.dataset_id, good) == 2
