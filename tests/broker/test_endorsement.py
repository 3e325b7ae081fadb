"""Does an owner's endorsement say what was verified, and do datasets go to endorsed brokers only?"""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from broker_world import World, appraisal, make_world
from typer.testing import CliRunner

from securemllib.attestation.dcap import Endorsements
from securemllib.attestation.insecure import SECURITY_VERSION
from securemllib.broker.evidence import attester_of, measure_source
from securemllib.broker.keystore import Keystore as BrokerKeystore
from securemllib.cli import app
from securemllib.crypto.identity import PrivateIdentity, verify
from securemllib.errors import AttestationError, FreshnessError, RefusedError, SecureMLlibError, SignatureError, UsageError
from securemllib.owner.broker_client import BrokerClient
from securemllib.owner.dataset import append, encrypt, extend, name_brokers
from securemllib.owner.endorsement import endorse, read_endorsements
from securemllib.owner.keystore import Keystore
from securemllib.owner.reading import inspect, open_dataset
from securemllib.owner.reading import verify as verify_dataset
from securemllib.wire.endorsement import BrokerEndorsement

TABLE = pa.table({"age": [1.0, 2.0, 3.0]})
NOW = 1_800_000_000
AT = Endorsements(collateral=lambda _model: None, now=NOW)
POLICY = """\
allow_insecure: true
insecure_risk: the-operator-can-read-everything
enclaves:
  broker-1: {{measurement: "{}"}}
rules: []
"""


@pytest.fixture
def world(tmp_path: Path, keystore: BrokerKeystore) -> Iterator[World]:
    """A world whose broker shows evidence that is labelled insecure, at the machine's time."""
    attester = attester_of(allow_insecure=True, directory=tmp_path)
    world = make_world(tmp_path, keystore, f"sqlite:///{tmp_path / 'broker.db'}", attester=attester)
    world.clock.now = time.time()
    yield world
    world.broker.close()


@pytest.fixture
def keys(tmp_path: Path) -> Keystore:
    """The owner's keystore."""
    return Keystore.create(tmp_path / "keystore", None)


def endorsement(world: World, client: httpx.Client, path: Path, seconds: int = 60, **policy: Any) -> BrokerEndorsement:
    """Write the owner's endorsement of the world's broker to a file."""
    accepted = {"broker-1": appraisal(measurements=(measure_source(),), **policy)}
    with BrokerClient(str(client.base_url), world.broker.identity.fingerprint) as broker:
        challenge, evidence = broker.evidence()
    signed, found = endorse(challenge, evidence, policies=accepted, collateral=AT, identity=world.owner.identity, seconds=seconds)
    path.write_bytes(signed.to_bytes())
    assert verify(signed, BrokerEndorsement, world.owner.identity.public) == found
    return found


def test_an_endorsement_says_what_was_verified(world: World, client: httpx.Client, tmp_path: Path) -> None:
    """It names broker, code, TEE and time, and is made of evidence only that the policy accepts."""
    found = endorsement(world, client, tmp_path / "one")
    assert (found.broker, found.tee, found.measurement) == (world.broker.identity, "insecure", measure_source())
    assert (found.accepted_as, found.verified, found.expires) == ("broker-1", NOW, NOW + 60)
    for refused in ({"allow_insecure": False}, {"minimum_security_version": SECURITY_VERSION + 1}):
        with pytest.raises(AttestationError):
            endorsement(world, client, tmp_path / "two", **refused)
    assert not (tmp_path / "two").exists()


def test_only_ones_own_endorsements_of_now_count(world: World, client: httpx.Client, tmp_path: Path) -> None:
    """An endorsement of another owner, an expired one, one of the future and a changed one are refused; the right one names the broker."""
    path, owner = tmp_path / "one", world.owner.identity.public
    endorsement(world, client, path)
    assert read_endorsements([path], owner=owner, now=NOW + 59) == (world.broker.identity.fingerprint,)
    for now in (NOW - 1, NOW + 60):
        with pytest.raises(FreshnessError):
            read_endorsements([path], owner=owner, now=now)
    with pytest.raises(SignatureError):
        read_endorsements([path], owner=PrivateIdentity.generate("other").public, now=NOW)
    content = bytearray(path.read_bytes())
    content[content.index(b"insecure")] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(SignatureError):
        read_endorsements([path], owner=owner, now=NOW)
    with pytest.raises(UsageError):
        read_endorsements([tmp_path / "none"], owner=owner, now=NOW)


