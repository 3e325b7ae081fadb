"""Does a policy say just what its YAML says, and is every slip of the pen an error?"""

import json
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pytest
import yaml

from securemllib.errors import UsageError
from securemllib.owner.identity_file import save_public
from securemllib.owner.policy import TEMPLATE, for_broker, load_policy, policy_from_text, read_policy
from securemllib.owner.policy_schema import written_schema
from securemllib.policy.model import ANY, Bound, NamedEnclave, Policy
from securemllib.wire.job import Mode, OutputKind

DATASET = "ab" * 16
FINGERPRINT = "a" * 52
SCHEMA = Path(__file__).parents[2] / "docs" / "policy.schema.json"

GOOD = f"""\
serial: 3
allow_insecure: true
insecure_risk: the-operator-can-read-everything
insecure_roots: ["{"2f" * 32}"]
people: {{alice: {FINGERPRINT}}}
enclaves:
  ours: {{measurement: "{"0f" * 32}", minimum_security_version: 2, tees: [sgx, tdx]}}
  theirs: {{signer: "{"1f" * 32}", product_id: 7, minimum_security_version: 4, tees: [sgx], tcb_statuses: [UpToDate, SWHardeningNeeded],
    advisories: [INTEL-SA-00615]}}
rules:
  - name: training
    analysts: [alice]
    operations:
      KMeans: {{k: {{min: 2, max: 10}}, initMode: {{allowed: [random]}}}}
      ClusteringEvaluator:
    columns: [age, weight]
    outputs:
      summary: [alice]
      rows: {{recipients: [{FINGERPRINT}], columns: [prediction]}}
    not_before: 2026-01-01
    not_after: 2026-06-30T12:00:00+02:00
    maximum_runs: 5
  - {{name: all, analysts: [{FINGERPRINT}], operations: all, columns: all, outputs: {{}}}}
expires: 2027-01-01
"""


def read(text: str) -> Policy:
    """Read a policy."""
    return policy_from_text(text, dataset_id=DATASET, owner=FINGERPRINT)


def test_a_policy_says_what_its_yaml_says() -> None:
    """Every field of the YAML is in the policy, dates in UTC, people by fingerprint, and its canonical JSON reads as it was."""
    policy = read(GOOD)
    first, second = policy.rules
    assert (policy.serial, policy.dataset_id, policy.owner, policy.profile) == (3, DATASET, FINGERPRINT, "production")
    assert policy.allow_insecure
    assert policy.insecure_roots == ("2f" * 32,)
    assert policy.expires == datetime(2027, 1, 1, tzinfo=UTC)
    assert policy.enclaves == {
        "ours": NamedEnclave(measurement="0f" * 32, minimum_security_version=2, tees=("sgx", "tdx")),
        "theirs": NamedEnclave(
            signer="1f" * 32,
            product_id=7,
            minimum_security_version=4,
            tees=("sgx",),
            tcb_statuses=("UpToDate", "SWHardeningNeeded"),
            advisories=("INTEL-SA-00615",),
        ),
    }
    assert first.operations == {
        "KMeans": {"k": Bound(min=2.0, max=10.0), "initMode": Bound(allowed=("random",))},
        "ClusteringEvaluator": {},
    }
    assert {kind: output.columns for kind, output in first.outputs.items()} == {OutputKind.SUMMARY: (), OutputKind.ROWS: ("prediction",)}
    assert first.analysts == first.outputs[OutputKind.SUMMARY].recipients == (FINGERPRINT,)
    assert first.not_before == datetime(2026, 1, 1, tzinfo=UTC)
    assert first.not_after == datetime(2026, 6, 30, 10, tzinfo=UTC)
    assert (first.maximum_runs, first.modes) == (5, (Mode.ENCLAVE,))
    assert (second.operations, second.columns, second.outputs) == ({ANY: {}}, (ANY,), {})
    assert Policy.from_json(policy.to_json()) == policy


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


def test_an_error_names_its_line() -> None:
    """The error says in which line of which file it is."""
    with pytest.raises(UsageError, match="line 14"):
        read(GOOD.replace("k: {min", "kk: {min", 1))


def test_a_policy_that_says_little_accepts_little() -> None:
    """Without a word on enclaves none is accepted, and a named one on no platform but one that is up to date under no advisory."""
    assert read("enclaves: {}\nrules: []\n").appraisals() == {}
    named = read(f'enclaves: {{e: {{measurement: "{"0f" * 32}"}}}}\nrules: []\n').appraisals()["e"]
    assert (named.allow_insecure, named.tees, named.tcb_statuses, named.advisories) == (False, (), ("UpToDate",), ())
    assert (named.signers, named.insecure_roots) == ((), ())


def test_insecure_enclaves_in_production_need_the_risk_by_its_name() -> None:
    """`allow_insecure` alone is refused in the profile production; with the risk named, or in development, it is read."""
    risk = "insecure_risk: the-operator-can-read-everything\n"
    for written in ("", "insecure_risk: none\n", "insecure_risk: true\n"):
        with pytest.raises(UsageError):
            read(GOOD.replace(risk, written))
    with pytest.raises(UsageError, match="insecure_risk: the-operator"):
        read(GOOD.replace(risk, "profile: production\n"))
    assert read(GOOD).allow_insecure
    assert read(GOOD.replace(risk, "profile: development\n")).profile == "development"


