"""Do the commands about policies work against a real broker, from the first policy to the end of it?"""

import time
from pathlib import Path

import httpx
import pytest
from broker_world import World, appraisal
from typer.testing import CliRunner

from securemllib.cli import app
from securemllib.errors import PolicyError, SecureMLlibError
from securemllib.owner.identity_file import load_public

POLICY = f"""\
enclaves:
  release-1: {{measurement: "{appraisal().measurements[0].hex()}", tees: [sgx]}}
rules:
  - name: training
    analysts: [{"a" * 52}]
    operations: {{KMeans: }}
    columns: [age]
    outputs: {{}}
approvals:
  policy_change: {{threshold: 1, approvers: [home/bob.pub]}}
"""


def run(*arguments: str) -> str:
    """Run a command and return what it printed, in one line."""
    result = CliRunner().invoke(app, arguments)
    if isinstance(result.exception, SecureMLlibError):
        raise result.exception
    assert result.exit_code == 0, (result.output, result.exception)
    return " ".join(result.output.split())


def test_a_policy_from_its_draft_to_its_end(world: World, client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Enrolled with a policy for this broker, changed with an approval and not without, revoked; `log` tells all, and moves no cursor."""
    world.clock.now = time.time()
    monkeypatch.setenv("SECUREMLLIB_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    fingerprint = world.broker.identity.fingerprint
    to = ("--broker", str(client.base_url), "--fingerprint", fingerprint, "--identity", "alice")
    run("init", "alice", "--no-passphrase")
    run("init", "bob", "--no-passphrase")
    world.broker.trust_owner(load_public(tmp_path / "home" / "alice.pub"))
    Path("visits.csv").write_text("age\n1.5\n2.5\n")
    run("data", "encrypt", "visits.csv", "visits", "--identity", "alice")
    Path("one.yaml").write_text(POLICY)
    assert "with its policy" in run("enrol", "visits", "--policy", "one.yaml", *to)
    Path("two.yaml").write_text(POLICY.replace("[age]", "all"))
    assert "wider 'training': reading everything is allowed" in run("policy", "diff", "one.yaml", "two.yaml")
    # A serial is the second of signing.
    time.sleep(1.1)
    signed = run("policy", "sign", "two.yaml", "visits", "two.signed", "--fingerprint", fingerprint, "--identity", "alice")
    assert f"for the broker {fingerprint}" in signed
    submit = ("policy", "submit", "two.signed", *to[:4])
    with pytest.raises(PolicyError, match="approvals of a change"):
        run(*submit)
    assert "approved" in run("policy", "approve", "two.signed", "--identity", "bob")
    assert "2 signatures" in run(*submit)
    time.sleep(1.1)
    assert "revoked" in run("policy", "revoke", "visits", "--reason", "it is over\x1b[2J", *to)
    told = run("policy", "log", "visits", *to)
    for event in ("policy serial", "refused code: refused.policy.approval", "wider: 'training': reading everything", "why: it is over?[2J"):
        assert event in told
