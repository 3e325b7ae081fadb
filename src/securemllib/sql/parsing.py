"""Reading a query: Spark's SQL, by sqlglot, with every name resolved and every constant expression worked out."""

from collections.abc import Mapping
from typing import Any, ClassVar

from sqlglot import exp, parse
from sqlglot.dialects.spark import Spark
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.simplify import Simplifier

from securemllib.errors import UsageError
from securemllib.sql.catalog import Table
from securemllib.sql.spelling import keep_outputs, respell, spelled
from securemllib.wire.plan import Call, Expression, Literal, Operator

__all__ = ["DIALECT", "OPERATORS", "literal", "number", "parse_query", "parse_select", "unsupported"]


class _Spark4(Spark):
    """Reads a quote that stands twice within a text as one; since its version 4 Spark does."""

    class Tokenizer(Spark.Tokenizer):
        STRING_ESCAPES: ClassVar[list[str]] = ["\\", "'", '"']


class _Constants(Simplifier):
    """Works constants out, and leaves terms with columns where they are.

    What the optimizer would do with those is not what Spark does: it sorts conditions, so that a divisor's guard may come behind the
    division, and it moves and joins terms, which with doubles gives other results (``d + 0.1 = 0.3`` is not ``d = 0.2``).
    """

    def _left(self, expression: Any, *_: Any, **__: Any) -> Any:
        return expression

    uniq_sort = simplify_equality = _left

    def simplify_literals(self, expression: Any, root: bool = True) -> Any:
        return expression if expression.find(exp.Column) else super().simplify_literals(expression, root)


DIALECT = _Spark4

# What the plan language calls SQL's operators.
OPERATORS: dict[type[exp.Expr], Operator] = {
    exp.Add: Operator.ADD,
    exp.Sub: Operator.SUBTRACT,
    exp.Mul: Operator.MULTIPLY,
    exp.Div: Operator.DIVIDE,
    exp.Neg: Operator.NEGATE,
    exp.EQ: Operator.EQUAL,
    exp.NEQ: Operator.NOT_EQUAL,
    exp.LT: Operator.LESS,
    exp.LTE: Operator.LESS_EQUAL,
    exp.GT: Operator.GREATER,
    exp.GTE: Operator.GREATER_EQUAL,
    exp.And: Operator.AND,
    exp.Or: Operator.OR,
    exp.Not: Operator.NOT,
}
# Longer literals are doubles: arithmetic with them would soon have more digits than the 38 that there are.
_DECIMALS, _DECIMAL_DIGITS = 1e9, 9
# The clauses of one query block; everything else is refused by name.
_CLAUSES = frozenset({"kind", "expressions", "from_", "joins", "where", "group", "having", "order", "limit", "distinct"})
_JOINS = frozenset({"", "INNER", "CROSS", "LEFT", "RIGHT", "FULL", "OUTER"})
# What is read of parts that may ask for more, as samples, versions and totals, which is refused by name.
_READ: dict[type[exp.Expr], frozenset[str]] = {
    exp.Table: frozenset({"this", "alias", "db", "catalog"}),
    exp.TableAlias: frozenset({"this"}),
    exp.Group: frozenset({"expressions"}),
    exp.Distinct: frozenset({"expressions"}),
    exp.Between: frozenset({"this", "low", "high"}),
    exp.Limit: frozenset({"expression"}),
    **dict.fromkeys((exp.Count, exp.Min, exp.Max), frozenset({"this", "big_int"})),
}


def unsupported(what: str) -> UsageError:
    """Return the error for SQL that is not rewritten."""
    return UsageError(
        f"{what} cannot be answered on encoded columns.",
        next_step="Write it as one SELECT over tables and joins; docs/sql.md lists what is rewritten.",
        code="usage.query",
    )


def parse_select(text: str) -> exp.Select:
    """Return the SELECT of a text; `UsageError` where it is no Spark SQL, or something else."""
    try:
        statements = parse(text, dialect=DIALECT)
    except SqlglotError as error:
        raise UsageError(f"The query is no Spark SQL: {_first_line(error)}.", code="usage.query") from None
    if len(statements) != 1 or not isinstance(statements[0], exp.Select):
        raise unsupported("Anything but one SELECT")
    return statements[0]


def parse_query(query: str | exp.Select, tables: Mapping[str, Table]) -> exp.Select:
    """Return a query as one block whose columns all name their table, with constant expressions worked out.

    Args:
        query: Spark SQL, or the SELECT that it was parsed into.
        tables: The tables that it may name.

    Raises:
        UsageError: It is no query, has a part that is not rewritten, or names what is not there.
    """
    select = parse_select(query) if isinstance(query, str) else query
    _check_shape(select)
    _check_parts(select)
    for table in select.find_all(exp.Table):
        name = ".".join(part.name for part in table.parts)
        if name not in tables:
            raise UsageError(f"There is no encoded table {name}.", next_step="Name it with `createOrReplaceTempView`.", code="usage.table")
    select = select.copy()
    keep_outputs(select)
    named = tuple({table.name for table in select.find_all(exp.Table)})
    found = {lower: tables[name] for lower, name in spelled(named, "Tables").items()}
    schema: dict[str, object] = {name: dict.fromkeys(table.columns, "UNKNOWN") for name, table in found.items()}
    try:
        qualified = qualify(select, dialect=DIALECT, schema=schema, identify=False, quote_identifiers=False)
        simplified = _Constants(dialect=DIALECT).simplify(qualified)
    except SqlglotError as error:
        raise UsageError(f"The query names what is not there: {_first_line(error)}.", code="usage.column") from None
    if not isinstance(simplified, exp.Select):
        raise unsupported("A query that is no SELECT")
    respell(simplified, found)
    return simplified


def number(text: str) -> int | float:
    """Return the number that a literal's text is."""
    return int(text) if text.isdigit() else float(text)


def literal(text: str) -> Expression:
    """Return a number literal as the plan language has it: one with a point, but without an exponent, is a decimal."""
    if set(text) <= set("0123456789.") and "." in text and float(text) < _DECIMALS and len(text.split(".")[1]) <= _DECIMAL_DIGITS:
        return Call(operator=Operator.DECIMAL, arguments=(Literal(value=text),))
    return Literal(value=number(text))


def _check_shape(select: exp.Select) -> None:
    for clause, value in select.args.items():
        if value and clause not in _CLAUSES:
            raise unsupported(f"The clause {clause.upper().strip('_')}")
    if not select.args.get("from_"):
        raise unsupported("A query without a table")
    if (inner := next(iter(select.find_all(exp.Subquery, exp.SetOperation, exp.Window)), None)) is not None:
        raise unsupported(f"A {type(inner).__name__.lower()}")
    if sum(1 for _ in select.find_all(exp.Select)) > 1:
        raise unsupported("A query within a query")
    for join in select.args.get("joins") or []:
        kinds = {str(join.args.get(part) or "").upper() for part in ("kind", "side", "method")}
        if not kinds <= _JOINS or join.args.get("using"):
            raise unsupported(f"A {' '.join(sorted(kinds - {''})) or 'USING'} join")


def _check_parts(select: exp.Select) -> None:
    for node in select.find_all(*_READ):
        if unread := next((part for part, value in node.args.items() if value and part not in _READ[type(node)]), ""):
            raise unsupported(f"A {node.key.upper()} with {unread.upper()}")


def _first_line(error: SqlglotError) -> str:
    # Later lines quote the query, whose literals may be private.
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
