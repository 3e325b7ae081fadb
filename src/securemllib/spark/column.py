"""Column expressions of a sealed data frame: they become part of the plan that enclaves run, and evaluate nothing here."""

from typing import Any, NoReturn

from pyspark.sql import types as spark_types
from pyspark.sql.types import DataType, StructType

from securemllib.errors import SealedError, UsageError
from securemllib.wire.plan import Call, Expression, Literal, Operator, Reference

__all__ = ["Column"]

_SYMBOLS = {
    Operator.ADD: "+",
    Operator.SUBTRACT: "-",
    Operator.MULTIPLY: "*",
    Operator.DIVIDE: "/",
    Operator.EQUAL: "=",
    Operator.NOT_EQUAL: "!=",
    Operator.LESS: "<",
    Operator.LESS_EQUAL: "<=",
    Operator.GREATER: ">",
    Operator.GREATER_EQUAL: ">=",
    Operator.AND: "AND",
    Operator.OR: "OR",
}
_BOOLEAN = frozenset({*list(_SYMBOLS)[4:], Operator.NOT, Operator.IS_NULL, Operator.IS_NOT_NULL, Operator.IS_IN})
_DOUBLE = frozenset({Operator.DIVIDE, Operator.CAST_DOUBLE, Operator.LOG, Operator.LOG1P, Operator.EXP, Operator.SQRT, Operator.RAND})


class Column:
    """An expression over columns, as ``pyspark.sql.Column``; constants in it are part of the signed job and not secret.

    Args:
        expression: The expression.
        name: The name that ``alias`` gave it, else None.
    """

    # Equality builds an expression.
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, expression: Expression, name: str | None = None) -> None:
        self.expression = expression
        self._name = name

    @property
    def name(self) -> str:
        """The column's name: its alias, or its expression in words as Spark prints it."""
        return self._name or _text(self.expression)

    def alias(self, name: str) -> "Column":
        """Return the same expression under another name."""
        return Column(self.expression, name)

    def isNull(self) -> "Column":
        """Return whether the value is null."""
        return _call(Operator.IS_NULL, self)

    def isNotNull(self) -> "Column":
        """Return whether the value is not null."""
        return _call(Operator.IS_NOT_NULL, self)

    def isin(self, *values: Any) -> "Column":
        """Return whether the value is one of the given constants."""
        listed = values[0] if len(values) == 1 and isinstance(values[0], (list, tuple, set)) else values
        return _call(Operator.IS_IN, self, *listed)

    def between(self, lower: Any, upper: Any) -> "Column":
        """Return whether the value is from ``lower`` to ``upper``, both included."""
        return (self >= lower) & (self <= upper)

    def cast(self, kind: str | DataType) -> "Column":
        """Return the value as a double, the only type to cast to."""
        name = kind if isinstance(kind, str) else kind.simpleString()
        if name not in {"double", "float64"}:
            raise UsageError(f"A column casts to double only, not to {name}.")
        return _call(Operator.CAST_DOUBLE, self)

    def __add__(self, other: Any) -> "Column":
        return _call(Operator.ADD, self, other)

    def __radd__(self, other: Any) -> "Column":
        return _call(Operator.ADD, other, self)

    def __sub__(self, other: Any) -> "Column":
        return _call(Operator.SUBTRACT, self, other)

    def __rsub__(self, other: Any) -> "Column":
        return _call(Operator.SUBTRACT, other, self)

    def __mul__(self, other: Any) -> "Column":
        return _call(Operator.MULTIPLY, self, other)

    def __rmul__(self, other: Any) -> "Column":
        return _call(Operator.MULTIPLY, other, self)

    def __truediv__(self, other: Any) -> "Column":
        return _call(Operator.DIVIDE, self, other)

    def __rtruediv__(self, other: Any) -> "Column":
        return _call(Operator.DIVIDE, other, self)

    def __neg__(self) -> "Column":
        return _call(Operator.NEGATE, self)

    def __eq__(self, other: object) -> "Column":  # type: ignore[override]
        return _call(Operator.EQUAL, self, other)

    def __ne__(self, other: object) -> "Column":  # type: ignore[override]
        return _call(Operator.NOT_EQUAL, self, other)

    def __lt__(self, other: Any) -> "Column":
        return _call(Operator.LESS, self, other)

    def __le__(self, other: Any) -> "Column":
        return _call(Operator.LESS_EQUAL, self, other)

    def __gt__(self, other: Any) -> "Column":
        return _call(Operator.GREATER, self, other)

    def __ge__(self, other: Any) -> "Column":
        return _call(Operator.GREATER_EQUAL, self, other)

    def __and__(self, other: Any) -> "Column":
        return _call(Operator.AND, self, other)

    def __rand__(self, other: Any) -> "Column":
        return _call(Operator.AND, other, self)

    def __or__(self, other: Any) -> "Column":
        return _call(Operator.OR, self, other)

    def __ror__(self, other: Any) -> "Column":
        return _call(Operator.OR, other, self)

    def __invert__(self) -> "Column":
        return _call(Operator.NOT, self)

    def __bool__(self) -> NoReturn:
        raise UsageError("A column is no truth value: combine conditions with & | ~ instead of and, or, not.")

    def __iter__(self) -> NoReturn:
        raise SealedError("A column's values are sealed and cannot be iterated over.")

    def __repr__(self) -> str:
        return f"Column<'{self.name}'>"

    def type_in(self, schema: StructType) -> DataType:
        """Return the type of the expression over columns of a schema; `UsageError` for a column that it does not have."""
        return _type(self.expression, schema)


