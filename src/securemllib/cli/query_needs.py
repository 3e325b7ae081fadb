"""Which encodings a query needs: found by planning it over tables that would have any encoding, and noting what the planner takes."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa
from sqlglot import exp

from securemllib.crypto.encodings.values import is_text, kind_of
from securemllib.errors import DataError
from securemllib.owner.column_types import type_text
from securemllib.sql.catalog import EncodedTable, Use
from securemllib.sql.parsing import parse_query
from securemllib.sql.planning import plan
from securemllib.wire.companion import Companion, EncodedColumn, EncodingName, stored_names
from securemllib.wire.dataset import DatasetRef

__all__ = ["needs"]

# What reveals least of what serves each use.
_LEAST = {
    Use.EQUALITY: EncodingName.DETERMINISTIC,
    Use.ORDER: EncodingName.ORDER,
    Use.SUM: EncodingName.ADDITIVE,
    Use.VALUE: EncodingName.CLEAR,
    Use.SHOWN: EncodingName.DETERMINISTIC,
}
_FIELDS = {EncodingName.DETERMINISTIC: ("hi", "lo"), EncodingName.ADDITIVE: ("hi", "lo")}


@dataclass(frozen=True, slots=True, kw_only=True)
class _AnyEncoding(EncodedTable):
    """A table that serves every use, and notes them."""

    schema: pa.Schema
    noted: dict[str, set[EncodingName]] = field(default_factory=dict)

    def encodings(self, column: str) -> dict[EncodingName, EncodedColumn]:
        known = EncodedTable.encodings(self, column)
        noted = self.noted.get(column, set())
        return {name: _column(self.schema.field(column), name) for name in noted} | known

    def fitting(self, column: str, use: Use) -> EncodedColumn:
        EncodedTable.encodings(self, column)
        self.noted.setdefault(column, set()).add(_LEAST[use])
        return _column(self.schema.field(column), _LEAST[use])


def needs(query: str, schemas: Mapping[str, pa.Schema]) -> dict[tuple[str, str], set[EncodingName]]:
    """Return the encodings that a query needs, by table and column; columns that it does not touch are left out.

    Args:
        query: Spark SQL.
        schemas: The tables' columns by the tables' names.

    Raises:
        UsageError: No encoding answers the query.
    """
    tables = {name: _table(name, schema) for name, schema in schemas.items()}
    parsed = parse_query(query, tables)
    aliases = {table.alias_or_name: tables[table.name] for table in parsed.find_all(exp.Table)}
    # Columns that are compared with one another need one encoding that both have: known before the planner looks for it.
    for equality in parsed.find_all(exp.EQ):
        if isinstance(equality.left, exp.Column) and isinstance(equality.right, exp.Column):
            for side in (equality.left, equality.right):
                aliases[side.table].fitting(side.name, Use.EQUALITY)
    plan(parsed, tables)
    found = {(name, column): set(used) for name, table in tables.items() for column, used in table.noted.items()}
    for used in found.values():
        # Ranks show equality, too, and a clear column shows everything.
        if EncodingName.CLEAR in used:
            used.intersection_update({EncodingName.CLEAR})
        elif EncodingName.ORDER in used:
            used.discard(EncodingName.DETERMINISTIC)
    return found


def _table(name: str, schema: pa.Schema) -> _AnyEncoding:
    companion = Companion(
        dataset=DatasetRef(dataset_id=name, version=1, digest=b""),
        owner="",
        salt=b"",
        columns=(),
        parts=(),
        dictionaries={},
        ciphertexts={},
    )
    return _AnyEncoding(name=name, companion=companion, sealed=tuple(schema.names), schema=schema)


def _column(item: pa.Field, encoding: EncodingName) -> EncodedColumn:
    try:
        kind = kind_of(item.type)
    except DataError:
        kind = ""
    fields = (*_FIELDS.get(encoding, ()), *(("text",) if encoding is EncodingName.DETERMINISTIC and is_text(item.type) else ()))
    return EncodedColumn(
        column=item.name,
        encoding=encoding,
        type=type_text(item.type),
        kind=kind,
        stored=stored_names(item.name, encoding, fields),
        nullable=True,
        key_id="",
        join_group="",
        digits=0,
        alphabet="",
    )
