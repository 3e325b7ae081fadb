"""Does the analyst's side open what is genuine and for the analyst, and nothing else?"""

import os
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from securemllib.crypto.aead import seal
from securemllib.crypto.identity import PrivateIdentity, verify
from securemllib.crypto.keys import DataKey
from securemllib.crypto.models import ModelRoot, seal_piece
from securemllib.crypto.wrapping import wrap
from securemllib.errors import IntegrityError, RefusedError, SecureMLlibError, SignatureError, UsageError
from securemllib.owner import agent as agent_module
from securemllib.owner.agent import Agent, AgentServer, describe
from securemllib.owner.opening import open_model, open_result
from securemllib.wire.agent import REPLIES, Declined, Identified, Identify, Open, Opened, OpenModel, Sign, Signature
from securemllib.wire.attestation import AttestationResult
from securemllib.wire.dataset import DatasetRef
from securemllib.wire.encoding import decode, encode
from securemllib.wire.framing import receive, send
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.job import JobSpecification, Mode, Output, OutputKind
from securemllib.wire.plan import Plan
from securemllib.wire.result import (
    ResultKey,
    SealedModel,
    SealedResult,
    WrappedModelKey,
    model_context,
    model_key_context,
    result_context,
    result_key_context,
)

JOB, OTHER_JOB = "1" * 64, "2" * 64
ANALYST, STRANGER, BROKER, ROGUE, ENCLAVE, IMPOSTOR = (
    PrivateIdentity.generate(name) for name in ("analyst", "stranger", "broker", "rogue", "enclave", "impostor")
)
SOURCE = DatasetRef(dataset_id="ab" * 16, version=1, digest=bytes(32))


def attestation(enclave: PublicIdentity = ENCLAVE.public, job_id: str = JOB) -> AttestationResult:
    """Return what a verifier found of an enclave."""
    return AttestationResult(job_id=job_id, identity=enclave, tee="insecure", measurement=bytes(32), protections=(), issued=1)


def result(**changes: Any) -> SealedResult:
    """Return a metric for the analyst, or rows where ``rows`` is given, genuine but for the changes."""
    use = {"job_id": JOB, "recipient": ANALYST.public, "broker": BROKER, "signer": ENCLAVE, "attested": attestation(), "told": {}} | changes
    rows, recipient = use.get("rows"), use["recipient"].fingerprint
    kind = OutputKind.METRIC if rows is None else OutputKind.ROWS
    key, ordinal = use.get("key") or DataKey.generate(), use.get("ordinal", 0)
    wrapped = wrap(use["recipient"].recipient_key, result_key_context(use["job_id"], kind, recipient), key.expose())
    told = {"job_id": use["job_id"], "kind": kind, "recipient": recipient, "parts": 1, "behind": 0, "wrapped": wrapped} | use["told"]
    content = encode({"auc": 0.75}) if rows is None else rows
    return SealedResult(
        job_id=use["job_id"],
        kind=kind,
        ordinal=ordinal,
        recipient=recipient,
        attestation=use["broker"].sign(use["attested"]),
        key=use["signer"].sign(ResultKey(**told)),
        content=seal(key, result_context(use["job_id"], kind, ordinal, recipient), content),
    )


def opened(sealed: SealedResult) -> Any:
    """Open as the analyst, who trusts the broker and asked for the job."""
    return open_result(sealed, identity=ANALYST, broker=BROKER.public, job_id=JOB).tree


