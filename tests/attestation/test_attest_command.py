"""Does `securemllib attest` decide offline as the broker does, and say why?"""

import json
import socket
from base64 import b64encode
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from securemllib.attestation.insecure import InsecureAttester
from securemllib.cli.attest import app
from securemllib.cli.enclave_process import running
from securemllib.crypto.identity import PrivateIdentity
from securemllib.errors import AttestationError, FormatError, SecureMLlibError, UsageError
from securemllib.wire.attestation import Challenge, Evidence, report_data
from tests.attestation.pki import NOW, SgxBody, State, TestRoot

ROOT = TestRoot()
BODY = SgxBody()
AT = "2027-01-15T08:00:00"
CHALLENGE = Challenge(nonce=bytes(32), broker=PrivateIdentity.generate("broker").public, job_id="job")
ENCLAVE = PrivateIdentity.generate("enclave").public
POLICY = f"""\
allow_insecure: true
insecure_risk: the-operator-can-read-everything
insecure_roots: ["{ROOT.digest.hex()}"]
enclaves:
  theirs: {{measurement: "{"99" * 32}", tees: [tdx], tcb_statuses: []}}
  ours: {{measurement: "{BODY.measurement.hex()}", tees: [sgx]}}
rules: []
"""
BOUND = report_data(CHALLENGE, ENCLAVE)


def run(*arguments):
    """Run the command in this process and return what it printed and its error."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, (SecureMLlibError, SystemExit)), result.exception
    return result.output, result.exception


@pytest.fixture
def folder(tmp_path):
    """Evidence that a policy accepts, the policy and the collateral."""
    write_evidence(
        tmp_path / "evidence.json", Evidence(tee="sgx", report=ROOT.sgx_quote(replace(BODY, report_data=BOUND)), identity=ENCLAVE)
    )
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "collateral.json").write_text(ROOT.collateral())
    return tmp_path


def write_evidence(path, evidence):
    """Write evidence beside the challenge."""
    parts = {"challenge": CHALLENGE, "evidence": evidence}
    path.write_text(json.dumps({name: b64encode(part.to_bytes()).decode() for name, part in parts.items()}))


def verify(folder, *more, collateral=True):
    """Run `attest verify` on the folder's files."""
    options = ["--collateral", folder / "collateral.json"] if collateral else []
    return run("verify", folder / "evidence.json", "--policy", folder / "policy.yaml", *options, "--at", AT, *more)


def test_accepted_evidence_is_explained(folder):
    """Every claim of accepted evidence has its line, and the last one says so."""
    printed, error = verify(folder)
    assert error is None
    lines = [line.split(maxsplit=1) for line in printed.splitlines()]
    assert lines[-1] == ["accepted"]
    assert all(line[0] == "yes" for line in lines[:-1])
    for told in (BODY.measurement.hex(), BODY.signer.hex(), "UpToDate", "debug", "security version", ENCLAVE.fingerprint, "not Intel's"):
        assert told in printed


def test_each_refused_claim_is_explained(folder):
    """All claims that the policy refuses are marked, the first gives the code, and nothing says accepted."""
    (folder / "policy.yaml").write_text(POLICY.replace("11" * 32, "12" * 32).replace("[sgx]", "[tdx]"))
    printed, error = verify(folder)
    assert isinstance(error, AttestationError)
    assert error.error_code == "refused.attestation.tee"
    assert "2 of 8 claims" in error.next_step
    refused = [line.split()[1] for line in printed.splitlines() if line.split()[0] == "no"]
    assert refused == ["TEE", "measurement"]
    assert "does not name the measurement" in printed
    assert "accepted" not in printed


def test_json_says_the_same(folder):
    """With --json the same lines come as one object, for accepted and for refused evidence."""
    printed, error = verify(folder, "--json")
    assert error is None
    assert json.loads(printed)["accepted"] is True
    (folder / "collateral.json").write_text(ROOT.collateral("sgx", State(status="OutOfDate")))
    printed, error = verify(folder, "--json")
    assert error.error_code == "refused.attestation.tcb_status"
    found = json.loads(printed)
    assert found["accepted"] is False
    assert [claim["found"] for claim in found["claims"] if not claim["accepted"]] == ["OutOfDate"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda folder: (folder / "collateral.json").write_text(ROOT.collateral("sgx", State(qe_until=NOW - 1))), "expired"),
        (lambda folder: (folder / "collateral.json").write_text(ROOT.collateral("sgx", State(revoked="platform"))), "revoked"),
        (lambda folder: (folder / "collateral.json").write_text(ROOT.collateral("tdx")), "collateral"),
        (lambda folder: (folder / "policy.yaml").write_text(POLICY.replace(ROOT.digest.hex(), "00" * 32)), "root"),
        (
            lambda folder: write_evidence(folder / "evidence.json", Evidence(tee="sgx", report=ROOT.sgx_quote(BODY), identity=ENCLAVE)),
            "report_data",
        ),
    ],
)
def test_evidence_that_is_not_genuine_is_refused(folder, change, code):
    """Evidence that cannot be verified is refused with the reason's code before any claim is shown."""
    change(folder)
    printed, error = verify(folder)
    assert isinstance(error, AttestationError)
    assert error.error_code == f"refused.attestation.{code}"
    assert printed == ""


def test_without_collateral_a_quote_is_refused(folder):
    """A quote is refused without a collateral file, and the report of an insecure attester needs none."""
    _, error = verify(folder, collateral=False)
    assert error.error_code == "refused.attestation.collateral"
    report = InsecureAttester(BODY.measurement, ()).report(BOUND)
    write_evidence(folder / "evidence.json", Evidence(tee="insecure", report=report, identity=ENCLAVE))
    printed, error = verify(folder, collateral=False)
    assert error is None
    assert "insecure: a software key" in printed


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "{", '{"challenge": 1, "evidence": 2}', '{"challenge": "!", "evidence": ""}', "[" * 100_000]
)
def test_a_file_that_holds_no_evidence_is_refused(folder, text):
    """A file that is no evidence is refused by its format, and a missing one by its name."""
    (folder / "evidence.json").write_text(text)
    assert isinstance(verify(folder)[1], FormatError)
    (folder / "evidence.json").unlink()
    assert isinstance(verify(folder)[1], UsageError)


def test_a_time_that_is_none_is_refused(folder):
    """--at takes ISO 8601 times only."""
    assert isinstance(verify(folder, "--at", "yesterday")[1], UsageError)
    assert verify(folder, "--at", "2027-01-15T08:00:00+00:00")[1] is None


def test_a_port_where_no_enclave_answers_is_told(tmp_path):
    """Where nobody listens the error names the port, and the command that starts an enclave."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        error = run("collect", tmp_path / "evidence.json", "--port", port)[1]
    assert error.error_code == "unavailable.enclave"
    assert str(port) in error.reason
    assert "securemllib enclave serve" in error.next_step


def test_evidence_is_collected_from_a_running_enclave(tmp_path):
    """`attest collect` takes evidence from a real enclave process, `verify` verifies it, and no file is overwritten."""
    with running(memory=2**20) as port:
        _, error = run("collect", tmp_path / "evidence.json", "--port", port)
        assert error is None
        assert isinstance(run("collect", tmp_path / "evidence.json", "--port", port)[1], UsageError)
    (tmp_path / "policy.yaml").write_text(POLICY)
    printed, error = run("verify", tmp_path / "evidence.json", "--policy", tmp_path / "policy.yaml")
    assert error.error_code == "refused.attestation.measurement"
    assert "insecure: a software key" in printed
