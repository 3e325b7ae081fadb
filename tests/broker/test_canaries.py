"""Does any key ever reach the database, a log, an answer, or a representation in the clear?"""

import io
import logging
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from broker_world import Enclave, World, b64, make_world, release_of

from securemllib.broker.keystore import create_keystore, open_keystore
from securemllib.broker.server import configure_logs
from securemllib.errors import SecureMLlibError


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What the broker's process writes to standard error, as its command configures it."""
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    configure_logs()
    return stream


def found(secret: bytes, haystack: bytes) -> bool:
    """Return whether a secret is in the bytes, raw or in an encoding that a log or a table may use."""
    forms = [secret, secret.hex().encode(), b64encode(secret), repr(secret).encode(), str(list(secret)).encode()]
    return any(form in haystack for form in forms)


@pytest.mark.parametrize("passphrase", ["a passphrase that nobody writes down", None])
def test_no_key_is_stored_or_logged_in_the_clear(tmp_path: Path, logged: io.StringIO, passphrase: str | None) -> None:
    """After a whole job, with refusals, no secret is in any file of the broker or in its log; the same search finds the public key."""
    create_keystore(tmp_path / "keystore.sml", "broker", passphrase)
    keystore = open_keystore(tmp_path / "keystore.sml", passphrase)
    world = make_world(tmp_path, keystore, f"sqlite:///{tmp_path / 'broker.db'}")
    world.enrol()
    model = world.trained()
    job_id = world.submit(inputs={"features": "income"})
    enclave = world.granted(job_id)
    world.broker.move_head(job_id, enclave.update(None, enclave.head(1)))
    world.broker.release(world.analyst.sign(release_of(model, world.analyst.public, world.broker.identity)))
    for refused in (lambda: world.granted(job_id, Enclave(b"\x22" * 32)), lambda: world.broker.move_head(job_id, b"x" * 200)):
        with pytest.raises(SecureMLlibError):
            refused()
    grant = enclave.grant
    assert grant is not None
    identity = keystore.identity.expose()
    secrets = [grant.job_key, grant.model_key, world.owner.secret.expose(), keystore.store_key.expose(), identity[:32], identity[32:]]
    if passphrase is not None:
        secrets.append(passphrase.encode())
    # The key file is the one place where its key is in the clear, and that key is none of these.
    haystacks = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    haystacks["log"] = logged.getvalue().encode()
    assert haystacks.keys() >= {"broker.db", "broker.db-wal", "keystore.sml", "head.sml", "log"}
    assert [name for name, haystack in haystacks.items() if any(found(secret, haystack) for secret in secrets)] == []
    assert found(keystore.identity.public.verification_key, haystacks["keystore.sml"])
    assert world.analyst.public.fingerprint.encode() in haystacks["log"]
    # A column that only the manifest's sealed body names; the clear control is a column that a job names.
    stored = haystacks["broker.db"] + haystacks["broker.db-wal"]
    assert b"income" in stored
    assert b"ssn" not in stored
    world.broker.close()


def test_no_session_can_be_continued_from_the_database(world: World) -> None:
    """The database holds a digest of the session cookie, never the cookie, and no token."""
    world.enrol()
    session, challenge = world.broker.challenge(world.submit(), "insecure")
    token = world.broker.attest(session, Enclave().evidence(challenge))
    stored = b"".join(path.read_bytes() for path in world.folder.iterdir())
    assert session.encode() not in stored
    assert token.encode() not in stored
    assert challenge.nonce in stored


def test_representations_hold_no_key(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Printing the broker's objects, as an exception's trace or a debugger does, shows no key."""
    caplog.set_level(logging.DEBUG)
    world.enrol()
    world.granted(world.submit())
    custody = world.broker.custody()
    with custody.look() as transaction:
        shown = f"{custody!r} {transaction!r} {world.keystore!r} {world.broker!r} {caplog.text}".encode()
    identity = world.keystore.identity.expose()
    for secret in (world.keystore.store_key.expose(), identity[:32], identity[32:], world.owner.secret.expose()):
        assert not found(secret, shown)
    assert b"PrivateIdentity('broker')" in shown


def test_what_is_sent_to_the_wrong_place_is_told_to_nobody(logged: io.StringIO, world: World, client: httpx.Client) -> None:
    """A key or a row in any field of any request, well formed or not, is neither answered, logged nor stored; where it is, is."""
    world.enrol()
    secret = "c4n4ry-" + world.owner.secret.expose().hex()
    answers = [client.request(method, f"{path}?{secret}", json=body) for method, path, body in _misdirected(client, secret)]
    assert {400, 404, 422} <= {answer.status_code for answer in answers} <= {200, 400, 404, 422}
    stored = b"".join(path.read_bytes() for path in world.folder.iterdir())
    for place in (*(answer.content for answer in answers), logged.getvalue().encode(), stored):
        assert secret.encode() not in place
    assert b"body.job" in b"".join(answer.content for answer in answers)
    assert b"refused" in logged.getvalue().encode()


def _misdirected(client: httpx.Client, secret: str) -> Iterator[tuple[str, str, object]]:
    """Yield requests to each path of the interface that hold a secret where it does not belong."""
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        filled = path.replace("{dataset_id}", "0" * 32).replace("{job_id}", "0" * 64)
        for method in methods:
            yield method, filled, secret
            for name in ("job", "end", "request", "update", "policy", "enrolment", "revocation", "acceptance"):
                yield method, filled, {name: secret}
                yield method, filled, {name: b64(secret.encode())}
