"""Constants beside dates and timestamps, as Spark converts them: in the session's time zone, which enclaves do not know.

Spark itself converts them here, at the driver: a text to the type of the column that it is compared with, a date beside moments to its
midnight. What the signed job holds is a day, a moment of UTC, or a wall-clock time, and means the same everywhere.
"""

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as plain
from pyspark.sql import types as spark_types
from pyspark.sql.types import DataType, StructType

from securemllib.errors import UsageError
from securemllib.spark.expression_types import COMPARISONS, MOMENTS, type_of
from securemllib.wire.plan import Call, Expression, Literal, Operator

__all__ = ["constant_of", "fitted"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_KINDS = (spark_types.DateType, spark_types.TimestampType, spark_types.TimestampNTZType)
_DATE, _MOMENT, _LOCAL = (kind().simpleString() for kind in _KINDS)
_OPERATORS = {_DATE: Operator.DATE, _MOMENT: Operator.TIMESTAMP, _LOCAL: Operator.TIMESTAMP_NTZ}
# A clock is put forward or back by a day at most.
_LARGEST_SHIFT = timedelta(days=1)
# So far from the ends of time that no zone reaches beyond them.
_FIRST, _LAST = (end.replace(tzinfo=UTC) for end in (datetime.min + 2 * _LARGEST_SHIFT, datetime.max - 2 * _LARGEST_SHIFT))
# Texts that have one meaning in any time zone, whatever the year and the month; Spark is asked for all other ones.
_DAY = "(?!0000)[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])"
_PLAIN = {_DATE: re.compile(_DAY), _MOMENT: re.compile(_DAY + r" ([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{6})?\+00:00")}


def constant_of(value: date) -> Call:
    """Return a date, or a moment, as a constant; a datetime without a zone is of this machine's zone, as for pyspark.

    Raises:
        UsageError: It is no moment of the years 1 to 9999.
    """
    if not isinstance(value, datetime):
        return _constant(Operator.DATE, value.isoformat())
    try:
        # A plain datetime, which pandas' subclass converts in ways of its own.
        moment = datetime.combine(value.date(), value.timetz()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise _no_moment() from None
    return _constant(Operator.TIMESTAMP, _written(moment))


def fitted(expression: Expression, schema: StructType, spark: SparkSession) -> Expression:
    """Return an expression whose constants beside dates and timestamps are of the kind that they are compared with.

    Args:
        expression: The expression, over columns of the schema.
        schema: The columns.
        spark: Whose session converts, in its time zone.

    Raises:
        UsageError: A constant is no date or timestamp.
    """
    if not isinstance(expression, Call):
        return expression
    if expression.operator in MOMENTS:
        # Those of SQL are as they were written.
        return _converted(expression, MOMENTS[expression.operator].simpleString(), spark)
    arguments = tuple(fitted(argument, schema, spark) for argument in expression.arguments)
    if expression.operator in COMPARISONS and len(arguments) == 2:
        kinds = [type_of(argument, schema) for argument in arguments]
        arguments = (_beside(arguments[0], kinds[0], kinds[1], spark), _beside(arguments[1], kinds[1], kinds[0], spark))
    return replace(expression, arguments=arguments)


def _beside(operand: Expression, kind: DataType, other: DataType, spark: SparkSession) -> Expression:
    """Return an operand of a comparison as what is compared with another kind."""
    is_text = isinstance(operand, Literal) and isinstance(operand.value, str)
    is_constant = is_text or (isinstance(operand, Call) and operand.operator in MOMENTS)
    if not is_constant or not isinstance(other, _KINDS) or kind == other:
        return operand
    target = other.simpleString()
    if is_text or target == _MOMENT:
        return _converted(operand, target, spark)
    # What is beside the moment is a column's, of days or of wall-clock times, and stays as it is.
    return _local(operand, spark) if kind.simpleString() == _MOMENT else operand


def _converted(operand: Any, target: str, spark: SparkSession) -> Call:
    """Return a constant as another kind, as Spark casts it; one that has but one meaning is not asked for."""
    text = str(operand.value if isinstance(operand, Literal) else operand.arguments[0].value)
    if target in _PLAIN and _PLAIN[target].fullmatch(text):
        return _constant(_OPERATORS[target], text)
    source = plain.lit(text)
    if isinstance(operand, Call) and operand.operator is not Operator.TIMESTAMP:
        source = source.try_cast(MOMENTS[operand.operator])
    return _constant(_OPERATORS[target], _told(source.try_cast(target), target, spark))


def _local(operand: Any, spark: SparkSession) -> Call:
    """Return a moment as the wall-clock time of the session's zone.

    Raises:
        UsageError: The clock is put forward or back near it: wall-clock times are not in the order of their moments there.
    """
    moment = datetime.fromisoformat(operand.arguments[0].value)
    near = (max(moment, _FIRST) - _LARGEST_SHIFT, moment, min(moment, _LAST) + _LARGEST_SHIFT)
    local = [datetime.fromisoformat(_told(plain.lit(text).cast(_MOMENT).cast(_LOCAL), _LOCAL, spark)) for text in map(_written, near)]
    if len({at - moment.replace(tzinfo=None) for at, moment in zip(local, near, strict=True)}) > 1:
        raise UsageError(
            "A moment near a change of the session's clock is not compared with dates, or with timestamps without a zone.",
            next_step="Write the constant as a text, such as '2024-03-31 02:30:00', which is a wall-clock time.",
            code="usage.expression",
        )
    return _constant(Operator.TIMESTAMP_NTZ, _written(local[1]))


def _told(value: Column, target: str, spark: SparkSession) -> str:
    """Return what Spark says that a value is, as the text that enclaves read."""
    shown = plain.unix_micros(value) if target == _MOMENT else value.cast("string")
    found = spark.sql("SELECT 1").select(shown).collect()[0][0]
    try:
        if target == _MOMENT:
            return _written(_EPOCH + found * _MICROSECOND)
        return date.fromisoformat(found).isoformat() if target == _DATE else _written(datetime.fromisoformat(found))
    except (TypeError, ValueError, OverflowError):
        raise _no_moment() from None


def _written(moment: datetime) -> str:
    return moment.isoformat(" ")


def _constant(operator: Operator, text: str) -> Call:
    return Call(operator=operator, arguments=(Literal(value=text),))


def _no_moment() -> UsageError:
    return UsageError(
        "A constant beside a date or a timestamp is none itself.",
        next_step="Write it as '2024-01-31', as '2024-01-31 10:00:00', as a datetime.date or as a datetime.datetime; years are 1 to 9999.",
        code="usage.expression",
    )