def test_a_genuine_result_opens() -> None:
    """What an attested enclave made for the analyst's job opens, and says which TEE it had."""
    assert opened(result()) == {"auc": 0.75}
    assert open_result(result(), identity=ANALYST, broker=BROKER.public, job_id=JOB).attestation.tee == "insecure"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"job_id": OTHER_JOB, "attested": attestation(job_id=OTHER_JOB)}, IntegrityError),
        ({"recipient": STRANGER.public}, RefusedError),
        ({"broker": ROGUE}, SignatureError),
        ({"attested": attestation(job_id=OTHER_JOB)}, SignatureError),
        ({"signer": IMPOSTOR}, SignatureError),
        ({"signer": ANALYST}, SignatureError),
        ({"told": {"job_id": OTHER_JOB}}, IntegrityError),
        ({"told": {"kind": OutputKind.SUMMARY}}, IntegrityError),
        ({"told": {"recipient": STRANGER.public.fingerprint}}, IntegrityError),
        ({"told": {"wrapped": wrap(ANALYST.public.recipient_key, b"another context", bytes(32))}}, IntegrityError),
    ],
    ids=[
        "other job",
        "other recipient",
        "other broker",
        "attested for other job",
        "other enclave",
        "self made",
        "key's job",
        "key's kind",
        "key's recipient",
        "key's context",
    ],
)
def test_anything_else_is_refused(changes: dict[str, Any], error: type[SecureMLlibError]) -> None:
    """A result of another job, recipient, broker or enclave, or that holds something else than it says, is refused."""
    with pytest.raises(error):
        opened(result(**changes))


@pytest.mark.parametrize("field", ["job_id", "kind", "ordinal", "recipient", "attestation", "key", "content"])
def test_no_field_can_be_exchanged(field: str) -> None:
    """Each field of a genuine result, taken from another one or changed, makes it stay closed."""
    other = {"job_id": OTHER_JOB, "kind": OutputKind.SUMMARY, "ordinal": 1, "recipient": STRANGER.public.fingerprint}
    other |= {"attestation": BROKER.sign(attestation(IMPOSTOR.public)), "key": result().key, "content": result().content}
    with pytest.raises(SecureMLlibError):
        opened(replace(result(), **{field: other[field]}))


def test_rows_are_those_that_the_enclave_sealed() -> None:
    """Rows open in their own place under the key that was signed; those of another part, job, recipient or key, and none, are refused."""
    key = DataKey.generate()
    genuine = result(rows=b"rows", key=key)
    found = open_result(genuine, identity=ANALYST, broker=BROKER.public, job_id=JOB)
    assert (found.content, found.kind, found.ordinal, found.parts) == (b"rows", OutputKind.ROWS, 0, 1)
    who = ANALYST.public.fingerprint
    wrong = {
        "another part's": seal(key, result_context(JOB, OutputKind.ROWS, 1, who), b"rows"),
        "another job's": seal(key, result_context(OTHER_JOB, OutputKind.ROWS, 0, who), b"rows"),
        "another recipient's": seal(key, result_context(JOB, OutputKind.ROWS, 0, STRANGER.public.fingerprint), b"rows"),
        "a metric": seal(key, result_context(JOB, OutputKind.METRIC, 0, who), b"rows"),
        "another key's": result(rows=b"rows").content,
        "none": b"",
    }
    for content in wrong.values():
        with pytest.raises(IntegrityError):
            opened(replace(genuine, content=content))


def test_parts_of_one_key_do_not_change_places() -> None:
    """An enclave's parts have one key; a part that is handed over as another one stays closed."""
    key = DataKey.generate()
    first, second = result(rows=b"first", key=key), result(rows=b"second", key=key, ordinal=1)
    assert open_result(second, identity=ANALYST, broker=BROKER.public, job_id=JOB).content == b"second"
    for moved in (replace(first, ordinal=1), replace(second, ordinal=0), replace(first, content=second.content)):
        with pytest.raises(IntegrityError):
            opened(moved)


def model(tree: Any = None) -> tuple[SealedModel, DataKey]:
    """Return a sealed model and its key."""
    key = DataKey.generate()
    context = model_context(JOB, "KMeans", "insecure", (SOURCE,))
    envelope = seal(key, context, encode(tree or {"centers": [1.0]}))
    return SealedModel(model_id=JOB, operation="KMeans", tee="insecure", lineage=(SOURCE,), envelope=envelope), key


def released(sealed: SealedModel, key: DataKey, recipient: PublicIdentity = ANALYST.public) -> WrappedModelKey:
    """Return a model's key for a recipient."""
    context = model_key_context(OTHER_JOB, sealed.reference, recipient.fingerprint)
    wrapped = wrap(recipient.recipient_key, context, key.expose())
    return WrappedModelKey(job_id=OTHER_JOB, model=sealed.reference, recipient=recipient.fingerprint, wrapped=wrapped)


