"""Who can use the files that hold an owner's keys?"""

import copy
import pickle
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from tests.owner.conftest import Owner

from securemllib.crypto.identity import PrivateIdentity
from securemllib.crypto.locked import Locked, lock, unlock, write_private
from securemllib.errors import FormatError, FreshnessError, UnavailableError, UnsealError, UsageError
from securemllib.kms.file import FileKey
from securemllib.kms.key import Binding, WrappedSecret
from securemllib.kms.turns import turn
from securemllib.owner import identity_file
from securemllib.owner import keystore as keystore_module
from securemllib.owner.home import Home
from securemllib.owner.keystore import Keystore
from securemllib.owner.reading import open_dataset
from securemllib.wire.dataset import Manifest


def test_an_identity_comes_back_with_its_passphrase(tmp_path: Path) -> None:
    """The right passphrase gives the identity back; a wrong one is refused with words that say so, and no passphrase likewise."""
    made = identity_file.create(tmp_path, "alice", "correct horse")
    path = tmp_path / "alice.identity"
    assert identity_file.load(path, "correct horse").public == made.public
    with pytest.raises(UnsealError, match="passphrase does not open") as caught:
        identity_file.load(path, "wrong horse")
    assert caught.value.error_code == "integrity.unseal.passphrase"
    with pytest.raises(UsageError, match="protected by a passphrase"):
        identity_file.load(path)


def test_the_private_keys_are_not_in_the_file(tmp_path: Path) -> None:
    """With a passphrase the file holds no byte sequence of the private keys; without one it does, and says so."""
    sealed = identity_file.create(tmp_path, "sealed", "correct horse")
    plain = identity_file.create(tmp_path, "plain", None)
    assert sealed.expose()[:32] not in (tmp_path / "sealed.identity").read_bytes()
    assert plain.expose()[:32] in (tmp_path / "plain.identity").read_bytes()
    assert identity_file.has_passphrase(tmp_path / "sealed.identity")
    assert not identity_file.has_passphrase(tmp_path / "plain.identity")


def test_a_private_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """A private key file is made with mode 0600, and refused once others may read it."""
    identity_file.create(tmp_path, "alice", None)
    path = tmp_path / "alice.identity"
    assert path.stat().st_mode & 0o777 == 0o600
    identity_file.load(path)
    path.chmod(0o640)
    with pytest.raises(UsageError, match="can be read by others"):
        identity_file.load(path)


def test_an_identity_is_never_overwritten(tmp_path: Path) -> None:
    """Making an identity of an existing name is refused and leaves the existing one."""
    made = identity_file.create(tmp_path, "alice", None)
    with pytest.raises(UsageError, match="exists"):
        identity_file.create(tmp_path, "alice", None)
    assert identity_file.load(tmp_path / "alice.identity").public == made.public
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["alice.identity", "alice.pub"]


@pytest.mark.parametrize("name", ["", "../alice", ".hidden", "a/b", "a" * 65, "white space"])
def test_an_odd_name_is_refused(tmp_path: Path, name: str) -> None:
    """A name that is no plain file name is refused before anything is written."""
    with pytest.raises(UsageError, match="name"):
        identity_file.create(tmp_path, name, None)
    assert list(tmp_path.iterdir()) == []


def test_halves_of_two_identities_are_refused(tmp_path: Path) -> None:
    """A file whose private keys belong to another public identity is refused."""
    alice, bob = PrivateIdentity.generate("alice"), PrivateIdentity.generate("bob")
    path = tmp_path / "mixed.identity"
    path.touch(0o600)
    path.write_bytes(lock("securemllib identity", alice.public.to_bytes(), bob.expose(), None).to_bytes())
    with pytest.raises(FormatError, match="holds the private keys"):
        identity_file.load(path)


