"""Is a lost broker restored by enough of its custodians, and does an older store wait for the owners?"""

import errno
import io
import itertools
import pkgutil
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
from broker_world import World, make_world, rule_for
from sqlalchemy import create_engine, text
from typer.testing import CliRunner

from securemllib.broker.audit_log import AuditHead, entries, signed_head, verify_log
from securemllib.broker.backup import read_keystore, read_rows, write_backup
from securemllib.broker.keystore import Keystore, create_keystore, open_keystore, pack
from securemllib.broker.recovery import RecoveryKey, combine, split
from securemllib.broker.schema import Base
from securemllib.broker.service import Broker
from securemllib.broker.store import Database, Store
from securemllib.cli import app
from securemllib.crypto.aead import seal
from securemllib.crypto.identity import PrivateIdentity
from securemllib.crypto.keys import DataKey
from securemllib.crypto.wrapping import wrap
from securemllib.errors import (
    FreshnessError,
    IntegrityError,
    RefusedError,
    SecureMLlibError,
    SignatureError,
    UnsealError,
    UsageError,
)
from securemllib.owner.shares import open_share
from securemllib.wire.encoding import MESSAGE_LIMIT, encode, length_prefixed
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.notices import RecoveryShare, StoreAcceptance
from securemllib.wire.record import Record
from securemllib.wire.signed import Signed

CUSTODIANS = [PrivateIdentity.generate(name) for name in ("carol", "dave", "erin")]


def shares_of(keystore: Keystore, threshold: int = 2) -> tuple[Signed, list[str]]:
    """Return a recovery key and the words of its shares, each opened by its custodian."""
    key, shares = split(keystore.identity, [custodian.public for custodian in CUSTODIANS], threshold)
    return key, [open_share(share, custodian)[1] for share, custodian in zip(shares, CUSTODIANS, strict=True)]


def backup_of(world: World, key: Signed) -> bytes:
    """Return a backup of the world's broker, which goes on."""
    file = io.BytesIO()
    with closing(Database(world.url)) as database:
        write_backup(file, world.keystore, database, key, now=int(world.clock.now))
    return file.getvalue()


def restored(backup: bytes, words: list[str], world: World, folder: Path, url: str) -> World:
    """Return a world around the broker that a backup gives at another database."""
    file = io.BytesIO(backup)
    keystore, _, groups = read_keystore(file, combine(words))
    store = Store(url, keystore.store_key)
    read_rows(store, groups)
    store.close()
    folder.mkdir()
    again = make_world(folder, keystore, url)
    again.owner, again.analyst, again.manifest, again.clock.now = world.owner, world.analyst, world.manifest, world.clock.now
    return again


def acceptance(world: World, head: AuditHead, signer: PrivateIdentity | None = None, **changes: int) -> Signed:
    """Return an owner's acceptance of a restored store."""
    fields = {"sequence": head.sequence, "created": int(world.clock.now), **changes}
    record = StoreAcceptance(broker=world.broker.identity.fingerprint, entry=head.entry, **fields)
    return (signer or world.owner.identity).sign(record)


