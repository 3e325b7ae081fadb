"""Is each statement that the broker acts on, and each that it reads back, checked for who signed it?

Each forgery differs from a genuine statement in its signature alone, which is a stranger's under the genuine signer's name.
"""

import io
import json
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from broker_world import DATASET, World, b64, make_world, release_of, resigned, rule_for
from sqlalchemy import select

from securemllib.broker.audit_log import AuditHead
from securemllib.broker.backup import read_keystore, write_backup
from securemllib.broker.keystore import Keystore
from securemllib.broker.rates import Rates
from securemllib.broker.recovery import RecoveryKey, combine, split
from securemllib.broker.schema import AuditHeadRow, PolicyRow
from securemllib.broker.store import Database
from securemllib.crypto.identity import PrivateIdentity
from securemllib.crypto.wrapping import RecipientKey
from securemllib.errors import RateLimitError, SignatureError
from securemllib.owner.shares import open_share
from securemllib.policy.approval import ReleaseApproval, Revocation
from securemllib.policy.envelope import Envelope, seal_statement
from securemllib.policy.model import ANY, Approvals, Quorum
from securemllib.wire.enrolment import AuditRequest, Enrolment
from securemllib.wire.job import Output, OutputKind
from securemllib.wire.notices import KeyRevocation, KeyRotation, StoreAcceptance
from securemllib.wire.signed import Signed

STRANGER, SUCCESSOR = PrivateIdentity.generate("stranger"), PrivateIdentity.generate("successor")
Asked = tuple[Callable[[Signed], object], Signed]
AskedEnvelope = tuple[Callable[[Envelope], object], Envelope]


def forged(signed: Signed) -> Signed:
    """Return a statement with a stranger's signature in the place of the signer's."""
    return replace(signed, signature=STRANGER.signature(signed.payload_type, signed.payload))


def job(world: World) -> Asked:
    """Submit a job."""
    return world.broker.submit, world.analyst.sign(world.job())


def release(world: World) -> Asked:
    """Ask for a model's key."""
    return world.broker.release, world.analyst.sign(release_of(world.trained(), world.analyst.public, world.broker.identity))


def end(world: World) -> Asked:
    """Say that a job's results have come."""
    job_id = world.submit(outputs=(Output(kind=OutputKind.METRIC, recipient=world.analyst.public),))
    return lambda signed: world.broker.finish(job_id, signed), world.end(job_id)


def enrolment(world: World) -> Asked:
    """Enrol the next version."""
    second = world.owner.manifest(2, world.manifest.reference.digest)
    return lambda signed: world.broker.enrol(DATASET, signed), world.owner.enrolment(second)


def manifest(world: World) -> Asked:
    """Enrol the next version, its enrolment genuine."""
    owner, second = world.owner.identity, world.owner.manifest(2, world.manifest.reference.digest)
    secret = Enrolment.from_bytes(world.owner.enrolment(second).payload).secret
    return lambda signed: world.broker.enrol(
        DATASET, owner.sign(Enrolment(owner=owner.public, manifest=signed, secret=secret))
    ), owner.sign(second)


def rotation(world: World) -> Asked:
    """Take an identity's place, the confirmation genuine."""
    broker, old = world.broker.identity.fingerprint, world.analyst
    record = KeyRotation(old=old.public, new=SUCCESSOR.public, broker=broker, created=int(world.clock.now))
    return lambda signed: world.broker.rotate(signed, SUCCESSOR.sign(record)), old.sign(record)


def confirmation(world: World) -> Asked:
    """Give another identity one's place, the rotation genuine."""
    broker, old = world.broker.identity.fingerprint, world.analyst
    record = KeyRotation(old=old.public, new=SUCCESSOR.public, broker=broker, created=int(world.clock.now))
    return lambda signed: world.broker.rotate(old.sign(record), signed), SUCCESSOR.sign(record)


