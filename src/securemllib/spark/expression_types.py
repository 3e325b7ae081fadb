"""The types that Spark's ANSI mode gives expressions; what it would refuse, or convert to another type in ways of its own, is refused."""

from collections.abc import Callable, Sequence
from decimal import Decimal

from pyspark.sql import types as spark_types
from pyspark.sql.types import DataType, StructType

from securemllib.errors import UsageError
from securemllib.spark.names import unknown
from securemllib.wire.plan import Call, Expression, Literal, Operator, Reference

__all__ = ["COMPARISONS", "MOMENTS", "type_of"]

_DATES = "Dates and timestamps are compared with constants, and with columns of their kind."

COMPARISONS = (Operator.EQUAL, Operator.NOT_EQUAL, Operator.LESS, Operator.LESS_EQUAL, Operator.GREATER, Operator.GREATER_EQUAL)
MOMENTS: dict[Operator, DataType] = {
    Operator.DATE: spark_types.DateType(),
    Operator.TIMESTAMP: spark_types.TimestampType(),
    Operator.TIMESTAMP_NTZ: spark_types.TimestampNTZType(),
}
_LOGIC = (Operator.AND, Operator.OR, Operator.NOT)
_OF_ANY = (Operator.IS_NULL, Operator.IS_NOT_NULL)
_SUMS = (Operator.ADD, Operator.SUBTRACT, Operator.MULTIPLY)
# What each operator of numbers is called where it is refused; those that keep their argument's type beside those that make doubles.
_SAME = {Operator.NEGATE: "a negation", Operator.ABS: "an absolute value"}
_DOUBLES = (Operator.DIVIDE, Operator.TRY_DIVIDE, Operator.LOG, Operator.LOG1P, Operator.EXP, Operator.SQRT)
# What may be compared with one another; a date is the midnight of no time zone.
_ALIKE: tuple[tuple[type[DataType], ...], ...] = (
    (spark_types.NumericType,),
    (spark_types.BooleanType,),
    (spark_types.StringType,),
    (spark_types.DateType, spark_types.TimestampNTZType),
    (spark_types.TimestampType,),
    (spark_types.BinaryType,),
)
# Integers by width, with the digits that they have beside decimals.
_DIGITS: dict[type[DataType], int] = {
    spark_types.ByteType: 3,
    spark_types.ShortType: 5,
    spark_types.IntegerType: 10,
    spark_types.LongType: 19,
}
_MOST_DIGITS = 38


def type_of(expression: Expression, schema: StructType) -> DataType:
    """Return the type of an expression over columns of a schema.

    Raises:
        UsageError: A column is not there, or an operator does not take its operands' types.
    """
    if isinstance(expression, Reference):
        if expression.column not in schema.names:
            raise unknown(expression.column, schema)
        return schema[expression.column].dataType
    if isinstance(expression, Literal):
        return _literal_type(expression.value)
    if expression.operator is Operator.DECIMAL and isinstance(expression.arguments[0], Literal):
        _, digits, exponent = Decimal(str(expression.arguments[0].value)).as_tuple()
        return spark_types.DecimalType(max(len(digits), -int(exponent)), -int(exponent))
    if expression.operator in MOMENTS:
        return MOMENTS[expression.operator]
    return _call_type(expression, [type_of(argument, schema) for argument in expression.arguments])


def _literal_type(value: bool | int | float | str | None) -> DataType:
    if value is None:
        return spark_types.NullType()
    if type(value) is int:
        return spark_types.IntegerType() if -(2**31) <= value < 2**31 else spark_types.LongType()
    kinds: dict[type, DataType] = {bool: spark_types.BooleanType(), float: spark_types.DoubleType()}
    return kinds.get(type(value), spark_types.StringType())


def _call_type(call: Call, kinds: list[DataType]) -> DataType:
    operator = call.operator
    known = [kind for kind in kinds if not isinstance(kind, spark_types.NullType)]
    if operator in _OF_ANY:
        return spark_types.BooleanType()
    if operator in _LOGIC:
        _check(operator, known, lambda kind: isinstance(kind, spark_types.BooleanType), "Combine conditions.")
        return spark_types.BooleanType()
    if operator in COMPARISONS:
        if known and not any(all(isinstance(kind, group) for kind in known) for group in _ALIKE):
            has_dates = any(kind in MOMENTS.values() for kind in known)
            alike = "Compare values of one kind: numbers, or texts, or dates; `cast` makes doubles of texts."
            raise _refused(operator, known, _DATES if has_dates else alike)
        return spark_types.BooleanType()
    if operator is Operator.CAST_DOUBLE:
        castable = (spark_types.NumericType, spark_types.BooleanType, spark_types.StringType)
        _check(operator, known, lambda kind: isinstance(kind, castable), "Numbers, booleans and texts are cast to double.")
        return spark_types.DoubleType()
    _check(operator, known, lambda kind: isinstance(kind, spark_types.NumericType), "Cast to double, or calculate with numbers.")
    if operator in _DOUBLES or operator is Operator.RAND:
        return spark_types.DoubleType()
    return _arithmetic_type(operator, known) if known else spark_types.NullType()


def _check(operator: Operator, known: Sequence[DataType], fits: Callable[[DataType], bool], advice: str) -> None:
    if not all(map(fits, known)):
        raise _refused(operator, known, advice)


def _refused(operator: Operator, known: Sequence[DataType], advice: str) -> UsageError:
    names = " and ".join(kind.simpleString() for kind in known)
    return UsageError(f"{operator.value.upper().replace('_', ' ')} does not take {names}.", next_step=advice, code="usage.expression")


def _arithmetic_type(operator: Operator, kinds: Sequence[DataType]) -> DataType:
    """Return the type of a sum, difference or product, or of one number that keeps its type."""
    if len({kind.simpleString() for kind in kinds}) == 1 and not (len(kinds) > 1 and isinstance(kinds[0], spark_types.DecimalType)):
        return kinds[0]
    if any(isinstance(kind, (spark_types.FloatType, spark_types.DoubleType)) for kind in kinds):
        return spark_types.DoubleType()
    if not any(isinstance(kind, spark_types.DecimalType) for kind in kinds):
        return max(kinds, key=lambda kind: _DIGITS[type(kind)])
    (left, left_scale), (right, right_scale) = map(_decimal, kinds)
    scale = max(left_scale, right_scale)
    digits = max(left - left_scale, right - right_scale) + scale + 1
    if operator is Operator.MULTIPLY:
        scale, digits = left_scale + right_scale, left + right + 1
    return spark_types.DecimalType(min(digits, _MOST_DIGITS), min(scale, _MOST_DIGITS))


def _decimal(kind: DataType) -> tuple[int, int]:
    return (kind.precision, kind.scale) if isinstance(kind, spark_types.DecimalType) else (_DIGITS[type(kind)], 0)
