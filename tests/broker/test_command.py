"""Does the command make, serve and audit a broker that the owner's own tools can use?"""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from securemllib.broker.server import Listening, certificate_digest, make_certificate
from securemllib.cli import app, audit, broker
from securemllib.cli.broker_home import read_identity
from securemllib.crypto.identity import PrivateIdentity
from securemllib.errors import FormatError, FreshnessError, RefusedError, SecureMLlibError, UnsealError, UsageError
from securemllib.owner.identity_file import save_public
from securemllib.wire.identity import PublicIdentity


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory with a fresh broker and an owner's public file."""
    monkeypatch.setenv("SECUREMLLIB_HOME", str(tmp_path))
    monkeypatch.delenv("SECUREMLLIB_BROKER_HOME", raising=False)
    monkeypatch.delenv("SECUREMLLIB_BROKER_DATABASE", raising=False)
    save_public(PrivateIdentity.generate("alice").public, tmp_path / "alice.pub")
    run("broker", "init", "--no-passphrase")
    return tmp_path


def run(group: str, *arguments: str) -> str:
    """Run a command in this process and return what it printed; raise what it raised."""
    result = CliRunner().invoke({"broker": broker.app, "audit": audit.app, "": app}[group], list(arguments))
    if isinstance(result.exception, SecureMLlibError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


SERVE = [sys.executable, "-c", "from securemllib.cli import main; main()", "broker", "serve"]


def refused_to_serve(*arguments: str) -> str:
    """Return what a broker said that does not start: in a process of its own, because it gives up rights for good before it reads."""
    ended = subprocess.run([*SERVE, *arguments], capture_output=True, text=True, env=os.environ.copy(), timeout=60, check=False)
    assert ended.returncode in {1, 2}, ended.stderr
    return " ".join(ended.stderr.split())


@contextmanager
def serving(*arguments: str) -> Iterator[str]:
    """Start `securemllib broker serve` as a process and yield what it printed until it listened."""
    command = [*SERVE, "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ.copy()) as process:
        try:
            lines = []
            for line in process.stdout or ():
                lines.append(line)
                if line.startswith("listening "):
                    break
            yield "".join(lines)
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)


def test_a_broker_serves_tls_with_its_own_certificate(home: Path) -> None:
    """A client that trusts the printed certificate reaches the broker, and the default client does not."""
    with serving("--tls-self-signed", "--owner", str(home / "alice.pub")) as printed:
        url = re.search(r"listening (https://127\.0\.0\.1:\d+)", printed)
        digest = re.search(r"certificate SHA-256 ([0-9a-f]{64})", printed)
        assert url is not None
        assert digest is not None
        certificate = home / "broker" / "tls.crt"
        assert certificate_digest(certificate) == digest[1]
        assert (home / "broker" / "tls.key").stat().st_mode & 0o777 == 0o600
        context = ssl.create_default_context(cafile=str(certificate))
        with httpx.Client(verify=context, trust_env=False) as client:
            identity = client.get(f"{url[1]}/v1/identity").json()["identity"]
        assert PublicIdentity.from_bytes(b64decode(identity)) == read_identity(home / "broker" / "broker.pub")
        with httpx.Client(trust_env=False) as client, pytest.raises(httpx.ConnectError):
            client.get(f"{url[1]}/v1/identity")
    assert "1 entries" in run("audit", "verify")


def test_an_owner_who_is_gone_does_not_keep_the_broker_from_starting(home: Path) -> None:
    """With the options of before a broker serves on after an owner revoked their key: it says whom it does not trust, and trusts others."""
    save_public(PrivateIdentity.generate("mallory").public, home / "mallory.pub")
    alice, mallory = (read_identity(home / f"{name}.pub").fingerprint for name in ("alice", "mallory"))
    owners = [option for name in ("mallory", "alice") for option in ("--owner", str(home / f"{name}.pub"))]
    run("broker", "trust-owner", str(home / "mallory.pub"))
    run("broker", "revoke", mallory)
    with serving(*owners) as printed:
        assert f"not trusted {mallory}: The identity {mallory} was revoked" in printed
        assert "listening http://127.0.0.1" in printed
    run("audit", "export", str(home / "log.jsonl"))
    last = [json.loads(json.loads(line)["payload"]) for line in (home / "log.jsonl").read_text().splitlines()[2:4]]
    assert [(entry["owner"], entry["decision"]) for entry in last] == [(mallory, "refused"), (alice, "accepted")]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "broker.example"])
