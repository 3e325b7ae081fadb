"""Do expressions have the values and types that plain Spark gives them, and fail where it does?"""

import math
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from pyspark.errors import PySparkException
from pyspark.sql import functions as plain
from pyspark.sql.types import DateType, StringType, StructField, StructType, TimestampNTZType, TimestampType

from securemllib.algorithms.expressions import evaluate
from securemllib.enclave.plan import read_table
from securemllib.errors import DataError, UsageError
from securemllib.spark import functions as sealed
from securemllib.spark.column_types import schema_of
from securemllib.wire.dataset import Column

NAN, INFINITY = math.nan, math.inf
ROWS = pa.table(
    {
        "tiny": pa.array([None, 0, 1, -1, 127, -127, 5, -7], pa.int8()),
        "small": pa.array([3, None, 0, 1, -7, 5, 127, -128], pa.int32()),
        "large": pa.array([2**53 + 1, 16777217, None, 0, -7, -(2**53) - 1, 10, 2**53], pa.int64()),
        "single": pa.array([0.1, 16777216.0, 0.3, None, NAN, -0.0, 1e-45, INFINITY], pa.float32()),
        "double": pa.array([NAN, 16777217.0, 0.1, 0.0, None, -INFINITY, 0.3, 2.0**53], pa.float64()),
        "price": pa.array([*map(Decimal, ["1.15", "0.57", "-1.00", "0.10", "2.00", "0.35", "0.00"]), None], pa.decimal128(12, 2)),
        "text": ["ä", "\uffee", "\U0001f600", None, "", "a", "A", "10"],
        "flag": [True, False, None, True, True, False, None, False],
    }
)
SCHEMA = schema_of([Column(name=field.name, type=str(field.type), nullable=True, encoding="clear") for field in ROWS.schema])

ANSWERED = {
    "a float beside an integer is a double": lambda f: f.col("single") * 10 == 1,
    "its values are those of doubles": lambda f: f.col("single") + f.col("small") - f.col("tiny"),
    "floats stay floats": lambda f: f.col("single") * f.col("single"),
    "a long is rounded beside a double": lambda f: f.col("large") + f.col("double"),
    "a long is compared with a float as doubles": lambda f: f.col("large") == f.col("single"),
    "a long is compared with a double as doubles": lambda f: f.col("large") <= f.col("double"),
    "longs are compared as longs": lambda f: f.col("large") == 2**53,
    "a constant beyond a float": lambda f: f.col("single") < 2**31 - 1,
    "a long is cast to the nearest double": lambda f: f.col("large").cast("double"),
    "small constants are integers": lambda f: f.col("tiny") + 1,
    "large constants are longs": lambda f: f.col("tiny") * 2**31,
    "a decimal is the nearest double": lambda f: f.col("price") - 1.15,
    "a decimal beside a double": lambda f: f.col("price") * f.col("double"),
    "a decimal cast to double": lambda f: f.col("price").cast("double"),
    "decimals among themselves": lambda f: f.col("price") * f.col("price") - f.col("price"),
    "a quotient is a double": lambda f: f.col("small") / 3,
    "a null divisor": lambda f: f.col("single") / f.lit(None),
    "try_divide": lambda f: f.try_divide(f.col("large"), f.col("small")),
    "logarithms of what has none": lambda f: f.log(f.col("small")) > 1,
    "logarithms of more than what has one": lambda f: f.log1p(f.col("double")) > 1,
    "roots of negative numbers": lambda f: f.sqrt(f.col("tiny")),
    "not-a-number is the largest": lambda f: f.col("double") >= f.col("single"),
    "negative zero": lambda f: f.col("single") == 0,
    "texts by their bytes": lambda f: f.col("text") > "\uffee",
    "among constants": lambda f: f.col("small").isin(3, 5),
    "not among constants": lambda f: ~f.col("small").isin([3, 5]),
    "among constants with a null": lambda f: f.col("small").isin(3, None),
    "among doubles": lambda f: f.col("tiny").isin(1.5, 5.0, 127, -1, NAN),
    "among nothing": lambda f: f.col("tiny").isin([]),
    "between": lambda f: f.col("double").between(f.col("single"), f.col("large")),
    "null in conditions": lambda f: (f.col("flag") & (f.col("small") > 0)) | ~(f.col("text") == "a"),
    "a divisor that AND guards": lambda f: (f.col("small") != 0) & (1 / f.col("small") > 0),
    "a divisor that OR guards": lambda f: f.isnull("tiny") | (f.col("tiny") == 0) | (f.col("double") / f.col("tiny") < 1),
    "guards within guards": lambda f: (f.col("small") != 0) & ((f.col("tiny") == 0) | (1 / f.col("small") / f.col("tiny") > 0)),
    "a numpy constant": lambda f: f.col("double") * float(np.float64(1.5)),
}  # fmt: skip
# Each with a condition for rows for which it has a value.
FAILING = {
    "division by zero": (lambda f: 1.5 / f.col("small"), lambda f: f.col("small") != 0),
    "division by the constant zero": (lambda f: f.col("double") / 0, lambda f: f.col("double").isNull()),
    "division by negative zero": (lambda f: f.col("large") / f.col("single"), lambda f: f.col("single") > 0),
    "a sum beyond 8 bits": (lambda f: f.col("tiny") + f.col("tiny"), lambda f: f.abs(f.col("tiny")) < 60),
    "a product beyond 32 bits": (lambda f: f.col("small") * 2**30, lambda f: f.abs(f.col("small")) < 2),
    "a difference beyond 32 bits": (lambda f: f.col("small") - (2**31 - 1), lambda f: f.col("small") >= 0),
    "a product beyond 64 bits": (lambda f: f.col("large") * f.col("large"), lambda f: f.abs(f.col("large")) < 100),
    "a guard that is null": (lambda f: f.col("flag") & (1 / f.col("double") > 0), lambda f: f.col("double") > 0),
}