def test_a_released_model_opens() -> None:
    """A model opens with the key that the trusted broker released for it, and for nobody else, and no other model does."""
    sealed, key = model()
    signed = BROKER.sign(released(sealed, key))
    assert open_model(sealed, signed, identity=ANALYST, broker=BROKER.public).tree == {"centers": [1.0]}
    with pytest.raises(SignatureError):
        open_model(sealed, ROGUE.sign(released(sealed, key)), identity=ANALYST, broker=BROKER.public)
    with pytest.raises(RefusedError):
        open_model(sealed, BROKER.sign(released(sealed, key, STRANGER.public)), identity=ANALYST, broker=BROKER.public)
    with pytest.raises(IntegrityError, match="another model"):
        open_model(model()[0], signed, identity=ANALYST, broker=BROKER.public)
    with pytest.raises(IntegrityError):
        open_model(replace(sealed, tee="sgx"), signed, identity=ANALYST, broker=BROKER.public)


def job(**changes: Any) -> JobSpecification:
    """Return a job of the analyst."""
    use: dict[str, Any] = {
        "operation": "KMeans",
        "params": {"k": 3},
        "inputs": {"features": "features"},
        "plan": Plan(source=SOURCE, steps=()),
        "model": None,
        "mode": Mode.ENCLAVE,
        "dtype": "float32",
        "seed": 1,
        "shares": 1,
        "checkpoint_interval": 1,
        "outputs": (
            Output(kind=OutputKind.METRIC, recipient=ANALYST.public),
            Output(kind=OutputKind.PLAIN_MODEL, recipient=STRANGER.public),
        ),
        "analyst": ANALYST.public,
        "broker": BROKER.public.fingerprint,
        "measurements": (),
        "created": 1,
        "nonce": bytes(16),
    }
    return JobSpecification(**{**use, **changes})


@pytest.fixture
def shown() -> list[str]:
    """What the agent showed."""
    return []


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the agent listens."""
    return tmp_path / "agent" / "agent.sock"


@pytest.fixture
def server(path: Path, shown: list[str]) -> Iterator[AgentServer]:
    """A running agent that trusts the broker."""
    server = AgentServer(Agent(ANALYST, BROKER.public, show=shown.append), path)
    thread = threading.Thread(target=server.serve)
    thread.start()
    yield server
    server.close()
    thread.join(10)
    assert not thread.is_alive()


def ask(path: Path, request: Any, payload: bytes = b"") -> tuple[Any, bytes]:
    """Ask the agent once."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(os.fspath(path))
        send(connection, request, payload)
        reply, content = receive(connection, REPLIES)
        return reply, bytes(content)


def test_the_agent_says_who_it_is(server: AgentServer, path: Path) -> None:
    """The agent names its analyst and its broker, on a socket that only its user can reach."""
    assert ask(path, Identify())[0] == Identified(identity=ANALYST.public, broker=BROKER.public)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_the_agent_signs_its_analyst_s_jobs(server: AgentServer, path: Path, shown: list[str]) -> None:
    """A job of the analyst is signed and shown, with whoever else gets something of it; others' jobs and brokers are declined."""
    reply, _ = ask(path, Sign(job=job().to_bytes()))
    assert isinstance(reply, Signature)
    assert verify(reply.signed, JobSpecification, ANALYST.public) == job()
    assert "KMeans(k=3)" in shown[0]
    assert STRANGER.public.fingerprint in shown[0]
    for changed, code in (
        (job(analyst=STRANGER.public), "refused.analyst"),
        (job(analyst=replace(ANALYST.public, recipient_key=STRANGER.public.recipient_key)), "refused.analyst"),
        (job(broker=ROGUE.public.fingerprint), "refused.broker"),
    ):
        assert ask(path, Sign(job=changed.to_bytes()))[0].code == code
    assert isinstance(ask(path, Sign(job=b"garbage"))[0], Declined)


