"""Expressions over columns of a sealed data frame, named as in ``pyspark.sql.functions``."""

import secrets
from typing import Any

from securemllib.errors import UsageError
from securemllib.spark.column import Column, expression_of
from securemllib.wire.plan import Call, Literal, Operator, Reference

__all__ = ["abs", "col", "column", "exp", "isnull", "lit", "log", "log1p", "rand", "sqrt", "try_divide"]


def col(name: str) -> Column:
    """Return the column of that name."""
    return Column(Reference(column=name))


column = col


def lit(value: Any) -> Column:
    """Return a constant; it becomes part of the signed job, which the host sees."""
    return value if isinstance(value, Column) else Column(expression_of(value))


def try_divide(left: Column | str, right: Column | str) -> Column:
    """Return the quotient, null where the divisor is zero; ``/`` refuses that, as Spark does."""
    operands = [col(value) if isinstance(value, str) else value for value in (left, right)]
    return Column(Call(operator=Operator.TRY_DIVIDE, arguments=tuple(operand.expression for operand in operands)))


def log(value: Column | str) -> Column:
    """Return the natural logarithm."""
    return _apply(Operator.LOG, value)


def log1p(value: Column | str) -> Column:
    """Return the natural logarithm of one more than the value."""
    return _apply(Operator.LOG1P, value)


def exp(value: Column | str) -> Column:
    """Return e to the value."""
    return _apply(Operator.EXP, value)


def sqrt(value: Column | str) -> Column:
    """Return the square root."""
    return _apply(Operator.SQRT, value)


def abs(value: Column | str) -> Column:
    """Return the absolute value."""
    return _apply(Operator.ABS, value)


def isnull(value: Column | str) -> Column:
    """Return whether the value is null."""
    return _apply(Operator.IS_NULL, value)


def rand(seed: int | None = None) -> Column:
    """Return a number from 0 to 1 for each row, the same in every job of one seed, drawn under a key that only enclaves have."""
    drawn = secrets.randbits(63) if seed is None else seed
    if isinstance(drawn, bool) or not isinstance(drawn, int):
        raise UsageError(f"A seed is an integer, not a {type(drawn).__name__}.", code="usage.param")
    return Column(Call(operator=Operator.RAND, arguments=(Literal(value=drawn),)))


def _apply(operator: Operator, value: Column | str) -> Column:
    operand = col(value) if isinstance(value, str) else value
    return Column(Call(operator=operator, arguments=(operand.expression,)))