def _call(operator: Operator, *operands: Any) -> Column:
    return Column(Call(operator=operator, arguments=tuple(_expression(operand) for operand in operands)))


def _expression(value: Any) -> Expression:
    if isinstance(value, Column):
        return value.expression
    if value is None or isinstance(value, (bool, int, float, str)):
        return Literal(value=value)
    raise UsageError(
        f"A {type(value).__name__} is no column and no constant.",
        next_step="Use numbers, strings, booleans and columns of `securemllib.spark.functions`.",
    )


def _text(expression: Expression) -> str:
    if isinstance(expression, Reference):
        return expression.column
    if isinstance(expression, Literal):
        return "NULL" if expression.value is None else str(expression.value)
    arguments = [_text(argument) for argument in expression.arguments]
    if symbol := _SYMBOLS.get(expression.operator):
        return f"({f' {symbol} '.join(arguments)})"
    return f"{expression.operator.value.upper().replace('_', ' ')}({', '.join(arguments)})"


def _type(expression: Expression, schema: StructType) -> DataType:
    if isinstance(expression, Reference):
        if expression.column not in schema.names:
            raise UsageError(f"There is no column {expression.column!r} among {', '.join(schema.names)}.", code="usage.column")
        return schema[expression.column].dataType
    if isinstance(expression, Literal):
        return _literal_type(expression.value)
    kinds = [_type(argument, schema) for argument in expression.arguments]
    if expression.operator in _BOOLEAN:
        return spark_types.BooleanType()
    if expression.operator in _DOUBLE or any(isinstance(kind, spark_types.DoubleType) for kind in kinds):
        return spark_types.DoubleType()
    return max(kinds, key=lambda kind: _WIDTH.get(type(kind), 0))


def _literal_type(value: bool | int | float | str | None) -> DataType:
    if value is None:
        return spark_types.NullType()
    kinds: dict[type, DataType] = {bool: spark_types.BooleanType(), int: spark_types.LongType(), float: spark_types.DoubleType()}
    return kinds.get(type(value), spark_types.StringType())


_WIDTH: dict[type[DataType], int] = {
    spark_types.ByteType: 1,
    spark_types.ShortType: 2,
    spark_types.IntegerType: 3,
    spark_types.LongType: 4,
    spark_types.DecimalType: 5,
    spark_types.FloatType: 6,
}
