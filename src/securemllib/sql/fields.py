"""What Spark computes for a query: columns of codes, numbers, and masked sums with the rows that they add.

A masked sum opens only with the numbers of just the rows that it adds. Spark gathers them as words of 64 bits, a bit a row: rows are
grouped by the query's keys and by the 64 numbers that share a word, so that a word is one ``bit_or``, and the groups of one key are then
put together. That is two aggregations that Spark compiles, where a bitmap or a list of rows a group is one that it does not.

A sum of ciphertexts is made of the same words, by tasks after the query: see `securemllib.spark.encrypted_sums`.
"""

from dataclasses import dataclass, replace

from sqlglot import exp

from securemllib.errors import UsageError
from securemllib.sql.catalog import Use
from securemllib.sql.parsing import DIALECT, unsupported
from securemllib.sql.rewriting import Rewriter, reference
from securemllib.wire.companion import ROW_COLUMN, EncodedColumn, EncodingName
from securemllib.wire.dataset import DatasetRef
from securemllib.wire.query import Field, Form

__all__ = ["Fields"]

_WORD_BITS = 6
_WORD_MASK = 63
_BUCKET = "__bucket"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Partial:
    """An aggregate: how rows are put together, and how such results are; no ``merge`` where they cannot be."""

    name: str
    of_rows: exp.Expr
    merge: str


