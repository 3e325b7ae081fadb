"""Do the commands choose, renew and shred a key-encryption key in each service, for owners and for brokers?"""

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from securemllib.broker.store import Database
from securemllib.cli import app
from securemllib.crypto.keys import DataKey
from securemllib.errors import SecureMLlibError, UnavailableError, UnsealError, UsageError
from securemllib.kms.file import FileKey
from securemllib.kms.key import Binding, WrappedSecret
from securemllib.kms.names import create_key, open_key
from securemllib.owner.keystore import DatasetEntry, Keystore
from tests.kms.services import PAGE, Service

ONE_SERVICE = pytest.mark.parametrize("service", ["vault"], indirect=True)


def run(*arguments: str, answer: str | None = None, code: int = 0) -> str:
    """Run a command in this process and return what it printed; raise what it raised."""
    result = CliRunner().invoke(app, list(arguments), input=answer)
    if isinstance(result.exception, SecureMLlibError):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def home(tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory, not made yet, and a table beside it."""
    monkeypatch.setenv("SECUREMLLIB_HOME", str(tmp_path / "home"))
    (tmp_path / "visits.csv").write_text("age,income\n41,2.5\n67,1.25\n")
    return tmp_path / "home"


@pytest.mark.parametrize("service", ["vault", "pkcs11"], indirect=True)
def test_an_owner_keeps_secrets_under_a_service(service: Service, home: Path, tmp_path: Path) -> None:
    """Datasets are encrypted and read under a key that `create` made and `init --kms` named; rotated, rewrapped, and lost when shredded."""
    name = service.new_name()
    assert name in run("keys", "kms", "create", name, *(["--no-passphrase"] if service.kind == "file" else []))
    run("init", "alice", "--no-passphrase", "--kms", name, "--tenant", "hospital")
    assert not (home / "keystore" / "kek").exists()
    table, dataset = str(tmp_path / "visits.csv"), str(tmp_path / "visits")
    run("data", "encrypt", table, dataset)
    Keystore.open(home / "keystore").add_join_group("patients")
    assert f"{name}   " in run("keys", "kms", "status")
    assert "2 wrapped under version 1\n" in run("keys", "kms", "status")
    assert "version  2" in run("keys", "kms", "rotate")
    assert "2 wrapped under version 1   `securemllib keys kms rewrap`" in run("keys", "kms", "status")
    before = {path.name: path.read_bytes() for path in (home / "keystore").iterdir()}
    assert "rewrapped  2" in run("keys", "kms", "rewrap")
    after = {path.name: path.read_bytes() for path in (home / "keystore").iterdir()}
    assert [path for path in before if before[path] == after[path]] == ["service"]
    assert "2 wrapped under version 2\n" in run("keys", "kms", "status")
    run("data", "append", table, dataset, str(tmp_path / "more"))
    run("keys", "kms", "shred", answer="n\n", code=1)
    run("data", "decrypt", str(tmp_path / "more"), str(tmp_path / "plain.parquet"))
    run("keys", "kms", "shred", "--yes")
    with pytest.raises(UnavailableError, match="shredded"):
        run("data", "decrypt", str(tmp_path / "more"), str(tmp_path / "again.parquet"))


@ONE_SERVICE
def test_an_owner_moves_secrets_from_a_file_to_a_service_and_back(service: Service, home: Path, tmp_path: Path) -> None:
    """`use` wraps what a keystore holds under another key; what was encrypted before opens, and the old keystore is left to be removed."""
    run("init", "alice", "--no-passphrase")
    run("data", "encrypt", str(tmp_path / "visits.csv"), str(tmp_path / "visits"))
    Keystore.open(home / "keystore").add_join_group("patients")
    name, file = service.new_name(), f"file://{tmp_path}/kek"
    for key in (name, file):
        create_key(key)
        assert "wrapped  2 secrets" in run("keys", "kms", "use", key)
        with pytest.raises(UsageError, match="exists"):
            run("keys", "kms", "use", key)
        old = home / "keystore.old"
        for path in old.iterdir():
            path.unlink()
        old.rmdir()
        assert f"key      {key} " in run("keys", "kms", "status")
        run("data", "verify", str(tmp_path / "visits"))
        run("data", "decrypt", str(tmp_path / "visits"), str(tmp_path / f"{len(key)}.parquet"))


def interrupted_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[Keystore], None]) -> None:
    """Give the keystore another key, while something else happens to it as its first secret is copied."""
    other, wrap = Keystore.open(tmp_path / "home" / "keystore"), FileKey.wrap
    left = [meanwhile]

    def wrap_then(self: FileKey, secret: DataKey, binding: Binding) -> WrappedSecret:
        if left:
            left.pop()(other)
        return wrap(self, secret, binding)

    with monkeypatch.context() as patch:
        patch.setattr(FileKey, "wrap", wrap_then)
        run("keys", "kms", "use", f"file://{tmp_path}/kek")


def ids(keystore: Keystore) -> set[str]:
    """Return the datasets whose secrets a keystore opens."""
    return {entry.dataset_id for entry in keystore}


@ONE_SERVICE
def test_no_secret_is_left_behind_with_the_key_before(
    service: Service, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dataset that is encrypted while `use` copies waits for it, and is then told that the key is another; run again, it is kept."""
    monkeypatch.setattr("securemllib.kms.turns.WAIT_SECONDS", 0.0)
    name = service.new_name()
    for key in (name, f"file://{tmp_path}/kek"):
        create_key(key)
    run("init", "alice", "--no-passphrase", "--kms", name)
    Keystore.open(home / "keystore").add("0" * 32, "before")
    late: list[Keystore] = []

    def encrypt_meanwhile(other: Keystore) -> None:
        late.append(other)
        with pytest.raises(UnavailableError, match="Another process is changing"):
            other.add("1" * 32, "meanwhile")

    interrupted_use(tmp_path, monkeypatch, encrypt_meanwhile)
    for change in (
        lambda: late[0].add("1" * 32, "late"),
        lambda: late[0].add_join_group("late"),
        late[0].rewrap,
    ):
        with pytest.raises(UnavailableError) as caught:
            change()
        assert caught.value.error_code == "unavailable.kek.changed"
    Keystore.open(home / "keystore").add("1" * 32, "again")
    assert ids(Keystore.open(home / "keystore")) == {"0" * 32, "1" * 32}
    assert ids(Keystore.open(home / "keystore.old")) == {"0" * 32}


@ONE_SERVICE
def test_a_program_that_takes_no_turns_does_not_lose_a_secret(
    service: Service, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one adds a secret while `use` copies them, `use` fails and leaves the keystore as it is; the next try takes that one along."""
    create_key(f"file://{tmp_path}/kek")
    run("init", "alice", "--no-passphrase")
    Keystore.open(home / "keystore").add("0" * 32, "before")
    entry = DatasetEntry(dataset_id="1" * 32, name="meanwhile", secret=bytes(32), version=0, manifest_digest=b"")
    with pytest.raises(UnavailableError, match="stays as it is"):
        interrupted_use(tmp_path, monkeypatch, lambda other: other._write(entry, replace_file=False))
    assert ids(Keystore.open(home / "keystore")) == {"0" * 32, "1" * 32}
    assert not (home / "keystore.old").exists()
    with pytest.raises(UsageError, match=r"keystore\.new"):
        run("keys", "kms", "use", f"file://{tmp_path}/kek")
    shutil.rmtree(home / "keystore.new")
    assert "wrapped  2 secrets" in run("keys", "kms", "use", f"file://{tmp_path}/kek")
    assert ids(Keystore.open(home / "keystore")) == {"0" * 32, "1" * 32}


@ONE_SERVICE
def test_a_keystore_needs_its_key_from_the_first(service: Service, home: Path) -> None:
    """`init` with a key that is not there makes nothing, and a keystore that exists is not given another key."""
    with pytest.raises(SecureMLlibError):
        run("init", "alice", "--no-passphrase", "--kms", service.new_name())
    assert not home.exists()
    run("init", "alice", "--no-passphrase")
    name = service.new_name()
    create_key(name)
    with pytest.raises(UsageError, match="exists"):
        run("init", "bob", "--no-passphrase", "--kms", name)


@ONE_SERVICE
def test_a_broker_keeps_secrets_under_a_service(service: Service, home: Path) -> None:
    """A broker whose `init` named a key opens with it, shows, rotates and shreds it, and does not open without it."""
    name = service.new_name()
    create_key(name)
    run("broker", "init", "--no-passphrase", "--kms", name)
    assert f"key      {name} " in run("keys", "kms", "status", "--broker")
    assert "version  2" in run("keys", "kms", "rotate", "--broker")
    assert "rewrapped  0" in run("keys", "kms", "rewrap", "--broker")
    other = service.new_name()
    create_key(other)
    assert "wrapped  0" in run("keys", "kms", "use", other, "--broker")
    assert f"key      {other} " in run("keys", "kms", "status", "--broker")
    run("keys", "kms", "shred", "--broker", "--yes")
    with pytest.raises(UnavailableError, match="shredded"):
        run("keys", "kms", "status", "--broker")
    open_key(name)
    assert "4 entries" in run("audit", "verify")


@ONE_SERVICE
def test_the_pages_commands_do_what_it_says(service: Service, home: Path) -> None:
    """The commands of the page, in their order and with this server's address, all work."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("securemllib ")]
    ran = 0
    for line in lines:
        command = line.replace("vault://bao.example:8200/transit/keys/", service.pattern.removesuffix("{}")).partition("#")[0]
        if "serve" not in command:
            arguments = shlex.split(command)[1:]
            run(*arguments, *(["--no-passphrase"] if "init" in arguments else []), answer="y\n")
            ran += 1
    assert ran == len(lines) - 1 >= 8
    with pytest.raises(UnavailableError, match="shredded"):
        run("keys", "kms", "status")


def test_a_key_file_under_a_passphrase_is_asked_for_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A keystore and a broker whose key is a file under a passphrase open with that passphrase, and not without."""
    monkeypatch.setenv("SECUREMLLIB_HOME", str(tmp_path / "home"))
    words = tmp_path / "words"
    words.write_text("correct horse\n")
    name = f"file://{tmp_path}/kek"
    run("keys", "kms", "create", name, "--passphrase-file", str(words))
    run("init", "alice", "--kms", name, "--passphrase-file", str(words))
    assert "passphrase, version 1" in run("keys", "kms", "status", "--passphrase-file", str(words))
    run("broker", "init", "--no-passphrase", "--kms", name, answer="correct horse\n")
    assert "passphrase, version 1" in run("keys", "kms", "status", "--broker", "--passphrase-file", str(words))
    words.write_text("wrong horse\n")
    with pytest.raises(UnsealError, match="passphrase"):
        run("keys", "kms", "status", "--broker", "--passphrase-file", str(words))


def test_a_broker_without_a_key_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands about the key of a broker that has none name the command that gives it one."""
    monkeypatch.setenv("SECUREMLLIB_HOME", str(tmp_path))
    run("broker", "init", "--no-passphrase")
    with pytest.raises(UsageError, match="no key-encryption key"):
        run("keys", "kms", "status", "--broker")
    Database(f"sqlite:///{tmp_path}/broker/broker.db").close()
