"""Names of columns, found in any case as Spark finds them."""

import re
from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches

from pyspark.sql import SparkSession
from pyspark.sql.types import StructType

from securemllib.errors import UsageError
from securemllib.wire.plan import Call, Expression, Reference

__all__ = ["respelled", "spelled", "unknown", "unquoted"]

_QUOTED = re.compile("`(?:[^`]|``)*`", re.DOTALL)
# So many names are read at a glance.
_FEW = 20


def unknown(name: str, schema: StructType) -> UsageError:
    """Return the error for a name that a schema has not: with all that it has, or of many with those that are like it."""
    if len(schema.names) <= _FEW:
        return UsageError(f"There is no column {name!r} among {', '.join(schema.names)}.", code="usage.column")
    like = ", ".join(get_close_matches(name, schema.names))
    return UsageError(f"There is no column {name!r} among {len(schema.names)}; like it: {like or 'none'}.", code="usage.column")


def spelled(name: str, schema: StructType, spark: SparkSession) -> str:
    """Return how a schema spells a column's name, or the name itself where it has no such column; `UsageError` where it has several."""
    if name in schema.names or spark.conf.get("spark.sql.caseSensitive") == "true":
        return name
    found = [known for known in schema.names if known.lower() == name.lower()]
    if len(found) > 1:
        raise UsageError(f"Column {name!r} is ambiguous: there are {' and '.join(found)}.", code="usage.column")
    return found[0] if found else name


def respelled(expression: Expression, schema: StructType, spark: SparkSession) -> Expression:
    """Return an expression whose columns are spelled as a schema spells them."""
    return _renamed(expression, lambda name: spelled(name, schema, spark))


def unquoted(expression: Expression, schema: StructType) -> Expression:
    """Return an expression without the backquotes that Spark wants around names with dots; what has them in its name keeps them."""

    def inner(name: str) -> str:
        return name[1:-1].replace("``", "`") if _QUOTED.fullmatch(name) and name not in schema.names else name

    return _renamed(expression, inner)


def _renamed(expression: Expression, of: Callable[[str], str]) -> Expression:
    if isinstance(expression, Reference):
        return Reference(column=of(expression.column))
    if isinstance(expression, Call):
        return replace(expression, arguments=tuple(_renamed(argument, of) for argument in expression.arguments))
    return expression
