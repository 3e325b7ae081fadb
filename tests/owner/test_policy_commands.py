"""Do the commands about policies print what the page on policies shows, and exit as scripts need it?"""

import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from securemllib.cli import app
from securemllib.crypto.identity import PrivateIdentity
from securemllib.errors import ConnectionLostError, PolicyError, SecureMLlibError, UsageError
from securemllib.owner.policy import read_policy
from securemllib.policy.envelope import Envelope, seal_statement
from securemllib.policy.model import Policy

DOCS = Path(__file__).parents[2] / "docs"
SHOWN = re.findall(r"\$ securemllib (policy [^\n]*)\n(.*?)(?=\$ securemllib|```)", (DOCS / "policies.md").read_text(), flags=re.DOTALL)
EXPLAIN = ("policy", "explain", "visits.yaml", "--as", "alice", "--at", "2026-06-01", "--operation")


@pytest.fixture(autouse=True)
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's files, in the working directory."""
    for path in (DOCS / "examples").glob("visits*.yaml"):
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    """Run the command in this process."""
    result = CliRunner().invoke(app, list(arguments))
    assert result.exception is None or isinstance(result.exception, (SecureMLlibError, SystemExit)), result.exception
    return result


@pytest.mark.parametrize(("command", "printed"), SHOWN, ids=[command for command, _ in SHOWN])
def test_the_page_shows_what_is_printed(command: str, printed: str) -> None:
    """Each command of the page prints the lines below it."""
    assert len(SHOWN) == 5
    assert run(*shlex.split(command)).output == printed


def test_explain_exits_as_it_answers() -> None:
    """An allowed job exits with 0, a refused one with an error of the class of refusals."""
    assert run(*EXPLAIN, "StandardScaler", "--column", "age").exception is None
    assert isinstance(run(*EXPLAIN, "PCA").exception, PolicyError)


@pytest.mark.parametrize(
    ("options", "line", "code"),
    [
        (("--operation", "PCA"), 13, "operation"),
        (("--operation", "StandardScaler", "--column", "ssn"), 19, "columns"),
        (("--operation", "StandardScaler", "--mode", "partitioned"), 11, "mode"),
        (("--operation", "StandardScaler", "--output", "metric=bob"), 22, "outputs"),
        (("--operation", "StandardScaler", "--output", "summary"), 20, "outputs"),
        (("--operation", "StandardScaler", "--at", "2031-01-01"), 23, "validity"),
        (("--operation", "StandardScaler", "--runs", "100"), 24, "runs"),
        (("--operation", "LogisticRegression", "--param", "regParam=0.01", "--param", "maxIter=300"), 16, "operation"),
    ],
)
def test_a_refusal_names_the_deciding_line(options: tuple[str, ...], line: int, code: str) -> None:
    """Whatever a rule lacks, the line is that of the file where it would stand."""
    arguments = ("policy", "explain", "visits.yaml", "--as", "alice", "--at", "2026-06-01", *options)
    assert f"refuse visits.yaml, line {line}: [{code}]" in run(*arguments).output
    assert run(*EXPLAIN, "StandardScaler").output.startswith("allow  visits.yaml, line 11")


def test_a_stranger_is_told_the_rules_line() -> None:
    """For somebody whom no rule names, the line is that of the rules."""
    stranger = PrivateIdentity.generate("stranger").public.fingerprint
    printed = run("policy", "explain", "visits.yaml", "--as", stranger, "--operation", "StandardScaler").output
    assert "line 10: [analyst]" in printed


def test_every_owner_is_asked(examples: Path) -> None:
    """With two policies both must allow; --dataset asks one of them, and an unknown one is refused."""
    other = (examples / "visits.yaml").read_text().replace("StandardScaler:", "IDF:")
    (examples / "other.yaml").write_text(other)
    both = run("policy", "explain", "visits.yaml", "other.yaml", *EXPLAIN[3:], "StandardScaler")
    assert "allow  visits.yaml" in both.output
    assert "refuse other.yaml" in both.output
    assert isinstance(both.exception, PolicyError)
    assert run("policy", "explain", "visits.yaml", "other.yaml", *EXPLAIN[3:], "StandardScaler", "--dataset", "visits").exception is None
    unknown = run("policy", "explain", "visits.yaml", *EXPLAIN[3:], "StandardScaler", "--dataset", "nothing").exception
    assert isinstance(unknown, UsageError)


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (("LogisticRegresion",), "'LogisticRegression'"),
        (("LogisticRegression", "--param", "regParm=1"), "'regParam'"),
        (("LogisticRegression", "--output", "metrics"), "metric"),
        (("LogisticRegression", "--as", "alise"), "'alice'"),
    ],
)
def test_a_misspelt_question_is_refused(arguments: tuple[str, ...], advice: str) -> None:
    """An operation, Param, output or person that does not exist is an error with advice, not a refusal of the policy."""
    error = run(*EXPLAIN, *arguments).exception
    assert isinstance(error, UsageError)
    assert advice in error.next_step