def test_a_public_file_is_read_and_nothing_else_is(tmp_path: Path) -> None:
    """A .pub file gives the public identity; other text is refused."""
    made = identity_file.create(tmp_path, "alice", None)
    assert identity_file.load_public(tmp_path / "alice.pub") == made.public
    for text in ("", "hello", "aGVsbG8=", "x" * 20_000):
        (tmp_path / "other.pub").write_text(text)
        with pytest.raises(FormatError):
            identity_file.load_public(tmp_path / "other.pub")


def test_a_changed_locked_file_is_refused() -> None:
    """What stands in the clear beside a sealed secret is under the seal: a changed name or cost does not open."""
    locked = lock("purpose", b"public", b"secret", "passphrase")
    assert unlock(locked, "purpose", "passphrase") == b"secret"
    fields = {name: getattr(locked, name) for name in locked.__slots__}
    for changed in ({"public": b"other"}, {"log2_cost": 14}, {"salt": bytes(16)}):
        with pytest.raises(UnsealError):
            unlock(Locked(**{**fields, **changed}), "purpose", "passphrase")
    with pytest.raises(FormatError, match="not a other purpose"):
        unlock(locked, "other purpose", "passphrase")


def test_a_cost_that_would_fill_the_memory_is_refused() -> None:
    """A file cannot make scrypt take more than a gigabyte."""
    Locked(purpose="p", public=b"", salt=b"s", log2_cost=20, secret=b"")
    with pytest.raises(FormatError):
        Locked(purpose="p", public=b"", salt=b"s", log2_cost=21, secret=b"")


def test_another_secret_is_no_key_encryption_key(tmp_path: Path) -> None:
    """A file that holds a secret for something else, of whatever length, wraps nothing: its owner meant it for something else."""
    kek, other = tmp_path / "kek", tmp_path / "other"
    FileKey.create(kek, None)
    assert FileKey.open(kek).describe().version == 1
    write_private(other, lock("something else", b"", bytes(32), None).to_bytes())
    with pytest.raises(FormatError, match="not a securemllib key-encryption key"):
        FileKey.open(other)


def test_an_empty_passphrase_is_refused(tmp_path: Path) -> None:
    """An empty passphrase is not taken for none."""
    with pytest.raises(UsageError, match="empty passphrase"):
        identity_file.create(tmp_path, "alice", "")


def test_a_keystore_opens_with_its_passphrase_only(tmp_path: Path) -> None:
    """A keystore gives the same secrets after it was opened again; a wrong passphrase is refused."""
    keystore = Keystore.create(tmp_path / "keystore", "correct horse")
    secret = keystore.add("0" * 32, "patients")
    assert Keystore.open(tmp_path / "keystore", "correct horse").secret("0" * 32).expose() == secret.expose()
    with pytest.raises(UnsealError, match="passphrase"):
        Keystore.open(tmp_path / "keystore", "wrong horse")


def test_dataset_secrets_are_sealed_under_the_kek(tmp_path: Path) -> None:
    """No dataset secret stands in the keystore's files, an entry opens only in its own place, and forgetting it shreds it."""
    keystore = Keystore.create(tmp_path / "keystore", None)
    secret = keystore.add("0" * 32, "patients")
    keystore.add("1" * 32, "others")
    assert all(secret.expose() not in path.read_bytes() for path in (tmp_path / "keystore").iterdir())
    assert [entry.name for entry in keystore] == ["patients", "others"]
    (tmp_path / "keystore" / ("1" * 32)).write_bytes((tmp_path / "keystore" / ("0" * 32)).read_bytes())
    with pytest.raises(UnsealError):
        keystore.secret("1" * 32)
    assert keystore.secret("0" * 32).expose() == secret.expose()
    keystore.forget("0" * 32)
    with pytest.raises(UsageError, match="no secret"):
        keystore.secret("0" * 32)


def next_version(manifest: Manifest) -> Manifest:
    """Return the manifest of the version after."""
    return replace(manifest, version=manifest.version + 1, previous=manifest.reference.digest)


