"""Expressions over Arrow columns, with SQL's meaning of null and Spark's types."""

from contextlib import suppress
from typing import Protocol

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
# The kernels of Arrow by operator; all take one or two arguments.
_KERNELS = {
    Operator.ADD: ("add_checked", 2),
    Operator.SUBTRACT: ("subtract_checked", 2),
    Operator.MULTIPLY: ("multiply_checked", 2),
    Operator.DIVIDE: ("divide", 2),
    Operator.NEGATE: ("negate_checked", 1),
    Operator.AND: ("and_kleene", 2),
    Operator.OR: ("or_kleene", 2),
    Operator.NOT: ("invert", 1),
    Operator.IS_NULL: ("is_null", 1),
    Operator.IS_NOT_NULL: ("is_valid", 1),
    Operator.LOG: ("ln", 1),
    **{operator: (operator.value, 1) for operator in (Operator.LOG1P, Operator.EXP, Operator.SQRT, Operator.ABS)},
    **{operator: (operator.value, 2) for operator in _COMPARISONS},
}
# These compute in doubles, as Spark does.
_DOUBLES = frozenset({Operator.DIVIDE, Operator.LOG, Operator.LOG1P, Operator.EXP, Operator.SQRT})


def evaluate(expression: Expression, rows: Columns) -> pa.Array:
    """Return the column of an expression: an Arrow array of ``rows.count`` values.

    Raises:
        DataError: A column is missing, types do not fit, or integer arithmetic overflows.
    """
    try:
        value = _value(expression, rows)
        if isinstance(value, pa.Scalar):
            value = pa.repeat(value, rows.count)
        return value.combine_chunks() if isinstance(value, pa.ChunkedArray) else value
    except pa.ArrowException:
        raise DataError("An expression does not fit the types or ranges of its columns.", code="data.expression") from None


def _value(expression: Expression, rows: Columns) -> pa.Array | pa.Scalar:
    if isinstance(expression, Reference):
        return rows.scalar(expression.column)
    if isinstance(expression, Literal):
        return pa.scalar(expression.value)
    return _call(expression, rows)


def _call(call: Call, rows: Columns) -> pa.Array | pa.Scalar:
    arguments = [_value(argument, rows) for argument in call.arguments]
    if call.operator is Operator.IS_IN:
        return _is_in(call, arguments)
    if call.operator is Operator.RAND:
        return _drawn(call, rows)
    if call.operator is Operator.CAST_DOUBLE and len(arguments) == 1:
        return arguments[0].cast(pa.float64())
    kernel, arity = _KERNELS.get(call.operator, ("", 1))
    if len(arguments) != arity or not kernel:
        raise DataError(f"{call.operator.value} takes {arity} arguments, not {len(arguments)}.", code="data.expression")
    if call.operator in _DOUBLES:
        arguments = [argument.cast(pa.float64()) for argument in arguments]
    if call.operator is Operator.DIVIDE:
        # Spark gives null for a zero divisor where ANSI mode is off, an error where it is on; ours gives null.
        arguments[1] = pc.if_else(pc.equal(arguments[1], 0.0), None, arguments[1])
    if call.operator in _COMPARISONS and any(pa.types.is_floating(argument.type) for argument in arguments):
        return _compared(kernel, arguments)
    return pc.call_function(kernel, arguments)


def _compared(kernel: str, arguments: list[pa.Array | pa.Scalar]) -> pa.Array | pa.Scalar:
    """Return a comparison of which a side is of doubles, as Spark's: not-a-number equals itself and is above all other numbers.

    A decimal and a constant are compared as they are written, a decimal and another double as doubles, which for Arrow are not the nearest.
    """
    if any(isinstance(one, pa.DoubleScalar) for one in arguments) and any(pa.types.is_decimal(one.type) for one in arguments):
        with suppress(pa.ArrowInvalid):  # a constant beyond decimals
            return pc.call_function(kernel, [argument.cast(pa.string()).cast(pa.decimal256(76, 38)) for argument in arguments])
    numbers = [argument.cast(pa.string()).cast(pa.float64()) if pa.types.is_decimal(argument.type) else argument for argument in arguments]
    nans = [pc.is_nan(number) for number in numbers]
    return pc.if_else(pc.or_(*nans), pc.call_function(kernel, nans), pc.call_function(kernel, numbers))


def _drawn(call: Call, rows: Columns) -> pa.Array:
    seed = call.arguments[0] if len(call.arguments) == 1 else None
    if not isinstance(seed, Literal) or type(seed.value) is not int:
        raise DataError("A random number has one seed, an integer.", code="data.expression")
    return pa.array(rows.drawn("rand", seed.value))


def _is_in(call: Call, arguments: list[pa.Array | pa.Scalar]) -> pa.Array:
    if not arguments or not all(isinstance(argument, Literal) for argument in call.arguments[1:]):
        raise DataError("The values of is_in are literals.", code="data.expression")
    return pc.is_in(arguments[0], pa.array([argument.as_py() for argument in arguments[1:]]))