def execute(world: World, *statements: str) -> None:
    """Change the world's database behind its broker's back."""
    engine = create_engine(world.url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def refused(call: Callable[[], object], code: str) -> None:
    """Expect a refusal with that code."""
    with pytest.raises(SecureMLlibError) as found:
        call()
    assert found.value.error_code == code


def test_the_drill(world: World, tmp_path: Path, empty_database: str) -> None:
    """Two of three custodians restore a lost broker to an empty database of either kind; once the owner accepts, old datasets train."""
    world.enrol()
    model, (key, words) = world.trained(), shares_of(world.keystore)
    backup = backup_of(world, key)
    world.broker.close()
    again = restored(backup, [words[2], words[0]], world, tmp_path / "new", empty_database)
    assert again.broker.identity == world.keystore.identity.public
    head = again.broker.recover([])
    refused(again.submit, "refused.store.restored")
    again.broker.accept_store(acceptance(again, head))
    grant = again.granted(again.submit()).grant
    assert grant is not None
    assert grant.datasets[0].secret == world.owner.secret.expose()
    assert again.trained() != model
    with again.broker.custody().store.transaction() as session:
        signed = signed_head(session)
        assert signed is not None
        verify_log(entries(session), signed, again.broker.identity)
    again.broker.close()


def test_too_few_or_other_shares_give_nothing(world: World) -> None:
    """Each single share, one share twice, and shares of different keys make no key; any two of one key do."""
    key, words = shares_of(world.keystore)
    other = shares_of(world.keystore)[1]
    backup = backup_of(world, key)
    for wrong in ([words[0]], [words[1]], [words[0]] * 2, [words[0], other[1]], [], ["no words"], [words[0], words[1] + " academic"]):
        with pytest.raises(UnsealError):
            combine(wrong)
    for pair in ((0, 1), (0, 2), (1, 2)):
        assert read_keystore(io.BytesIO(backup), combine([words[index] for index in pair]))[0].identity.public == world.broker.identity
    with pytest.raises(UnsealError):
        read_keystore(io.BytesIO(backup), combine(other[:2]))


def test_a_share_is_its_custodians(world: World) -> None:
    """A share opens for its custodian alone, and only where the broker that it names signed it."""
    _, shares = split(world.keystore.identity, [custodian.public for custodian in CUSTODIANS], 2)
    assert open_share(shares[0], CUSTODIANS[0])[0] == world.broker.identity
    with pytest.raises(UnsealError):
        open_share(shares[0], CUSTODIANS[1])
    forged = PrivateIdentity.generate("mallory").sign(RecoveryShare.from_bytes(shares[0].payload))
    with pytest.raises(SignatureError):
        open_share(forged, CUSTODIANS[0])


@pytest.mark.parametrize(("number", "threshold"), [(1, 1), (3, 1), (3, 4), (0, 2)])
def test_one_custodian_is_not_enough(world: World, number: int, threshold: int) -> None:
    """A threshold of one, or above the number of custodians, is refused, and so is the same custodian twice."""
    with pytest.raises(UsageError):
        split(world.keystore.identity, [custodian.public for custodian in CUSTODIANS[:number]], threshold)
    with pytest.raises(UsageError):
        split(world.keystore.identity, [CUSTODIANS[0].public] * 3, 2)


def test_one_recipient_key_holds_one_share(world: World) -> None:
    """Two identities with the same recipient key are one custodian, beside two with keys of their own."""
    first, second = (custodian.public for custodian in CUSTODIANS[:2])
    split(world.keystore.identity, [first, second], 2)
    with pytest.raises(UsageError, match="1 custodians"):
        split(world.keystore.identity, [first, replace(second, recipient_key=first.recipient_key)], 2)


def test_a_changed_or_cut_backup_is_refused(world: World, tmp_path: Path) -> None:
    """A flipped bit anywhere, a missing end, and parts in another order are refused, and nothing of them reaches the database."""
    world.enrol()
    key, words = shares_of(world.keystore)
    backup, recovery = backup_of(world, key), combine(words[:2])
    store = Store(f"sqlite:///{tmp_path / 'new.db'}", world.keystore.store_key)

    def read(data: bytes) -> None:
        _, _, groups = read_keystore(io.BytesIO(data), recovery)
        read_rows(store, groups)

    flipped = [backup[:at] + bytes([backup[at] ^ 1]) + backup[at + 1 :] for at in range(0, len(backup), len(backup) // 40)]
    for wrong in [*flipped, backup[:-100], backup[: len(backup) // 2], b""]:
        with pytest.raises(IntegrityError):
            read(wrong)
    read(backup)
    with pytest.raises(UsageError, match="empty database"):
        read(backup)
    store.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Header(Record):
    """The first frame of a backup, as it is on the wire."""

    TYPE: ClassVar[str] = "securemllib/broker-backup/v1"

    broker: PublicIdentity
    key: Signed
    created: int
    wrapped: bytes


def written_by(broker: PrivateIdentity, keystore: Keystore, key: Signed) -> bytes:
    """Return a backup without rows that one broker signed, with whosever keys in it."""
    own = DataKey.generate()
    context = length_prefixed(Header.TYPE, broker.public.fingerprint, key.to_bytes(), 1)
    wrapped = wrap(RecoveryKey.from_bytes(key.payload).recipient_key, context, own.expose())
    signed = broker.sign(Header(broker=broker.public, key=key, created=1, wrapped=wrapped))
    plain = (pack(keystore), encode(["", [], []]))
    places = (length_prefixed("securemllib/broker-backup-part/v1", signed.content_digest(), number) for number in range(len(plain)))
    frames = [signed.to_bytes(), *(seal(own, place, part) for place, part in zip(places, plain, strict=True))]
    return b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)


def test_a_backup_holds_the_keys_of_the_broker_that_it_names(world: World) -> None:
    """A backup that one broker signed and that holds another's keys is refused: custodians would restore another broker than it says."""
    key, words = shares_of(world.keystore)
    recovery, other = combine(words[:2]), Keystore(identity=PrivateIdentity.generate("broker"), store_key=DataKey.generate())
    with pytest.raises(IntegrityError):
        read_keystore(io.BytesIO(written_by(world.keystore.identity, other, key)), recovery)
    found, _, groups = read_keystore(io.BytesIO(written_by(world.keystore.identity, world.keystore, key)), recovery)
    assert (found.identity.public, list(groups)) == (world.broker.identity, [])


def test_a_backup_of_long_rows_is_restored(world: World, tmp_path: Path) -> None:
    """Rows that together are longer than a part of the file come back, each once; one that alone is longer is not backed up at all."""
    world.enrol()
    key, words = shares_of(world.keystore)
    row = "INSERT INTO dataset_versions SELECT dataset_id, {}, digest, sealed_secret, zeroblob({}) FROM dataset_versions WHERE version = 1"
    execute(world, *(row.format(version, length) for version, length in enumerate([10 * 2**20, 30 * 2**20, 30 * 2**20], 2)))
    again = restored(backup_of(world, key), words[:2], world, tmp_path / "new", f"sqlite:///{tmp_path / 'new.db'}")
    lengths = "SELECT version, length(sealed_columns) FROM dataset_versions ORDER BY version"
    read = [sqlite3.connect(folder).execute(lengths).fetchall() for folder in (world.folder / "broker.db", tmp_path / "new.db")]
    assert len(read[0]) == 4
    assert read[0] == read[1]
    again.broker.close()
    execute(world, row.format(5, MESSAGE_LIMIT))
    refused(lambda: backup_of(world, key), "unavailable.capacity.backup")


def test_an_older_versions_database_is_backed_up(stored: World, tmp_path: Path) -> None:
    """Without tables that came later it restores with those empty; without a column of one, or without any table, it is refused."""
    stored.enrol()
    key, words = shares_of(stored.keystore)
    execute(stored, "DROP TABLE recovery", "DROP TABLE key_encryption_key")
    again = restored(backup_of(stored, key), words[:2], stored, tmp_path / "new", f"sqlite:///{tmp_path / 'new.db'}")
    again.broker.accept_store(acceptance(again, again.broker.recover([])))
    again.granted(again.submit())
    again.broker.close()
    execute(stored, "ALTER TABLE datasets DROP COLUMN is_frozen")
    with pytest.raises(UsageError, match="datasets has no column is_frozen"):
        backup_of(stored, key)
    execute(stored, *(f"DROP TABLE IF EXISTS {table.name}" for table in reversed(Base.metadata.sorted_tables)))
    refused(lambda: backup_of(stored, key), "usage.database")


def test_a_database_that_is_put_back_under_a_running_broker_is_noticed(world: World, tmp_path: Path) -> None:
    """An older copy that replaces the rows while the broker runs makes it refuse its next decision; before, it decides."""
    world.enrol(rule_for(world.analyst.public, maximum_runs=1))
    live = sqlite3.connect(world.folder / "broker.db")
    old = sqlite3.connect(tmp_path / "old.db")
    live.backup(old)
    job = world.analyst.sign(world.job())
    world.broker.submit(job)
    world.broker.submit(job)
    old.backup(live)
    live.close()
    old.close()
    for _ in range(2):
        refused(world.submit, "integrity.freshness.store")
    assert len(world.events()) == 3


def test_a_database_that_another_broker_filled_up_again_is_noticed(world: World, tmp_path: Path) -> None:
    """A copy that was put back is refused by the broker whose entries it lacks, though a second broker brought it to more entries."""
    world.enrol()
    live = sqlite3.connect(world.folder / "broker.db")
    old = sqlite3.connect(tmp_path / "old.db")
    live.backup(old)
    world.submit()
    old.backup(live)
    live.close()
    old.close()
    second = Broker(world.keystore, world.url, tmp_path / "second.sml", clock=world.clock)
    for _ in range(3):
        second.trust_owner(world.owner.identity.public)
    refused(world.submit, "integrity.freshness.store")
    second.trust_owner(world.owner.identity.public)
    second.close()


def test_an_older_store_waits_for_its_owners(world: World) -> None:
    """A database from before is refused; recovered, each owner's datasets are frozen until that owner accepts that very store."""
    world.enrol(rule_for(world.analyst.public, maximum_runs=2))
    running = world.submit()
    enclave = world.granted(running)
    path = world.folder / "broker.db"
    world.broker.close()
    old = path.read_bytes()
    world.broker = Broker(world.keystore, world.url, world.folder / "head.sml", clock=world.clock)
    world.submit()
    world.broker.close()
    path.write_bytes(old)
    with pytest.raises(FreshnessError, match="older"):
        Broker(world.keystore, world.url, world.folder / "head.sml", clock=world.clock)
    world.broker = Broker(world.keystore, world.url, world.folder / "head.sml", clock=world.clock, may_be_older=True)
    head = world.broker.recover([])
    refused(world.submit, "refused.store.restored")
    refused(lambda: world.broker.move_head(running, enclave.update(None, enclave.head(1))), "integrity.freshness.finished")
    stranger = PrivateIdentity.generate("stranger")
    for wrong, kind in (
        (acceptance(world, head, stranger), RefusedError),
        (acceptance(world, head, sequence=head.sequence - 1), FreshnessError),
        (acceptance(world, head, created=1), FreshnessError),
    ):
        with pytest.raises(kind):
            world.broker.accept_store(wrong)
    refused(world.submit, "refused.store.restored")
    policy = world.owner.policy(rule_for(world.analyst.public, maximum_runs=3), serial=2)
    world.broker.set_policy(world.owner.dataset_id, policy)
    assert world.broker.accept_store(acceptance(world, head)) == [world.owner.dataset_id]
    world.granted(world.submit())
    world.broker.close()
    Broker(world.keystore, world.url, world.folder / "head.sml", clock=world.clock).close()


def test_what_was_revoked_since_is_revoked_before_it_could_accept(world: World, tmp_path: Path) -> None:
    """An owner's identity that was revoked after the backup accepts nothing and sends no policy; unrevoked, it would. The log tells."""
    world.enrol()
    key, words = shares_of(world.keystore)
    backup, thief = backup_of(world, key), world.owner.identity
    world.broker.revoke_by_operator(thief.public.fingerprint)
    for stated, folder in (([thief.public.fingerprint], "stated"), ([], "forgotten")):
        again = restored(backup, words[:2], world, tmp_path / folder, f"sqlite:///{tmp_path / folder}.db")
        head = again.broker.recover(stated)
        policy = again.owner.policy(rule_for(again.analyst.public), serial=2)
        if stated:
            refused(lambda again=again, head=head: again.broker.accept_store(acceptance(again, head)), "refused.key.revoked")
            refused(lambda again=again, policy=policy: again.broker.set_policy(again.owner.dataset_id, policy), "refused.key.revoked")
            refused(again.submit, "refused.store.restored")
            event = next(event for event in again.events() if event["event"] == "recover")
            assert event["revoked"] == stated
        else:
            again.broker.set_policy(again.owner.dataset_id, policy)
            again.broker.accept_store(acceptance(again, head))
            again.submit()
        again.broker.close()


def test_a_slip_revokes_nobody_and_is_refused(world: World) -> None:
    """What is no fingerprint is refused, and with it the whole recovery; a fingerprint is revoked."""
    fingerprint = world.analyst.public.fingerprint
    for wrong in (fingerprint[:-1], fingerprint.upper(), ""):
        refused(lambda wrong=wrong: world.broker.revoke_by_operator(wrong), "usage.fingerprint")
        refused(lambda wrong=wrong: world.broker.recover([fingerprint, wrong]), "usage.fingerprint")
    world.enrol()
    world.submit()
    world.broker.revoke_by_operator(fingerprint)
    refused(world.submit, "refused.key.revoked")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's home with identities of three custodians."""
    monkeypatch.setenv("SECUREMLLIB_HOME", str(tmp_path))
    for name in ("carol", "dave", "erin"):
        run("init", name, "--no-passphrase")
    return tmp_path


def run(*arguments: str) -> str:
    """Run a command in this process and return what it printed; raise what it raised."""
    result = CliRunner().invoke(app, list(arguments))
    if isinstance(result.exception, SecureMLlibError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_drill_from_the_command(home: Path) -> None:
    """The operator's and the custodians' commands make shares and a backup, and restore the same broker in another directory."""
    create_keystore_of = home / "broker"
    create_keystore_of.mkdir(mode=0o700)
    public = create_keystore(create_keystore_of / "keystore.sml", "broker", None).identity.public
    names = ("carol", "dave", "erin")
    with pytest.raises(UsageError, match="no custodians"):
        run("broker", "backup", str(home / "none.backup"))
    run("broker", "trust-owner", str(home / "carol.pub"))
    run("broker", "custodians", *(str(home / f"{name}.pub") for name in names), "--threshold", "2", "--output", str(home / "shares"))
    sqlite3.connect(home / "other.db").close()
    with pytest.raises(UsageError, match="no table of a broker"):
        run("broker", "backup", str(home / "broker.backup"), "--database", f"sqlite:///{home / 'other.db'}")
    run("broker", "backup", str(home / "broker.backup"))
    for name in names:
        words = run("identity", "share", str(home / "shares" / f"{name}.share"), "--identity", name)
        (home / f"{name}.words").write_text(words, encoding="ascii")
    arguments = ["broker", "restore", str(home / "broker.backup"), "--no-passphrase", "--home"]
    shares = ["--share", str(home / "erin.words"), "--share", str(home / "carol.words")]
    dave = re.findall(r"[a-z2-7]{52}", run("identity", "show", "--identity", "dave"))[0]
    for stated in ([], ["--nothing-revoked", "--revoked", dave], ["--revoked", dave[:-1]]):
        with pytest.raises(UsageError, match=r"revoked|fingerprint"):
            run(*arguments, str(home / "none"), *shares, *stated)
    assert not (home / "none").exists()
    arguments.insert(2, "--nothing-revoked")
    with pytest.raises(UnsealError):
        run(*arguments, str(home / "one"), "--share", str(home / "carol.words"))
    assert not (home / "one").exists()
    told = run(*arguments, str(home / "two"), *shares)
    assert public.fingerprint in told
    assert re.search(r"accept-store --sequence 1 --entry [0-9a-f]{64}", told)
    assert open_keystore(home / "two" / "keystore.sml", None).identity.public == public
    assert "2 entries" in run("audit", "verify", "--home", str(home / "two"))


@pytest.mark.parametrize(
    ("step", "succeeding", "error", "told"),
    [
        ("broker.backup._write", 1, OSError(errno.ENOSPC, "full"), "unavailable.capacity.disk"),
        ("broker.backup._write", 1, KeyboardInterrupt(), ""),
        ("owner.atomic.os.fsync", 0, OSError(errno.EIO, "broken"), "unavailable.storage"),
    ],
    ids=["full", "interrupted", "not synced"],
)
def test_a_backup_is_there_whole_or_not_at_all(
    home: Path, monkeypatch: pytest.MonkeyPatch, step: str, succeeding: int, error: BaseException, told: str
) -> None:
    """A disk that is full or does not sync, and an interruption, leave no file of a backup; after them one is written, and kept."""
    people = [str(home / f"{name}.pub") for name in ("carol", "dave")]
    run("broker", "init", "--no-passphrase")
    run("broker", "trust-owner", people[0])
    run("broker", "custodians", *people, "--threshold", "2", "--output", str(home / "shares"))
    target = home / "copies" / "nightly.backup"
    target.parent.mkdir()
    real, calls = pkgutil.resolve_name(f"securemllib.{step}"), itertools.count()

    def fail(*arguments: object) -> object:
        if next(calls) >= succeeding:
            raise error
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(f"securemllib.{step}", fail)
        result = CliRunner().invoke(app, ["broker", "backup", str(target)])
    assert result.exit_code != 0
    assert getattr(result.exception, "error_code", "") == told
    assert list(target.parent.iterdir()) == []
    run("broker", "backup", str(target))
    whole = target.read_bytes()
    with pytest.raises(UsageError, match="exists"):
        run("broker", "backup", str(target))
    assert [path.read_bytes() for path in target.parent.iterdir()] == [whole]
