"""Expressions of a plan over Arrow columns, with SQL's meaning of null and Spark's types."""

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from securemllib.enclave.vectors import Rows
from securemllib.errors import DataError
from securemllib.wire.plan import Call, Expression, Literal, Operator, Reference

__all__ = ["evaluate"]


def _divide(left: pa.Array, right: pa.Array) -> pa.Array:
    # Spark divides in doubles and gives null for a zero divisor when ANSI mode is off, an error when it is on; ours gives null.
    left, right = left.cast(pa.float64()), right.cast(pa.float64())
    right = pc.if_else(pc.equal(right, 0.0), pa.scalar(None, pa.float64()), right)
    return pc.divide(left, right)


def _double(function: Callable[[pa.Array], pa.Array]) -> Callable[[pa.Array], pa.Array]:
    return lambda array: function(array.cast(pa.float64()))


_OPERATORS: dict[Operator, tuple[int, Callable[..., pa.Array]]] = {
    Operator.ADD: (2, pc.add_checked),
    Operator.SUBTRACT: (2, pc.subtract_checked),
    Operator.MULTIPLY: (2, pc.multiply_checked),
    Operator.DIVIDE: (2, _divide),
    Operator.NEGATE: (1, pc.negate_checked),
    Operator.EQUAL: (2, pc.equal),
    Operator.NOT_EQUAL: (2, pc.not_equal),
    Operator.LESS: (2, pc.less),
    Operator.LESS_EQUAL: (2, pc.less_equal),
    Operator.GREATER: (2, pc.greater),
    Operator.GREATER_EQUAL: (2, pc.greater_equal),
    Operator.AND: (2, pc.and_kleene),
    Operator.OR: (2, pc.or_kleene),
    Operator.NOT: (1, pc.invert),
    Operator.IS_NULL: (1, pc.is_null),
    Operator.IS_NOT_NULL: (1, pc.is_valid),
    Operator.CAST_DOUBLE: (1, lambda array: array.cast(pa.float64())),
    Operator.LOG: (1, _double(pc.ln)),
    Operator.LOG1P: (1, _double(pc.log1p)),
    Operator.EXP: (1, _double(pc.exp)),
    Operator.SQRT: (1, _double(pc.sqrt)),
    Operator.ABS: (1, pc.abs),
}


def evaluate(expression: Expression, rows: Rows) -> pa.Array:
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


def _value(expression: Expression, rows: Rows) -> pa.Array | pa.Scalar:
    if isinstance(expression, Reference):
        return rows.scalar(expression.column)
    if isinstance(expression, Literal):
        return pa.scalar(expression.value)
    return _call(expression, rows)


def _call(call: Call, rows: Rows) -> pa.Array | pa.Scalar:
    arguments = [_value(argument, rows) for argument in call.arguments]
    if call.operator is Operator.IS_IN:
        if not all(isinstance(argument, Literal) for argument in call.arguments[1:]):
            raise DataError("The values of is_in are literals.", code="data.expression")
        return pc.is_in(arguments[0], value_set=pa.array([argument.as_py() for argument in arguments[1:]]))
    arity, function = _OPERATORS[call.operator]
    if len(arguments) != arity:
        raise DataError(f"{call.operator.value} takes {arity} arguments, not {len(arguments)}.", code="data.expression")
    return function(*arguments)
