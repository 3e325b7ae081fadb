"""Are constants beside dates and timestamps what Spark makes of them, in the time zone of its session?"""

from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as plain

from securemllib.algorithms.expressions import evaluate
from securemllib.enclave.plan import read_table
from securemllib.errors import UsageError
from securemllib.spark import functions as sealed
from securemllib.spark.column_types import schema_of
from securemllib.spark.moments import fitted
from securemllib.wire.dataset import Column

# Around midnight in each of the zones, and around a change of New York's clock, which was put forward at 07:00 of UTC.
MOMENTS = [datetime(2024, 3, day, hour, 30) for day in (9, 10, 11) for hour in (0, 2, 5, 7, 18, 23)]
MOMENTS += [datetime(2024, 1, 31), datetime(2024, 1, 31, 10), datetime(1969, 12, 31, 23, 59, 59, 999999), None]
ROWS = pa.table(
    {
        "day": pa.array([moment and moment.date() for moment in MOMENTS]),
        "local": pa.array(MOMENTS, pa.timestamp("us")),
        "moment": pa.array(MOMENTS, pa.timestamp("us", "UTC")),
        "zoned": pa.array(MOMENTS, pa.timestamp("ns", "Europe/Berlin")),
    }
)
SCHEMA = schema_of([Column(name=field.name, type=str(field.type), nullable=True, encoding="clear") for field in ROWS.schema])
EAST = timezone(timedelta(hours=5, minutes=30))

ANSWERED = {
    "a day and a text": lambda f: f.col("day") >= "2024-03-10",
    "a day and a text of a moment": lambda f: f.col("day") == "2024-03-10 18:00:00",
    "a text first": lambda f: f.lit("2024-03-10") < f.col("day"),
    "a day and a date": lambda f: f.col("day") < date(2024, 3, 10),
    "a day and a moment": lambda f: f.col("day") <= datetime(2024, 1, 31, tzinfo=UTC),
    "a moment and a text": lambda f: f.col("moment") >= "2024-03-10",
    "a moment and a short text": lambda f: f.col("moment") < "2024-3",
    "a moment and a text of a zone": lambda f: f.col("moment") > "2024-03-10 10:00:00 Asia/Tokyo",
    "a moment in the hour that the clock leaves out": lambda f: f.col("moment") > "2024-03-10 02:30:00",
    "a moment and a date": lambda f: f.col("moment") < date(2024, 3, 11),
    "a moment and a datetime without a zone": lambda f: f.col("moment") <= datetime(2024, 1, 31),
    "a moment and a datetime with one": lambda f: f.col("moment") == datetime(2024, 1, 31, 5, 30, tzinfo=EAST),
    "a moment of another zone": lambda f: f.col("zoned") == datetime(2024, 1, 31, 5, 30, tzinfo=EAST),
    "moments of two zones": lambda f: f.col("zoned") == f.col("moment"),
    "a wall-clock time and a text": lambda f: f.col("local") > "2024-03-10 02:30:00",
    "a wall-clock time and a date": lambda f: f.col("local") >= date(2024, 3, 10),
    "a wall-clock time and a datetime": lambda f: f.col("local") >= datetime(2024, 1, 31),
    "between": lambda f: f.col("day").between("2024-03-09", date(2024, 3, 10)),
    "among": lambda f: f.col("day").isin("2024-03-09", date(2024, 1, 31), None),
    "neither": lambda f: ~((f.col("moment") == "2024-01-31") | f.col("local").isNull()),
    "a day and the end of time": lambda f: f.col("day") < datetime(9999, 12, 31),
    "the beginning of time": lambda f: f.col("local") > datetime(1, 1, 2, tzinfo=UTC),
    "a date by itself": lambda f: f.lit(date(2024, 3, 10)),
    "a moment by itself": lambda f: f.lit(datetime(2024, 3, 10, 12, tzinfo=UTC)),
}  # fmt: skip


@pytest.fixture(params=["UTC", "America/New_York", "Asia/Kolkata"])
def zone(request, spark):
    """The time zone of the session."""
    before = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set("spark.sql.session.timeZone", request.param)
    yield request.param
    spark.conf.set("spark.sql.session.timeZone", before)


def test_constants_are_what_spark_makes_of_them(spark, zone, tmp_path):
    """Every comparison has Spark's value in every row, in each of three time zones of the session."""
    pq.write_table(ROWS, tmp_path / "rows.parquet", coerce_timestamps="us")
    rows = spark.read.parquet(str(tmp_path / "rows.parquet"))
    expected = rows.select(*(expression(plain).alias(name) for name, expression in ANSWERED.items()))
    values = expected.collect()
    for name, expression in ANSWERED.items():
        column = fitted(expression(sealed).expression, SCHEMA, spark)
        found = evaluate(column, read_table(ROWS)).to_pylist()
        # Spark shows moments in this machine's zone.
        wanted = [row[name].astimezone(UTC) if isinstance(row[name], datetime) else row[name] for row in values]
        assert found == wanted, f"{name} in {zone}"


@pytest.mark.parametrize("zone", ["America/New_York"], indirect=True)
def test_wall_clock_times_near_a_change_of_the_clock_take_a_text(spark, zone):
    """Around it wall-clock times have another order than their moments: a moment is refused there, with what to write instead."""
    for constant, is_near in ((datetime(2024, 3, 10, 7, 30, tzinfo=UTC), True), (datetime(2024, 3, 12, tzinfo=UTC), False)):
        condition = (sealed.col("local") < constant).expression
        if not is_near:
            assert fitted(condition, SCHEMA, spark)
            continue
        with pytest.raises(UsageError, match="change of the session's clock") as caught:
            fitted(condition, SCHEMA, spark)
        assert "as a text" in caught.value.next_step


@pytest.mark.parametrize("constant", ["soon", "2024-13-01", "", "+12024-01-01"], ids=repr)
def test_what_is_no_date_is_refused(constant, spark):
    """A text that Spark makes no date of, or one beyond the year 9999, is refused before a job runs; texts among texts are not."""
    for name in ("day", "moment", "local"):
        with pytest.raises(UsageError, match="is none itself") as caught:
            fitted((sealed.col(name) > constant).expression, SCHEMA, spark)
        assert "datetime.date" in caught.value.next_step
    schema = schema_of([Column(name="day", type="string", nullable=True, encoding="clear")])
    assert fitted((sealed.col("day") > constant).expression, schema, spark) == (sealed.col("day") > constant).expression


def test_pandas_and_numpys_moments(spark):
    """A timestamp of pandas is a datetime; what is no time, and numpy's own, are refused."""
    at = fitted((sealed.col("moment") == pd.Timestamp("2024-01-31", tz="UTC")).expression, SCHEMA, spark)
    assert sum(filter(None, evaluate(at, read_table(ROWS)).to_pylist())) == 1
    naive = [sealed.lit(kind("2024-01-31 10:00:00")).expression for kind in (pd.Timestamp, datetime.fromisoformat)]
    assert naive[0] == naive[1]
    for constant in (pd.NaT, np.datetime64("2024-01-31")):
        with pytest.raises(UsageError):
            sealed.lit(constant)
