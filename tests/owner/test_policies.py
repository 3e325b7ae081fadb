"""Does a policy say just what its YAML says, and is every slip of the pen an error?"""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from securemllib.errors import UsageError
from securemllib.owner.identity_file import save_public
from securemllib.owner.policy import TEMPLATE, load_policy, policy_from_text
from securemllib.wire.job import Mode, OutputKind
from securemllib.wire.policy import ANY, AppraisalPolicy, Bound, Policy, SignerRule

DATASET = "ab" * 16
FINGERPRINT = "a" * 52

GOOD = f"""\
serial: 3
enclaves: {{allow_insecure: true, tees: [sgx, tdx], measurements: ["{"0f" * 32}"], minimum_security_version: 2,
  signers: [{{signer: "{"1f" * 32}", product_id: 7, minimum_security_version: 4}}], tcb_statuses: [UpToDate, SWHardeningNeeded],
  advisories: [INTEL-SA-00615], insecure_roots: ["{"2f" * 32}"]}}
rules:
  - name: training
    analysts: [{FINGERPRINT}]
    operations:
      KMeans: {{k: {{min: 2, max: 10}}, initMode: {{allowed: [random]}}}}
      ClusteringEvaluator: {{}}
    columns: [age, weight]
    outputs:
      summary: [{FINGERPRINT}]
      rows: {{recipients: [{FINGERPRINT}], columns: [prediction]}}
    not_before: 2026-01-01
    not_after: 2026-06-30T12:00:00+02:00
    maximum_runs: 5
  - {{name: all, analysts: [{FINGERPRINT}], operations: all, columns: all, outputs: {{}}}}
"""


def read(text: str) -> Policy:
    """Read a policy."""
    return policy_from_text(text, dataset_id=DATASET, owner=FINGERPRINT)


def test_a_policy_says_what_its_yaml_says() -> None:
    """Every field of the YAML is in the policy, dates in UTC."""
    policy = read(GOOD)
    first, second = policy.rules
    assert (policy.serial, policy.dataset_id, policy.owner) == (3, DATASET, FINGERPRINT)
    assert policy.enclaves.allow_insecure
    assert policy.enclaves.measurements == (b"\x0f" * 32,)
    assert policy.enclaves.minimum_security_version == 2
    assert policy.enclaves.signers == (SignerRule(signer=b"\x1f" * 32, product_id=7, minimum_security_version=4),)
    assert policy.enclaves.tcb_statuses == ("UpToDate", "SWHardeningNeeded")
    assert policy.enclaves.advisories == ("INTEL-SA-00615",)
    assert policy.enclaves.insecure_roots == (b"\x2f" * 32,)
    bounds = {rule.operation: rule.bounds for rule in first.operations}
    assert bounds == {
        "KMeans": {"k": Bound(minimum=2.0, maximum=10.0, allowed=()), "initMode": Bound(minimum=None, maximum=None, allowed=("random",))},
        "ClusteringEvaluator": {},
    }
    assert [(rule.kind, rule.columns) for rule in first.outputs] == [(OutputKind.SUMMARY, ()), (OutputKind.ROWS, ("prediction",))]
    assert first.not_before == int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
    assert first.not_after == int(datetime(2026, 6, 30, 10, tzinfo=UTC).timestamp())
    assert (first.maximum_runs, first.modes) == (5, (Mode.ENCLAVE,))
    assert (second.operations[0].operation, second.columns, second.outputs) == (ANY, (ANY,), ())
    assert Policy.from_bytes(policy.to_bytes()) == policy


def test_a_rule_says_in_which_modes_and_groups() -> None:
    """Modes and a group size are read; without them a rule is for enclave mode and asks for no group size."""
    first = read(GOOD.replace("maximum_runs: 5", "maximum_runs: 5\n    modes: [enclave, partitioned]\n    min_group_size: 20", 1)).rules[0]
    assert (first.modes, first.min_group_size) == (tuple(Mode), 20)
    assert (read(GOOD).rules[0].modes, read(GOOD).rules[0].min_group_size) == ((Mode.ENCLAVE,), 0)
    with pytest.raises(UsageError):
        read(GOOD.replace("maximum_runs: 5", "maximum_runs: 5\n    min_group_size: -1", 1))