def test_plaintext_stays_on_loopback(tmp_path: Path, host: str) -> None:
    """Off loopback the broker asks for TLS or for the option that says insecure; on loopback it does not."""
    with pytest.raises(UsageError, match="loopback only"):
        Listening(host=host, port=0)
    Listening(host=host, port=0, insecure_plaintext=True)
    Listening(host=host, port=0, certificate=tmp_path / "c", key=tmp_path / "k")
    with pytest.raises(UsageError, match="both"):
        Listening(host=host, port=0, certificate=tmp_path / "c")
    for loopback in ("127.0.0.1", "::1", "localhost", "127.9.9.9"):
        assert Listening(host=loopback, port=0).scheme == "http"


@pytest.mark.parametrize("proxy", ["*", "0.0.0.0/0", "::/0", "balancer.example", "10.0.0.7/24", ""])
def test_a_proxy_is_an_address_or_a_network(proxy: str) -> None:
    """A proxy that would match nobody, or everybody, who could then name any address and have no rate, is refused; others are taken."""
    with pytest.raises(UsageError, match="no address of a reverse proxy") as caught:
        Listening(host="127.0.0.1", port=0, proxies=("10.0.0.7", proxy))
    assert caught.value.error_code == "usage.proxy"
    Listening(host="127.0.0.1", port=0, proxies=("10.0.0.7", "10.0.0.0/24", "fd00::1"))


def test_a_certificate_names_its_host(tmp_path: Path) -> None:
    """A certificate can be made for an address and for a name, each with a key of its own."""
    digests = set()
    for host in ("10.0.0.1", "broker.example"):
        make_certificate(host, tmp_path / "c", tmp_path / "k")
        digests.add(certificate_digest(tmp_path / "c"))
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(tmp_path / "c", tmp_path / "k")
    assert len(digests) == 2


def test_the_audit_log_is_checked_from_the_command(home: Path) -> None:
    """The database and its export pass; an export with a changed entry, or checked against another broker, does not."""
    printed = run("broker", "trust-owner", str(home / "alice.pub"))
    assert read_identity(home / "alice.pub").fingerprint in printed
    export = home / "log.jsonl"
    run("audit", "export", str(export))
    assert "1 entries" in run("audit", "verify")
    assert "1 entries" in run("audit", "verify", str(export))
    with pytest.raises(SecureMLlibError, match="Signed by"):
        run("audit", "verify", str(export), "--broker-identity", str(home / "alice.pub"))
    export.write_text(export.read_text(encoding="utf-8").replace("accepted", "rejected"), encoding="utf-8")
    with pytest.raises(SecureMLlibError, match="Entry 1"):
        run("audit", "verify", str(export))


def test_a_wrong_passphrase_is_told(tmp_path: Path, home: Path) -> None:
    """The command opens a keystore with the passphrase file's first line, and says so when that is the wrong one."""
    right, wrong, other = tmp_path / "right", tmp_path / "wrong", tmp_path / "other"
    right.write_text("one\nignored\n", encoding="utf-8")
    wrong.write_text("two\n", encoding="utf-8")
    run("broker", "init", "--home", str(other), "--passphrase-file", str(right))
    arguments = ["trust-owner", str(home / "alice.pub"), "--home", str(other), "--passphrase-file"]
    with pytest.raises(UnsealError, match="passphrase is wrong"):
        run("broker", *arguments, str(wrong))
    assert "trusts" in run("broker", *arguments, str(right))
    with pytest.raises(UsageError, match="exclude each other"):
        run("broker", "init", "--home", str(tmp_path / "third"), "--no-passphrase", "--passphrase-file", str(right))


def test_a_file_that_is_no_identity_is_refused(tmp_path: Path) -> None:
    """A missing file, and a file that is none, are told apart."""
    with pytest.raises(UsageError, match="no file"):
        read_identity(tmp_path / "nothing")
    (tmp_path / "text").write_text("no identity", encoding="utf-8")
    with pytest.raises(FormatError, match="no public identity"):
        read_identity(tmp_path / "text")