def in_pieces(values: list[Any], tree: Any = None) -> tuple[SealedModel, DataKey, list[bytes]]:
    """Return a sealed model of some values in pieces, its key, and the sealed pieces."""
    key = DataKey.generate()
    raw = [value if tree is None else encode(value) for value in values]
    pieces = [seal_piece(key, JOB, index, piece) for index, piece in enumerate(raw)]
    root = ModelRoot(tree=tree, pieces=tuple(digest for _, digest in pieces))
    envelope = seal(key, model_context(JOB, "KMeans", "insecure", (SOURCE,)), root.to_bytes())
    sealed = SealedModel(model_id=JOB, operation="KMeans", tee="insecure", lineage=(SOURCE,), pieces=len(pieces), envelope=envelope)
    return sealed, key, [piece for piece, _ in pieces]


def test_a_model_in_pieces_opens_with_all_of_them_in_order() -> None:
    """A model that was split opens to the tree that was split; with a piece dropped, doubled, changed or out of order it does not."""
    whole = encode({"centers": [1.0, 2.0, 3.0]})
    sealed, key, pieces = in_pieces([whole[:5], whole[5:9], whole[9:]])
    signed = BROKER.sign(released(sealed, key))
    assert open_model(sealed, signed, identity=ANALYST, broker=BROKER.public, pieces=pieces).tree == {"centers": [1.0, 2.0, 3.0]}
    first, second, third = pieces
    for wrong in ([], [first, second], [*pieces, third], [first, third, second], [first, first, third], [first, second, third[:-1] + b"x"]):
        with pytest.raises(IntegrityError) as refused:
            open_model(sealed, signed, identity=ANALYST, broker=BROKER.public, pieces=wrong)
        assert refused.value.error_code == "integrity.model"
    with pytest.raises(IntegrityError):
        open_model(replace(sealed, pieces=2), signed, identity=ANALYST, broker=BROKER.public, pieces=pieces[:2])


def test_the_agent_opens_results_and_models(server: AgentServer, path: Path) -> None:
    """The agent opens what is genuine and declines what is not, and goes on after that."""
    reply, payload = ask(path, Open(job_id=JOB), result().to_bytes())
    assert reply == Opened(job_id=JOB, kind=OutputKind.METRIC, ordinal=0, parts=1, behind=0, operation="", tee="insecure")
    assert decode(payload) == {"auc": 0.75}
    assert ask(path, Open(job_id=OTHER_JOB), result().to_bytes())[0].code == "integrity.result"
    assert ask(path, Open(job_id=JOB), b"garbage")[0].code == "integrity.format"
    sealed, key = model()
    encoded, signed = sealed.to_bytes(), BROKER.sign(released(sealed, key))
    reply, payload = ask(path, OpenModel(key=signed, lengths=(len(encoded),)), encoded)
    assert (reply.operation, reply.kind, decode(payload)) == ("KMeans", OutputKind.PLAIN_MODEL, [{"centers": [1.0]}, []])
    for lengths in ((), (len(encoded) - 1,), (len(encoded) + 1, -1)):
        assert ask(path, OpenModel(key=signed, lengths=lengths), encoded)[0].code == "integrity.format"
    sealed, key, pieces = in_pieces([b"one", b"two"], {"shards": 2})
    encoded, signed = sealed.to_bytes(), BROKER.sign(released(sealed, key))
    reply, payload = ask(path, OpenModel(key=signed, lengths=tuple(map(len, [encoded, *pieces]))), b"".join([encoded, *pieces]))
    assert decode(payload) == [{"shards": 2}, [b"one", b"two"]]


def test_the_agent_opens_nothing_without_a_trusted_broker() -> None:
    """An agent that was told no broker opens nothing, rather than believe the broker that came with the result; it still signs."""
    alone = Agent(ANALYST, None, show=lambda _: None)
    reply, _ = alone.answer(Open(job_id=JOB), memoryview(result().to_bytes()))
    assert isinstance(reply, Declined)
    assert reply.code == "usage.no_broker"
    assert isinstance(alone.answer(Sign(job=job().to_bytes()), memoryview(b""))[0], Signature)


@pytest.mark.parametrize("agrees", [True, False])
def test_the_agent_asks(agrees: bool) -> None:
    """An agent that asks signs only what its analyst agreed to."""
    asked: list[str] = []
    asking = Agent(ANALYST, BROKER.public, show=lambda _: None, confirm=lambda text: (asked.append(text), agrees)[1])
    reply, _ = asking.answer(Sign(job=job().to_bytes()), memoryview(b""))
    assert isinstance(reply, Signature if agrees else Declined)
    assert asked == [describe(job())]


