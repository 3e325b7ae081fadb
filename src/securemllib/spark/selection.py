"""What `select` is given, as columns and the schema that they make."""

from typing import Any

from pyspark.sql.types import StructField, StructType

from securemllib.errors import UsageError
from securemllib.spark.column import Column
from securemllib.spark.functions import col
from securemllib.wire.plan import Reference

__all__ = ["flat", "projected", "to_column"]


def flat(columns: tuple[Any, ...]) -> list[Any]:
    """Return the arguments of a selection, which may be one list of them."""
    return list(columns[0]) if len(columns) == 1 and isinstance(columns[0], (list, tuple)) else list(columns)


def to_column(column: Any) -> Column:
    """Return a name or an expression as a column; `UsageError` for anything else, such as a column of pyspark."""
    if isinstance(column, Column):
        return column
    if isinstance(column, str):
        return col(column)
    kind = type(column)
    advice = "Use `securemllib.spark.functions`, and the classes of securemllib.ml." if kind.__module__.startswith("pyspark") else None
    raise UsageError(f"A {kind.__name__} of {kind.__module__} is no column of sealed rows.", next_step=advice)


def projected(schema: StructType | None, chosen: list[Column]) -> StructType | None:
    """Return the schema of the chosen columns; None where the owner hides that of the rows."""
    return None if schema is None else StructType([_field(schema, column) for column in chosen])


def _field(schema: StructType, column: Column) -> StructField:
    kind, source = column.type_in(schema), column.expression
    # A column that is only taken over is still what the analyst said of it.
    return StructField(column.name, kind, True, schema[source.column].metadata if isinstance(source, Reference) else None)