@pytest.mark.parametrize(
    ("found", "written"),
    [
        ("expect: allow", "expect: refuse"),
        ("because: runs", "because: mode"),
        ("rule: training", "rule: scores"),
        ("runs: 100", "runs: 99"),
    ],
)
def test_an_answer_that_was_not_expected_fails(examples: Path, found: str, written: str) -> None:
    """`policy test` exits with an error where one decision, its reason or its rule is another; as the page has it, with none."""
    assert run("policy", "test", "visits-jobs.yaml").exception is None
    cases = examples / "visits-jobs.yaml"
    assert found in cases.read_text()
    cases.write_text(cases.read_text().replace(found, written, 1))
    result = run("policy", "test", "visits-jobs.yaml")
    assert isinstance(result.exception, PolicyError)
    assert "1 not as expected" in result.output


@pytest.mark.parametrize(
    ("found", "written"),
    [
        ("analyst: alice", "analist: alice"),
        ("expect: allow", "expect: maybe"),
        ("runs: 100", "runs: -1"),
        ("analyst: alice", "analyst: carol"),
    ],
)
def test_a_file_of_cases_is_read_strictly(examples: Path, found: str, written: str) -> None:
    """An unknown field, value or person in the file of expected decisions is an error."""
    cases = examples / "visits-jobs.yaml"
    cases.write_text(cases.read_text().replace(found, written, 1))
    assert isinstance(run("policy", "test", "visits-jobs.yaml").exception, UsageError)


@pytest.mark.parametrize(
    ("found", "written", "remark"),
    [
        ("    maximum_runs: 100\n    min_group_size: 20\n", "", "visits.yaml:22: remark: without min_group_size"),
        ("    not_after: 2030-01-01\n    maximum_runs", "    maximum_runs", "visits.yaml:11: remark: the rule never ends"),
        ("not_after: 2030-01-01", "not_after: 2020-01-01", "visits.yaml:23: remark: the rule has ended"),
        ("    tees: [sgx]\n", "", "visits.yaml:5: remark: no TEE is accepted"),
        ("33d8736db756ed4997e04ba358d27833188f1932ff7b1d156904d3f560452fbb", "0" * 64, "visits.yaml:6: remark: no code has this"),
        ("[UpToDate, SWHardeningNeeded]", "[OutOfDate]", "visits.yaml:8: remark: OutOfDate"),
        ("metric: [alice]", "plain_model: [alice]", "visits.yaml:22: remark: models are released without"),
        ("columns: [prediction]", "columns: all", "remark: every column may leave"),
        ("broker: broker7broker7broker7broker7broker7broker7broker7bro\n", "", "visits.yaml:1: remark: no broker is named"),
        ("rules:", "allow_insecure: true\ninsecure_risk: the-operator-can-read-everything\nrules:", "yaml:10: remark: processes without"),
    ],
)  # fmt: skip
def test_lint_remarks_on_what_may_not_be_meant(examples: Path, found: str, written: str, remark: str) -> None:
    """Each remark names its line; it is no error unless --strict says so, and the page's policy has none."""
    assert run("policy", "lint", "--strict", "visits.yaml").exception is None
    path = examples / "visits.yaml"
    assert found in path.read_text()
    path.write_text(path.read_text().replace(found, written, 1))
    result = run("policy", "lint", "visits.yaml")
    assert remark in result.output
    assert result.exception is None
    assert run("policy", "lint", "--strict", "visits.yaml").exception is not None


