"""What does a key-encryption key protect at the broker, and what does it cost when its service fails?"""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from broker_world import Enclave, Owner, World, make_world, rule_for
from sqlalchemy import select

from securemllib.broker import dataset_secrets
from securemllib.broker.keystore import Keystore, write_keystore
from securemllib.broker.schema import DatasetRow, VersionRow
from securemllib.broker.service import Broker
from securemllib.crypto.identity import PrivateIdentity
from securemllib.crypto.keys import DataKey
from securemllib.errors import ConnectionLostError, FreshnessError, IntegrityError, UnavailableError, UnsealError
from securemllib.kms.file import FileKey
from securemllib.kms.key import Binding, KeyDescription, WrappedSecret
from securemllib.kms.names import create_key, open_key
from securemllib.wire.dataset import DatasetRef
from securemllib.wire.notices import KeyRotation

OTHER = "f" * 32
_SECRET = "securemllib/broker/dataset-secret/v1"


class WatchedKey:
    """A key in a file whose service can fail, and which tells what it was asked, and whether the database was free meanwhile."""

    def __init__(self, key: FileKey) -> None:
        self._key = key
        self.asked: list[str] = []
        self.world: World | None = None
        self.fails = False

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.fails:
            raise ConnectionLostError("The service does not answer.")

    def wrap(self, secret: DataKey, binding: Binding) -> WrappedSecret:
        self._ask("wrap")
        return self._key.wrap(secret, binding)

    def unwrap(self, wrapped: WrappedSecret, binding: Binding) -> DataKey:
        self._ask("unwrap")
        if self.world is not None:
            with self.world.broker.custody().look():  # would wait for ever within a transaction
                pass
        return self._key.unwrap(wrapped, binding)

    def rewrap(self, wrapped: WrappedSecret, binding: Binding) -> WrappedSecret:
        self._ask("rewrap")
        return self._key.rewrap(wrapped, binding)

    def rotate(self) -> int:
        return self._key.rotate()

    def shred(self) -> None:
        self._key.shred()

    def describe(self) -> KeyDescription:
        return self._key.describe()


@pytest.fixture
def kek(tmp_path: Path) -> WatchedKey:
    """A fresh key-encryption key."""
    return WatchedKey(FileKey.create(tmp_path / "kek", None))


@pytest.fixture
def guarded(tmp_path: Path, keystore: Keystore, kek: WatchedKey) -> Iterator[World]:
    """A world with an enrolled dataset whose secret is wrapped."""
    world = make_world(tmp_path, keystore, f"sqlite:///{tmp_path / 'broker.db'}", kek=kek)
    world.enrol()
    kek.world = world
    yield world
    world.broker.close()


def other_dataset(world: World) -> Owner:
    """Return the owner with another dataset."""
    return replace(world.owner, dataset_id=OTHER, secret=DataKey.generate())


def stored(world: World, dataset_id: str | None = None) -> bytes:
    """Return what the database holds of version 1's secret, as somebody who has the broker's keystore reads it."""
    custody = world.broker.custody()
    with custody.look() as transaction:
        dataset = dataset_id or world.owner.dataset_id
        return custody.store.unseal(transaction.session.get_one(VersionRow, (dataset, 1)).sealed_secret, _SECRET, dataset, 1)


def test_grants_hold_the_secret_and_the_database_does_not(guarded: World, keystore: Keystore) -> None:
    """An enclave gets the owner's secret; database and keystore without the key give none, and take none bare."""
    job_id = guarded.submit()
    granted = guarded.granted(job_id).grant
    assert granted is not None
    assert [given.secret for given in granted.datasets] == [guarded.owner.secret.expose()]
    assert guarded.owner.secret.expose() not in stored(guarded)
    other = other_dataset(guarded)
    guarded.broker.close()
    guarded.broker = Broker(keystore, guarded.url, guarded.folder / "head.sml", clock=guarded.clock)
    with pytest.raises(UnavailableError, match="started without the key"):
        guarded.granted(job_id)
    with pytest.raises(UnavailableError, match="started without the key"):
        guarded.broker.enrol(OTHER, other.enrolment(other.manifest()))


