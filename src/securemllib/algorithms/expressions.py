"""Expressions over Arrow columns, with SQL's meaning of null and Spark's types."""

from decimal import Decimal
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from securemllib.errors import DataError
from securemllib.wire.plan import Call, Expression, Literal, Operator, Reference

__all__ = ["Columns", "evaluate"]


class Columns(Protocol):
    """Rows whose columns expressions name."""

    @property
    def count(self) -> int:
        """The number of rows."""

    def scalar(self, name: str) -> pa.Array:
        """Return a column; `DataError` where there is none."""

    def drawn(self, purpose: str, seed: int) -> NDArray[np.float64]:
        """Return a random number of each row for a purpose; `DataError` where rows have no key to draw under."""


_COMPARISONS = (Operator.EQUAL, Operator.NOT_EQUAL, Operator.LESS, Operator.LESS_EQUAL, Operator.GREATER, Operator.GREATER_EQUAL)
# The kernels of Arrow that are not called as their operators are. Each refuses another number of arguments than its own.
_KERNELS = {
    Operator.ADD: "add_checked",
    Operator.SUBTRACT: "subtract_checked",
    Operator.MULTIPLY: "multiply_checked",
    Operator.DIVIDE: "divide_checked",
    Operator.TRY_DIVIDE: "divide",
    Operator.NEGATE: "negate_checked",
    Operator.ABS: "abs_checked",
    Operator.AND: "and_kleene",
    Operator.OR: "or_kleene",
    Operator.NOT: "invert",
    Operator.IS_NOT_NULL: "is_valid",
    Operator.LOG: "ln",
}
# The types of constants that a message holds as texts.
_TIMES = {Operator.DATE: pa.date32(), Operator.TIMESTAMP: pa.timestamp("us", "UTC"), Operator.TIMESTAMP_NTZ: pa.timestamp("us")}
# For which last arguments the result is null.
_NULLS = {Operator.TRY_DIVIDE: ("equal", 0.0), Operator.LOG: ("less_equal", 0.0), Operator.LOG1P: ("less_equal", -1.0)}
# These compute in doubles, as Spark does but where it divides decimals.
_DOUBLES = frozenset({Operator.DIVIDE, Operator.CAST_DOUBLE, Operator.EXP, Operator.SQRT, *_NULLS})


def evaluate(expression: Expression, rows: Columns) -> pa.Array:
    """Return the column of an expression: an Arrow array of ``rows.count`` values.

    Raises:
        DataError: A column is missing, types do not fit, integer arithmetic overflows, or a divisor is zero.
    """
    try:
        value = _value(expression, rows)
        return pa.repeat(value, rows.count) if isinstance(value, pa.Scalar) else value
    except (pa.ArrowException, ArithmeticError):
        raise DataError("An expression overflows, divides by zero, or does not fit its columns' types.", code="data.expression") from None


def _value(expression: Expression, rows: Columns, where: pa.Array | pa.Scalar | None = None) -> pa.Array | pa.Scalar:
    """Return an expression's values; where another one is given and not true, they are those of columns that are null."""
    if isinstance(expression, Reference):
        column = rows.scalar(expression.column)
        return column if where is None else pc.if_else(where, column, None)
    if isinstance(expression, Literal):
        small = type(expression.value) is int and -(2**31) <= expression.value < 2**31
        return pa.scalar(expression.value, pa.int32() if small else None)
    if expression.operator is Operator.RAND:
        return pa.array(rows.drawn("rand", _constant(expression, int)))
    if expression.operator is Operator.DECIMAL:
        return pa.scalar(Decimal(_constant(expression, str)))
    if expression.operator in _TIMES:
        return pa.scalar(_constant(expression, str)).cast(_TIMES[expression.operator])
    return _call(expression, rows, where)


def _call(call: Call, rows: Columns, where: pa.Array | pa.Scalar | None) -> pa.Array | pa.Scalar:
    operator, arguments = call.operator, list[pa.Array | pa.Scalar]()
    for argument in call.arguments:
        try:
            arguments.append(_value(argument, rows, where))
        except pa.ArrowException:
            if not arguments or operator not in {Operator.AND, Operator.OR}:
                raise
            # Spark does not evaluate the right side where the left one decides.
            open_ = pc.fill_null(pc.not_equal(arguments[0], operator is Operator.OR), True)
            arguments.append(_value(argument, rows, open_ if where is None else pc.and_(open_, where)))
    # Arrow compares the moments of two time zones where their units are the same alone.
    arguments = [moment.cast(pa.timestamp(moment.type.unit, "UTC")) if getattr(moment.type, "tz", None) else moment for moment in arguments]
    types = {argument.type for argument in arguments}
    floating = any(map(pa.types.is_floating, types))
    kernel = _KERNELS.get(operator, operator.value)
    if floating and operator in _COMPARISONS:
        return _compared(kernel, arguments)
    if operator in _DOUBLES or (floating and len(types) > 1):
        arguments = list(map(_double, arguments))
    if operator in _NULLS:
        to, bound = _NULLS[operator]
        arguments[-1:] = [pc.if_else(pc.call_function(to, [last, bound]), None, last) for last in arguments[-1:]]
    if operator is Operator.CAST_DOUBLE and len(arguments) == 1:
        return arguments[0]
    return pc.call_function(kernel, arguments)


def _double(values: pa.Array | pa.Scalar) -> pa.Array | pa.Scalar:
    """Return the nearest doubles, which those that Arrow makes of decimals are not."""
    return pc.cast(values.cast(pa.string()) if pa.types.is_decimal(values.type) else values, pa.float64(), safe=False)


def _compared(kernel: str, arguments: list[pa.Array | pa.Scalar]) -> pa.Array | pa.Scalar:
    """Return a comparison of doubles, as Spark's: not-a-number equals itself and is above all other numbers."""
    numbers = list(map(_double, arguments))
    nans = [pc.is_nan(number) for number in numbers]
    return pc.if_else(pc.call_function("or", nans), pc.call_function(kernel, nans), pc.call_function(kernel, numbers))


def _constant(call: Call, kind: type) -> Any:
    """Return the constant that an operator has instead of columns."""
    constant = call.arguments[0] if len(call.arguments) == 1 else None
    if not isinstance(constant, Literal) or type(constant.value) is not kind:
        raise DataError(f"{call.operator.value} takes one constant of type {kind.__name__}.", code="data.expression")
    return constant.value
