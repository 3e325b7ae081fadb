"""Conditions and values of a query, rewritten onto encoded columns.

A condition on encoded columns becomes one on their codes, its literals placeholders that an agent fills in:

=====================  ==================================================================================
``a = 5``, ``a IN``    the codes of ``a`` equal the literal's; of an order code, lie between its two bounds
``a < 5``, BETWEEN     the order code is below the literal's bound
``a LIKE 'x%'``        the order code lies between the bounds of ``x`` and of what follows all that begin with it
``a = b``              the codes are equal, where both columns have one key and one kind of value
``a IS NULL``          the code is null
=====================  ==================================================================================
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sqlglot import exp

from securemllib.errors import FreshnessError, UsageError
from securemllib.sql.catalog import EncodedTable, Use
from securemllib.sql.literals import is_text, text_of
from securemllib.sql.parsing import unsupported
from securemllib.wire.companion import EncodedColumn, EncodingName
from securemllib.wire.query import Place, QueryLiteral

__all__ = ["Rewriter", "conjunction", "reference"]

_COMPARABLE = (EncodingName.CLEAR, EncodingName.DETERMINISTIC, EncodingName.TOKEN, EncodingName.ORDER)
_TURNED = {exp.LT: exp.GT, exp.GT: exp.LT, exp.LTE: exp.GTE, exp.GTE: exp.LTE}
# How a comparison with a value becomes one with its bound: `<= v` are the codes below that of what is beyond v.
_BOUNDED: dict[type[exp.Expr], tuple[type[exp.Binary], Place]] = {
    exp.LT: (exp.LT, Place.LOWER),
    exp.LTE: (exp.LT, Place.UPPER),
    exp.GT: (exp.GTE, Place.UPPER),
    exp.GTE: (exp.GTE, Place.LOWER),
}
# What a companion calls the kind of texts.
_TEXTS = "text"
# What Spark may calculate of clear columns; anything else is refused by name.
_VALUES = (
    exp.Literal, exp.Boolean, exp.Null, exp.Neg, exp.Paren, exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod, exp.Cast, exp.DataType,
    exp.DataTypeParam, exp.Interval, exp.Var, exp.If, exp.Case, exp.Coalesce, exp.Abs, exp.Round, exp.Floor, exp.Ceil, exp.Year, exp.Month,
    exp.Day, exp.Quarter, exp.Extract, exp.Lower, exp.Upper, exp.Substring, exp.Length, exp.Trim, exp.Concat, exp.TsOrDsToDate,
)  # fmt: skip


class Rewriter:
    """Rewrites the conditions and values of one query, and gathers the literals that are to be encoded.

    Args:
        tables: The query's tables by the names that its columns use.
    """

    def __init__(self, tables: Mapping[str, EncodedTable]) -> None:
        self._tables = tables
        self.literals: list[QueryLiteral] = []
        versions: dict[str, tuple[int, bytes]] = {}
        for table in tables.values():
            dataset = table.companion.dataset
            if versions.setdefault(dataset.dataset_id, (dataset.version, dataset.digest)) != (dataset.version, dataset.digest):
                raise FreshnessError(
                    f"The query reads two versions of dataset {dataset.dataset_id}.",
                    next_step="Read all its tables from one version.",
                    code="integrity.dataset_versions",
                )

    def table(self, column: exp.Column) -> EncodedTable:
        """Return the table of a column."""
        return self._tables[column.table]

    def fitting(self, column: exp.Column, use: Use) -> EncodedColumn:
        """Return the encoding of a column that serves a use; `UsageError` where none does."""
        return self.table(column).fitting(column.name, use)

    def condition(self, node: exp.Expr) -> exp.Expr:
        """Return a condition on codes.

        Raises:
            UsageError: The encodings cannot answer it, or columns of different keys are compared.
        """
        if isinstance(node, (exp.And, exp.Or)):
            return type(node)(this=self.condition(node.left), expression=self.condition(node.right))
        if isinstance(node, (exp.Not, exp.Paren)):
            return (
                exp.paren(self.condition(node.this)) if isinstance(node, exp.Paren) else exp.Not(this=exp.paren(self.condition(node.this)))
            )
        handler = _HANDLERS.get(type(node))
        if handler is not None and (columns := list(node.find_all(exp.Column))):
            if not all(EncodingName.CLEAR in self.table(column).encodings(column.name) for column in columns):
                return handler(self, node)
            return self._clear_comparison(node)
        return self.value(node)

    def value(self, node: exp.Expr) -> exp.Expr:
        """Return an expression of clear columns, in which conditions may be on any; `UsageError` for one that calculates with codes."""
        if isinstance(node, exp.Column):
            (name,) = self.fitting(node, Use.VALUE).stored
            return exp.column(name, table=node.table)
        if isinstance(node, exp.If):
            rewritten = exp.If(this=self.condition(node.this), true=self.value(node.args["true"]))
            if node.args.get("false") is not None:
                rewritten.set("false", self.value(node.args["false"]))
            return rewritten
        if not isinstance(node, _VALUES):
            raise unsupported(f"The expression {node.key.upper()}")
        rewritten_node = node.copy()
        for key, child in node.args.items():
            if isinstance(child, exp.Expr):
                rewritten_node.set(key, self.value(child))
            elif isinstance(child, list):
                rewritten_node.set(key, [self.value(item) if isinstance(item, exp.Expr) else item for item in child])
        return rewritten_node

    def _clear_comparison(self, node: exp.Expr) -> exp.Expr:
        rewritten = node.copy()
        for key in ("this", "expression"):
            child = node.args.get(key)
            if isinstance(child, exp.Expr):
                rewritten.set(key, child.copy() if isinstance(child, exp.Null) else self.value(child))
        if isinstance(node, exp.In):
            rewritten.set("expressions", [self.value(item) for item in node.expressions])
        return rewritten

    def _equal(self, node: exp.Expr) -> exp.Expr:
        left, right = _operands(node)
        if isinstance(left, exp.Column) and isinstance(right, exp.Column):
            equal = self._joined(left, right)
        elif isinstance(left, exp.Column):
            equal = self._equals_literal(left, right)
        elif isinstance(right, exp.Column):
            equal = self._equals_literal(right, left)
        else:
            raise self._calculated(node)
        return exp.Not(this=exp.paren(equal)) if isinstance(node, exp.NEQ) else equal

    def _joined(self, left: exp.Column, right: exp.Column) -> exp.Expr:
        ours, theirs = (self.table(side).encodings(side.name) for side in (left, right))
        shared = [name for name in _COMPARABLE if name in ours and name in theirs]
        for name in shared:
            if (ours[name].kind, ours[name].key_id) == (theirs[name].kind, theirs[name].key_id):
                pairs = zip(_compared(ours[name]), _compared(theirs[name]), strict=True)
                (first, *rest) = ((reference(a, left.table), reference(b, right.table)) for a, b in pairs)
                return conjunction([exp.EQ(this=first[0], expression=first[1]), *(_same(a, b) for a, b in rest)])
        if not shared:
            for side in (left, right):
                self.fitting(side, Use.EQUALITY)
        groups = " and ".join(f"{side.name} is in {_group(found, shared)}" for side, found in ((left, ours), (right, theirs)))
        raise UsageError(
            f"{left.name} and {right.name} have different keys, so equal values have different codes: {groups}.",
            next_step="Encode both as deterministic with one join group and one type.",
            code="usage.join_group",
        )

    def _equals_literal(self, column: exp.Column, literal: exp.Expr) -> exp.Expr:
        stored = self.fitting(column, Use.EQUALITY)
        if stored.encoding is EncodingName.ORDER:
            return exp.and_(self._bounded(column, exp.GTE, literal), self._bounded(column, exp.LTE, literal))
        codes = self._codes(column, stored, Place.EQUAL, literal)
        pairs = zip(_compared(stored), codes, strict=True)
        return conjunction(exp.EQ(this=reference(name, column.table), expression=code) for name, code in pairs)

    def _among(self, node: exp.Expr) -> exp.Expr:
        if not isinstance(node.this, exp.Column) or not node.expressions:
            raise self._calculated(node)
        return exp.paren(exp.or_(*(self._equals_literal(node.this, item) for item in node.expressions)))

    def _compare(self, node: exp.Expr) -> exp.Expr:
        left, right = _operands(node)
        operator = type(node)
        if isinstance(right, exp.Column) and not isinstance(left, exp.Column):
            left, right, operator = right, left, _TURNED[operator]  # type: ignore[index]
        if not isinstance(left, exp.Column):
            raise self._calculated(node)
        if isinstance(right, exp.Column):
            return self._compare_columns(operator, left, right)
        return self._bounded(left, operator, right)

    def _compare_columns(self, operator: type[exp.Expr], left: exp.Column, right: exp.Column) -> exp.Expr:
        ours, theirs = self.fitting(left, Use.ORDER), self.fitting(right, Use.ORDER)
        if (ours.encoding, ours.kind, ours.key_id) != (theirs.encoding, theirs.kind, theirs.key_id):
            raise UsageError(
                f"The order codes of {left.name} and {right.name} are ranks among different values.",
                next_step="Add a column that says the comparison's outcome to the table before it is encoded.",
                code="usage.join_group",
            )
        return operator(this=reference(ours.stored[0], left.table), expression=reference(theirs.stored[0], right.table))

    def _bounded(self, column: exp.Column, operator: type[exp.Expr], literal: exp.Expr) -> exp.Expr:
        stored = self.fitting(column, Use.ORDER)
        rewritten, place = _BOUNDED[operator]
        (bound,) = self._codes(column, stored, place, literal)
        return rewritten(this=reference(stored.stored[0], column.table), expression=bound)

    def _like(self, node: exp.Expr) -> exp.Expr:
        pattern = node.args["expression"]
        if not (isinstance(node.this, exp.Column) and is_text(pattern)):
            raise self._calculated(node)
        if self.fitting(node.this, Use.ORDER).kind != _TEXTS:
            raise unsupported(f"A LIKE of {node.this.name}, which holds no texts,")
        prefix = str(pattern.this).removesuffix("%")
        if set(prefix) & set("%_\\") or prefix == pattern.this or not prefix:
            raise unsupported("A LIKE that asks for more than a prefix")
        # Texts that begin with the prefix come before the one whose last character is the next.
        following = chr(ord(prefix[-1]) + 1)
        if not following.isprintable():
            raise unsupported("A LIKE whose prefix ends in such a character")
        after = prefix[:-1] + following
        return exp.and_(
            self._bounded(node.this, exp.GTE, exp.Literal.string(prefix)), self._bounded(node.this, exp.LT, exp.Literal.string(after))
        )

    def _is_null(self, node: exp.Expr) -> exp.Expr:
        if not isinstance(node.this, exp.Column) or not isinstance(node.args["expression"], exp.Null):
            raise self._calculated(node)
        stored = self.fitting(node.this, Use.SHOWN)
        return exp.Is(this=reference(stored.stored[0], node.this.table), expression=exp.Null())

    def _codes(self, column: exp.Column, stored: EncodedColumn, place: Place, literal: exp.Expr) -> list[exp.Expr]:
        """Return one placeholder for each stored column that is compared."""
        if stored.kind == _TEXTS and not is_text(literal.unnest()):
            raise UsageError(
                f"Column {column.name} holds texts, which Spark would cast to compare them.",
                next_step="Write the literal as a text.",
                code="usage.literal",
            )
        dataset = self.table(column).companion.dataset
        asked = QueryLiteral(dataset=dataset, column=column.name, encoding=stored.encoding, place=place, text=text_of(literal))
        if asked not in self.literals:
            self.literals.append(asked)
        number = self.literals.index(asked)
        return [exp.Placeholder(this=f"{number}_{part}") for part in range(len(_compared(stored)))]

    def _calculated(self, node: exp.Expr) -> UsageError:
        """Return the error for a condition that would calculate with codes."""
        for column in node.find_all(exp.Column):
            self.fitting(column, Use.VALUE)
        return unsupported(f"The condition {node.key.upper()}")


_HANDLERS: dict[type[exp.Expr], Callable[[Rewriter, Any], exp.Expr]] = {
    exp.EQ: Rewriter._equal,
    exp.NEQ: Rewriter._equal,
    exp.LT: Rewriter._compare,
    exp.LTE: Rewriter._compare,
    exp.GT: Rewriter._compare,
    exp.GTE: Rewriter._compare,
    exp.In: Rewriter._among,
    exp.Like: Rewriter._like,
    exp.Is: Rewriter._is_null,
}


def reference(stored: str, table: str) -> exp.Column:
    """Return a column of a companion."""
    return exp.column(stored, table=table or None)


def conjunction(conditions: Iterable[exp.Expr]) -> exp.Expr:
    """Return the conjunction of one condition or more."""
    return exp.and_(*conditions)


def _same(one: exp.Expr, other: exp.Expr) -> exp.Expr:
    """Return that two BIGINTs are equal, in a form that Spark does not join by: it hashes a join on one BIGINT faster than on two."""
    return exp.EQ(this=exp.paren(exp.BitwiseXor(this=one, expression=other)), expression=exp.Literal.number(0))


def _compared(stored: EncodedColumn) -> tuple[str, ...]:
    """Return the stored columns that tell whether values are equal: a text's ciphertext, the third, only opens it."""
    return stored.stored[:2] if stored.encoding is EncodingName.DETERMINISTIC else stored.stored


def _operands(node: exp.Expr) -> tuple[exp.Expr, exp.Expr]:
    left, right = node.args["this"], node.args["expression"]
    return left.unnest(), right.unnest()


def _group(found: Mapping[EncodingName, EncodedColumn], shared: list[EncodingName]) -> str:
    groups = {found[name].join_group for name in shared} - {""}
    return f"group {min(groups)}" if groups else "no join group"
