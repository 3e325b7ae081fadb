"""What encoded columns cannot answer, or a host must not get, is refused; beside each refusal stands what is accepted."""

import inspect
import json
import pkgutil
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import securemllib.spark
import securemllib.sql
from securemllib.errors import (
    CoverError,
    DataError,
    FreshnessError,
    IntegrityError,
    RefusedError,
    SealedError,
    SecureMLlibError,
    UsageError,
)
from securemllib.owner.companion import open_companion
from securemllib.owner.query_literals import LiteralEncoder
from securemllib.spark.encoded import EncodedFrame
from securemllib.wire.companion import EncodingName
from securemllib.wire.query import HEADER_FILE, ROWS_DIRECTORY, Place, QueryLiteral, ResultHeader

ENCODINGS = """{id: {encoding: deterministic, join_group: ids}, age: order, name: deterministic, pay: additive, town: clear,
    other: {encoding: deterministic, join_group: others}}"""
CANARY = "Wilhelmina Canary-Trygvasdottir"


def staff(rows=60) -> pa.Table:
    """A table whose first name is a canary."""
    return pa.table(
        {
            "id": np.arange(rows),
            "age": 20 + np.arange(rows) % 30,
            "name": [CANARY, *(f"Person number {row} of the staff" for row in range(1, rows))],
            "pay": 3_000_017 + np.arange(rows),
            "town": ["Arles", "Bern", "Cork"] * (rows // 3),
            "other": np.arange(rows),
            "notes": ["sealed"] * rows,
        }
    )


@pytest.fixture(scope="module")
def directory(owner, session):
    """The encoded table, which queries call ``staff``."""
    path = owner.encode(staff(), "staff", ENCODINGS, groups=["ids", "others"])
    session.readEncoded(path).createOrReplaceTempView("staff")
    return path


REFUSED = [
    ("SELECT sum(pay * 2) AS x FROM staff", "usage.encoding", "pay"),
    ("SELECT pay + 1 AS x FROM staff WHERE pay > 5", "usage.encoding", "pay"),
    ("SELECT id FROM staff WHERE pay = 5", "usage.encoding", "pay"),
    ("SELECT count(*) AS n FROM staff GROUP BY pay", "usage.encoding", "pay"),
    ("SELECT id FROM staff WHERE id < 5", "usage.encoding", "id"),
    ("SELECT min(id) AS x FROM staff", "usage.encoding", "id"),
    ("SELECT sum(age) AS x FROM staff", "usage.encoding", "age"),
    ("SELECT upper(name) AS x FROM staff", "usage.query", ""),
    ("SELECT id FROM staff WHERE name LIKE 'W%'", "usage.encoding", "name"),
    ("SELECT id FROM staff WHERE notes = 'sealed'", "usage.encoding", "notes"),
    ("SELECT stddev(pay) AS x FROM staff", "usage.query", ""),
    ("SELECT id FROM staff WHERE age < id", "usage.encoding", "id"),
    ("SELECT id FROM (SELECT id FROM staff) t", "usage.query", ""),
    ("SELECT row_number() OVER (ORDER BY age) AS x FROM staff", "usage.query", ""),
    ("SELECT id FROM staff UNION SELECT id FROM staff", "usage.query", ""),
    ("DROP TABLE staff", "usage.query", ""),
    ("SELECT nowhere FROM staff", "usage.column", ""),
    ("SELECT id FROM nowhere", "usage.table", ""),
    ("SELECT count(DISTINCT id) AS n, sum(pay) AS p FROM staff", "usage.query", ""),
    ("SELECT town, max(age) AS a FROM staff GROUP BY town HAVING a > '5'", "usage.query", "integer"),
    ("SELECT name > 5 AS x FROM staff", "usage.query", "text"),
    ("SELECT town, count(*) AS n FROM staff GROUP BY town HAVING '2' < count(*)", "usage.query", "integer"),
    ("SELECT count(s.*) AS n FROM staff s", "usage.column", "*"),
    ("SELECT 5 AS c FROM staff", "usage.query", "constants"),
    ("SELECT DISTINCT 5 AS c, 'x' AS d FROM staff", "usage.query", "constants"),
    ("SELECT 5 AS c, count(*) AS n FROM staff GROUP BY c", "usage.query", "constant"),
    ("SELECT count(*) AS n FROM staff GROUP BY town, 1 + 1", "usage.query", "constant"),
    ("SELECT id FROM staff WHERE name = 5", "usage.literal", "name"),
    ("SELECT id FROM staff WHERE name IN ('a', 5)", "usage.literal", "name"),
    ("SELECT id FROM staff WHERE name <> DATE '2024-01-31'", "usage.literal", "name"),
    ("SELECT id FROM staff WHERE age LIKE '4%'", "usage.query", "age"),
    ("SELECT id FROM staff WHERE age < CAST(5.7 AS INT)", "usage.query", "CAST"),
    ("SELECT id FROM staff WHERE age = CAST('5' AS INT)", "usage.query", "CAST"),
    ("SELECT id FROM staff WHERE age = CAST(300 AS TINYINT)", "usage.query", "CAST"),
    ("SELECT id FROM staff WHERE age = CAST(9007199254740993 AS DOUBLE)", "usage.query", "CAST"),
    ("SELECT id FROM staff WHERE age < CAST(1.15 AS DECIMAL(10, 1))", "usage.query", "CAST"),
    ("SELECT id FROM staff WHERE age > CAST('2024-01-31 10:00:00' AS DATE)", "usage.query", "CAST"),
    ("SELECT id FROM staff WHERE age > CAST(TIMESTAMP '2024-01-31 10:00:00' AS DATE)", "usage.query", "CAST"),
]


@pytest.mark.parametrize(("text", "code", "column"), REFUSED)
def test_what_the_encodings_cannot_answer_is_refused_with_a_next_step(session, directory, text, code, column):
    """The error has a code, names the column and says what would help; it never quotes a literal of the query."""
    with pytest.raises(UsageError) as raised:
        session.sql(text).explain()
    assert raised.value.error_code == code
    assert column in raised.value.reason
    assert raised.value.next_step
    assert "'W%'" not in raised.value.reason


MORE = [
    "SELECT town, count(*) AS n FROM staff GROUP BY town WITH ROLLUP",
    "SELECT town, count(*) AS n FROM staff GROUP BY town WITH CUBE",
    "SELECT town, count(*) AS n FROM staff GROUP BY town GROUPING SETS ((town), ())",
    "SELECT count(*) AS n FROM staff GROUP BY ROLLUP(town)",
    "SELECT count(age, town) AS n FROM staff",
    "SELECT max(age, town) AS n FROM staff",
    "SELECT count(*) AS n FROM staff TABLESAMPLE (0 PERCENT)",
    "SELECT count(*) AS n FROM staff a JOIN staff TABLESAMPLE (2 ROWS) b ON a.id = b.id",
    "SELECT count(*) AS n FROM staff VERSION AS OF 1",
    "SELECT age FROM staff AS q(age, id)",
    "SELECT DISTINCT ON (town) town FROM staff",
    "SELECT town FROM staff WHERE age BETWEEN SYMMETRIC 40 AND 5",
    "SELECT town FROM staff LIMIT 10 PERCENT",
    "SELECT count(*) AS n FROM other.staff",
]


@pytest.mark.parametrize("text", MORE)
def test_what_a_query_asks_for_beyond_what_is_read_is_refused(session, directory, text):
    """A sample, a version, totals, further arguments or another catalog's table are refused by both routes, not left out."""
    for route in ("encoded", "enclave"):
        with pytest.raises(UsageError):
            session.sql(text, route=route).explain()


def test_its_twin_asks_for_no_more(session, directory):
    """Groups by expressions, a count of one, distinct counts of several, and a table under another name are rewritten."""
    for text in (
        "SELECT town, count(*) AS n FROM staff GROUP BY town",
        "SELECT count(age) AS n, count(DISTINCT town, id) AS m FROM staff AS q",
        "SELECT DISTINCT town FROM staff WHERE age BETWEEN 5 AND 40 LIMIT 3",
    ):
        assert "FROM `staff`" in session.sql(text).explain()


def test_what_they_can_answer_is_rewritten_without_a_value(session, directory):
    """The twin of the refusals: such a query is rewritten, and its text for Spark holds no literal of an encoded column."""
    text = session.sql(f"SELECT town, sum(pay) AS p FROM staff WHERE name = '{CANARY}' AND age < 43 GROUP BY town").explain()
    assert "pay__add_lo" in text
    assert CANARY not in text
    assert "43" not in text


def test_columns_of_different_join_groups_are_not_joined(session, directory):
    """Codes under different keys never compare, whatever the values; those of one group do."""
    with pytest.raises(UsageError) as raised:
        session.sql("SELECT count(*) AS n FROM staff a JOIN staff b ON a.id = b.other").explain()
    assert raised.value.error_code == "usage.join_group"
    assert "ids" in raised.value.reason
    assert "others" in raised.value.reason
    assert "id__det_hi" in session.sql("SELECT count(*) AS n FROM staff a JOIN staff b ON a.id = b.id").explain()


def test_names_that_differ_in_case_alone_are_refused(owner, session):
    """Spark would see one name for two columns or tables; alone each is found in any case."""
    table = pa.table([[1, 2], [3, 4]], ["Day", "day"])
    session.readEncoded(owner.encode(table, "days", "{Day: clear}")).createOrReplaceTempView("days")
    session.readEncoded(owner.encode(table.select(["Day"]), "day", "{Day: clear}")).createOrReplaceTempView("Days")
    for text in ("SELECT day FROM days", "SELECT a.Day FROM Days a JOIN days b ON a.Day = b.Day"):
        with pytest.raises(UsageError) as raised:
            session.sql(text).explain()
        assert raised.value.error_code == "usage.column"
    assert session.sql("SELECT DAY FROM Days").columns == ["DAY"]


def test_two_versions_of_a_dataset_are_not_mixed(owner, session, directory, tmp_path):
    """A query that reads two versions is refused, and so is a result that is opened with another version's keys."""
    first = owner.encode(staff(), "first", ENCODINGS)
    session.readEncoded(first).createOrReplaceTempView("one")
    session.sql("SELECT sum(pay) AS p FROM one").save(str(tmp_path / "result"))
    assert owner.open(str(tmp_path / "result"), first).num_rows == 1
    second = owner.encode(staff(), "second", ENCODINGS, previous=first)
    session.readEncoded(second).createOrReplaceTempView("two")
    with pytest.raises(FreshnessError) as raised:
        session.sql("SELECT count(*) AS n FROM one JOIN two ON one.id = two.id").explain()
    assert raised.value.error_code == "integrity.dataset_versions"
    with pytest.raises(FreshnessError):
        owner.open(str(tmp_path / "result"), second)
    # The agent knows the latest version: it encodes no literal for the older one any more.
    with pytest.raises(FreshnessError):
        session.sql("SELECT count(*) AS n FROM one WHERE id = 5").save(str(tmp_path / "late"))


def copied(source: str, target: Path) -> Path:
    """Return a copy of a dataset directory."""
    for path in Path(source).rglob("*"):
        if path.is_file():
            (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            (target / path.relative_to(source)).write_bytes(path.read_bytes())
    return target


def test_an_altered_companion_is_refused(session, directory, tmp_path):
    """A file that is not the owner's is refused when it is read, a record that is not signed by the owner when it is used."""
    good = copied(directory, tmp_path / "good")
    assert session.readEncoded(str(good)).select("town").columns == ["town"]
    part = next((good / "companion").glob("part-*.parquet"))
    rows = pq.read_table(part)
    pq.write_table(rows.slice(1), part)
    with pytest.raises(IntegrityError) as raised:
        session.readEncoded(str(good))
    assert raised.value.error_code == "integrity.companion"
    forged = copied(directory, tmp_path / "forged")
    record = forged / "companion" / "companion.sml"
    data = record.read_bytes()
    record.write_bytes(data.replace(b"pay__add_hi", b"pay__add_hj"))
    frame = session.readEncoded(str(forged))
    with pytest.raises(IntegrityError):
        frame.select("town").save(str(tmp_path / "result"))


def test_no_method_of_a_frame_shows_a_value(session, directory, tmp_path):
    """Every public method of an encoded frame is tried; what comes back holds no value of an encoded column."""
    frame = session.sql("SELECT name, pay, age FROM staff")
    arguments = {
        "select": ("name",), "filter": ("id = 0",), "where": ("id = 0",), "groupBy": ("name",), "agg": ("count(*) AS n",),
        "orderBy": ("age",), "sort": ("age",), "limit": (3,), "save": (str(tmp_path / "saved"),), "createOrReplaceTempView": ("again",),
        "join": (session.readEncoded(directory), "staff.id = id"), "withRoute": ("encoded",),
    }  # fmt: skip
    tried = 0
    for name, member in inspect.getmembers(EncodedFrame):
        if name.startswith("_"):
            continue
        tried += 1
        try:
            found = getattr(frame, name)
            found = found(*arguments.get(name, ())) if callable(member) else found
            shown = json.dumps(found.toPandas().to_dict(), default=str) if name == "encoded" else f"{found!r} {found}"
        except SecureMLlibError as error:
            shown = str(error)
        assert CANARY not in shown, name
        # Codes are long numbers, which may have these digits in them.
        assert not re.search(r"\b30000\b", shown), name
    assert tried > 20
    for path in (tmp_path / "saved").rglob("*"):
        assert not path.is_file() or CANARY.encode() not in path.read_bytes()
    with pytest.raises(SealedError):
        frame.collect()


def test_no_public_name_of_the_host_opens_a_code(owner, session, directory):
    """Every public function and class of `sql` and `spark` is listed: none opens, decrypts or decodes, and none can reach a key."""
    opening = {"decode", "decrypt", "unseal", "open_sum", "open_sums", "open_companion", "open_query_result", "DataKey", "Keystore"}
    modules = [
        import_module(found.name)
        for package in (securemllib.sql, securemllib.spark)
        for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
    ]
    assert len(modules) > 30
    for module in modules:
        reached = {name for name in dir(module) if name in opening} - {"decode"}
        assert not reached, f"{module.__name__} names {reached}"
    # Its twin: the owner's side does open what the same names would.
    opened = open_companion(directory, owner=owner.identity.public, keystore=owner.keystore)
    column = opened.column("name", EncodingName.DETERMINISTIC)
    stored = pq.read_table(next((Path(directory) / "companion").glob("part-*.parquet")))
    assert CANARY in column.decode({name: stored[name] for name in column.description.stored}).to_pylist()


def test_arithmetic_that_does_not_fit_does_not_accuse_the_host(owner, session, directory, tmp_path):
    """What the query itself asks of opened values is an error of the data; what fits is calculated."""
    session.sql(f"SELECT sum(pay) * {2**63 - 1} AS x FROM staff").save(str(tmp_path / "far"))
    with pytest.raises(DataError) as raised:
        owner.open(str(tmp_path / "far"), directory)
    assert raised.value.error_code == "data.expression"
    session.sql("SELECT sum(pay) * 2 AS x FROM staff").save(str(tmp_path / "near"))
    assert owner.open(str(tmp_path / "near"), directory).to_pylist() == [{"x": 2 * sum(staff()["pay"].to_pylist())}]


def test_an_agent_encodes_a_bounded_number_of_literals(owner, directory):
    """A host cannot ask for the codes of every value that a column may hold: after the limit the agent declines, for that column."""
    opened = open_companion(directory, owner=owner.identity.public, keystore=owner.keystore)
    encoder = LiteralEncoder(owner.identity.public, owner.keystore, limit=3)

    def ask(column, text):
        literal = QueryLiteral(
            dataset=opened.companion.dataset, column=column, encoding=EncodingName.DETERMINISTIC, place=Place.EQUAL, text=text
        )
        return encoder.encode(Path(directory), opened.companion.content_digest(), (literal,))

    codes = [ask("id", str(value)) for value in (1, 2, 3)]
    assert ask("id", "2") == codes[1]
    with pytest.raises(RefusedError) as raised:
        ask("id", "4")
    assert raised.value.error_code == "refused.literals"
    assert ask("other", "4")


def test_an_agent_without_the_switch_encodes_nothing(owner, directory, tmp_path):
    """Default deny: an agent that only signs declines literals, and says how to start one that does not."""
    from securemllib.owner.agent import Agent
    from securemllib.wire.agent import Declined, EncodeLiterals

    reply, _ = Agent(owner.identity, None, show=lambda _: None).answer(
        EncodeLiterals(directory=directory, companion=b"", literals=()), memoryview(b"")
    )
    assert isinstance(reply, Declined)
    assert (reply.code, "--literals" in reply.next_step) == ("refused.literals", True)


def test_the_agent_shows_each_literal(session, directory, shown, tmp_path):
    """What is encoded for a query stands on the agent's terminal, column by column."""
    session.sql("SELECT count(*) AS n FROM staff WHERE id = 31 AND age >= 44").save(str(tmp_path / "r"))
    assert "id (deterministic) equal 31" in shown[-1]
    assert "age (order) lower 44" in shown[-1]


def test_a_literal_is_a_value_of_its_column(session, directory, tmp_path):
    """A text where a number belongs is refused by the agent; a fraction still bounds whole numbers."""
    with pytest.raises(UsageError):
        session.sql("SELECT count(*) AS n FROM staff WHERE id = 'five'").save(str(tmp_path / "a"))
    session.sql("SELECT count(*) AS n FROM staff WHERE age > 43.5").save(str(tmp_path / "b"))
    assert pq.read_table(tmp_path / "b" / ROWS_DIRECTORY).to_pylist() == [{"a0": 12}]


def test_a_sum_over_rows_that_a_join_repeats_does_not_open(owner, session, directory, tmp_path):
    """A row that is added twice is noticed; the sum over the rows as they are opens."""
    session.sql("SELECT sum(a.pay) AS p FROM staff a JOIN staff b ON a.age = b.age").save(str(tmp_path / "twice"))
    with pytest.raises(CoverError):
        owner.open(str(tmp_path / "twice"), directory)
    session.sql("SELECT sum(pay) AS p FROM staff").save(str(tmp_path / "once"))
    assert owner.open(str(tmp_path / "once"), directory).to_pylist() == [{"p": sum(staff()["pay"].to_pylist())}]


@pytest.mark.parametrize("attack", ["another cover", "another count", "rows beyond", "another column"])
def test_a_host_that_changes_a_result_is_noticed_where_keys_tell(owner, session, directory, tmp_path, attack):
    """A sum opens only over the rows that it names, and codes only as those of their column; the result as it was opens."""
    result = tmp_path / "result"
    session.sql("SELECT name, sum(pay) AS p FROM staff WHERE town = 'Bern' GROUP BY name").save(str(result))
    assert owner.open(str(result), directory).num_rows == 20
    rows = pq.read_table(result / ROWS_DIRECTORY)
    header = ResultHeader.from_bytes((result / HEADER_FILE).read_bytes())
    total = next(field for field in header.fields if field.rows)
    codes = next(field for field in header.fields if not field.rows)
    covers = rows[total.rows].to_pylist()
    if attack == "another cover":
        changed = [[{**cover[0], list(cover[0])[1]: 7}] for cover in covers]
    elif attack == "rows beyond":
        changed = [[{**cover[0], next(iter(cover[0])): 10**6}] for cover in covers]
    else:
        changed = covers
    altered = {name: rows[name] for name in rows.column_names}
    altered[total.rows] = pa.array(changed, rows[total.rows].type)
    if attack == "another count":
        altered[total.count] = pa.array([2] * rows.num_rows)
    if attack == "another column":
        altered[codes.physical[0]] = pa.array(np.arange(rows.num_rows))
    for file in (result / ROWS_DIRECTORY).iterdir():
        file.unlink()
    pq.write_table(pa.table(altered), result / ROWS_DIRECTORY / "part.parquet")
    with pytest.raises(IntegrityError):
        owner.open(str(result), directory)


def test_a_companion_of_another_owner_is_not_taken(owner, directory, tmp_path):
    """The agent encodes literals for its own companions alone."""
    from securemllib.crypto.identity import PrivateIdentity

    stranger = PrivateIdentity.generate("mallory")
    encoder = LiteralEncoder(stranger.public, owner.keystore, limit=3)
    with pytest.raises(IntegrityError):
        encoder.encode(Path(directory), b"", ())
