"""Can an owner and an analyst do their work from the command line, and do errors say what to do next?"""

import json
import os
import signal
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from securemllib import cli
from securemllib.crypto.aead import seal
from securemllib.crypto.identity import PrivateIdentity
from securemllib.crypto.keys import DataKey
from securemllib.crypto.wrapping import wrap
from securemllib.errors import SecureMLlibError
from securemllib.owner.identity_file import create, load_public, save_public
from securemllib.policy.envelope import Envelope, open_envelope
from securemllib.policy.model import Policy
from securemllib.wire.agent import REPLIES, Identified, Identify
from securemllib.wire.attestation import AttestationResult
from securemllib.wire.encoding import encode
from securemllib.wire.framing import receive, send
from securemllib.wire.job import OutputKind
from securemllib.wire.result import ResultKey, SealedResult, result_context, result_key_context

SOURCE = Path(__file__).resolve().parents[2] / "src"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with an identity, and the working directory beside it."""
    monkeypatch.setenv("SECUREMLLIB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SECUREMLLIB_AGENT_SOCK", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("age,weight\n" + "".join(f"{row},{row / 3}\n" for row in range(50)))
    assert run("init", "alice", "--no-passphrase").exit_code == 0
    return tmp_path / "home"


def run(*arguments: str, words: str | None = None) -> Result:
    """Run a command."""
    return CliRunner().invoke(cli.app, list(arguments), input=words)


def refused(*arguments: str) -> SecureMLlibError:
    """Run a command that must end with an error of ours, and return the error."""
    result = run(*arguments)
    assert isinstance(result.exception, SecureMLlibError), result.output
    return result.exception


def test_from_a_table_to_a_dataset_and_back(home: Path, tmp_path: Path) -> None:
    """Encrypt, inspect, verify and decrypt work one after the other, and inferred types are printed."""
    assert "age=int64, weight=double" in run("data", "encrypt", "rows.csv", "dataset", "--name", "patients").output
    described = json.loads(run("data", "inspect", "dataset", "--json").output)
    assert (described["name"], described["rows"], described["verified"]) == ("patients", 50, False)
    assert "timestamp" not in run("data", "inspect", "dataset").output
    assert json.loads(run("data", "inspect", "dataset", "--json", "--keys").output)["verified"]
    assert "every part decrypts" in run("data", "verify", "dataset").output
    assert "contents need the owner's keys" in run("data", "verify", "dataset", "--owner", "home/alice.pub").output
    assert "50 rows" in run("data", "decrypt", "dataset", "clear.parquet").output
    assert pq.read_table("clear.parquet").sort_by("age")["age"].to_pylist() == list(range(50))
    assert "version 2" in run("data", "append", "rows.csv", "dataset", "dataset-2").output
    assert refused("data", "verify", "dataset").error_code == "integrity.freshness"


def test_an_error_is_told_in_three_lines(home: Path) -> None:
    """The command prints an error's code, reason and next step on stderr and exits with 2 for a wrong call, 1 for everything else."""
    run("data", "encrypt", "rows.csv", "dataset")
    part = Path("dataset/part-00000.parquet")
    part.write_bytes(part.read_bytes()[:-1])
    for arguments, code, status in (
        (["data", "verify", "dataset"], "integrity.part", 1),
        (["data", "verify", "nothing"], "usage.no_dataset", 2),
        (["data", "encrypt", "rows.csv"], "Missing argument", 2),
        (["policy", "new", "/proc/policy.yaml"], "unavailable.storage", 1),
        (["trust-broker", "--broker", "https://broker.test", "--fingerprint", "x", "--ca-file", "rows.csv"], "usage.ca_file", 2),
        (["data", "encrypt", "rows.csv", "sealed", "--encodings", "home"], "unavailable.system", 1),
        (["enrol", "dataset", "--broker", "https://broker.test", "--fingerprint", "x", "--ca-file", "nothing"], "usage.ca_file", 2),
    ):
        environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
        command = [sys.executable, "-c", "from securemllib.cli import main; main()", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == status
        assert code in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
        assert ("next:" in done.stderr) == (code != "Missing argument")


def test_passphrases(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A passphrase is asked for twice when made and once when used, or read from a file; a wrong one is refused."""
    monkeypatch.setenv("SECUREMLLIB_HOME", str(tmp_path / "sealed"))
    assert run("init", "bob", words="correct horse\ncorrect horse\n").exit_code == 0
    (tmp_path / "right").write_text("correct horse\n")
    (tmp_path / "wrong").write_text("wrong horse\n")
    assert run("data", "encrypt", "rows.csv", "dataset", "--passphrase-file", "right").exit_code == 0
    assert refused("data", "verify", "dataset", "--passphrase-file", "wrong").error_code == "integrity.unseal.passphrase"
    assert run("data", "verify", "dataset", words="correct horse\n").exit_code == 0


def test_a_policy_from_draft_to_signature(home: Path) -> None:
    """The draft, signed for a dataset, is the owner's policy of that dataset, and no file is overwritten."""
    run("data", "encrypt", "rows.csv", "dataset")
    assert run("policy", "new", "policy.yaml").exit_code == 0
    assert run("policy", "new", "policy.yaml").exit_code != 0
    Path("policy.yaml").write_text(Path("policy.yaml").read_text().replace("analyst.pub", "home/alice.pub"))
    assert run("policy", "lint", "policy.yaml").exit_code == 0
    assert run("policy", "sign", "policy.yaml", "dataset", "policy.dsse.json", "--any-broker").exit_code == 0
    policy = open_envelope(Envelope.from_bytes(Path("policy.dsse.json").read_bytes()), Policy, load_public(home / "alice.pub"))
    assert policy.rules[0].name == "training"
    assert policy.dataset_id == json.loads(run("data", "inspect", "dataset", "--json").output)["dataset_id"]


def test_a_broker_is_not_trusted_by_itself(home: Path) -> None:
    """Enrolling without a trusted broker or a fingerprint is refused, and names the command that trusts one."""
    run("data", "encrypt", "rows.csv", "dataset")
    error = refused("enrol", "dataset", "--broker", "https://broker.test")
    assert error.error_code == "usage.no_broker"
    assert "trust-broker" in error.next_step


def test_identities_are_chosen_by_name_where_there_are_two(home: Path) -> None:
    """With one identity none needs to be named; with two the error lists them."""
    assert "'alice'" in run("identity", "show").output
    run("init", "bob", "--no-passphrase")
    assert "alice, bob" in refused("identity", "show").next_step
    assert "'bob'" in run("identity", "show", "--identity", "bob").output


def sealed(recipient: PrivateIdentity, broker: PrivateIdentity, kind: OutputKind, content: bytes) -> SealedResult:
    """Return a genuine result."""
    enclave, key, job = PrivateIdentity.generate("enclave"), DataKey.generate(), "1" * 64
    who = recipient.public.fingerprint
    found = AttestationResult(job_id=job, identity=enclave.public, tee="insecure", measurement=bytes(32), protections=(), issued=1)
    wrapped = wrap(recipient.public.recipient_key, result_key_context(job, kind, who), key.expose())
    return SealedResult(
        job_id=job,
        kind=kind,
        ordinal=0,
        recipient=who,
        attestation=broker.sign(found),
        key=enclave.sign(ResultKey(job_id=job, kind=kind, recipient=who, parts=1, behind=0, wrapped=wrapped)),
        content=seal(key, result_context(job, kind, 0, who), content),
    )


def test_no_identity_takes_the_trusted_brokers_file(home: Path) -> None:
    """The public file of an identity named `broker` would stand in the place of the broker that the user trusts."""
    save_public(PrivateIdentity.generate("hospital").public, home / "broker.pub")
    before = (home / "broker.pub").read_bytes()
    assert "Choose another name" in refused("init", "broker", "--no-passphrase").next_step
    assert (home / "broker.pub").read_bytes() == before


def test_decrypted_rows_do_not_go_beside_the_sealed_ones(home: Path, tmp_path: Path) -> None:
    """A dataset's directory lies on storage that nobody trusts, so no plain file is written into it."""
    run("data", "encrypt", "rows.csv", "dataset")
    assert refused("data", "decrypt", "dataset", "dataset/rows.csv").error_code == "usage.destination"
    assert not Path("dataset/rows.csv").exists()


def test_results_are_opened(home: Path) -> None:
    """A metric is printed as JSON with its TEE named, rows go to a Parquet file, and without a trusted broker nothing opens."""
    from securemllib.owner import identity_file

    alice, broker = identity_file.load(home / "alice.identity"), PrivateIdentity.generate("broker")
    Path("metric.sml").write_bytes(sealed(alice, broker, OutputKind.METRIC, encode({"auc": 0.75})).to_bytes())
    assert refused("result", "open", "metric.sml", "--job", "1" * 64).error_code == "usage.no_broker"
    save_public(broker.public, home / "broker.pub")
    opened = run("result", "open", "metric.sml", "--job", "1" * 64)
    assert json.loads(opened.stdout) == {"auc": 0.75}
    assert "TEE: insecure" in opened.stderr
    assert refused("result", "open", "metric.sml", "--job", "2" * 64).error_code == "integrity.result"
    rows, sink = pa.table({"prediction": [1.0, 0.0]}), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    Path("rows.sml").write_bytes(sealed(alice, broker, OutputKind.ROWS, sink.getvalue().to_pybytes()).to_bytes())
    assert run("result", "open", "rows.sml", "--job", "1" * 64, "--output", "rows.parquet").exit_code == 0
    assert pq.read_table("rows.parquet") == rows


def test_the_agent_runs_until_it_is_stopped(home: Path) -> None:
    """The agent prints its socket first and what it cannot open, answers there, and leaves nothing behind when stopped."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-u", "-c", "from securemllib.cli import main; main()", "agent"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline().strip() if process.stdout else ""
            path = line.removeprefix("SECUREMLLIB_AGENT_SOCK=")
            assert path == str(home / "agent.sock")
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.connect(path)
                send(connection, Identify())
                assert receive(connection, REPLIES)[0] == Identified(identity=load_public(home / "alice.pub"), broker=None)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
            assert "results stay closed until `securemllib trust-broker` has run" in (process.stderr.read() if process.stderr else "")
        finally:
            process.kill()
    assert not Path(path).exists()


def test_one_passphrase_is_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What opens identity and keystore is asked for once, and the keystore's own where it is another one; a wrong one opens nothing."""
    monkeypatch.setenv("SECUREMLLIB_HOME", str(tmp_path / "home"))
    (tmp_path / "rows.csv").write_text("age\n1\n2\n")
    source = str(tmp_path / "rows.csv")
    assert run("init", "alice", words="of both\nof both\n").exit_code == 0
    asked = run("data", "encrypt", source, str(tmp_path / "first"), words="of both\n")
    assert (asked.exit_code, asked.output.count("Passphrase of the")) == (0, 1)
    for file in (tmp_path / "home").glob("alice*"):
        file.unlink()
    create(tmp_path / "home", "alice", "of the identity")
    asked = run("data", "encrypt", source, str(tmp_path / "second"), words="of the identity\nof both\n")
    assert (asked.exit_code, asked.output.count("Passphrase of the")) == (0, 2)
    result = run("data", "encrypt", source, str(tmp_path / "third"), words="of the identity\nwrong\n")
    assert (result.exit_code, (tmp_path / "third").exists()) == (1, False)


def test_the_version_is_told() -> None:
    """The version is that of the installed package, for whoever reports a defect."""
    assert run("--version").output == f"securemllib {version('securemllib')}\n"


def test_every_command_explains_itself(home: Path) -> None:
    """Every command of owners and analysts has a help text."""
    for command in (
        ["data", "encrypt"],
        ["data", "append"],
        ["data", "inspect"],
        ["data", "verify"],
        ["data", "decrypt"],
        ["init"],
        ["enrol"],
    ):
        assert len(run(*command, "--help").output) > 200
    for command in (["policy", "sign"], ["policy", "submit"], ["agent"], ["result", "open"], ["trust-broker"], ["identity", "show"]):
        assert len(run(*command, "--help").output) > 200
    assert "COMMAND" in run("data", "--help").output
    assert "COMMAND" not in run("doctor", "--help").output