def test_a_secret_in_another_datasets_row_gets_no_grant(guarded: World) -> None:
    """Whoever controls database and keystore, but not the key-encryption key, cannot have one dataset's secret granted for another's."""
    mine, other = guarded.owner, other_dataset(guarded)
    guarded.broker.enrol(OTHER, other.enrolment(other.manifest()))
    guarded.broker.set_policy(OTHER, other.policy(rule_for(guarded.analyst.public)))
    job_id = guarded.submit()
    custody = guarded.broker.custody()
    theirs, own = stored(guarded, OTHER), stored(guarded)
    for content, is_own in ((theirs, False), (own, True)):
        with custody.look() as transaction:
            row = transaction.session.get_one(VersionRow, (mine.dataset_id, 1))
            row.sealed_secret = custody.store.seal(content, _SECRET, mine.dataset_id, 1)
        if is_own:
            guarded.granted(job_id)
        else:
            with pytest.raises(UnsealError, match="does not open under this key-encryption key"):
                guarded.granted(job_id)


def test_a_failing_service_costs_one_answer(guarded: World, kek: WatchedKey) -> None:
    """While the service fails, an enclave gets an error and keeps its challenge; the database is free while the service is asked."""
    job_id = guarded.submit()
    enclave = Enclave()
    session, challenge = guarded.broker.challenge(job_id, "insecure")
    kek.fails = True
    with pytest.raises(ConnectionLostError):
        guarded.broker.admit(session, enclave.evidence(challenge), job_id)
    kek.fails = False
    signed, _ = guarded.broker.admit(session, enclave.evidence(challenge), job_id)
    assert enclave.install(signed, guarded.broker.identity).datasets[0].secret == guarded.owner.secret.expose()


def test_a_stranger_does_not_reach_the_service(guarded: World, kek: WatchedKey) -> None:
    """Without a session that could get a grant, nothing is asked of the service."""
    job_id = guarded.submit()
    guarded.granted(job_id)
    asked = list(kek.asked)
    enclave = Enclave()
    session, challenge = guarded.broker.challenge(job_id, "insecure")
    for stranger in ("none", ""):
        with pytest.raises(FreshnessError):
            guarded.broker.admit(stranger, enclave.evidence(challenge), job_id)
    assert kek.asked == asked
    guarded.broker.admit(session, enclave.evidence(challenge), job_id)
    with pytest.raises(FreshnessError):
        guarded.broker.admit(session, enclave.evidence(challenge), job_id)
    assert kek.asked == [*asked, "unwrap"]


def test_rewrapping_replaces_the_old_bytes(guarded: World) -> None:
    """After a rotation and rewrapping no row holds its old bytes, all are under version 2, grants go on, and the audit log says so."""
    custody, before = guarded.broker.custody(), stored(guarded)
    assert dataset_secrets.key_versions(custody) == {1: 1}
    assert dataset_secrets.rotate(custody) == 2
    assert dataset_secrets.rewrap_all(custody) == 1
    assert dataset_secrets.key_versions(custody) == {2: 1}
    assert stored(guarded) != before
    guarded.granted(guarded.submit())
    told = [(event["event"], event["decision"]) for event in guarded.events() if event["event"].startswith("kek-")]
    assert told == [("kek-rotate", "accepted"), ("kek-rewrap", "accepted")]


def test_nothing_is_granted_after_shredding(guarded: World) -> None:
    """After the key is shredded no enclave gets the secret, the error says why, and the audit log holds who was the key."""
    job_id = guarded.submit()
    guarded.granted(job_id)
    dataset_secrets.shred(guarded.broker.custody())
    with pytest.raises(UnavailableError, match="was shredded"):
        guarded.granted(job_id)
    shredding = next(event for event in guarded.events() if event["event"] == "kek-shred")
    assert shredding["kek"].endswith("/kek")


def test_a_broker_comes_to_a_key_and_changes_it(tmp_path: Path, world: World, keystore: Keystore) -> None:
    """Secrets that were enrolled before there was a key are wrapped under it, and then under another; moving twice does no harm."""
    world.enrol()
    job_id = world.submit()
    for number in range(2):
        key = FileKey.create(tmp_path / f"kek{number}", None)
        for _ in range(2):
            assert dataset_secrets.move(world.broker.custody(), key, f"kek{number}") == 1
        world.broker.close()
        world.broker = Broker(keystore, world.url, tmp_path / "head.sml", clock=world.clock, kek=key)
        assert dataset_secrets.key_versions(world.broker.custody()) == {1: 1}
        granted = world.granted(job_id).grant
        assert granted is not None
        assert granted.datasets[0].secret == world.owner.secret.expose()


