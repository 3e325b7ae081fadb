"""SQL expressions as those of the plan language, which enclaves evaluate on sealed rows, where both mean the same.

What the plan language has not, or gives another meaning, is refused: a text is not compared with a number, a date only with constants and
columns of dates, and functions that are null for some numbers, as logarithms are, have no place in the plan of an aggregate.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from sqlglot import exp

from securemllib.errors import UsageError
from securemllib.sql.parsing import OPERATORS, literal, number
from securemllib.wire.dataset import Column
from securemllib.wire.plan import Call, Expression, Literal, Operator, Reference

__all__ = ["BOOLEAN", "NUMBER", "Expressions", "joined", "refused", "required_columns"]

NUMBER, BOOLEAN = "number", "boolean"
_TEXT, _NULL = "text", "null"
_NUMBERS = ("int", "uint", "float", "double", "halffloat", "decimal")
_TEXTS = ("string", "large_string", "string_view", "dictionary<values=string")
# Of one another they are compared; nothing else is done with them.
_COMPARABLE = ("date", "timestamp")
# The operator of a text's cast, and the kind that it is of.
_MOMENTS: dict[exp.DType, tuple[Operator, str]] = {
    exp.DType.DATE: (Operator.DATE, "date"),
    exp.DType.TIMESTAMP: (Operator.TIMESTAMP, "timestamp"),
    exp.DType.TIMESTAMPTZ: (Operator.TIMESTAMP, "timestamp"),
    exp.DType.TIMESTAMPLTZ: (Operator.TIMESTAMP, "timestamp"),
    exp.DType.TIMESTAMPNTZ: (Operator.TIMESTAMP_NTZ, "timestamp_ntz"),
}
_ARITHMETIC = frozenset({Operator.ADD, Operator.SUBTRACT, Operator.MULTIPLY, Operator.DIVIDE, Operator.NEGATE})
_LOGIC = frozenset({Operator.AND, Operator.OR, Operator.NOT})
_COMPARISONS = frozenset(OPERATORS.values()) - _ARITHMETIC - _LOGIC
_FUNCTIONS: dict[type[exp.Expr], Operator] = {exp.Sqrt: Operator.SQRT, exp.Exp: Operator.EXP, exp.Abs: Operator.ABS}
_OF_MOMENTS = frozenset(operator for operator, _ in _MOMENTS.values())
_LEAST_INTEGER, _GREATEST_INTEGER = -(2**63), 2**63 - 1

Typed = tuple[Expression, str]


def refused(what: str, next_step: str = "docs/sql.md lists what enclaves run.") -> UsageError:
    """Return the error for SQL that enclaves do not run."""
    return UsageError(f"{what} is not run in enclaves.", next_step=next_step, code="usage.enclave_query")


class Expressions:
    """Translates the expressions of one query.

    Args:
        columns: The columns of its dataset, by name.
    """

    def __init__(self, columns: Mapping[str, Column]) -> None:
        self._columns = columns

    def condition(self, node: exp.Expr) -> Expression:
        """Return a condition; `UsageError` for what is none, or not in the plan language."""
        expression, kind = self.typed(node)
        if kind not in {BOOLEAN, _NULL}:
            raise refused(f"A condition that is a {kind}")
        return expression

    def number(self, node: exp.Expr) -> Expression:
        """Return an expression of numbers, as doubles."""
        expression, kind = self.typed(node)
        if kind != NUMBER:
            names = ", ".join(sorted({column.name for column in node.find_all(exp.Column)}))
            raise refused(f"A summary of {names or 'a constant'}, which is no number but a {kind},")
        return Call(operator=Operator.CAST_DOUBLE, arguments=(expression,))

    def typed(self, node: exp.Expr) -> Typed:
        """Return an expression and its kind."""
        node = node.unnest()
        if isinstance(node, exp.Column):
            return Reference(column=node.name), _kind(self._columns[node.name].type)
        if isinstance(node, (exp.Literal, exp.Boolean, exp.Null)):
            return _literal(node)
        if isinstance(node, (exp.And, exp.Or)):
            return joined(OPERATORS[type(node)], [self.condition(part) for part in node.flatten()]), BOOLEAN
        if isinstance(node, exp.Not):
            return Call(operator=Operator.NOT, arguments=(self.condition(node.this),)), BOOLEAN
        handler = _HANDLERS.get(type(node))
        if handler is not None:
            return handler(self, node)
        if type(node) not in OPERATORS:
            raise refused(f"The expression {node.key.upper()}")
        return self._operator(node)

    def may_be_null(self, expression: Expression, present: frozenset[str]) -> bool:
        """Return whether an expression may be null in rows where some columns are not."""
        if isinstance(expression, Reference):
            return self._columns[expression.column].nullable and expression.column not in present
        if isinstance(expression, Literal):
            return expression.value is None
        if expression.operator is Operator.IS_NULL:
            return False
        return any(self.may_be_null(argument, present) for argument in expression.arguments)

    def _operator(self, node: exp.Expr) -> Typed:
        operator = OPERATORS[type(node)]
        arguments = [self.typed(node.args[part]) for part in ("this", "expression") if part in node.args]
        kinds = {kind for _, kind in arguments} - {_NULL}
        call = Call(operator=operator, arguments=tuple(expression for expression, _ in arguments))
        if operator in _ARITHMETIC:
            if not kinds <= {NUMBER}:
                raise refused(f"{node.key.upper()} of a {' and a '.join(sorted(kinds))}")
            return call, NUMBER
        if len(kinds) > 1 and not (any(kind.startswith(_COMPARABLE) for kind in kinds) and any(_is_moment(each) for each, _ in arguments)):
            raise refused(f"Comparing a {' with a '.join(sorted(kinds))}", "Compare with a constant, or a column, of the column's type.")
        if any(kind not in {NUMBER, BOOLEAN, _TEXT} and not kind.startswith(_COMPARABLE) for kind in kinds):
            raise refused(f"Comparing a {min(kinds)}")
        return call, BOOLEAN

    def _among(self, node: exp.In) -> Typed:
        """Return ``a IN (1, 2)`` as equalities, which are null where ``a`` is: so is IN, unlike Arrow's lookup."""
        if not node.expressions:
            raise refused("An IN without values")
        equal = [self.typed(exp.EQ(this=node.this.copy(), expression=item.copy()))[0] for item in node.expressions]
        return joined(Operator.OR, equal), BOOLEAN

    def _is_null(self, node: exp.Is) -> Typed:
        if not isinstance(node.expression, exp.Null):
            raise refused("IS of anything but NULL")
        return Call(operator=Operator.IS_NULL, arguments=(self.typed(node.this)[0],)), BOOLEAN

    def _cast(self, node: exp.Cast) -> Typed:
        if node.to.this in _MOMENTS and isinstance(node.this, exp.Literal) and node.this.is_string:
            operator, kind = _MOMENTS[node.to.this]
            return Call(operator=operator, arguments=(Literal(value=str(node.this.this)),)), kind
        expression, kind = self.typed(node.this)
        if node.to.this != exp.DataType.Type.DOUBLE or kind not in {NUMBER, BOOLEAN}:
            raise refused(f"A cast of a {kind} to {node.to.sql()}", "Numbers and booleans are cast to DOUBLE.")
        return Call(operator=Operator.CAST_DOUBLE, arguments=(expression,)), NUMBER

    def _function(self, node: exp.Func) -> Typed:
        expression, kind = self.typed(node.this)
        if kind != NUMBER:
            raise refused(f"{node.key.upper()} of a {kind}")
        return Call(operator=_FUNCTIONS[type(node)], arguments=(expression,)), NUMBER


