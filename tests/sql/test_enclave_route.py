"""Does a query that no encoding answers run in enclaves, by that route alone which was asked for, and to plain Spark's result?"""

import datetime as dt
import decimal
import math
import os
import tempfile
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from securemllib.errors import DataError, IntegrityError, PolicyError, UsageError
from securemllib.owner.agent import Agent, AgentServer
from securemllib.owner.companion import open_companion
from securemllib.owner.encoding_schema import schema_from_text
from securemllib.owner.query_literals import LiteralEncoder
from securemllib.owner.query_results import open_query_result
from securemllib.spark import SecureSession
from securemllib.spark.enclave_query import EnclaveFrame
from securemllib.spark.encoded import EncodedFrame
from securemllib.spark.rows import SealedRows
from securemllib.wire.job import OutputKind
from tests.deployment import start
from tests.host import settings  # noqa: F401 - a fixture is found by its name here
from tests.sql.rows import same_rows

ROWS = 240
ENCODINGS = "{ward: deterministic, pay: additive}"


def stays() -> pa.Table:
    """A table with every kind of column, and nulls in some."""
    random = np.random.default_rng(8)
    wards = np.array(["icu", "surgery", "children"])
    return pa.table(
        {
            "ward": pa.array(wards[random.integers(0, 3, ROWS)], mask=random.random(ROWS) < 0.1),
            "pay": random.integers(1, 1000, ROWS),
            "age": random.integers(0, 99, ROWS),
            "dose": pa.array(random.normal(2, 3, ROWS), mask=random.random(ROWS) < 0.2),
            "Height": pa.array(random.normal(170, 9, ROWS), mask=random.random(ROWS) < 0.2),
            "cost": pa.array([decimal.Decimal(int(v)) / 100 for v in random.integers(-20, 220, ROWS)], pa.decimal128(12, 2)),
            "level": pa.array([1.0, math.nan, None, -2.0, 5.0, math.nan] * (ROWS // 6)),
            "urgent": random.random(ROWS) < 0.5,
            "came": pa.array([dt.date(2024, 1, 1 + int(d)) for d in random.integers(0, 28, ROWS)]),
            "gone": pa.array([dt.date(2024, 1, 1 + int(d)) for d in random.integers(0, 28, ROWS)]),
        }
    )


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    """An owner, a broker, and an analyst whose agent also encodes literals."""
    before = os.environ.get("SECUREMLLIB_AGENT_SOCK")
    deployment, stop = start(tmp_path_factory.mktemp("deployment"))
    folder = Path(tempfile.mkdtemp(prefix="sml"))
    literals = LiteralEncoder(deployment.owner.public, deployment.keystore, limit=40)
    agent = AgentServer(
        Agent(deployment.analyst, deployment.broker.identity, show=deployment.shown.append, literals=literals), folder / "s"
    )
    threading.Thread(target=agent.serve, daemon=True).start()
    os.environ["SECUREMLLIB_AGENT_SOCK"] = str(folder / "s")
    yield deployment
    agent.close()
    stop()
    folder.rmdir()
    if before is not None:
        os.environ["SECUREMLLIB_AGENT_SOCK"] = before


@pytest.fixture(scope="module")
def enclaves(deployment, spark, settings):  # noqa: F811 - the fixture
    """A session of that analyst."""
    session = SecureSession(spark, deployment.url, settings)
    assert session.agent
    yield session
    session.stop()


@pytest.fixture(scope="module")
def directory(deployment, enclaves, spark, tmp_path_factory):
    """The table, which queries call ``stays``: encrypted with a companion, and in the clear."""
    schema = schema_from_text(f"columns: {ENCODINGS}")
    path = deployment.dataset(stays(), "stays", rows_per_part=80, encodings=schema, accept_leakage=["ward"])
    enclaves.readEncoded(path).createOrReplaceTempView("stays")
    plain = tmp_path_factory.mktemp("plain") / "stays.parquet"
    pq.write_table(stays(), plain)
    spark.read.parquet(str(plain)).createOrReplaceTempView("stays")
    return path


@pytest.fixture
def jobs(enclaves, monkeypatch):
    """The operations of the jobs that are submitted."""
    seen, prepare = [], enclaves._prepare

    def watched(frame, request, *rest):
        seen.append(request.operation)
        return prepare(frame, request, *rest)

    monkeypatch.setattr(enclaves, "_prepare", watched)
    return seen


QUERIES = [
    ("SELECT ward, age, dose, came, cost FROM stays WHERE age * 2 + 1 > pay / 10 AND NOT (ward IN ('icu', 'surgery'))", 1),
    (
        """SELECT age, came FROM stays WHERE came BETWEEN '2024-01-05' AND DATE '2024-1-9' OR gone IN ('2024-01-20', '2024-01-22')
           OR came = TIMESTAMP '2024-01-12' AND NOT gone < CAST('2024-01-14 10:00:00' AS TIMESTAMP_NTZ)""",
        1,
    ),
    (
        "SELECT age + pay AS a, sqrt(abs(dose)) AS s, dose IS NULL AS n, came = gone AS d FROM stays WHERE urgent OR cost > 1.5",
        1,
    ),
    (
        """SELECT count(*) AS n, sum(age) AS s, avg(age * pay) AS m, min(cost) AS l, max(age) AS g, stddev(age) AS d, variance(pay) AS v
           FROM stays WHERE came < gone""",
        1,
    ),
    ("SELECT avg(dose) AS d, avg(height) AS h, count(*) AS n, count(dose) AS k, sum(dose) / count(*) AS q FROM stays", 3),
    ("SELECT avg(dose) AS d, avg(height) AS h, count(*) AS n FROM stays WHERE dose > 0 AND height IS NOT NULL", 1),
    ("SELECT avg(age) FILTER (WHERE ward = 'icu') AS icu, avg(age) FILTER (WHERE ward <> 'icu') AS rest FROM stays", 2),
    ("SELECT stddev(age) AS d, count(*) AS n FROM stays WHERE age = 41 AND pay = 706", 1),
    ("SELECT cost, cost <= 1.15 AS a, cost < 0.57 AS b, 0.41 > cost AS c, cost * 2 = dose AS d FROM stays WHERE cost <> 0.29", 1),
    ("SELECT age, level = level AS e, level > 1 AS g, level <> 5 AS n, age < level AS l, 1 >= level AS m FROM stays", 1),
    ("SELECT age, level - 0.9 = 0.1 AS m FROM stays WHERE age <> 0 AND 1000 / age > 20", 1),
    ("SELECT age, age * 1.1 AS a FROM stays WHERE age * 1.1 <= 3.3 OR cost * 1.1 = 1.265 OR cost + age * 0.1 = 1.45", 1),
    ("SELECT HEIGHT, Age AS Years FROM stays WHERE height > 170 AND ward = 'icu'", 1),
    ("SELECT count(*) AS n, min(pay) AS p FROM stays WHERE NOT (level < 1) AND level <= level", 1),
]


@pytest.mark.parametrize(("text", "runs"), QUERIES)
def test_a_query_in_enclaves_gives_what_plain_spark_gives(enclaves, directory, spark, jobs, text, runs):
    """The opened result has plain Spark's columns and rows, and takes as many jobs as its explanation says."""
    if "706" in text:
        row = stays().slice(0, 1).to_pylist()[0]
        text = text.replace("41", str(row["age"])).replace("706", str(row["pay"]))
    result = enclaves.sql(text, route="enclave")
    assert f"runs: {runs} of the owner's policy" in result.explain()
    assert not jobs
    same_rows(result.open(), spark.sql(text).toArrow(), ordered=False)
    assert len(jobs) == runs
    result.toPandas()
    assert len(jobs) == runs


REFUSED = [
    ("SELECT ward, avg(age) AS a FROM stays GROUP BY ward", "GROUP"),
    ("SELECT DISTINCT age FROM stays", "DISTINCT"),
    ("SELECT age FROM stays ORDER BY age", "ORDER"),
    ("SELECT age FROM stays LIMIT 3", "LIMIT"),
    ("SELECT a.age FROM stays a JOIN stays b ON a.pay = b.pay", "more than one table"),
    ("SELECT count(DISTINCT age) AS n FROM stays", "DISTINCT"),
    ("SELECT max(ward) AS w FROM stays", "ward"),
    ("SELECT age FROM stays WHERE ward = 5", "number with a text"),
    ("SELECT age FROM stays WHERE came > 5", "date32"),
    ("SELECT age FROM stays WHERE ln(age) > 2", "LN"),
    ("SELECT percentile(age, 0.5) AS p FROM stays", "QUANTILE"),
    ("SELECT age, count(*) AS n FROM stays", "age"),
    ("SELECT age FROM stays WHERE age", "number"),
    ("SELECT upper(ward) AS w FROM stays", "UPPER"),
]


@pytest.mark.parametrize(("text", "named"), REFUSED)
def test_what_enclaves_do_not_run_is_refused_before_a_job_is(enclaves, directory, jobs, text, named):
    """The error has a code, names the part of the query and says what would help; no run is spent."""
    with pytest.raises(UsageError) as raised:
        enclaves.sql(text, route="enclave")
    assert raised.value.error_code == "usage.enclave_query"
    assert named in raised.value.reason
    assert raised.value.next_step
    assert not jobs


def test_the_route_is_the_one_that_was_asked_for(enclaves, directory, jobs):
    """Without a route nothing runs in an enclave; ``auto`` takes encodings where they answer, else an enclave, and says which and why."""
    answered, unanswered = "SELECT sum(pay) AS p FROM stays WHERE ward = 'icu'", "SELECT avg(age) AS a FROM stays WHERE ward = 'icu'"
    for route in ("encoded", "auto"):
        frame = enclaves.sql(answered, route=route)
        assert isinstance(frame, EncodedFrame)
        assert frame.explain().startswith("-- route: encoded")
    chosen = enclaves.sql(unanswered, route="auto")
    assert isinstance(chosen, EnclaveFrame)
    assert chosen.explain().startswith("route: enclave, because the encodings do not answer: The query needs column age")
    assert isinstance(enclaves.sql(answered, route="enclave"), EnclaveFrame)
    with pytest.raises(UsageError) as raised:
        enclaves.sql(unanswered).explain()
    assert raised.value.error_code == "usage.encoding"
    assert "Encode age as additive" in raised.value.next_step
    assert 'route="enclave": 1 job' in raised.value.next_step
    with pytest.raises(UsageError) as raised:
        enclaves.sql("SELECT ward, avg(age) AS a FROM stays GROUP BY ward", route="auto")
    assert raised.value.error_code == "usage.encoding"
    assert "GROUP" in raised.value.reason
    for route in ("", "Enclave", "plain"):
        with pytest.raises(UsageError, match="no route"):
            enclaves.sql(answered, route=route)
    assert not jobs


def test_a_route_that_fails_is_not_left_for_the_other(enclaves, deployment, directory, jobs, tmp_path):
    """Where the policy refuses the job, or the agent a literal, the query fails: no other route is tried."""
    opened = open_companion(directory, owner=deployment.owner.public, keystore=deployment.keystore)
    deployment.allow(opened.companion.dataset.dataset_id, outputs=(OutputKind.SUMMARY,))
    try:
        with pytest.raises(PolicyError):
            enclaves.sql("SELECT age FROM stays WHERE pay > 3", route="auto").open()
        assert jobs == ["Rows"]
        assert enclaves.sql("SELECT avg(age) AS a FROM stays", route="auto").open().num_rows == 1
        jobs.clear()
        encoded = enclaves.sql("SELECT sum(pay) AS p FROM stays", route="auto")
        encoded.save(str(tmp_path / "result"))
        with pytest.raises(UsageError, match="already exists"):
            encoded.save(str(tmp_path / "result"))
        assert open_query_result(tmp_path / "result", [opened]).to_pylist() == [{"p": sum(stays()["pay"].to_pylist())}]
        Path(directory, "companion", "companion.sml").rename(tmp_path / "away")
        with pytest.raises(UsageError):
            encoded.save(str(tmp_path / "again"))
        (tmp_path / "away").rename(Path(directory, "companion", "companion.sml"))
        assert not jobs
    finally:
        deployment.allow(opened.companion.dataset.dataset_id)


def test_an_aggregate_over_no_rows_is_refused(enclaves, directory):
    """No rows have no summary, and the host's word that there were none is not taken for a count of zero; one row has one."""
    with pytest.raises(DataError) as raised:
        enclaves.sql("SELECT count(*) AS n FROM stays WHERE age > 1000", route="enclave").open()
    assert raised.value.error_code == "data.no_rows"
    assert enclaves.sql("SELECT count(*) AS n FROM stays WHERE age < 1000", route="enclave").open().to_pylist() == [{"n": ROWS}]


def test_results_of_another_query_do_not_open(enclaves, directory):
    """Rows that a host takes from another job of the same analyst are refused; those of the job itself open."""
    one, other = (enclaves.sql(f"SELECT age FROM stays WHERE age < {age}", route="enclave").release() for age in (20, 80))
    assert one.open().num_rows < other.open().num_rows
    swapped = SealedRows(enclaves, one.job_id, other._results)
    with pytest.raises(IntegrityError) as raised:
        swapped.open()
    assert raised.value.error_code == "integrity.result"


def test_the_selection_is_sealed_rows_for_what_comes_next(enclaves, directory):
    """A query's rows go on as a sealed data frame, without a job; aggregates do not."""
    frame = enclaves.sql("SELECT age, pay * 2 AS twice FROM stays WHERE urgent", route="enclave").frame
    assert frame.columns == ["age", "twice"]
    with pytest.raises(UsageError):
        _ = enclaves.sql("SELECT avg(age) AS a FROM stays", route="enclave").frame