def revocation(world: World) -> Asked:
    """Revoke an identity."""
    broker, who = world.broker.identity.fingerprint, world.analyst
    return world.broker.revoke, who.sign(KeyRevocation(revoked=who.public, broker=broker, created=int(world.clock.now)))


def audit(world: World) -> Asked:
    """Read an owner's log."""
    owner, broker = world.owner.identity, world.broker.identity.fingerprint
    return world.broker.audit, owner.sign(AuditRequest(owner=owner.public, broker=broker, created=int(world.clock.now)))


def acceptance(world: World) -> Asked:
    """Accept a restored store."""
    head, broker = world.broker.recover([]), world.broker.identity.fingerprint
    record = StoreAcceptance(broker=broker, sequence=head.sequence, entry=head.entry, created=int(world.clock.now))
    return world.broker.accept_store, world.owner.identity.sign(record)


STATEMENTS = (job, release, end, enrolment, manifest, rotation, confirmation, revocation, audit, acceptance)


@pytest.mark.parametrize("ask", STATEMENTS, ids=lambda ask: ask.__name__)
def test_a_statement_is_its_signers(world: World, ask: Callable[[World], Asked]) -> None:
    """What somebody else signed under the right name is refused and changes nothing; the genuine statement is accepted after it."""
    world.enrol()
    send, genuine = ask(world)
    with pytest.raises(SignatureError):
        send(forged(genuine))
    send(genuine)


def new_policy(world: World) -> AskedEnvelope:
    """Put the next policy in force."""
    return lambda envelope: world.broker.set_policy(DATASET, envelope), world.owner.policy(rule_for(world.analyst.public), serial=2)


def end_of_policy(world: World) -> AskedEnvelope:
    """End the policy."""
    ended = Revocation(dataset_id=DATASET, owner=world.owner.identity.public.fingerprint, serial=2, reason="study over")
    return lambda envelope: world.broker.revoke_policy(DATASET, envelope), seal_statement(ended, world.owner.identity)


def approval(world: World) -> AskedEnvelope:
    """Approve a model's release."""
    model, approver = world.trained(), PrivateIdentity.generate("approver")
    quorum = Quorum(threshold=1, approvers=(b64(approver.public),))
    guarded = world.owner.policy(rule_for(world.analyst.public), serial=2, approvals=Approvals(policy_change=quorum, model_release=quorum))
    world.broker.set_policy(DATASET, guarded)
    approved = ReleaseApproval(
        model_id=model.model_id,
        model_digest=model.digest.hex(),
        recipients=(world.analyst.public.fingerprint,),
        broker=world.broker.identity.fingerprint,
        expires=int(world.clock.now) + 60,
    )
    return world.broker.approve_release, seal_statement(approved, approver)


# Whoever signs what holds a manifest or a confirmation is counted for that.
COUNTED = (*(ask for ask in STATEMENTS if ask not in {manifest, confirmation}), new_policy, end_of_policy, approval)


@pytest.mark.parametrize("is_used_up", [False, True])
@pytest.mark.parametrize("ask", COUNTED, ids=lambda ask: ask.__name__)
def test_a_statement_counts_for_who_signed_it(
    tmp_path: Path, keystore: Keystore, ask: Callable[[World], Asked | AskedEnvelope], is_used_up: bool
) -> None:
    """Whatever an identity signs is bounded by its rate, also from many addresses; what others sign in its name counts for nobody."""
    rates = Rates(identity="20/hour")
    world = make_world(tmp_path, keystore, f"sqlite:///{tmp_path / 'broker.db'}", rates=rates)
    with closing(world.broker):
        world.enrol()
        send, genuine = ask(world)
        signer = genuine.signer if isinstance(genuine, Signed) else genuine.signers[0]
        for _ in range(20):
            with pytest.raises(SignatureError):
                send(forged(genuine) if isinstance(genuine, Signed) else resigned(genuine, STRANGER, signer))
        if not is_used_up:
            send(genuine)
            return
        for _ in range(20):
            with suppress(RateLimitError):
                rates.check_identity(signer)
        with pytest.raises(RateLimitError):
            send(genuine)