_HANDLERS: dict[type[exp.Expr], Callable[..., Typed]] = {
    exp.In: Expressions._among,
    exp.Is: Expressions._is_null,
    exp.Cast: Expressions._cast,
    exp.TryCast: Expressions._cast,
    **dict.fromkeys(_FUNCTIONS, Expressions._function),
}


def joined(operator: Operator, conditions: Sequence[Expression]) -> Expression:
    """Return conditions joined by AND or OR, as a tree of little depth: a message is nested 64 deep at most."""
    if len(conditions) == 1:
        return conditions[0]
    middle = len(conditions) // 2
    return Call(operator=operator, arguments=(joined(operator, conditions[:middle]), joined(operator, conditions[middle:])))


def required_columns(condition: Expression | None) -> frozenset[str]:
    """Return the columns that are not null in any row for which a condition is true."""
    if not isinstance(condition, Call):
        return _carried(condition)
    first = condition.arguments[0]
    if condition.operator is Operator.AND:
        return frozenset().union(*map(required_columns, condition.arguments))
    if condition.operator is Operator.OR:
        return frozenset.intersection(*map(required_columns, condition.arguments))
    if condition.operator is Operator.NOT and isinstance(first, Call) and first.operator is Operator.IS_NULL:
        return _carried(first.arguments[0])
    # NOT of a comparison is null where the comparison is.
    return _carried(first if condition.operator is Operator.NOT else condition)


def _carried(expression: Expression | None) -> frozenset[str]:
    """Return the columns whose null makes an expression null."""
    if isinstance(expression, Reference):
        return frozenset({expression.column})
    carries = isinstance(expression, Call) and expression.operator not in {Operator.AND, Operator.OR, Operator.IS_NULL}
    return frozenset().union(*map(_carried, expression.arguments)) if isinstance(expression, Call) and carries else frozenset()


def _literal(node: exp.Expr) -> Typed:
    if isinstance(node, exp.Null):
        return Literal(value=None), _NULL
    if isinstance(node, exp.Boolean):
        return Literal(value=bool(node.this)), BOOLEAN
    if node.args.get("is_string"):
        return Literal(value=str(node.this)), _TEXT
    value = number(str(node.this))
    if not math.isfinite(value) or (isinstance(value, int) and not _LEAST_INTEGER <= value <= _GREATEST_INTEGER):
        raise refused("A number beyond 64 bits")
    return literal(str(node.this)), NUMBER


def _is_moment(expression: Expression) -> bool:
    """Return whether an expression is a constant that dates and timestamps are compared with, once it is of their kind."""
    return isinstance(expression.value, str) if isinstance(expression, Literal) else getattr(expression, "operator", None) in _OF_MOMENTS


def _kind(type_text: str) -> str:
    """Return what may be done with a column: its kind, or where nothing may but to compare or show it, its type."""
    if type_text == "bool":
        return BOOLEAN
    if type_text.startswith(_TEXTS):
        return _TEXT
    return NUMBER if type_text.startswith(_NUMBERS) else type_text
