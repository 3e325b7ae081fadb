"""Names of columns, found in any case as Spark finds them."""

from dataclasses import replace

from pyspark.sql import SparkSession
from pyspark.sql.types import StructType

from securemllib.errors import UsageError
from securemllib.wire.plan import Call, Expression, Reference

__all__ = ["respelled", "spelled"]


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
    if isinstance(expression, Reference):
        return Reference(column=spelled(expression.column, schema, spark))
    if isinstance(expression, Call):
        return replace(expression, arguments=tuple(respelled(argument, schema, spark) for argument in expression.arguments))
    return expression