def test_a_version_that_is_noted_while_secrets_are_wrapped_anew_stays_noted(
    owner: Owner, table: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever wraps anew writes no older note back: who has a version to note waits for the turn's end, and notes it then."""
    monkeypatch.setattr("securemllib.kms.turns.WAIT_SECONDS", 0.0)
    first = owner.encrypt(table, tmp_path / "dataset")
    second, other, rewrap = next_version(first), Keystore.open(tmp_path / "home" / "keystore"), FileKey.rewrap
    noted: list[Manifest] = []
    owner.keystore.kek.rotate()

    def record_meanwhile(key: FileKey, wrapped: WrappedSecret, binding: Binding) -> WrappedSecret:
        with suppress(UnavailableError):
            other.record(second)
            noted.append(second)
        return rewrap(key, wrapped, binding)

    with monkeypatch.context() as patch:
        patch.setattr(FileKey, "rewrap", record_meanwhile)
        assert owner.keystore.rewrap() == 1
    if not noted:
        other.record(second)
    assert owner.keystore.key_versions() == {2: 1}
    assert owner.keystore.entry(first.dataset_id).version == 2
    with pytest.raises(FreshnessError, match="latest, which is version 2"):
        owner.keystore.record(first)


def test_what_changes_before_a_secret_is_wrapped_anew_is_kept(
    owner: Owner, table: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that was noted, and a dataset that was forgotten, after wrapping anew began stay so; what did not change is wrapped."""
    first, names = owner.encrypt(table, tmp_path / "dataset"), keystore_module.names_in
    for dataset_id in ("0" * 32, "1" * 32):
        owner.keystore.add(dataset_id, "patients")
    other = Keystore.open(tmp_path / "home" / "keystore")

    def then_changed(directory: Path) -> list[str]:
        found = names(directory)
        other.record(next_version(first))
        other.forget("0" * 32)
        return found

    owner.keystore.kek.rotate()
    with monkeypatch.context() as patch:
        patch.setattr(keystore_module, "names_in", then_changed)
        assert owner.keystore.rewrap() == 2
    assert {entry.dataset_id: entry.version for entry in owner.keystore} == {first.dataset_id: 2, "1" * 32: 0}
    assert owner.keystore.key_versions() == {2: 2}


def test_who_only_reads_waits_for_nobody(owner: Owner, table: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another process holds the keystore, a dataset whose version is noted opens; nothing new is kept until it ends."""
    monkeypatch.setattr("securemllib.kms.turns.WAIT_SECONDS", 0.0)
    owner.encrypt(table, tmp_path / "dataset")
    with turn(tmp_path / "home" / "keystore"):
        open_dataset(tmp_path / "dataset", owner=owner.identity.public, keystore=owner.keystore)
        for change in (
            lambda: owner.keystore.add("0" * 32, "patients"),
            lambda: owner.keystore.add_join_group("patients"),
            lambda: owner.keystore.forget("0" * 32),
        ):
            with pytest.raises(UnavailableError, match="Another process is changing"):
                change()
    owner.keystore.add("0" * 32, "patients")


def test_keys_do_not_show_and_do_not_travel(tmp_path: Path) -> None:
    """Neither keystore entries nor keystores print a secret, and a keystore cannot be pickled or copied deeply."""
    keystore = Keystore.create(tmp_path / "keystore", None)
    secret = keystore.add("0" * 32, "patients")
    shown = repr(keystore.entry("0" * 32)) + repr(keystore)
    assert repr(secret.expose())[2:-1] not in shown
    for leak in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            leak(keystore)


def test_a_home_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    """The home directory is made for its user alone, and refused once it is open to others."""
    home = Home(tmp_path / "home")
    home.make()
    home.check()
    (tmp_path / "home").chmod(0o755)
    with pytest.raises(UsageError, match="open to others"):
        home.check()
