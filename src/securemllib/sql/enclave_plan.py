"""From a query to what enclaves do with one dataset's sealed rows: a filter and a selection, or summaries of expressions.

A summary is one pass of the operation ``Summarizer`` over the rows for which its values are not null, because SQL's aggregates leave nulls
out, each on its own. Aggregates that are of the same rows share a summary; a column that the filter compares is not null behind it.

=====================================  =========================================================
``SELECT expressions ... WHERE c``     a filter and a projection, released as rows
``count``, ``sum``, ``avg``, ``min``,  summaries, and arithmetic with them by the recipient; of
``max``, ``stddev``, ``variance``      other rows with ``FILTER (WHERE c)``
=====================================  =========================================================
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlglot import exp

from securemllib.sql.enclave_expressions import Expressions, refused, required_columns
from securemllib.sql.parsing import OPERATORS, literal
from securemllib.wire.dataset import Column
from securemllib.wire.plan import Call, Expression, Named, Operator, Reference

__all__ = ["EnclaveQuery", "Measure", "Summary", "plan_for_enclave"]

# How Summarizer's result calls what an aggregate asks for.
_METRICS: dict[type[exp.Expr], str] = {
    exp.Count: "count",
    exp.Sum: "sum",
    exp.Avg: "mean",
    exp.Min: "min",
    exp.Max: "max",
    exp.Stddev: "std",
    exp.StddevSamp: "std",
    exp.Variance: "variance",
}
_REFUSED_CLAUSES = {
    "group": "Ask for each group with FILTER (WHERE ...), or encode the columns that group as deterministic",
    "having": "Ask for the aggregate, and compare it once it is opened",
    "distinct": "Encode the columns as deterministic",
    "order": "Sort the rows once they are opened",
    "limit": "Filter: all rows that the filter leaves are released",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One pass over the rows behind the query's filter.

    Attributes:
        conditions: Which of them it is of: those for which all are true.
        values: The expressions that it summarises, doubles; none where rows are only counted.
    """

    conditions: tuple[Expression, ...]
    values: tuple[Expression, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One number of a summary.

    Attributes:
        name: What the query's outputs call it.
        summary: The summary's index.
        value: The index of its expression.
        metric: What it is of the expression, as Summarizer calls it.
    """

    name: str
    summary: int
    value: int
    metric: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveQuery:
    """What enclaves do for a query.

    Attributes:
        table: The query's name of the dataset.
        predicate: Which rows it is of; None for all.
        outputs: Its columns: of a selection expressions over the rows, of an aggregation over its measures.
        summaries: Of an aggregation; none for a selection.
        measures: What the outputs of an aggregation are made of.
    """

    table: str
    predicate: Expression | None
    outputs: tuple[Named, ...]
    summaries: tuple[Summary, ...]
    measures: tuple[Measure, ...]

    @property
    def jobs(self) -> int:
        """How many jobs it takes, each of which counts as a run."""
        return len(self.summaries) or 1


def plan_for_enclave(parsed: exp.Select, columns: Sequence[Column]) -> EnclaveQuery:
    """Return what enclaves do for a query.

    Args:
        parsed: The query, as `parse_query` returns it.
        columns: The columns of its dataset.

    Raises:
        UsageError: Enclaves do not run it.
    """
    tables = list(parsed.find_all(exp.Table))
    if len(tables) != 1 or parsed.args.get("joins"):
        raise refused("A query over more than one table", "A job reads one dataset: join the tables before they are encrypted.")
    for clause, advice in _REFUSED_CLAUSES.items():
        if parsed.args.get(clause):
            raise refused(f"The clause {clause.upper()}", f"{advice}.")
    names = [item.alias_or_name for item in parsed.expressions]
    if len(set(names)) != len(names):
        raise refused("A selection that has a name twice", "Use AS.")
    return _Planner(parsed, Expressions({column.name: column for column in columns})).plan(tables[0].name)


class _Planner:
    def __init__(self, parsed: exp.Select, expressions: Expressions) -> None:
        self._parsed = parsed
        self._expressions = expressions
        where = parsed.args.get("where")
        self._predicate = expressions.condition(where.this) if where else None
        self._summaries: dict[tuple[Expression, ...], list[Expression]] = {}
        self._measures: dict[tuple[int, int, str], Measure] = {}

    def plan(self, table: str) -> EnclaveQuery:
        items = [(item.alias_or_name, item.unalias()) for item in self._parsed.expressions]
        aggregated = any(item.find(exp.AggFunc, exp.Filter) is not None for _, item in items)
        made = self._measured if aggregated else self._selected
        outputs = tuple(Named(name=name, expression=made(item)) for name, item in items)
        summaries = tuple(Summary(conditions=conditions, values=tuple(values)) for conditions, values in self._summaries.items())
        return EnclaveQuery(
            table=table, predicate=self._predicate, outputs=outputs, summaries=summaries, measures=tuple(self._measures.values())
        )

    def _selected(self, node: exp.Expr) -> Expression:
        return self._expressions.typed(node)[0]

    def _measured(self, node: exp.Expr) -> Expression:
        """Return the expression over measures that an output of an aggregation is."""
        node = node.unnest()
        if isinstance(node, (exp.AggFunc, exp.Filter)):
            return Reference(column=self._measure(node).name)
        if isinstance(node, exp.Literal) and not node.is_string:
            return literal(str(node.this))
        if isinstance(node, exp.Column):
            raise refused(f"Column {node.name} beside an aggregate", "Aggregate it, or ask for it in a query of its own.")
        if type(node) not in OPERATORS:
            raise refused(f"The expression {node.key.upper()} of aggregates", "Calculate it once the aggregates are opened.")
        operands = [node.args[part] for part in ("this", "expression") if part in node.args]
        return Call(operator=OPERATORS[type(node)], arguments=tuple(map(self._measured, operands)))

    def _measure(self, node: exp.Expr) -> Measure:
        condition: tuple[Expression, ...] = ()
        if isinstance(node, exp.Filter):
            condition, node = (self._expressions.condition(node.expression.this),), node.this
        metric = _METRICS.get(type(node), "")
        if not metric or node.args.get("expressions"):
            raise refused(f"The aggregate {node.key.upper()}", f"Those that are: {', '.join(kind.key for kind in _METRICS)}.")
        if isinstance(node.this, exp.Distinct):
            raise refused("An aggregate of DISTINCT values", "Encode the columns as deterministic.")
        counts_rows = metric == "count" and isinstance(node.this, (exp.Star, exp.Literal))
        return self._of_rows(condition) if counts_rows else self._of_values(node.this, condition, metric)

    def _of_rows(self, condition: tuple[Expression, ...]) -> Measure:
        return self._add(condition, None, "count")

    def _of_values(self, node: exp.Expr, condition: tuple[Expression, ...], metric: str) -> Measure:
        counted = metric == "count"
        expression = self._expressions.typed(node)[0] if counted else self._expressions.number(node)
        present = frozenset[str]().union(*map(required_columns, (self._predicate, *condition)))
        conditions = condition
        if self._expressions.may_be_null(expression, present):
            inner = expression.arguments[0] if isinstance(expression, Call) and not counted else expression
            null = Call(operator=Operator.IS_NULL, arguments=(inner,))
            conditions = (*condition, Call(operator=Operator.NOT, arguments=(null,)))
        return self._add(conditions, None if counted else expression, metric)

    def _add(self, conditions: tuple[Expression, ...], value: Expression | None, metric: str) -> Measure:
        values = self._summaries.setdefault(conditions, [])
        if value is not None and value not in values:
            values.append(value)
        index = 0 if value is None else values.index(value)
        key = (list(self._summaries).index(conditions), index, metric)
        return self._measures.setdefault(key, Measure(name=f"m{len(self._measures)}", summary=key[0], value=index, metric=metric))