def test_a_job_cannot_draw_on_the_terminal() -> None:
    """Names in a job cannot move the terminal's cursor, start lines of their own or hide what is signed."""
    hostile = replace(STRANGER.public, name="bob\x1b[2K\r\n  output: nothing")
    text = describe(job(outputs=(Output(kind=OutputKind.METRIC, recipient=hostile),)))
    assert "\x1b" not in text
    assert "\r" not in text
    assert not any(line == "  output: nothing" for line in text.splitlines())
    assert STRANGER.public.fingerprint in text


def test_no_text_of_a_job_draws_on_the_terminal() -> None:
    """Whatever text a program chooses, columns, Params and operations too, is shown in characters that print, on one short line each."""
    hostile = "\x1b[2K\r\n  broker: " + "x" * 600
    outputs = (Output(kind=OutputKind.ROWS, recipient=ANALYST.public, columns=(hostile,)),)
    text = describe(job(outputs=outputs, operation=hostile, params={hostile: hostile}, inputs={"features": hostile}, broker=hostile))
    assert all(line.isprintable() and len(line) <= 500 for line in text.splitlines())
    assert len(text.splitlines()) == len(describe(job(outputs=outputs, inputs={"features": "x"})).splitlines())


@pytest.mark.parametrize("name", ["you", ANALYST.public.name, "you" + " " * 600, "you, 0 columns: none", "\u202eyou", "'" * 600])
def test_who_opens_an_output_is_told_before_what_a_program_chose(name: str) -> None:
    """Neither a recipient's name, bounded and in quotes, nor many columns push the fingerprint out of a line; the analyst is called you."""
    columns = tuple(f"column_{index}" for index in range(60))
    hostile = replace(STRANGER.public, name=name)
    outputs = tuple(Output(kind=OutputKind.ROWS, recipient=recipient, columns=columns) for recipient in (hostile, ANALYST.public))
    stranger, analyst = (line for line in describe(job(outputs=outputs)).splitlines() if line.startswith("  output: "))
    assert stranger.startswith(f"  output: rows to {STRANGER.public.fingerprint}, named ")
    assert ", 60 columns: column_0, column_1," in stranger
    assert f"{name[:64]!r}, 60 columns" in stranger
    assert analyst.startswith("  output: rows to you, 60 columns: column_0, column_1,")


def test_another_user_is_not_served(server: AgentServer, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of another user, who got past the socket's permissions, gets no answer."""
    assert isinstance(ask(path, Identify())[0], Identified)

    class ForeignCredentials:
        size = struct.calcsize("3i")

        @staticmethod
        def unpack(_: bytes) -> tuple[int, int, int]:
            return 1, os.getuid() + 1, 1

    monkeypatch.setattr(agent_module, "_PEER_CREDENTIALS", ForeignCredentials)
    with pytest.raises(SecureMLlibError):
        ask(path, Identify())


def test_two_agents_do_not_share_a_socket(server: AgentServer, path: Path) -> None:
    """A second agent at the same socket is refused while the first runs, and takes the place of one that is gone."""
    another = Agent(ANALYST, None, show=lambda _: None)
    with pytest.raises(UsageError, match="listens"):
        AgentServer(another, path)
    stale = path.with_name("stale.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as gone:
        gone.bind(os.fspath(stale))
    AgentServer(another, stale).close()
    assert not stale.exists()


def test_an_open_directory_is_refused(tmp_path: Path) -> None:
    """The agent does not listen in a directory that others can enter."""
    (tmp_path / "shared").mkdir(mode=0o755)
    with pytest.raises(UsageError, match="open to others"):
        AgentServer(Agent(ANALYST, None, show=lambda _: None), tmp_path / "shared" / "agent.sock")


def test_the_fields_that_are_exchanged_are_all_fields() -> None:
    """The test of exchanged fields covers each field that a result has."""
    names = {"job_id", "kind", "ordinal", "recipient", "attestation", "key", "content"}
    assert {field.name for field in fields(SealedResult)} == names
