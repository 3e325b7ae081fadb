"""The spelling of names: Spark finds them in any case and shows outputs as they are written, sqlglot knows lower case alone."""

from collections.abc import Mapping

from sqlglot import exp

from securemllib.errors import UsageError
from securemllib.sql.catalog import Table

__all__ = ["keep_outputs", "respell", "spelled"]

_WRITTEN = "written"


def spelled(names: tuple[str, ...], of: str) -> dict[str, str]:
    """Return names by their lower case; `UsageError` where two have one."""
    found = {name.lower(): name for name in names}
    if len(found) != len(names):
        raise UsageError(
            f"{of} differ in nothing but case, in which Spark sees no difference.",
            next_step="Rename one.",
            code="usage.column",
        )
    return found


def keep_outputs(select: exp.Select) -> None:
    """Note the names of a query's outputs, before its names are brought to lower case."""
    for item in select.expressions:
        if isinstance(item, exp.Alias) or (isinstance(item, exp.Column) and not item.is_star):
            named = item.args["alias"] if isinstance(item, exp.Alias) else item.this
            named.meta[_WRITTEN] = named.name


def respell(select: exp.Select, tables: Mapping[str, Table]) -> None:
    """Spell the names of a qualified query as its tables do, and its outputs as it did.

    Args:
        select: The query, in lower case.
        tables: Its tables by their names in lower case.
    """
    columns = {}
    for table in select.find_all(exp.Table):
        named = tables[table.name]
        columns[table.alias_or_name] = spelled(named.columns, f"Columns of table {named.name}")
        table.set("this", exp.to_identifier(named.name))
    for column in select.find_all(exp.Column):
        if column.table and not column.is_star:
            column.this.set("this", columns[column.table][column.name])
    outputs = {item.alias: _output(item) for item in select.expressions}
    for column in select.find_all(exp.Column):
        if not column.table and column.name in outputs:
            column.set("this", exp.to_identifier(outputs[column.name]))
    if len(outputs) == len(select.expressions):
        for item in select.expressions:
            item.set("alias", exp.to_identifier(outputs[item.alias]))


def _output(item: exp.Expr) -> str:
    """Return what Spark calls an output: by the name that it was given, else as its column is written, in the query or behind a star."""
    written = item.args["alias"].meta.get(_WRITTEN)
    if written is None and isinstance(item.this, exp.Column):
        written = item.this.this.meta.get(_WRITTEN, item.this.name)
    return str(written or item.alias)
