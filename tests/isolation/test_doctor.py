"""Does `securemllib doctor` say what an enclave on this machine really is?"""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from securemllib.attestation.measurement import measure_package
from securemllib.cli.doctor import app as doctor
from securemllib.cli.enclave import app as enclave
from securemllib.enclave.hardening import PROTECTIONS
from tests.isolation.test_given_up import expected_here

HAS_TEE = any(Path(device).exists() for device in ("/dev/attestation", "/dev/sgx_enclave", "/dev/tdx_guest"))


def test_doctor_reports_a_really_started_enclave():
    """The report holds the measurement of the installed package and the protections of a process that gave evidence."""
    done = CliRunner().invoke(doctor, ["--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert found["measurement"] == measure_package().hex()
    assert found["attested"] == "insecure"
    assert found["matches"]
    assert found["problem"] is None
    # The test's own process may be able to lock memory or not; all else is the kernel's.
    assert expected_here() <= set(found["protections"])
    assert set(found["protections"]) | set(found["missing"]) == PROTECTIONS.keys()


def test_doctor_says_whether_the_inner_loops_are_compiled(monkeypatch):
    """The report says that the kernels are compiled, which set-up sees to, and without a library why numpy does their work."""
    assert "inner loops  compiled" in CliRunner().invoke(doctor, []).output.splitlines()
    monkeypatch.setattr("securemllib.algorithms.kernels.library._STATUS", "numpy: for a reason")
    assert "inner loops  numpy: for a reason" in CliRunner().invoke(doctor, []).output.splitlines()


@pytest.mark.skipif(HAS_TEE, reason="this machine has a TEE")
def test_doctor_says_insecure_without_a_tee():
    """Without a TEE the word insecure is on a line of its own, and the operator is named as the one who can read everything."""
    output = CliRunner().invoke(doctor, []).output
    assert "insecure: no TEE on this machine" in output.splitlines()
    assert "operates this machine can read" in output


def test_doctor_fails_where_no_enclave_starts(monkeypatch):
    """An enclave process that does not start is a problem and a failing exit code, and no protection is claimed."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    done = CliRunner().invoke(doctor, ["--json"])
    found = json.loads(done.output)
    assert done.exit_code == 1
    assert found["protections"] == []
    assert "unavailable.enclave" in found["problem"]


def test_measure_prints_what_a_policy_names():
    """`enclave measure` prints the measurement that evidence carries, and says that there is no TEE behind it."""
    result = CliRunner().invoke(enclave, ["measure"])
    assert result.stdout == f"{measure_package().hex()}\n"
    assert result.stderr.startswith("insecure: ")
