"""Can an owner find out what code a broker runs, and nobody else answer for it?"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from broker_world import Enclave, World, appraisal, b64, make_world

from securemllib.attestation.dcap import Endorsements
from securemllib.attestation.insecure import InsecureAttester
from securemllib.attestation.verifier import appraise
from securemllib.broker.evidence import attester_of, evidence_of, measure_source
from securemllib.broker.keystore import Keystore
from securemllib.crypto.identity import PrivateIdentity
from securemllib.errors import AttestationError, FormatError, SignatureError, UsageError
from securemllib.owner.broker_client import BrokerClient
from securemllib.wire.notices import broker_challenge

NOTHING = Endorsements(collateral=lambda _model: None, now=1_800_000_000)


@pytest.fixture
def world(tmp_path: Path, keystore: Keystore) -> Iterator[World]:
    """A world whose broker shows evidence that is labelled insecure."""
    attester = attester_of(allow_insecure=True, directory=tmp_path)
    world = make_world(tmp_path, keystore, f"sqlite:///{tmp_path / 'broker.db'}", attester=attester)
    yield world
    world.broker.close()


def test_an_owner_appraises_the_broker(world: World, client: httpx.Client) -> None:
    """Evidence over the owner's nonce satisfies a policy that names the code and says insecure; without either word it is refused."""
    with BrokerClient(str(client.base_url), world.broker.identity.fingerprint) as broker:
        challenge, evidence = broker.evidence()
    accepted = appraisal(measurements=(measure_source(),))
    assert appraise(evidence, challenge=challenge, policy=accepted, endorsements=NOTHING).measurement == measure_source()
    for policy in (appraisal(), replace(accepted, allow_insecure=False)):
        with pytest.raises(AttestationError):
            appraise(evidence, challenge=challenge, policy=policy, endorsements=NOTHING)


def test_evidence_is_fresh_and_of_that_broker(world: World, keystore: Keystore) -> None:
    """Evidence for another nonce, of another broker, or that an enclave made for a broker's challenge does not fit; the right one does."""
    identity, accepted = keystore.identity.public, appraisal(measurements=(measure_source(), b"\x11" * 32))
    other = PrivateIdentity.generate("other").public
    attester = InsecureAttester(measure_source(), ())
    asked = broker_challenge(b"n" * 32, identity)
    appraise(evidence_of(identity, attester, b"n" * 32), challenge=asked, policy=accepted, endorsements=NOTHING)
    for evidence in (evidence_of(identity, attester, b"m" * 32), evidence_of(other, attester, b"n" * 32)):
        with pytest.raises(AttestationError):
            appraise(evidence, challenge=asked, policy=accepted, endorsements=NOTHING)
    borrowed = replace(Enclave().evidence(asked), identity=identity)
    with pytest.raises(AttestationError):
        appraise(borrowed, challenge=asked, policy=accepted, endorsements=NOTHING)


def test_evidence_of_another_identity_is_not_taken(world: World, client: httpx.Client) -> None:
    """An owner's client refuses evidence that names another identity than the broker's, as a relay to another broker would bring."""
    stranger = PrivateIdentity.generate("stranger").public
    answers = {
        "/v1/identity": {"identity": b64(world.broker.identity)},
        "/v1/evidence": {"evidence": b64(evidence_of(stranger, InsecureAttester(measure_source(), ()), b"n" * 32))},
    }
    relay = httpx.MockTransport(lambda request: httpx.Response(200, json=answers[request.url.path]))
    with (
        BrokerClient("https://broker.example", world.broker.identity.fingerprint, transport=relay) as broker,
        pytest.raises(SignatureError),
    ):
        broker.evidence()


def test_a_broker_without_an_attester_says_so(tmp_path: Path, keystore: Keystore) -> None:
    """Where there is no TEE and nobody said insecure, the broker has no evidence; under Gramine it has a quote of Gramine's."""
    assert attester_of(allow_insecure=False, directory=tmp_path) is None
    with pytest.raises(UsageError, match="without an attester"):
        evidence_of(keystore.identity.public, None, b"n" * 32)
    with pytest.raises(FormatError):
        evidence_of(keystore.identity.public, InsecureAttester(measure_source(), ()), b"short")
    (tmp_path / "attestation_type").write_bytes(b"dcap\n")
    (tmp_path / "user_report_data").write_bytes(b"")
    (tmp_path / "quote").write_bytes(b"a quote")
    attester = attester_of(allow_insecure=True, directory=tmp_path)
    evidence = evidence_of(keystore.identity.public, attester, b"n" * 32)
    assert (evidence.tee, evidence.report) == ("sgx", b"a quote")
