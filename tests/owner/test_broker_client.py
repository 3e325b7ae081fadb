"""Does an owner hand keys only to the broker that they were told of, and understand its answers?"""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pyarrow as pa
import pytest

from securemllib.cli.failure import failures_are_told
from securemllib.crypto.identity import PrivateIdentity, verify
from securemllib.errors import ConnectionLostError, FormatError, PolicyError, SecureMLlibError, SignatureError, UsageError
from securemllib.owner import broker_client
from securemllib.owner.broker_client import BrokerClient
from securemllib.owner.policy import policy_from_text
from securemllib.owner.reading import OpenDataset, open_dataset
from securemllib.policy.envelope import Envelope, open_envelope, seal_statement
from securemllib.policy.model import Policy
from securemllib.wire.enrolment import AuditRequest, Enrolment, enrolment_context
from securemllib.wire.signed import Signed

BROKER = PrivateIdentity.generate("broker")


class FakeBroker:
    """Answers over HTTP as a broker does, with real keys, and remembers what it was sent."""

    def __init__(self) -> None:
        self.sent: dict[str, Signed] = {}
        self.answer: Callable[[httpx.Request], httpx.Response] | None = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.answer is not None:
            return self.answer(request)
        if request.url.path == "/v1/identity":
            return httpx.Response(200, json={"identity": b64encode(BROKER.public.to_bytes()).decode()})
        (field, content), *_ = json.loads(request.content).items()
        self.sent[field] = content if field == "envelope" else Signed.from_bytes(b64decode(content, validate=True))
        if field == "enrolment":
            return httpx.Response(201, json={"dataset_id": request.url.path.split("/")[-1], "version": 1})
        return httpx.Response(200, json={"entries": [{"event": "enrolled"}]})


@pytest.fixture
def broker() -> FakeBroker:
    """A broker."""
    return FakeBroker()


@pytest.fixture
def client(broker: FakeBroker) -> BrokerClient:
    """A connection that expects that broker."""
    return BrokerClient("https://broker.test", BROKER.public.fingerprint, transport=httpx.MockTransport(broker))


@pytest.fixture
def dataset(owner, tmp_path: Path, table: pa.Table) -> OpenDataset:
    """A dataset of the owner."""
    owner.encrypt(table, tmp_path / "dataset")
    return open_dataset(tmp_path / "dataset", owner=owner.identity.public, keystore=owner.keystore)


def test_enrolling_gives_the_broker_the_secret(owner, broker: FakeBroker, client: BrokerClient, dataset: OpenDataset) -> None:
    """The broker, and it alone, can unwrap the dataset secret from the signed enrolment; nothing else of the keystore is in it."""
    assert client.enrol(dataset, owner.identity) == 1
    enrolment = verify(broker.sent["enrolment"], Enrolment, owner.identity.public)
    info = enrolment_context(dataset.manifest.dataset_id, 1, owner.identity.public.fingerprint)
    assert BROKER.recipient.unwrap(enrolment.secret, info) == dataset.secret.expose()
    with pytest.raises(SecureMLlibError):
        PrivateIdentity.generate("other").recipient.unwrap(enrolment.secret, info)
    assert dataset.secret.expose() not in enrolment.to_bytes()


def test_another_broker_gets_nothing(owner, broker: FakeBroker, dataset: OpenDataset) -> None:
    """A broker with another fingerprint than the owner was told is refused before anything is sent to it."""
    expected = PrivateIdentity.generate("expected").public.fingerprint
    impostor = BrokerClient("https://broker.test", expected, transport=httpx.MockTransport(broker))
    for call in (lambda: impostor.enrol(dataset, owner.identity), lambda: impostor.audit(owner.identity), impostor.identity):
        with pytest.raises(SignatureError, match=r"is .*, not"):
            call()
    assert broker.sent == {}


def test_no_fingerprint_no_broker() -> None:
    """Without a fingerprint there is no trusting whoever answers first."""
    with pytest.raises(UsageError, match="fingerprint"):
        BrokerClient("https://broker.test", "")


