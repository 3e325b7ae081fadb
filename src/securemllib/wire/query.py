"""Queries over encoded columns: which literals are to be encoded, and how the recipient makes rows of what Spark computed.

The host writes both. An agent that encodes a literal shows it first; a recipient takes a result for what the host says it is, because
encoded columns have no integrity: nothing here proves that the host computed just this query over all rows.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from securemllib.errors import FormatError
from securemllib.wire.companion import EncodingName
from securemllib.wire.dataset import DatasetRef
from securemllib.wire.plan import Call, Literal, Named, Reference
from securemllib.wire.record import Record

__all__ = ["HEADER_FILE", "ROWS_DIRECTORY", "Field", "Form", "LiteralCodes", "Place", "QueryLiteral", "ResultHeader", "SortKey"]

# A saved result is a directory with the header and Spark's Parquet files.
HEADER_FILE = "query.sml"
ROWS_DIRECTORY = "rows"


class Place(StrEnum):
    """What the code of a literal is compared with.

    Attributes:
        EQUAL: The code of the value itself.
        LOWER: The code such that values from the literal on, itself included, have codes from it on.
        UPPER: The code such that values beyond the literal have codes from it on.
    """

    EQUAL = "equal"
    LOWER = "lower"
    UPPER = "upper"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryLiteral(Record):
    """A literal of a query, to be encoded as the values of a column are.

    Attributes:
        dataset: The dataset version of the column.
        column: The column.
        encoding: Which of the column's encodings.
        place: What its code is compared with.
        text: The literal, as text that the column's type reads.
    """

    TYPE: ClassVar[str] = "securemllib/query-literal/v1"

    dataset: DatasetRef
    column: str
    encoding: EncodingName
    place: Place
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LiteralCodes(Record):
    """The codes of a literal: one for each of its column's stored columns that is compared."""

    TYPE: ClassVar[str] = "securemllib/literal-codes/v1"

    parts: tuple[int | str, ...]


class Form(StrEnum):
    """What a field of a result holds.

    Attributes:
        CODES: A column's codes.
        NUMBER: A value in the clear: a count, or what Spark computed of clear columns.
        SUM: Sums that only keys open, with the rows that each adds: masked integers, or ciphertexts.
        COUNT: How many values that are not null each of such sums of ciphertexts adds, which the recipient counts.
    """

    CODES = "codes"
    NUMBER = "number"
    SUM = "sum"
    COUNT = "count"


_OF_ROWS = frozenset({Form.SUM, Form.COUNT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Field(Record):
    """A field of a result, before it is opened.

    Attributes:
        name: What expressions call it.
        form: What it holds.
        dataset: The dataset version of its column; None for a number.
        column: Its column; empty for a number.
        encoding: The column's encoding that was used; ``clear`` for a number.
        physical: The columns of the result that hold it.
        rows: For a sum or a count the column of the result with the rows that it adds; else empty.
        count: For a sum or a count the column of the result with how many of them there are; else empty.
        zeros: For a sum the column of the result with how many rows count as zero beside those that it adds; empty where none do.
    """

    TYPE: ClassVar[str] = "securemllib/result-field/v1"

    name: str
    form: Form
    dataset: DatasetRef | None
    column: str
    encoding: EncodingName
    physical: tuple[str, ...]
    rows: str
    count: str
    zeros: str

    def __post_init__(self) -> None:
        if (self.form is Form.NUMBER) != (self.dataset is None) or (self.form in _OF_ROWS) != bool(self.rows and self.count):
            raise FormatError("A field of a result is a number, the codes of a column, or a sum over named rows of one.")


@dataclass(frozen=True, slots=True, kw_only=True)
class SortKey(Record):
    """An expression that sorts."""

    TYPE: ClassVar[str] = "securemllib/sort-key/v1"

    expression: Reference | Literal | Call
    descending: bool
    nulls_first: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultHeader(Record):
    """How the recipient makes rows of a result.

    Attributes:
        fields: What Spark computed.
        outputs: The columns, as expressions over opened fields.
        having: Which rows stay; None for all.
        order: How they are sorted.
        limit: How many of them stay; None for all.
    """

    TYPE: ClassVar[str] = "securemllib/result-header/v1"

    fields: tuple[Field, ...]
    outputs: tuple[Named, ...]
    having: Reference | Literal | Call | None
    order: tuple[SortKey, ...]
    limit: int | None

    def __post_init__(self) -> None:
        names = [output.name for output in self.outputs]
        if not names or len(set(names)) != len(names):
            raise FormatError("A result has at least one column, and each name once.")
        if len({field.name for field in self.fields}) != len(self.fields):
            raise FormatError("A result names a field twice.")
        if self.limit is not None and self.limit < 0:
            raise FormatError(f"A limit is not negative: {self.limit}.")

    @property
    def datasets(self) -> frozenset[DatasetRef]:
        """The dataset versions whose keys open the result."""
        return frozenset(field.dataset for field in self.fields if field.dataset is not None)