def test_collateral_is_given_by_hand(home: Path) -> None:
    """A broker that is handed genuine collateral keeps it in its directory; a file that holds none stops it before it serves."""
    collateral = Path(__file__).parents[1] / "attestation" / "fixtures" / "sgx_quote_collateral.json"
    with serving("--collateral", str(collateral)) as printed:
        assert "listening " in printed
        assert [path.name for path in (home / "broker" / "collateral").iterdir()] == ["sgx-00A067110000-processor.json"]
    assert "integrity.collateral" in refused_to_serve("--collateral", str(home / "alice.pub"))
    assert "usage.missing_file" in refused_to_serve("--collateral", str(home / "missing.json"))


def test_identities_are_rotated_and_revoked_from_the_command(home: Path) -> None:
    """An owner's commands rotate and revoke at a broker that serves, and the operator's command revokes; each is in the log."""
    for name in ("old", "new"):
        run("", "init", name, "--no-passphrase")
    old = read_identity(home / "old.pub")
    with serving("--owner", str(home / "old.pub")) as printed:
        url = printed.split("listening ")[1].strip()
        run("", "trust-broker", "--broker", url, "--fingerprint", read_identity(home / "broker" / "broker.pub").fingerprint)
        assert old.fingerprint in run("", "identity", "rotate", "new", "--identity", "old", "--broker", url)
        with pytest.raises(RefusedError, match="rotated"):
            run("", "identity", "rotate", "new", "--identity", "old", "--broker", url)
        run("", "identity", "revoke", "--identity", "new", "--broker", url)
    assert old.fingerprint in run("broker", "revoke", old.fingerprint)
    with pytest.raises(RefusedError, match="revoked"):
        run("broker", "trust-owner", str(home / "new.pub"))
    assert "6 entries" in run("audit", "verify")


def test_an_owner_accepts_a_restored_broker_from_the_command(home: Path) -> None:
    """The numbers that a restored broker prints, and no others, are what the owner's command accepts."""
    for name in ("carol", "dave"):
        run("", "init", name, "--no-passphrase")
    people = [str(home / f"{name}.pub") for name in ("carol", "dave")]
    run("broker", "trust-owner", people[0])
    run("broker", "custodians", *people, "--threshold", "2", "--output", str(home / "shares"))
    run("broker", "backup", str(home / "backup"))
    for name in ("carol", "dave"):
        shown = run("", "identity", "share", str(home / "shares" / f"{name}.share"), "--identity", name)
        (home / f"{name}.words").write_text(shown.splitlines()[-1], encoding="ascii")
    words = [f"--share={home / name}.words" for name in ("carol", "dave")]
    told = run("broker", "restore", str(home / "backup"), *words, "--no-passphrase", "--nothing-revoked", "--home", str(home / "two"))
    numbers = re.search(r"accept-store --sequence (\d+) --entry ([0-9a-f]{64})", told)
    assert numbers is not None
    with serving("--home", str(home / "two")) as printed:
        url = printed.split("listening ")[1].strip()
        run("", "trust-broker", "--broker", url, "--fingerprint", read_identity(home / "two" / "broker.pub").fingerprint)
        accept = ["accept-store", "--identity", "carol", "--broker", url, "--entry", numbers[2], "--sequence"]
        with pytest.raises(FreshnessError):
            run("", *accept, str(int(numbers[1]) + 1))
        assert "accepted" in run("", *accept, numbers[1])


def test_a_broker_in_the_users_home_leaves_it_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the broker is the first thing in a home, an owner can use the same home afterwards."""
    monkeypatch.setenv("SECUREMLLIB_HOME", str(tmp_path / "deep" / "home"))
    monkeypatch.delenv("SECUREMLLIB_BROKER_HOME", raising=False)
    run("broker", "init", "--no-passphrase")
    assert (tmp_path / "deep" / "home").stat().st_mode & 0o777 == 0o700
    run("", "init", "alice", "--no-passphrase")


def test_a_port_that_is_taken_is_told(home: Path) -> None:
    """The error names the reason and the option; a number that is no port is refused before anything opens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        told = refused_to_serve("--port", str(taken.getsockname()[1]))
    assert "in use" in told
    assert "--port" in told
    assert CliRunner().invoke(broker.app, ["serve", "--port", "65536"]).exit_code == 2
