"""From a query to what Spark computes on codes, and what the recipient makes of it once it is opened.

Spark gets everything that codes can answer: joins, filters, groups, counts, sums, least and greatest values; and the sorting with its limit
where every sort key is an order code or clear. What needs opened values comes after: arithmetic with sums, conditions on them (HAVING),
sorting by them and the limit behind such a sorting. It travels with the result, as the `ResultHeader`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlglot import exp

from securemllib.errors import UsageError
from securemllib.sql.catalog import EncodedTable, Use
from securemllib.sql.fields import Fields
from securemllib.sql.parsing import DIALECT, OPERATORS, literal, number, unsupported
from securemllib.sql.rewriting import Rewriter
from securemllib.wire.companion import EncodingName
from securemllib.wire.plan import Call, Expression, Literal, Named, Operator, Reference
from securemllib.wire.query import Field, Form, QueryLiteral, ResultHeader, SortKey

__all__ = ["Codes", "EncodedQuery", "plan"]

# The codes of one literal, one a stored column that is compared.
Codes = tuple[int | str, ...]

# Whose sums open only with the rows that they add.
_SUMMED = frozenset({EncodingName.ADDITIVE, EncodingName.HOMOMORPHIC})
# What companions call kinds of values: see `securemllib.crypto.encodings.values`.
_NUMBERS, _TEXTS = ("integer", "float", "decimal"), "text"
_AGGREGATES = (exp.Count, exp.Sum, exp.Avg, exp.Min, exp.Max, exp.Filter)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedQuery:
    """A query on codes.

    Attributes:
        select: What Spark computes, with a placeholder for each code of a literal.
        tables: The names of its tables.
        literals: The literals that are to be encoded.
        header: What the recipient makes of it.
    """

    select: exp.Select
    tables: frozenset[str]
    literals: tuple[QueryLiteral, ...]
    header: ResultHeader

    def sql(self, codes: tuple[Codes, ...], views: Mapping[str, str] | None = None) -> str:
        """Return the text for Spark.

        Args:
            codes: The codes of all literals.
            views: What Spark calls the tables; by their own names when not given.
        """
        if len(codes) != len(self.literals):
            raise UsageError(f"The query has {len(self.literals)} literals, and {len(codes)} codes came.")

        def fill(node: exp.Expr) -> exp.Expr:
            if isinstance(node, exp.Table) and views is not None:
                return exp.alias_(exp.to_table(views[node.name]), node.alias_or_name, table=True)
            if not isinstance(node, exp.Placeholder):
                return node
            number, part = map(int, str(node.this).split("_"))
            return _code(codes[number][part])

        return self.select.transform(fill).sql(dialect=DIALECT, identify=True)


def plan(parsed: exp.Select, tables: Mapping[str, EncodedTable]) -> EncodedQuery:
    """Return a query on codes.

    Args:
        parsed: The query, as `parse_query` returns it.
        tables: The tables that it may name.

    Raises:
        UsageError: The encodings cannot answer it; the next step says which would.
        FreshnessError: It mixes two versions of a dataset.
    """
    return _Planner(parsed, tables).plan()


class _Planner:
    def __init__(self, parsed: exp.Select, tables: Mapping[str, EncodedTable]) -> None:
        self._parsed = parsed
        self._rewriter = Rewriter({table.alias_or_name: tables[table.name] for table in parsed.find_all(exp.Table)})
        distinct, group = parsed.args.get("distinct"), parsed.args.get("group")
        aggregated = any(parsed.find(kind) is not None for kind in _AGGREGATES)
        if distinct and (group or aggregated):
            raise unsupported("DISTINCT beside an aggregate")
        self._grouped = bool(distinct or group or aggregated)
        self._fields = Fields(self._rewriter, grouped=self._grouped)
        self._known: dict[str, Expression] = {}
        self._items = {item.alias_or_name: item.unalias() for item in parsed.expressions}
        if len(self._items) != len(parsed.expressions):
            raise UsageError("A selection has each name once: use AS.", code="usage.column")
        keys = list(group.expressions) if group else []
        if any(key.find(exp.Column) is None for key in keys):
            raise unsupported("A GROUP BY of a constant")
        for key in self._items.values() if distinct else keys:
            if key.find(exp.Column) is not None:
                self._group_by(key)

    def plan(self) -> EncodedQuery:
        outputs = tuple(Named(name=name, expression=self._finish(item)) for name, item in self._items.items())
        having = self._parsed.args.get("having")
        condition = self._finish(having.this) if having else None
        order = tuple(self._sort_key(ordered) for ordered in self._ordered())
        limit = self._limit()
        select = self._fields.select(self._source())
        if condition is None and limit is not None:
            select = self._pushed(select, order, limit)
        header = ResultHeader(fields=tuple(self._fields.fields), outputs=outputs, having=condition, order=order, limit=limit)
        tables = frozenset(table.name for table in self._parsed.find_all(exp.Table))
        return EncodedQuery(select=select, tables=tables, literals=tuple(self._rewriter.literals), header=header)

    def _source(self) -> exp.Select:
        source = exp.Select()
        source.set("from_", self._parsed.args["from_"].copy())
        joins = [join.copy() for join in self._parsed.args.get("joins") or []]
        for join in joins:
            if join.args.get("on"):
                join.set("on", self._rewriter.condition(join.args["on"]))
        source.set("joins", joins)
        where = self._parsed.args.get("where")
        return source.where(self._rewriter.condition(where.this)) if where else source

    def _group_by(self, key: exp.Expr) -> None:
        field = self._fields.codes(key) if isinstance(key, exp.Column) else self._fields.number(key)
        self._known[_name(key)] = Reference(column=field.name)

    def _finish(self, node: exp.Expr) -> Expression:
        """Return the expression over opened fields that a node of the query is."""
        node = node.unnest()
        name = _name(node)
        if name not in self._known:
            self._known[name] = self._expression(node)
        return self._known[name]

    def _expression(self, node: exp.Expr) -> Expression:
        if isinstance(node, _AGGREGATES):
            return self._aggregate(node)
        if isinstance(node, exp.Literal):
            return Literal(value=str(node.this)) if node.is_string else literal(str(node.this))
        if not self._grouped and not isinstance(node, exp.Column) and self._is_clear(node):
            return Reference(column=self._fields.number(node).name)
        if type(node) in OPERATORS:
            operands = [node.args[part].unnest() for part in ("this", "expression") if part in node.args]
            self._check_constants(operands)
            return Call(operator=OPERATORS[type(node)], arguments=tuple(self._finish(operand) for operand in operands))
        if not isinstance(node, exp.Column):
            raise unsupported(f"The expression {node.key.upper()} of encoded columns")
        if node.table == "" and node.name in self._items:
            return self._finish(self._items[node.name])
        if self._grouped:
            raise UsageError(f"{node.name} is neither grouped by nor aggregated.", code="usage.query")
        return Reference(column=self._fields.codes(node).name)

    def _check_constants(self, operands: list[exp.Expr]) -> None:
        """Check that constants beside opened values are of their kind: the recipient casts none, as Spark would."""
        for constant, other in zip(operands, reversed(operands), strict=True):
            kind = self._kind(other) if isinstance(constant, exp.Literal) else ""
            if kind and not kind.startswith(_TEXTS if constant.is_string else _NUMBERS):
                raise unsupported(f"A {'text' if constant.is_string else 'number'} beside an opened {kind}")

    def _kind(self, node: exp.Expr) -> str:
        """Return the kind of an opened value, as companions call it, or an empty text where Spark computes it."""
        if isinstance(node, (exp.Sum, exp.Avg, exp.Count)):
            return _NUMBERS[0]
        if isinstance(node, (exp.Min, exp.Max)):
            return self._kind(node.this)
        if not isinstance(node, exp.Column):
            return ""
        if not node.table:
            return self._kind(self._items[node.name]) if node.name in self._items else ""
        return next((stored.kind for stored in self._rewriter.table(node).encodings(node.name).values()), "")

    def _is_clear(self, node: exp.Expr) -> bool:
        columns = list(node.find_all(exp.Column))
        return all(column.table and EncodingName.CLEAR in self._rewriter.table(column).encodings(column.name) for column in columns)

    def _aggregate(self, node: exp.Expr) -> Expression:
        condition = None
        if isinstance(node, exp.Filter):
            condition, node = self._rewriter.condition(node.expression.this), node.this
        if isinstance(node, exp.Count):
            counted = node.this
            return Reference(column=self._fields.count(None if isinstance(counted, exp.Star) else counted, condition).name)
        if isinstance(node, (exp.Min, exp.Max)):
            return Reference(column=self._fields.extreme(type(node), node.this, condition).name)
        if not isinstance(node, (exp.Sum, exp.Avg)):
            raise unsupported(f"The aggregate {node.key.upper()}")
        total = self._sum(node.this, condition, average=isinstance(node, exp.Avg))
        if isinstance(node, exp.Sum):
            return Reference(column=total.name)
        count = self._fields.count_of(total) if total.form is Form.SUM else self._fields.count(node.this, condition)
        return Call(operator=Operator.DIVIDE, arguments=(Reference(column=total.name), Reference(column=count.name)))

    def _sum(self, value: exp.Expr, condition: exp.Expr | None, *, average: bool) -> Field:
        """Return the field of a sum; ``sum(CASE WHEN c THEN x ELSE 0 END)`` is the sum of x where c, but for an average."""
        value = value.unnest()
        if isinstance(value, exp.Case) and (chosen := _chosen(value)) is not None:
            column, where, zero = chosen
            stored = self._rewriter.fitting(column, Use.SUM)
            if stored.encoding in _SUMMED and not (zero and average):
                return self._fields.covered_sum(column, stored, condition, self._rewriter.condition(where), zero=zero)
        if isinstance(value, exp.Column):
            stored = self._rewriter.fitting(value, Use.SUM)
            if stored.encoding in _SUMMED:
                return self._fields.covered_sum(value, stored, condition)
        return self._fields.total(exp.Sum, value, condition)

    def _ordered(self) -> list[exp.Ordered]:
        order = self._parsed.args.get("order")
        return list(order.expressions) if order else []

    def _sort_key(self, ordered: exp.Ordered) -> SortKey:
        return SortKey(
            expression=self._finish(ordered.this),
            descending=bool(ordered.args.get("desc")),
            nulls_first=bool(ordered.args.get("nulls_first")),
        )

    def _limit(self) -> int | None:
        limit = self._parsed.args.get("limit")
        if limit is None:
            return None
        if not isinstance(limit.expression, exp.Literal) or not str(limit.expression.this).isdigit():
            raise unsupported("A limit that is no number")
        return int(limit.expression.this)

    def _pushed(self, select: exp.Select, order: tuple[SortKey, ...], limit: int) -> exp.Select:
        """Return the SELECT with the limit, where Spark can sort as the recipient will."""
        for key in order:
            name = self._fields.orderable(key.expression.column) if isinstance(key.expression, Reference) else ""
            if not name:
                return select
            select = select.order_by(exp.Ordered(this=exp.column(name), desc=key.descending, nulls_first=key.nulls_first), copy=False)
        return select.limit(limit)


def _chosen(case: exp.Case) -> tuple[exp.Column, exp.Expr, bool] | None:
    """Return the column of ``CASE WHEN c THEN column [ELSE 0] END``, its condition, and whether the rest counts as zero."""
    ifs, default = case.args["ifs"], case.args.get("default")
    zero = isinstance(default, exp.Literal) and not default.is_string and number(str(default.this)) == 0
    if case.this is not None or len(ifs) != 1 or not isinstance(ifs[0].args["true"], exp.Column):
        return None
    return (ifs[0].args["true"], ifs[0].this, zero) if zero or default is None or isinstance(default, exp.Null) else None


def _name(node: exp.Expr) -> str:
    return node.sql(dialect=DIALECT)


def _code(code: int | str) -> exp.Expr:
    if isinstance(code, str):
        return exp.Literal.string(code)
    number = exp.Literal.number(abs(code))
    # The least BIGINT has no positive opposite, so no literal with a minus.
    value = exp.Literal.string(str(code)) if code == -(2**63) else exp.Neg(this=number) if code < 0 else number
    return exp.Cast(this=value, to=exp.DataType.build("bigint"))