def test_a_dataset_goes_to_the_brokers_that_it_names(world: World, client: httpx.Client, tmp_path: Path, keys: Keystore) -> None:
    """The owner's tool does not hand a secret to another broker, a broker takes no version that is for others, and the named one does."""
    owner, path = world.owner.identity, tmp_path / "visits"
    world.broker.trust_owner(owner.public)
    encrypt(TABLE, path, name="visits", identity=owner, keystore=keys, brokers=("b" * 52,))
    opened = open_dataset(path, owner=owner.public, keystore=keys)
    with BrokerClient(str(client.base_url), world.broker.identity.fingerprint) as broker:
        with pytest.raises(UsageError, match="other brokers"):
            broker.enrol(opened, owner)
        unaware = replace(opened, body=replace(opened.body, brokers=()))
        with pytest.raises(RefusedError, match="other brokers") as error:
            broker.enrol(unaware, owner)
        assert error.value.error_code == "refused.broker"
        keys.forget(opened.manifest.dataset_id)
        encrypt(TABLE, tmp_path / "ours", name="ours", identity=owner, keystore=keys, brokers=(world.broker.identity.fingerprint,))
        assert broker.enrol(open_dataset(tmp_path / "ours", owner=owner.public, keystore=keys), owner) == 1


def test_later_versions_name_the_same_brokers_until_the_owner_says_otherwise(tmp_path: Path, world: World, keys: Keystore) -> None:
    """Extending, appending and encrypting anew keep the demand; `name_brokers` changes it, as a version of its own with the same parts."""
    owner, path = world.owner.identity, tmp_path / "one"
    mine = {"identity": owner, "keystore": keys}

    def brokers(directory: Path) -> tuple[str, ...]:
        return open_dataset(directory, owner=owner.public, keystore=keys).body.brokers

    encrypt(TABLE, path, name="visits", brokers=("b" * 52, "a" * 52), **mine)
    extend(TABLE, path, **mine)
    assert brokers(path) == ("a" * 52, "b" * 52)
    files = {file.name: file.read_bytes() for file in path.glob("*.parquet")}
    third = name_brokers(("c" * 52,), path, **mine)
    assert (third.version, brokers(path), third.rows) == (3, ("c" * 52,), 6)
    assert files == {file.name: file.read_bytes() for file in path.glob("*.parquet")}
    assert inspect(path, owner=owner.public, keystore=keys)["brokers"] == ["c" * 52]
    verify_dataset(path, owner=owner.public, keystore=keys)
    append(TABLE, path, tmp_path / "two", **mine)
    assert brokers(tmp_path / "two") == ("c" * 52,)
    encrypt(TABLE, tmp_path / "three", name="visits", previous=tmp_path / "two", **mine)
    assert brokers(tmp_path / "three") == ("c" * 52,)
    encrypt(TABLE, tmp_path / "four", name="visits", previous=tmp_path / "three", brokers=(), **mine)
    assert brokers(tmp_path / "four") == ()


def test_the_commands_endorse_and_name_a_broker(
    world: World, client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`attest endorse`, `data encrypt --endorsed` and `data brokers` do it by hand; a policy that refuses leaves no file."""
    monkeypatch.setenv("SECUREMLLIB_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, arguments)
        if isinstance(result.exception, SecureMLlibError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return " ".join(result.output.split())

    to_broker = ("--broker", str(client.base_url), "--fingerprint", world.broker.identity.fingerprint)
    run("init", "alice", "--no-passphrase")
    Path("visits.csv").write_text("age\n1.5\n2.5\n")
    for measurement, is_accepted in (("00" * 32, False), (measure_source().hex(), True)):
        Path("brokers.yaml").write_text(POLICY.format(measurement))
        if is_accepted:
            told = run("attest", "endorse", "our.endorsement", "--policy", "brokers.yaml", *to_broker)
            assert f"endorsed broker {world.broker.identity.fingerprint} as 'broker-1', insecure" in told
            assert "its operator can have started any code" in told
        else:
            with pytest.raises(AttestationError):
                run("attest", "endorse", "our.endorsement", "--policy", "brokers.yaml", *to_broker)
            assert not Path("our.endorsement").exists()
    run("data", "encrypt", "visits.csv", "visits", "--endorsed", "our.endorsement")
    assert world.broker.identity.fingerprint in run("data", "inspect", "visits", "--keys")
    assert "version 2: enclaves take its keys from any that has them" in run("data", "brokers", "visits", "--any")
    assert world.broker.identity.fingerprint in run("data", "brokers", "visits", "--endorsed", "our.endorsement")
    for arguments in ((), ("--any", "--endorsed", "our.endorsement")):
        with pytest.raises(UsageError, match="--any"):
            run("data", "brokers", "visits", *arguments)
