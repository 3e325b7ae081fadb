"""Can an owner plan, encode and be refused from the command line?"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from securemllib import cli
from securemllib.errors import PolicyError, UsageError
from securemllib.owner.encoding_schema import TEMPLATE, schema_from_text
from securemllib.wire.companion import EncodingName

SCHEMA = "columns: {customer: {encoding: deterministic, join_group: customers}, age: order, amount: additive, region: clear}"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home with an identity, two tables and a schema in the working directory."""
    monkeypatch.setenv("SECUREMLLIB_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    generator, rows = np.random.default_rng(5), 4000
    customers = generator.permutation(rows)
    ages, amounts, regions = generator.integers(18, 90, rows), generator.integers(0, 1000, rows), generator.choice(["n", "s"], rows)
    pq.write_table(pa.table({"customer": customers, "age": ages, "amount": amounts, "region": regions}), "orders.parquet")
    pq.write_table(pa.table({"customer": customers, "city": [f"city {row}" for row in customers]}), "people.parquet")
    Path("schema.yaml").write_text(SCHEMA)
    assert run("init", "alice", "--no-passphrase").exit_code == 0


def run(*arguments: str) -> Result:
    """Run a command."""
    return CliRunner().invoke(cli.app, list(arguments))


def planned(output: str) -> dict[str, str]:
    """Return the encoding of each column in a plan."""
    return dict(line.rsplit("  ", 1) for line in output.splitlines() if line and not line.startswith(" "))


def test_a_schemas_plan_says_what_it_reveals() -> None:
    """The plan prints what each encoding answers and reveals, what the attack recovered, and which column would be refused."""
    output = run("data", "plan", "orders.parquet", "--encodings", "schema.yaml").output
    assert planned(output) == {
        "orders.customer": "deterministic", "orders.age": "order", "orders.amount": "additive", "orders.region": "clear",
    }  # fmt: skip
    assert output.count("  reveals   ") == 4
    assert "counting recovers 0.0% of 2000 sampled rows" in output
    assert "refused   unless --accept-leakage age" in output
    assert "to within a hundredth of the column's range" in output
    assert "--accept-leakage customer" not in output


def test_a_querys_plan_says_what_it_needs() -> None:
    """The plan of a query names each column that it touches, with the encoding that reveals least of those that answer it."""
    query = (
        "SELECT city, SUM(amount) AS total, COUNT(*) AS n FROM orders o JOIN people p ON o.customer = p.customer "
        "WHERE age BETWEEN 30 AND 40 GROUP BY city ORDER BY total DESC LIMIT 3"
    )
    assert planned(run("data", "plan", "orders.parquet", "people.parquet", "--query", query).output) == {
        "orders.customer": "deterministic", "orders.amount": "additive", "orders.age": "order",
        "people.customer": "deterministic", "people.city": "deterministic",
    }  # fmt: skip
    wrong = run("data", "plan", "orders.parquet", "--query", "SELECT SUM(amount) OVER () FROM orders")
    assert isinstance(wrong.exception, UsageError)


def test_leakage_is_accepted_by_name() -> None:
    """Encrypting with a schema whose column tells too much is refused, and goes on once the owner names that column."""
    assert isinstance(run("data", "encrypt", "orders.parquet", "orders", "--encodings", "schema.yaml").exception, UsageError)
    assert run("data", "join-group", "customers").exit_code == 0
    arguments = ("data", "encrypt", "orders.parquet", "orders", "--encodings", "schema.yaml", "--accept-leakage")
    assert isinstance(run(*arguments, "customer").exception, PolicyError)
    assert not Path("orders").exists()
    assert run(*arguments, "age").exit_code == 0
    assert pq.read_schema("orders/companion/part-00000.parquet").names[1] == "customer__det_hi"


def test_a_companion_is_added_later() -> None:
    """A dataset without a companion gets one; a second one, and one of a dataset that hides its columns, are refused."""
    Path("city.yaml").write_text("columns: {city: deterministic}")
    assert run("data", "encrypt", "people.parquet", "people").exit_code == 0
    assert "4000 rows" in run("data", "encode", "people", "--encodings", "city.yaml").output
    assert isinstance(run("data", "encode", "people", "--encodings", "city.yaml").exception, UsageError)
    assert run("data", "encrypt", "people.parquet", "hidden", "--hide-columns").exit_code == 0
    assert "hides" in str(run("data", "encode", "hidden", "--encodings", "city.yaml").exception)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("columns: {a: determinstic}", "Did you mean 'deterministic'"),
        ("columns: {a: {encoding: order, join_group: g}}", "has no 'join_group'"),
        ("columns: {a: {encoding: token, alphabet: emoji}}", "has no 'emoji'"),
        ("columns: {a: {encoding: additive, digits: -1}}", "whole number"),
        ("columns: {a: {encoding: additive, digits: 16}}", "at most 15"),
        ("columns: {a: [order, order]}", "names an encoding once"),
        ("columns: {a: clear, a: order}", "stands twice"),
        ("columns: {a: {join_group: g}}", "needs the field 'encoding'"),
        ("columns: [a]", "is a map"),
        ("encodings: {}", "has no 'encodings'"),
        ("columns: {a: ]", "no valid YAML"),
    ],
)
def test_a_schema_is_read_strictly(text: str, reason: str) -> None:
    """Whatever a schema does not have is an error that says where it is, in the schema's own words."""
    with pytest.raises(UsageError, match=reason) as caught:
        schema_from_text(text)
    assert "schema" in str(caught.value)
    assert "policy" not in str(caught.value)


def test_the_template_is_a_schema() -> None:
    """The printed template reads as a schema with each encoding but the one that needs an extra."""
    printed = run("data", "schema-template").output
    assert printed == TEMPLATE
    assert {item.encoding for item in schema_from_text(printed)} == set(EncodingName) - {EncodingName.HOMOMORPHIC}