@pytest.mark.parametrize(
    ("found", "written", "advice"),
    [
        ("serial:", "serail:", "'serial'"),
        ("allow_insecure:", "allow_insecur:", "'allow_insecure'"),
        ("analysts:", "analyst:", "'analysts'"),
        ("KMeans:", "Kmeans:", "'KMeans'"),
        ("{min: 2, max: 10}", "{minimum: 2}", "'min'"),
        ("initMode:", "initMod:", "'initMode'"),
        ("summary:", "sumary:", "'summary'"),
        ("maximum_runs: 5", "max_runs: 5", "'maximum_runs'"),
        ("tees: [sgx, tdx]", "tees: [sgxx]", "'sgx'"),
        ("tcb_statuses:", "tcb_status:", "'tcb_statuses'"),
        ("SWHardeningNeeded", "SwHardeningNeeded", "'SWHardeningNeeded'"),
        ("product_id: 7", "productId: 7", "'product_id'"),
    ],
)
def test_a_misspelt_name_is_refused_with_the_right_one(found: str, written: str, advice: str) -> None:
    """A name that policies do not have is refused, and the nearest one is offered: it would otherwise allow more than was meant."""
    assert found in GOOD
    with pytest.raises(UsageError) as caught:
        read(GOOD.replace(found, written, 1))
    assert advice in caught.value.next_step


@pytest.mark.parametrize(
    ("found", "written"),
    [
        ("allow_insecure: true", "allow_insecure: 'yes'"),
        ("serial: 3", "serial: -1"),
        ("serial: 3", "serial: true"),
        ("serial: 3", "serial: 3\nserial: 4"),
        ("min: 2", "min: two"),
        ("min: 2", "min: 20"),
        ("min: 2", "min: .nan"),
        ("{min: 2, max: 10}", "{}"),
        ("allowed: [random]", "allowed: []"),
        ("allowed: [random]", "allowed: [[random]]"),
        ("0f" * 32, "0f" * 31),
        ("0f" * 32, "zz" * 32),
        ("1f" * 32, "1f" * 48),
        ("product_id: 7", "product_id: 65536"),
        ("product_id: 7", "product_id: true"),
        ("product_id: 7, ", ""),
        ("minimum_security_version: 4", "minimum_security_version: -1"),
        ("SWHardeningNeeded", "Revoked"),
        ("INTEL-SA-00615", "SA-00615"),
        ("INTEL-SA-00615", "615"),
        ("2f" * 32, "2f" * 31),
        ("not_after: 2026-06-30T12:00:00+02:00", "not_after: soon"),
        ("not_after: 2026-06-30T12:00:00+02:00", "not_after: 2025-01-01"),
        ("columns: [age, weight]", "columns: age"),
        (f"analysts: [{FINGERPRINT}]", "analysts: [somebody]"),
        (f"analysts: [{FINGERPRINT}]", "analysts: [missing.pub]"),
        ("maximum_runs: 5", "maximum_runs: 1.5"),
        ("    columns: [age, weight]\n", ""),
        ("serial: 3", "serial: ["),
        ("serial: 3", "serial: !!python/object/apply:os.getcwd []"),
    ],
)
def test_a_wrong_value_is_refused(found: str, written: str) -> None:
    """A value outside of its field's domain, a missing field, a repeated key and broken YAML are refused."""
    assert found in GOOD
    with pytest.raises(UsageError):
        read(GOOD.replace(found, written, 1))


def test_a_policy_that_says_little_accepts_little() -> None:
    """Without a word on enclaves none is accepted, and no platform but one that is up to date and that no advisory applies to."""
    policy = read("enclaves: {}\nrules: []\n")
    assert policy.enclaves == AppraisalPolicy(
        allow_insecure=False,
        tees=(),
        measurements=(),
        minimum_security_version=0,
        signers=(),
        tcb_statuses=("UpToDate",),
        advisories=(),
        insecure_roots=(),
    )


def test_the_template_is_a_policy(owner, tmp_path: Path) -> None:
    """The template reads as it is, beside the .pub file that it names, and allows no enclave without a TEE."""
    (tmp_path / "policy.yaml").write_text(TEMPLATE)
    save_public(owner.identity.public, tmp_path / "analyst.pub")
    policy = load_policy(tmp_path / "policy.yaml", dataset_id=DATASET, owner=FINGERPRINT)
    assert policy.rules[0].analysts == (owner.identity.public.fingerprint,)
    assert not policy.enclaves.allow_insecure


def test_serials_grow_by_themselves() -> None:
    """Without a serial the time is one, and a given one wins."""
    text = GOOD.replace("serial: 3\n", "")
    assert read(text).serial > 1_700_000_000
    assert policy_from_text(GOOD, dataset_id=DATASET, owner=FINGERPRINT, serial=9).serial == 9
