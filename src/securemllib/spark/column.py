"""Column expressions of a sealed data frame: they become part of the plan that enclaves run, and evaluate nothing here."""

from datetime import date
from typing import Any, NoReturn

from pyspark.sql.types import DataType, StructType

from securemllib.errors import SealedError, UsageError
from securemllib.spark.expression_types import MOMENTS, type_of
from securemllib.spark.moments import constant_of
from securemllib.wire.plan import Call, Expression, Literal, Operator, Reference

__all__ = ["Column", "expression_of"]

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
_LEAST_INTEGER, _GREATEST_INTEGER = -(2**63), 2**63 - 1


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
        return _text(self.expression) if self._name is None else self._name

    def of(self, expression: Expression) -> "Column":
        """Return another expression under the name that ``alias`` gave this one, if it did."""
        return Column(expression, self._name)

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
        """Return whether the value is one of the given constants: null where it is null, or is none of them while one of them is null."""
        listed = list(values[0] if len(values) == 1 and isinstance(values[0], (list, tuple, set)) else values)
        name = f"({self.name} IN ({', '.join(_text(expression_of(value)) for value in listed)}))"
        # A tree of little depth: a message is nested 64 deep at most.
        equal = [self == value for value in listed] or [Column(Literal(value=False))]
        while len(equal) > 1:
            pairs = [equal[index : index + 2] for index in range(0, len(equal), 2)]
            equal = [pair[0] | pair[1] if len(pair) > 1 else pair[0] for pair in pairs]
        return equal[0].alias(name)

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
        """Return the type of the expression over columns of a schema; `UsageError` for unknown columns and types that do not fit."""
        return type_of(self.expression, schema)


def _call(operator: Operator, *operands: Any) -> Column:
    return Column(Call(operator=operator, arguments=tuple(expression_of(operand) for operand in operands)))


def expression_of(value: Any) -> Expression:
    """Return the expression of an operand: a column, or a constant of at most 64 bits."""
    if isinstance(value, Column):
        return value.expression
    if isinstance(value, int) and not _LEAST_INTEGER <= value <= _GREATEST_INTEGER:
        raise UsageError("A constant has at most 64 bits.", code="usage.expression")
    if value is None:
        return Literal(value=None)
    for kind in (bool, int, float, str):
        if isinstance(value, kind):  # as numpy's doubles are
            return Literal(value=kind(value))
    if isinstance(value, date):
        return constant_of(value)
    raise UsageError(
        f"A {type(value).__name__} is no column and no constant.",
        next_step="Use numbers, strings, booleans, dates, datetimes and columns of `securemllib.spark.functions`.",
    )


def _text(expression: Expression) -> str:
    if isinstance(expression, Reference):
        return expression.column
    if isinstance(expression, Literal):
        return "NULL" if expression.value is None else str(expression.value)
    arguments = [_text(argument) for argument in expression.arguments]
    if expression.operator is Operator.DECIMAL:
        return arguments[0]
    if expression.operator in MOMENTS:
        return f"{expression.operator.value.upper()} '{arguments[0]}'"
    if symbol := _SYMBOLS.get(expression.operator):
        return f"({f' {symbol} '.join(arguments)})"
    return f"{expression.operator.value.upper().replace('_', ' ')}({', '.join(arguments)})"