class Fields:
    """Gathers the fields of a query, and writes the SELECT that computes them.

    Args:
        rewriter: The query's.
        grouped: Whether rows are aggregated.
    """

    def __init__(self, rewriter: Rewriter, *, grouped: bool) -> None:
        self._rewriter = rewriter
        self._grouped = grouped
        self._keys: list[tuple[str, exp.Expr]] = []
        self._partials: dict[str, _Partial] = {}
        self._masked_table = ""
        self._ciphertexts: dict[tuple[str, str], str] = {}
        self.fields: list[Field] = []

    def number(self, value: exp.Expr) -> Field:
        """Return the field of a value of clear columns, a grouping one where rows are aggregated."""
        return self._field(Form.NUMBER, (self._key(self._rewriter.value(value)),))

    def codes(self, column: exp.Column) -> Field:
        """Return the field of a column's codes, grouping ones where rows are aggregated."""
        stored = self._rewriter.fitting(column, Use.EQUALITY if self._grouped else Use.SHOWN)
        if stored.encoding is EncodingName.CLEAR:
            return self.number(column)
        if stored.encoding is EncodingName.ADDITIVE:
            return self._row_sum(column, stored)
        names = tuple(self._key(reference(name, column.table)) for name in stored.stored)
        return self._field(Form.CODES, names, dataset=self._dataset(column), column=column.name, encoding=stored.encoding)

    def count(self, counted: exp.Expr | None, condition: exp.Expr | None) -> Field:
        """Return the field of how many rows, or how many values that are not null, there are."""
        if isinstance(counted, exp.Distinct):
            return self._count_distinct(counted, condition)
        if isinstance(counted, exp.Column):
            if set(self._rewriter.table(counted).encodings(counted.name)) == {EncodingName.HOMOMORPHIC}:
                return self._present_count(self._dataset(counted), counted.name, *self._cover(counted, condition))
            stored = self._rewriter.fitting(counted, Use.SHOWN)
            counted = reference(stored.stored[0], counted.table)
        elif counted is not None:
            counted = self._rewriter.value(counted)
        rows = _when(condition, counted if counted is not None else exp.Literal.number(1))
        return self._field(Form.NUMBER, (self._partial(exp.Count(this=rows), "count"),))

    def extreme(self, kind: type[exp.Expr], column: exp.Expr, condition: exp.Expr | None) -> Field:
        """Return the field of a column's least or greatest value."""
        if not isinstance(column, exp.Column):
            return self.total(kind, column, condition)
        stored = self._rewriter.fitting(column, Use.ORDER)
        if stored.encoding is EncodingName.CLEAR:
            return self.total(kind, column, condition)
        name = self._partial(kind(this=_when(condition, reference(stored.stored[0], column.table))), kind.key)
        return self._field(Form.CODES, (name,), dataset=self._dataset(column), column=column.name, encoding=stored.encoding)

    def total(self, kind: type[exp.Expr], value: exp.Expr, condition: exp.Expr | None) -> Field:
        """Return the field of a sum, minimum or maximum of clear values."""
        return self._field(Form.NUMBER, (self._partial(kind(this=_when(condition, self._rewriter.value(value))), kind.key),))

    def covered_sum(
        self, column: exp.Column, stored: EncodedColumn, condition: exp.Expr | None, chosen: exp.Expr | None = None, *, zero: bool = False
    ) -> Field:
        """Return the field of the sum of an additive or homomorphic column over the rows of a condition.

        Args:
            column: The column.
            stored: Its encoding.
            condition: The condition; None for all rows.
            chosen: A further condition.
            zero: Whether rows for which the further one is not true count as zero, so that a sum of them alone is not null.
        """
        zeros = ""
        if chosen is not None:
            rest = exp.Case(ifs=[exp.If(this=chosen, true=exp.Null())], default=exp.Literal.number(1))
            zeros = self._partial(exp.Count(this=_when(condition, rest)), "count") if zero else ""
            condition = exp.and_(condition, chosen) if condition is not None else chosen
        limbs = tuple(self._partial(exp.Sum(this=_when(condition, reference(limb, column.table))), "sum") for limb in stored.stored)
        if limbs and stored.nullable:
            first = reference(stored.stored[0], column.table)
            there = exp.Not(this=exp.Is(this=first, expression=exp.Null()))
            condition = exp.and_(condition, there) if condition is not None else there
        rows, count = self._cover(column, condition)
        if not limbs:
            limbs = (self._ciphertexts.setdefault((column.name, rows), f"c{len(self._ciphertexts)}"),)
        return self._field(
            Form.SUM,
            limbs,
            dataset=self._dataset(column),
            column=column.name,
            encoding=stored.encoding,
            rows=rows,
            count=count,
            zeros=zeros,
        )

    def count_of(self, total: Field) -> Field:
        """Return the field of how many values a covered sum adds."""
        if total.encoding is not EncodingName.HOMOMORPHIC or total.dataset is None:
            return self._field(Form.NUMBER, (total.count,))
        return self._present_count(total.dataset, total.column, total.rows, total.count)

    def orderable(self, name: str) -> str:
        """Return the result's column by which Spark sorts as the opened field does, or an empty text."""
        field = next(field for field in self.fields if field.name == name)
        native = field.form is Form.NUMBER or field.encoding is EncodingName.ORDER
        return field.physical[0] if native else ""

    def select(self, source: exp.Select) -> exp.Select:
        """Return the SELECT of all fields from the rows of a source, which has tables, joins and conditions only."""
        if not self._keys and not self._partials:
            raise unsupported("A selection of constants only")
        if not self._grouped:
            return source.select(*(exp.alias_(value, name) for name, value in self._keys))
        keys = [exp.alias_(value, name) for name, value in self._keys]
        grouping = [value.copy() for _, value in self._keys]
        partials = [exp.alias_(partial.of_rows, partial.name) for partial in self._partials.values()]
        if not self._masked_table:
            one = source.select(*keys, *partials)
            return one.group_by(*grouping) if grouping else one
        if distinct := [partial.name for partial in self._partials.values() if partial.merge == "distinct"]:
            raise UsageError(
                f"{len(distinct)} distinct counts stand beside sums of additive columns.",
                next_step="Ask for the distinct counts in a query of their own.",
                code="usage.query",
            )
        bucket = exp.Anonymous(this="shiftright", expressions=[reference(ROW_COLUMN, self._masked_table), exp.Literal.number(_WORD_BITS)])
        inner = source.select(*keys, exp.alias_(bucket, _BUCKET), *partials).group_by(*grouping, bucket.copy())
        names = [exp.column(name) for name, _ in self._keys]
        merged = [exp.alias_(_merged(partial), partial.name) for partial in self._partials.values()]
        outer = exp.Select().select(*names, *merged).from_(inner.subquery("__words"))
        return outer.group_by(*(name.copy() for name in names)) if names else outer

    def _present_count(self, dataset: DatasetRef, column: str, rows: str, count: str) -> Field:
        """Return the field of how many values of a homomorphic column are not null, which its owner's file says and no code."""
        return self._field(Form.COUNT, (), dataset=dataset, column=column, encoding=EncodingName.HOMOMORPHIC, rows=rows, count=count)

    def _cover(self, column: exp.Column, condition: exp.Expr | None) -> tuple[str, str]:
        """Return the columns with the rows of a condition, as words, and with their number."""
        if self._masked_table not in {"", column.table}:
            raise UsageError(
                "The query sums additive or homomorphic columns of two tables, whose rows are counted apart.",
                next_step="Ask for the sums of each table in a query of its own.",
                code="usage.query",
            )
        self._masked_table = column.table
        # An outer join's row of no such table has no number.
        count = self._partial(exp.Count(this=_when(condition, reference(ROW_COLUMN, column.table))), "count")
        return self._partial(exp.Anonymous(this="bit_or", expressions=[_when(condition, _bit(column.table))]), "rows"), count

    def _count_distinct(self, counted: exp.Distinct, condition: exp.Expr | None) -> Field:
        columns = [column for column in counted.expressions if isinstance(column, exp.Column)]
        if len(columns) != len(counted.expressions) or (condition is not None and len(columns) != 1):
            raise unsupported("A distinct count of anything but columns")
        codes = []
        for column in columns:
            stored = self._rewriter.fitting(column, Use.EQUALITY)
            codes += [_when(condition, reference(name, column.table)) for name in stored.stored[:2]]
        return self._field(Form.NUMBER, (self._partial(exp.Count(this=exp.Distinct(expressions=codes)), "distinct"),))

    def _row_sum(self, column: exp.Column, stored: EncodedColumn) -> Field:
        """Return the field of an additive column's single values: each is a sum over one row."""
        if self._masked_table not in {"", column.table}:
            raise UsageError("The query shows additive columns of two tables.", next_step="Show those of one.", code="usage.query")
        self._masked_table = column.table
        limbs = tuple(self._key(reference(limb, column.table)) for limb in stored.stored)
        there = exp.Not(this=exp.Is(this=reference(stored.stored[0], column.table), expression=exp.Null()))
        word = _words(
            exp.Anonymous(this="shiftright", expressions=[reference(ROW_COLUMN, column.table), exp.Literal.number(_WORD_BITS)]),
            _bit(column.table),
        )
        count = self._key(exp.Cast(this=there, to=exp.DataType.build("bigint")))
        rows = self._key(_when(there, exp.Anonymous(this="array", expressions=[word])))
        return self._field(
            Form.SUM, limbs, dataset=self._dataset(column), column=column.name, encoding=stored.encoding, rows=rows, count=count
        )

    def _dataset(self, column: exp.Column) -> DatasetRef:
        return self._rewriter.table(column).companion.dataset

    def _key(self, value: exp.Expr) -> str:
        name = next((name for name, known in self._keys if known == value), "")
        if not name:
            name = f"k{len(self._keys)}"
            self._keys.append((name, value))
        return name

    def _partial(self, of_rows: exp.Expr, merge: str) -> str:
        text = of_rows.sql(dialect=DIALECT)
        if text not in self._partials:
            self._partials[text] = _Partial(name=f"a{len(self._partials)}", of_rows=of_rows, merge=merge)
        return self._partials[text].name

    def _field(
        self,
        form: Form,
        physical: tuple[str, ...],
        *,
        dataset: DatasetRef | None = None,
        column: str = "",
        encoding: EncodingName = EncodingName.CLEAR,
        rows: str = "",
        count: str = "",
        zeros: str = "",
    ) -> Field:
        field = Field(
            name=f"f{len(self.fields)}",
            form=form,
            dataset=dataset,
            column=column,
            encoding=encoding,
            physical=physical,
            rows=rows,
            count=count,
            zeros=zeros,
        )
        for known in self.fields:
            if replace(known, name=field.name) == field:
                return known
        self.fields.append(field)
        return field


