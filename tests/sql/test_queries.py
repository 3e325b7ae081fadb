"""Do queries over encoded columns give what plain Spark gives over the clear ones?"""

import datetime as dt
import decimal
import math

import numpy as np
import pyarrow as pa
import pytest

from tests.sql.rows import same_rows

ROWS = 400


def visits() -> pa.Table:
    """A table with every type, and nulls."""
    random = np.random.default_rng(5)
    holes = random.random(ROWS) < 0.1
    wards = np.array(["icu", "surgery", "children's", "heart"])
    return pa.table(
        {
            "patient": random.integers(1, 40, ROWS),
            "ward": pa.array(wards[random.integers(0, 4, ROWS)], mask=random.random(ROWS) < 0.1),
            "cost": pa.array([decimal.Decimal(int(v)) / 100 for v in random.integers(-5_000, 90_000, ROWS)], pa.decimal128(12, 2)),
            "days": pa.array(random.integers(0, 30, ROWS), mask=holes),
            "year": pa.array(random.integers(2019, 2024, ROWS)),
        }
    )


VISITS = "{patient: {encoding: deterministic, join_group: people}, ward: deterministic, cost: additive, days: additive, year: clear}"


def readings() -> pa.Table:
    """A table of values that types and languages compare differently."""
    nan = math.nan
    return pa.table(
        {
            "number": pa.array([1, 2, 3, 4, 5, 6, 7, 8]),
            "age": pa.array([30, -5, None, 40, 40, 0, 6, 5], pa.int32()),
            "dose": [1.5, nan, -0.0, None, 0.0, -3.25, nan, 2.0],
            "small": pa.array([0.1, 0.2, None, -0.5, 0.1, 0.3, 1.0, 2.0], pa.float32()),
            "room": ["10", "9", "05", None, "", "ä", "A", "5"],
            "level": pa.array([10, None, None, -7, 3, None, 2, 1]),
            "price": pa.array(
                map(decimal.Decimal, ["1.15", "0.35", "0.41", "2.00", "0.57", "-1.15", "0.07", "3.35"]), pa.decimal128(12, 2)
            ),
            "seen": pa.array(
                [dt.datetime(2024, 3, day, hour) for day, hour in zip(range(1, 9), [0, 10] * 4, strict=True)], pa.timestamp("us")
            ),
        }
    )


READINGS = (
    "{number: order, age: [order, deterministic], dose: order, small: order, room: order, level: additive, price: additive, seen: order}"
)


@pytest.fixture(scope="module")
def tables(owner, session, spark):
    """Two tables that share a join group, encoded and in the clear under the same names."""
    people = pa.table(
        {"id": np.arange(1, 41), "sex": ["f", "m"] * 20, "weight": pa.array(np.arange(40) / 4), "family": ["O'Hara", "Ohara"] * 20}
    )
    data = {
        "visits": (visits(), VISITS, {"rows_per_part": 150}),
        "people": (
            people,
            """{id: {encoding: deterministic, join_group: people}, sex: deterministic, weight: {encoding: additive, digits: 2},
                family: clear}""",
            {},
        ),
        "readings": (readings(), READINGS, {"rows_per_part": 3}),
        "Plants": (
            pa.table({"Kind": ["oak", "ash", "oak"], "größe": [7, 8, 9], "Planted": [2019, 2020, 2021], "a-b": [1, 2, 3]}),
            "{Kind: deterministic, größe: [additive, order], Planted: clear, a-b: clear}",
            {},
        ),
    }
    directories = {}
    for name, (table, encodings, options) in data.items():
        directories[name] = owner.encode(table, name, encodings, groups=["people"], **options)
        owner.plain(spark, table, name)
        session.readEncoded(directories[name]).createOrReplaceTempView(name)
    return directories


@pytest.fixture
def answers(owner, session, spark, tables, tmp_path):
    """Run a query on both sides and compare the rows."""

    def run(text, *, ordered=False, frame=None):
        found = (frame or session.sql(text)).save(str(tmp_path / "result"))
        opened = owner.open(str(tmp_path / "result"), *tables.values())
        expected = spark.sql(text).toArrow()
        assert opened.column_names == expected.column_names
        same_rows(opened, expected, ordered=ordered)
        return found

    return run