def test_policies_and_audit(owner, broker: FakeBroker, client: BrokerClient) -> None:
    """A signed policy arrives as it was signed; an audit request is signed, for this broker."""
    text = "enclaves: {}\nrules: []\n"
    policy = policy_from_text(text, dataset_id="ab" * 16, owner=owner.identity.public.fingerprint)
    client.submit_policy("ab" * 16, seal_statement(policy, owner.identity).to_bytes())
    arrived = Envelope.from_bytes(json.dumps(broker.sent["envelope"]).encode())
    assert open_envelope(arrived, Policy, owner.identity.public) == policy
    assert client.audit(owner.identity) == [{"event": "enrolled"}]
    assert verify(broker.sent["request"], AuditRequest, owner.identity.public).broker == BROKER.public.fingerprint


def test_a_refusal_arrives_as_the_broker_s_error(owner, broker: FakeBroker, client: BrokerClient, dataset: OpenDataset) -> None:
    """A problem document becomes the error that the broker raised, with its code, reason and next step."""
    client.identity()
    problem = {"code": "refused.policy.column", "reason": "Column 'age' is not allowed.", "next_step": "Ask for it."}
    broker.answer = lambda _: httpx.Response(403, json=problem)
    with pytest.raises(PolicyError) as caught:
        client.enrol(dataset, owner.identity)
    assert (caught.value.error_code, caught.value.reason, caught.value.next_step) == tuple(problem.values())


def test_a_refusal_draws_nothing_on_the_terminal(broker: FakeBroker, client: BrokerClient, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever answers in a broker's place moves no cursor and begins no line; words are told, and plain ones as they are."""
    drawn = "gone\x1b[2J\x1b[1;1H\r\nrevoked  policy of dataset 0123\x9b8m\u202e"
    problem = {"code": f"refused.{drawn}", "reason": drawn, "next_step": drawn}
    broker.answer = lambda _: httpx.Response(403, json=problem)
    with pytest.raises(SystemExit), failures_are_told():
        client.identity()
    told = capsys.readouterr().err
    said = "gone?[2J?[1;1H??revoked  policy of dataset 0123?8m?"
    assert told.splitlines() == [f"error refused.{said}", f"  {said}", f"  next: {said}"]
    broker.answer = lambda _: httpx.Response(
        403, json={"code": "refused", "reason": "It is \u00e9l\u00e8ve's [bold].", "next_step": "Ask."}
    )
    with pytest.raises(SystemExit), failures_are_told():
        client.identity()
    assert capsys.readouterr().err.splitlines() == ["error refused", "  It is élève's [bold].", "  next: Ask."]


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"identity": 1}', b'{"identity": "%%"}', b'{"identity": "aGVsbG8="}'])
def test_other_answers_are_refused(broker: FakeBroker, client: BrokerClient, body: bytes) -> None:
    """An answer that no broker gives is refused as such."""
    broker.answer = lambda _: httpx.Response(200, content=body)
    with pytest.raises(FormatError):
        client.identity()
    broker.answer = None
    assert client.identity() == BROKER.public


def test_an_answer_is_read_no_further_than_its_bound(broker: FakeBroker, client: BrokerClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever answers in the broker's place does not fill the owner's memory: what is longer than the bound is not read to its end."""
    read: list[int] = []

    def pieces() -> Iterator[bytes]:
        for number in range(100):
            read.append(number)
            yield b" " * 1000

    monkeypatch.setattr(broker_client, "_ANSWER_LIMIT", 2_500)
    broker.answer = lambda _: httpx.Response(200, content=pieces())
    with pytest.raises(FormatError, match="more than 2500 bytes"):
        client.identity()
    assert len(read) == 3
    broker.answer = None
    assert client.identity() == BROKER.public


def test_a_broker_that_does_not_answer(broker: FakeBroker, client: BrokerClient) -> None:
    """A broker that is not there, or too slow, is told as that, with its address."""

    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectTimeout("slow", request=request)

    broker.answer = fail
    with pytest.raises(ConnectionLostError, match=r"https://broker\.test did not answer"):
        client.identity()
    with BrokerClient("nonsense", "x") as nowhere, pytest.raises(UsageError, match="no broker's address"):
        nowhere.identity()