def test_an_owner_who_rotates_stays_the_tenant(guarded: World) -> None:
    """After the owner's identity was rotated the secret is granted and rewrapped as before; in another owner's name it is not read."""
    job_id = guarded.submit()
    new, stranger = PrivateIdentity.generate("new"), PrivateIdentity.generate("stranger")
    old = guarded.owner.identity
    notice = KeyRotation(old=old.public, new=new.public, broker=guarded.broker.identity.fingerprint, created=int(guarded.clock.now))
    guarded.broker.rotate(old.sign(notice), new.sign(notice))
    custody = guarded.broker.custody()
    assert dataset_secrets.rewrap_all(custody) == 1
    guarded.granted(job_id)
    guarded.broker.trust_owner(stranger.public)
    with custody.look() as transaction:
        transaction.session.get_one(DatasetRow, guarded.owner.dataset_id).owner = stranger.public.fingerprint
    with pytest.raises(IntegrityError, match="wrapped for another owner"):
        dataset_secrets.rewrap_all(custody)


ENROLLING = """
import sys
import structlog
from pathlib import Path
sys.path[:0] = [{tests!r}, {root!r}]
from dataclasses import replace
from broker_world import make_world
from securemllib.broker.keystore import open_keystore
from securemllib.crypto.identity import PrivateIdentity
from securemllib.crypto.keys import DataKey
from securemllib.errors import UnavailableError
from securemllib.broker.service import Broker
from securemllib.kms.names import open_key
from broker_world import Owner
structlog.configure(logger_factory=structlog.PrintLoggerFactory(file=sys.stderr))
folder = Path({folder!r})
broker = Broker(open_keystore(folder / "keystore.sml", None), {url!r}, folder / "head.sml", kek=open_key({old!r}, None), kek_name={old!r})
owner = Owner(broker=broker.identity)
broker.trust_owner(owner.identity.public)
for number in range(100_000):
    other = replace(owner, dataset_id=f"{{number:032x}}", secret=DataKey.generate())
    try:
        broker.enrol(other.dataset_id, other.enrolment(other.manifest()))
    except UnavailableError as error:
        print("refused", error.error_code, flush=True)
        break
    print(other.dataset_id, other.secret.expose().hex(), flush=True)
"""


def test_no_secret_stays_under_the_key_before(tmp_path: Path, keystore: Keystore) -> None:
    """One process enrols datasets while another changes the key: all secrets end under the new one, and the first has to start again."""
    old, new = (f"file://{tmp_path}/{name}" for name in ("old", "new"))
    for name in (old, new):
        create_key(name, None)
    write_keystore(tmp_path / "keystore.sml", keystore, None)
    url, here = f"sqlite:///{tmp_path / 'broker.db'}", Path(__file__).parent
    code = ENROLLING.format(tests=str(here), root=str(here.parents[1]), folder=str(tmp_path), url=url, old=old)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        broker = Broker(keystore, url, tmp_path / "head.sml", kek=open_key(old, None), kek_name=old)
        key = open_key(new, None)
        moved = dataset_secrets.move(broker.custody(), key, new)
        lines += process.communicate(timeout=300)[0].splitlines()
    assert lines[-1] == "refused unavailable.kek.changed"
    enrolled = dict(line.split() for line in lines[:-1])
    assert moved == len(enrolled) >= 3
    found = {}
    with broker.custody().look() as transaction:
        for row in transaction.session.scalars(select(VersionRow)):
            kept = dataset_secrets.kept_secret(transaction, DatasetRef(dataset_id=row.dataset_id, version=1, digest=row.digest))
            found[row.dataset_id] = kept.open(key).expose().hex()
    assert found == enrolled
    broker.close()


def test_a_process_of_before_rewraps_nothing(guarded: World, tmp_path: Path) -> None:
    """A broker that was started with the key before takes no secret and rewraps none; one that was started with the new key does both."""
    other, custody = other_dataset(guarded), guarded.broker.custody()
    new = FileKey.create(tmp_path / "new", None)
    custody.store.kek_name = "before"
    dataset_secrets.move(custody, new, "new")
    refusals = (lambda: guarded.broker.enrol(OTHER, other.enrolment(other.manifest())), lambda: dataset_secrets.rewrap_all(custody))
    for refused in refusals:
        with pytest.raises((UnavailableError, UnsealError)):
            refused()
    custody.store.kek, custody.store.kek_name = new, "new"
    for accepted in refusals:
        accepted()
    assert dataset_secrets.key_versions(custody) == {1: 2}
