"""The literals of queries over encoded columns, encoded by whoever holds the columns' keys.

Whoever may ask for codes of values of their choice can ask for those of all values that a column may hold, and then reads the column. So an
agent encodes a bounded number of different literals a column, those of a join group being one column, and shows each one.
"""

from decimal import ROUND_CEILING, Decimal, InvalidOperation
from pathlib import Path

import pyarrow as pa

from securemllib.errors import IntegrityError, RefusedError, UsageError
from securemllib.owner.companion import OpenCompanion, open_companion
from securemllib.owner.encoded_columns import KeyedColumn
from securemllib.owner.keystore import Keystore
from securemllib.wire.companion import EncodingName
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.query import LiteralCodes, Place, QueryLiteral

__all__ = ["LiteralEncoder"]


class LiteralEncoder:
    """Encodes the literals of queries with the keys of one keystore.

    Args:
        owner: Who signs the companions.
        keystore: Has the columns' keys.
        limit: How many different literals of a column are encoded in all.
    """

    __slots__ = ("_keystore", "_limit", "_owner", "_seen")

    def __init__(self, owner: PublicIdentity, keystore: Keystore, *, limit: int) -> None:
        self._owner = owner
        self._keystore = keystore
        self._limit = limit
        self._seen: dict[tuple[str, str], set[str]] = {}

    def encode(self, directory: Path, digest: bytes, literals: tuple[QueryLiteral, ...]) -> tuple[LiteralCodes, ...]:
        """Return the codes of literals.

        1. The companion is its owner's, of the latest version, and the one that the caller read.
        2. Each literal is of that version.
        3. No column has had more different literals than the limit, nor has any join group, whose columns have one key.

        Args:
            directory: The dataset's directory.
            digest: The digest of the companion's record that the caller read.
            literals: The literals.

        Raises:
            IntegrityError: 1 or 2 does not hold.
            RefusedError: 3 does not hold.
            UsageError: A literal is no value of its column's type, or its encoding answers no such comparison.
        """
        opened = open_companion(directory, owner=self._owner, keystore=self._keystore)  # 1
        if opened.companion.content_digest() != digest:
            raise IntegrityError("The caller read another companion than the one in the directory.", code="integrity.companion")
        if any(literal.dataset != opened.companion.dataset for literal in literals):  # 2
            raise IntegrityError("A literal is of another dataset version than the companion.", code="integrity.dataset_versions")
        self._count(opened, literals)  # 3
        return tuple(_encoded(opened, literal) for literal in literals)

    def _count(self, opened: OpenCompanion, literals: tuple[QueryLiteral, ...]) -> None:
        for literal in literals:
            group = opened.column(literal.column, literal.encoding).description.join_group
            names = [(literal.dataset.dataset_id, literal.column), *([("", group)] if group else [])]
            counted = [self._seen.setdefault(name, set()) for name in names]
            if any(literal.text not in seen and len(seen) >= self._limit for seen in counted):
                raise RefusedError(
                    f"The agent has encoded {self._limit} literals of column {literal.column} already.",
                    next_step="Start the agent again with a higher --literals, if you trust who asks.",
                    code="refused.literals",
                )
            for seen in counted:
                seen.add(literal.text)


def _encoded(opened: OpenCompanion, literal: QueryLiteral) -> LiteralCodes:
    column = opened.column(literal.column, literal.encoding)
    if literal.encoding is EncodingName.CLEAR:
        raise UsageError(f"Column {literal.column} is clear: its literals have no codes.", code="usage.encoding")
    place, value = _value(column, literal)
    if place is Place.EQUAL:
        return LiteralCodes(parts=tuple(column.literal(value).values()))  # type: ignore[arg-type]
    return LiteralCodes(parts=(column.rank(value, above=place is Place.UPPER),))


def _value(column: KeyedColumn, literal: QueryLiteral) -> tuple[Place, object]:
    """Return the value of a literal, and what its code is compared with.

    A number between two that the column's type can hold bounds the same values as the greater of the two.
    """
    kind, text, place = column.type, literal.text, literal.place
    try:
        if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
            # Decimal reads 1_000 and the digits of all scripts, Spark neither.
            exact = Decimal(text if text.isascii() and "_" not in text else "")
            step = Decimal(1).scaleb(-kind.scale if pa.types.is_decimal(kind) else 0)
            rounded = exact.quantize(step, ROUND_CEILING)
            if rounded != exact and place is not Place.EQUAL:
                place = Place.LOWER
            elif rounded != exact:
                raise _no_value(column)
            return place, int(rounded) if pa.types.is_integer(kind) else rounded
        return place, pa.scalar(text).cast(pa.float64() if pa.types.is_floating(kind) else kind).as_py()
    except (InvalidOperation, OverflowError, ValueError, pa.ArrowException):
        raise _no_value(column) from None


def _no_value(column: KeyedColumn) -> UsageError:
    return UsageError(f"A literal is no value of column {column.description.column}, which is {column.type}.", code="usage.literal")