def test_the_template_is_a_policy(owner, tmp_path: Path) -> None:
    """The template reads as it is, beside the .pub file that it names, and allows no enclave without a TEE."""
    (tmp_path / "policy.yaml").write_text(TEMPLATE.replace("{measurement}", "00" * 32))
    save_public(owner.identity.public, tmp_path / "analyst.pub")
    policy = load_policy(tmp_path / "policy.yaml", dataset_id=DATASET, owner=FINGERPRINT)
    assert policy.rules[0].analysts == (owner.identity.public.fingerprint,)
    assert not policy.allow_insecure


def test_a_broker_is_named_like_a_person(owner, tmp_path: Path) -> None:
    """A policy's broker is a fingerprint, a .pub file or a name; other text is refused, and so is signing it for another broker."""
    save_public(owner.identity.public, tmp_path / "broker.pub")
    fingerprint = owner.identity.public.fingerprint
    for written in (f"broker: {fingerprint}", "broker: broker.pub", "broker: ours\npeople: {ours: broker.pub}"):
        text = f"enclaves: {{}}\nrules: []\n{written}\n"
        policy = policy_from_text(text, dataset_id=DATASET, owner=FINGERPRINT, directory=tmp_path)
        assert for_broker(policy, fingerprint).broker == for_broker(policy, None).broker == fingerprint
        with pytest.raises(UsageError, match=f"not for {FINGERPRINT}"):
            for_broker(policy, FINGERPRINT)
    free = policy_from_text("enclaves: {}\nrules: []\n", dataset_id=DATASET, owner=FINGERPRINT)
    assert (free.broker, for_broker(free, fingerprint).broker) == (None, fingerprint)
    for wrong in ("staging", "5", "[]"):
        with pytest.raises(UsageError):
            policy_from_text(f"enclaves: {{}}\nrules: []\nbroker: {wrong}\n", dataset_id=DATASET, owner=FINGERPRINT)


def test_approvers_bring_their_keys(owner, tmp_path: Path) -> None:
    """An approver is a .pub file, whose key goes into the policy; a fingerprint, a repeated key and a vain threshold are refused."""
    save_public(owner.identity.public, tmp_path / "bob.pub")

    def quorum(approvers: str, threshold: int = 1) -> str:
        return f"approvals: {{policy_change: {{threshold: {threshold}, approvers: [{approvers}]}}}}\nenclaves: {{}}\nrules: []\n"

    def load(text: str) -> Policy:
        (tmp_path / "policy.yaml").write_text(text)
        policy = load_policy(tmp_path / "policy.yaml", dataset_id=DATASET, owner=FINGERPRINT)
        return Policy.from_json(policy.to_json())

    found = load(quorum("bob.pub")).approvals.policy_change
    assert found is not None
    assert found.identities == {owner.identity.public.fingerprint: owner.identity.public}
    for wrong in (quorum(FINGERPRINT), quorum("bob.pub", threshold=2), quorum("bob.pub", threshold=0), quorum("bob.pub, bob.pub")):
        with pytest.raises(UsageError):
            load(wrong)
    release = quorum("bob.pub").replace("policy_change", "model_release")
    with pytest.raises(UsageError, match="policy_change"):
        load(release)


def test_serials_grow_by_themselves() -> None:
    """Without a serial the time is one, and a given one wins."""
    text = GOOD.replace("serial: 3\n", "")
    assert read(text).serial > 1_700_000_000
    assert policy_from_text(GOOD, dataset_id=DATASET, owner=FINGERPRINT, serial=9).serial == 9


def test_a_policy_of_another_dataset_is_refused() -> None:
    """A file that names its dataset is signed for that one and no other."""
    assert read(f"dataset: {DATASET}\n{GOOD}").dataset_id == DATASET
    with pytest.raises(UsageError, match="not of"):
        read(f"dataset: {'cd' * 16}\n{GOOD}")


def plain(text: str) -> object:
    """Return YAML's values as an editor's validator sees them: dates are texts."""
    return yaml.load(text, Loader=yaml.BaseLoader) if "serial" not in text else json.loads(json.dumps(yaml.safe_load(text), default=str))


def test_the_published_schema_is_the_models() -> None:
    """The schema in the documentation is the one that the model generates."""
    assert json.loads(SCHEMA.read_text()) == json.loads(json.dumps(written_schema()))


@pytest.mark.parametrize(
    ("found", "written"),
    [
        ("serial:", "serail:"),
        ("analysts:", "analyst:"),
        ("KMeans:", "Kmeans:"),
        ("k: {min", "kk: {min"),
        ("min: 2", "minimum: 2"),
        ("summary:", "summaries:"),
        ("tees:", "tee:"),
        ("UpToDate", "uptodate"),
        ("serial: 3", "serial: 0"),
        ("columns: [age, weight]", "columns: age"),
        ("0f" * 32, "0f" * 31),
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(found: str, written: str) -> None:
    """A JSON Schema validator accepts the policy, and refuses the same policy with one slip, as the reader does."""
    jsonschema.Draft202012Validator.check_schema(written_schema())
    validator = jsonschema.Draft202012Validator(written_schema())
    validator.validate(plain(GOOD))
    assert found in GOOD
    text = GOOD.replace(found, written, 1)
    assert not validator.is_valid(plain(text))
    with pytest.raises(UsageError):
        read(text)


def test_lint_tells_every_problem_with_its_line(tmp_path: Path) -> None:
    """A file with two slips has two problems, each in its line; a good one has none."""
    (tmp_path / "policy.yaml").write_text(GOOD)
    assert read_policy(tmp_path / "policy.yaml").problems() == []
    (tmp_path / "policy.yaml").write_text(GOOD.replace("summary:", "summaries:").replace("maximum_runs: 5", "maximum_runs: -5"))
    written = read_policy(tmp_path / "policy.yaml")
    assert sorted({written.line(problem.place) for problem in written.problems()}) == [18, 22]