def _when(condition: exp.Expr | None, value: exp.Expr) -> exp.Expr:
    return value if condition is None else exp.Case(ifs=[exp.If(this=condition.copy(), true=value)])


def _bit(table: str) -> exp.Expr:
    within = exp.BitwiseAnd(this=reference(ROW_COLUMN, table), expression=exp.Literal.number(_WORD_MASK))
    one = exp.Cast(this=exp.Literal.number(1), to=exp.DataType.build("bigint"))
    return exp.Anonymous(this="shiftleft", expressions=[one, exp.Cast(this=exp.paren(within), to=exp.DataType.build("int"))])


def _words(bucket: exp.Expr, word: exp.Expr) -> exp.Expr:
    return exp.Anonymous(this="struct", expressions=[bucket, word])


def _merged(partial: _Partial) -> exp.Expr:
    column = exp.column(partial.name)
    if partial.merge == "rows":
        there = exp.Not(this=exp.Is(this=column, expression=exp.Null()))
        return exp.Anonymous(this="collect_list", expressions=[_when(there, _words(exp.column(_BUCKET), column.copy()))])
    if partial.merge == "count":
        return exp.Coalesce(this=exp.Sum(this=column), expressions=[exp.Literal.number(0)])
    return {"sum": exp.Sum, "min": exp.Min, "max": exp.Max}[partial.merge](this=column)