QUERIES = [
    "SELECT ward, count(*) AS n, sum(cost) AS total, avg(cost) AS mean, sum(days) AS days FROM visits GROUP BY ward",
    "SELECT sum(days) AS d, count(days) AS n, avg(days) AS a FROM visits WHERE ward = 'icu' OR ward = 'heart'",
    "SELECT sum(cost) AS c FROM visits WHERE ward = 'nowhere'",
    "SELECT count(*) AS n, count(DISTINCT patient) AS p FROM visits WHERE ward IN ('icu', 'surgery') AND ward IS NOT NULL",
    "SELECT DISTINCT ward FROM visits WHERE NOT (ward = 'icu')",
    "SELECT ward, patient, cost, days, year FROM visits WHERE patient = 7",
    "SELECT year + 1 AS next, cost FROM visits WHERE patient <> 7 AND year >= 2022",
    "SELECT p.sex, sum(v.cost) / count(*) AS c FROM visits v JOIN people p ON v.patient = p.id GROUP BY p.sex HAVING count(*) > 1",
    "SELECT sum(CASE WHEN ward = 'icu' THEN cost ELSE 0 END) AS icu, sum(CASE WHEN ward = 'icu' THEN days END) AS d FROM visits",
    "SELECT sum(cost) FILTER (WHERE year = 2020) AS y, min(year) AS a, max(year) AS b FROM visits",
    "SELECT avg(weight) AS w FROM people WHERE sex = 'f'",
    "SELECT ward, year, count(*) AS n FROM visits WHERE year > 2019 GROUP BY ward, year HAVING sum(cost) > 100",
    "SELECT count(*) AS n FROM visits v LEFT JOIN people p ON v.patient = p.id AND p.sex = 'm' WHERE p.sex IS NULL",
    r"SELECT ward, cost FROM visits WHERE ward = 'children''s' OR ward = 'children\'s' AND year > 2020",
    "SELECT id, 'it''s' AS a FROM people WHERE family = 'O''Hara' AND sex <> 'it''s'",
    "SELECT number FROM readings WHERE age < CAST(6 AS INT) AND number > 1L AND dose < 1.5D OR small = CAST(0.3 AS FLOAT)",
    "SELECT number FROM readings WHERE room > '5' OR seen > TIMESTAMP '2024-03-04 11:00:00' OR seen = DATE '2024-03-01'",
    "SELECT number, sum(price) AS p FROM readings GROUP BY number HAVING sum(price) <= 1.15 AND sum(price) <> 0.57 AND 0.125 < sum(price)",
    "SELECT number FROM readings WHERE small = 0.1 OR small = 0.5 OR small > 0.3",
    "SELECT number FROM readings WHERE small <= 0.1 OR small IN (0.2, 2)",
    "SELECT number FROM readings WHERE small <> 0.1 AND small < 0.3 OR small = 0.1F",
    "SELECT sum(cost) * 3 AS a, sum(cost) * sum(days) AS b, sum(cost) * count(*) - 1 AS c, 100.00 * sum(cost) / count(*) AS d FROM visits",
    "SELECT ward, sum(cost) * 2 AS c, sum(cost) AS s FROM visits GROUP BY ward HAVING sum(cost) * 2 > 100.5 AND max(year) - min(year) > 1",
    "SELECT sum(price) * 2 AS p, -sum(price) AS n, sum(price) + 1 AS q FROM readings WHERE number > 100",
    "SELECT sum(CASE WHEN age > 1000 THEN level ELSE 0 END) AS a FROM readings WHERE number > 9",
    "SELECT sum(CASE WHEN age > 1000 THEN level ELSE 0 END) AS a, sum(CASE WHEN age > 1000 THEN level END) AS b FROM readings",
    """SELECT number, sum(CASE WHEN number > 4 THEN level ELSE 0 END) AS a, sum(CASE WHEN age > 5 THEN level ELSE 0 END) AS b,
       sum(CASE WHEN age > 5 THEN level ELSE 0 END) FILTER (WHERE number > 2) AS c FROM readings GROUP BY number""",
    "SELECT number, sum(level) * 1.1 AS p FROM readings GROUP BY number HAVING sum(level) * 1.1 = 3.3 OR sum(price) * 1.1 = 0.385",
    "SELECT DISTINCT 7 AS c, ward, 'x' AS d FROM visits",
    "SELECT 7 AS c, count(*) AS n, 'x' AS d FROM visits",
]


@pytest.mark.parametrize("text", QUERIES)
def test_a_query_gives_what_plain_spark_gives(answers, text):
    """The opened result has plain Spark's columns and rows."""
    answers(text)


SORTED = [
    "SELECT dose > 0 AS positive, number FROM readings ORDER BY dose DESC, number LIMIT 3",
    "SELECT number FROM readings ORDER BY dose DESC NULLS FIRST, number + 0 DESC",
    "SELECT number FROM readings ORDER BY dose + 0, number DESC",
    "SELECT number FROM readings ORDER BY dose * 2 DESC, number",
    "SELECT number FROM readings ORDER BY small + 0 DESC, number LIMIT 4",
    "SELECT Kind, sum(`größe`) AS Total, min(planted) AS First FROM Plants GROUP BY kind HAVING TOTAL > 7 ORDER BY total DESC",
    "SELECT KIND AS k, `größe` AS K2, `A-B` + 1 AS `my sum` FROM Plants p WHERE P.Planted > 2019 AND `größe` > 7 ORDER BY k2 DESC",
    "SELECT *, kind AS Again FROM Plants ORDER BY PLANTED",
]


@pytest.mark.parametrize("text", SORTED)
def test_rows_are_sorted_as_plain_spark_sorts_them(answers, text):
    """Nulls come first or last as asked, and not-a-number as the largest number, whoever sorts."""
    answers(text, ordered=True)