def ours(expression, table=ROWS):
    """Return an expression's values and type, evaluated as an enclave does."""
    column = expression(sealed)
    return evaluate(column.expression, read_table(table)).to_pylist(), column.type_in(SCHEMA).simpleString()


def test_expressions_have_sparks_values_and_types(spark):
    """Every expression has plain Spark's value in every row, to the last bit, and its type."""
    expected = spark.createDataFrame(ROWS).select(*(expression(plain).alias(name) for name, expression in ANSWERED.items()))
    rows = expected.collect()
    for name, expression in ANSWERED.items():
        values, kind = ours(expression)
        # As texts, not-a-number equals itself, and 1 is not 1.0.
        assert list(map(repr, values)) == [repr(row[name]) for row in rows], name
        assert kind == expected.schema[name].dataType.simpleString(), name


@pytest.mark.parametrize("name", FAILING)
def test_what_spark_refuses_in_some_row_fails(name, spark):
    """Overflow and division by zero are errors, as in Spark's ANSI mode; rows without them have Spark's values."""
    expression, fitting = FAILING[name]
    kept = fitting(plain)
    rows = spark.createDataFrame(ROWS)
    with pytest.raises(PySparkException):
        rows.select(expression(plain)).collect()
    with pytest.raises(DataError) as raised:
        ours(expression)
    assert raised.value.error_code == "data.expression"
    table = ROWS.filter(pa.array(ours(lambda f: fitting(f))[0], pa.bool_()))
    expected = [row[0] for row in rows.filter(kept).select(expression(plain)).collect()]
    assert list(map(repr, ours(expression, table)[0])) == list(map(repr, expected))


def test_the_smallest_integers_have_no_opposite():
    """The absolute value and the opposite of -128 do not fit 8 bits and fail; those of -127 do."""
    for expression in (sealed.abs("tiny"), -sealed.col("tiny")):
        assert evaluate(expression.expression, read_table(ROWS)).to_pylist()[5] == 127
        with pytest.raises(DataError):
            evaluate(expression.expression, read_table(pa.table({"tiny": pa.array([-128], pa.int8())})))


REFUSED = {
    "a text compared with a number": lambda f: f.col("text") == 10,
    "a number among texts": lambda f: f.col("small").isin(1, "a"),
    "a condition compared with a number": lambda f: f.col("flag") > 0,
    "arithmetic with texts": lambda f: f.col("text") + 1,
    "arithmetic with conditions": lambda f: f.col("flag") / 2,
    "a root of a condition": lambda f: f.sqrt(f.col("flag")),
    "a number as a condition": lambda f: f.col("small") & f.col("flag"),
    "a day compared with a text": lambda f: f.col("day") > "2024-01-05",
    "a day compared with a moment": lambda f: f.col("day") == f.col("moment"),
    "the days between two": lambda f: f.col("day") - f.col("day"),
    "a day cast to double": lambda f: f.col("day").cast("double"),
    "a constant beyond 64 bits": lambda f: f.col("large") < 2**63,
}
TAKEN = {
    "a text compared with a text": lambda f: f.col("text") == "10",
    "a text as a double": lambda f: f.col("text").cast("double") == 10,
    "a day compared with a local moment": lambda f: f.col("day") == f.col("local"),
    "a null": lambda f: f.col("day") == f.lit(None),
}


@pytest.mark.parametrize("name", [*REFUSED, *TAKEN])
def test_what_spark_would_convert_in_ways_of_its_own_is_refused(name):
    """An operator that does not take its operands' types is refused before a job runs; values of one kind are taken."""
    days = [StructField("day", DateType()), StructField("local", TimestampNTZType()), StructField("moment", TimestampType())]
    schema = StructType([*SCHEMA.fields, *days, StructField("name", StringType())])
    if name in TAKEN:
        assert TAKEN[name](sealed).type_in(schema).simpleString() == "boolean"
        return
    with pytest.raises(UsageError):
        REFUSED[name](sealed).type_in(schema)