def test_a_forged_head_file_is_refused(world: World) -> None:
    """Whoever can write the head file, and not sign, does not make an older store the newest: the broker does not start on it."""
    world.enrol()
    file = world.folder / "head.sml"
    genuine = Signed.from_bytes(file.read_bytes())
    file.write_bytes(forged(genuine).to_bytes())
    with pytest.raises(SignatureError):
        make_world(world.folder, world.keystore, world.url)
    file.write_bytes(genuine.to_bytes())
    make_world(world.folder, world.keystore, world.url).broker.close()


def test_a_log_whose_head_was_forged_is_not_gone_on_with(world: World) -> None:
    """Whoever can write the database, and not sign, does not choose where the log goes on: no decision is made until it is mended."""
    world.enrol()

    def put(signed: Signed) -> None:
        with world.broker.custody().store.transaction() as session:
            session.scalars(select(AuditHeadRow)).one().signed = signed.to_bytes()

    with world.broker.custody().store.transaction() as session:
        genuine = Signed.from_bytes(session.scalars(select(AuditHeadRow)).one().signed)
    shorter = replace(AuditHead.from_bytes(genuine.payload), sequence=1)
    put(forged(replace(genuine, payload=shorter.to_bytes())))
    for decide in (world.submit, lambda: world.broker.recover([])):
        with pytest.raises(SignatureError):
            decide()
    put(genuine)
    world.submit()


def test_a_policy_that_was_put_into_the_database_allows_nothing(world: World) -> None:
    """Whoever can write the database, and not sign, does not write policies: each decision verifies the owner's signature on its own."""
    world.enrol()
    job_id = world.submit()
    wider = world.owner.policy(rule_for(world.analyst.public, columns=(ANY,)))
    tree = json.loads(wider.to_bytes())
    tree["signatures"][0]["sig"] = STRANGER.signature(wider.payload_type, wider.payload).hex()

    def put(signed: bytes) -> bytes:
        with world.broker.custody().store.transaction() as session:
            row = session.scalars(select(PolicyRow)).one()
            before, row.signed = row.signed, signed
        return before

    genuine = put(json.dumps(tree).encode())
    for ask in (world.submit, lambda: world.granted(job_id), lambda: world.submit(inputs={"features": "ssn"})):
        with pytest.raises(SignatureError):
            ask()
    put(genuine)
    world.granted(world.submit())


def test_a_backup_is_made_for_the_brokers_own_recovery_key(world: World) -> None:
    """A recovery key that somebody put into the place of the broker's gets no backup, of whose keys it would open all."""
    custodians = [PrivateIdentity.generate(name) for name in ("carol", "dave")]
    key, shares = split(world.keystore.identity, [custodian.public for custodian in custodians], 2)
    genuine = RecoveryKey.from_bytes(key.payload)
    mine = replace(genuine, recipient_key=RecipientKey.generate().public_bytes)
    with closing(Database(world.url)) as database:
        for other in (forged(key), STRANGER.sign(genuine), STRANGER.sign(mine), replace(key, payload=mine.to_bytes())):
            file = io.BytesIO()
            with pytest.raises(SignatureError):
                write_backup(file, world.keystore, database, other, now=1)
            assert file.getvalue() == b""
        write_backup(file, world.keystore, database, key, now=1)
    words = [open_share(share, custodian)[1] for share, custodian in zip(shares, custodians, strict=True)]
    backup = file.getvalue()
    length = int.from_bytes(backup[:4], "big")
    header = forged(Signed.from_bytes(backup[4 : 4 + length])).to_bytes()
    with pytest.raises(SignatureError):
        read_keystore(io.BytesIO(len(header).to_bytes(4, "big") + header + backup[4 + length :]), combine(words))
    assert read_keystore(io.BytesIO(backup), combine(words))[0].identity.public == world.broker.identity