def test_a_policy_that_nobody_signed_is_not_submitted(examples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The YAML in the place of the signed policy is a mistake of the call, which says what to do first."""
    monkeypatch.setenv("SECUREMLLIB_HOME", str(examples / "home"))
    error = run("policy", "submit", "visits.yaml", "--broker", "http://127.0.0.1:9", "--fingerprint", "broker7" * 7 + "bro").exception
    assert isinstance(error, UsageError)
    assert "policy sign" in error.next_step


def test_a_signed_policy_is_submitted_to_its_broker_only(examples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`submit` sends nothing to another broker than the policy names, nor one that names none unless that is said; then it tries to."""
    owner, mine = PrivateIdentity.generate("owner"), "broker7" * 7 + "bro"
    monkeypatch.setenv("SECUREMLLIB_HOME", str(examples / "home"))
    written = read_policy(examples / "visits.yaml").resolve(dataset_id="d" * 32, owner=owner.public.fingerprint)
    for name, policy in (("one", written), ("any", replace(written, broker=None))):
        (examples / name).write_bytes(seal_statement(policy, owner).to_bytes())
    # Nobody listens there.
    to = ("--broker", "http://127.0.0.1:1", "--fingerprint")
    assert isinstance(run("policy", "submit", "one", *to, "c" * 52).exception, UsageError)
    assert isinstance(run("policy", "submit", "any", *to, mine).exception, UsageError)
    for sent in (("one", *to, mine), ("any", "--any-broker", *to, mine)):
        assert isinstance(run("policy", "submit", *sent).exception, ConnectionLostError)


def test_signing_fills_in_the_broker(examples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sign` names the broker of --fingerprint where the file names none, and signs for no broker, or for another one, only if told to."""
    monkeypatch.setenv("SECUREMLLIB_HOME", str(examples / "home"))
    run("init", "owner", "--no-passphrase")
    (examples / "rows.csv").write_text("age\n1\n")
    run("data", "encrypt", "rows.csv", "rows")
    path = examples / "visits.yaml"
    free = path.read_text().rpartition("broker: ")[0]

    def signed(name: str, *options: str) -> str | None:
        assert run("policy", "sign", "visits.yaml", "rows", name, *options).exception is None
        return Policy.from_json(Envelope.from_bytes((examples / name).read_bytes()).payload).broker

    assert signed("named") == "broker7" * 7 + "bro"
    assert isinstance(run("policy", "sign", "visits.yaml", "rows", "other", "--fingerprint", "c" * 52).exception, UsageError)
    path.write_text(free)
    assert isinstance(run("policy", "sign", "visits.yaml", "rows", "other").exception, UsageError)
    assert signed("filled", "--fingerprint", "c" * 52) == "c" * 52
    assert signed("free", "--any-broker") is None


def test_approving_adds_a_signature(examples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each approver's `approve` adds a signature to the file, keeps those that are there, and leaves nothing beside it."""
    monkeypatch.setenv("SECUREMLLIB_HOME", str(examples / "home"))
    run("init", "bob", "--no-passphrase")
    owner = PrivateIdentity.generate("owner")
    policy = read_policy(examples / "visits.yaml").resolve(dataset_id="d" * 32, owner=owner.public.fingerprint)
    (examples / "signed").write_bytes(seal_statement(policy, owner).to_bytes())
    before = sorted(path.name for path in examples.iterdir())
    result = run("policy", "approve", "signed")
    assert result.exception is None
    signers = Envelope.from_bytes((examples / "signed").read_bytes()).signers
    assert len(signers) == 2
    assert owner.public.fingerprint in signers
    assert sorted(path.name for path in examples.iterdir()) == before


def test_lint_fails_with_each_error_in_its_line(examples: Path) -> None:
    """Errors are told with line and nearest name, all at once."""
    path = examples / "visits.yaml"
    path.write_text(path.read_text().replace("regParam", "regParm").replace("maximum_runs", "max_runs"))
    result = run("policy", "lint", "visits.yaml")
    assert isinstance(result.exception, PolicyError | UsageError)
    assert "visits.yaml:24: error" in result.output
    assert "'maximum_runs'" in result.output


def test_lint_names_the_line_of_a_missing_public_file(examples: Path) -> None:
    """A `.pub` file that is not there is an error of the line that needs it, in words that end once."""
    path = examples / "visits.yaml"
    path.write_text(path.read_text().replace("analysts: [bob]", "analysts: [carol.pub]"))
    printed = run("policy", "lint", "visits.yaml").output
    line = path.read_text().splitlines().index("    analysts: [carol.pub]") + 1
    assert f"visits.yaml:{line}: error: rules[2].analysts[1] names carol.pub, which is not there. Put the .pub file" in printed
    assert ".." not in printed


def test_diff_reads_signed_policies_too(examples: Path) -> None:
    """A signed policy and the YAML that it was made from do not differ; the next YAML does."""
    owner = PrivateIdentity.generate("owner")
    policy = read_policy(examples / "visits.yaml").resolve(dataset_id="d" * 32, owner=owner.public.fingerprint)
    (examples / "visits.dsse.json").write_bytes(seal_statement(policy, owner).to_bytes())
    assert run("policy", "diff", "visits.dsse.json", "visits.yaml").output == "nothing is wider, and nothing narrower\n"
    assert "reading district" in run("policy", "diff", "visits.dsse.json", "visits-next.yaml").output


def test_the_schema_is_printed() -> None:
    """`policy schema` prints the published schema."""
    assert json.loads(run("policy", "schema").output) == json.loads((DOCS / "policy.schema.json").read_text())
