"""What the host knows of encoded tables: their columns, how each is stored, and what may be asked of it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from securemllib.errors import UsageError
from securemllib.wire.companion import Companion, EncodedColumn, EncodingName

__all__ = ["EncodedTable", "NamedColumns", "Table", "Use"]


class Use(StrEnum):
    """What a query asks of a column, in words that complete "needs a column to"."""

    EQUALITY = "be compared for equality, joined or grouped"
    ORDER = "be compared by size or sorted"
    SUM = "be summed or averaged"
    VALUE = "be calculated with"
    SHOWN = "be selected"


_CLEAR, _DETERMINISTIC, _ORDER = EncodingName.CLEAR, EncodingName.DETERMINISTIC, EncodingName.ORDER
_TOKEN, _ADDITIVE, _HOMOMORPHIC = EncodingName.TOKEN, EncodingName.ADDITIVE, EncodingName.HOMOMORPHIC

# In the order of preference: what is cheaper for Spark comes first.
_FITTING: dict[Use, tuple[EncodingName, ...]] = {
    Use.EQUALITY: (_CLEAR, _ORDER, _DETERMINISTIC, _TOKEN),
    Use.ORDER: (_CLEAR, _ORDER),
    Use.SUM: (_CLEAR, _ADDITIVE, _HOMOMORPHIC),
    Use.VALUE: (_CLEAR,),
    Use.SHOWN: (_CLEAR, _ORDER, _DETERMINISTIC, _TOKEN, _ADDITIVE),
}
_ADVICE: dict[Use, str] = {
    Use.EQUALITY: "Encode {column} as deterministic",
    Use.ORDER: "Encode {column} as order",
    Use.SUM: "Encode {column} as additive, or as homomorphic",
    Use.VALUE: "Add a column with the value to the table before it is encoded",
    Use.SHOWN: "Encode {column} as deterministic",
}


class Table(Protocol):
    """What a query may name."""

    @property
    def name(self) -> str:
        """The name."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of all columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedColumns:
    """Rows of which only enclaves read anything, under the name that a query calls them."""

    name: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedTable:
    """The companion of one dataset version, under the name that queries call it.

    Attributes:
        name: The name.
        companion: What its owner signed.
        sealed: The dataset's columns that only enclaves read, where the owner publishes them.
    """

    name: str
    companion: Companion
    sealed: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of all columns, the sealed ones too."""
        return tuple(dict.fromkeys([*(column.column for column in self.companion.columns), *self.sealed]))

    def encodings(self, column: str) -> dict[EncodingName, EncodedColumn]:
        """Return a column's encodings; `UsageError` where there is no such column."""
        if column not in self.columns:
            raise UsageError(f"Table {self.name} has no column {column}.", code="usage.column")
        return {found.encoding: found for found in self.companion.columns if found.column == column}

    def fitting(self, column: str, use: Use) -> EncodedColumn:
        """Return the encoding of a column that serves a use.

        Raises:
            UsageError: None does; the next step says which would.
        """
        found = self.encodings(column)
        for encoding in _FITTING[use]:
            if encoding in found:
                return found[encoding]
        have = ", ".join(sorted(found)) or "sealed"
        raise UsageError(
            f"The query needs column {column} of {self.name} to {use.value}; it is {have}.",
            next_step=f"{_ADVICE[use].format(column=column)}.",
            code="usage.encoding",
        )
