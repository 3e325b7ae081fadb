"""One encoded column with its key: encode it, encode a query's literal for it, decode codes, open sums."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from securemllib.crypto.encodings import additive, deterministic, order, token
from securemllib.crypto.encodings.homomorphic import SecretContext
from securemllib.crypto.encodings.keys import column_key, group_key
from securemllib.crypto.encodings.values import from_words, is_text
from securemllib.crypto.keys import DataKey
from securemllib.errors import UsageError
from securemllib.owner.ciphertexts import Blocks
from securemllib.owner.column_types import type_from_text
from securemllib.wire.companion import EncodedColumn, EncodingName

__all__ = ["KeyedColumn", "code_fields", "key_of"]


def key_of(name: str, encoding: EncodingName, group: DataKey | None, secret: DataKey, version: int, salt: bytes) -> DataKey:
    """Return the key of a column in an encoding: its join group's, or its own of this version."""
    return column_key(secret, encoding.value, name, version, salt) if group is None else group_key(group, encoding.value)


def code_fields(encoding: EncodingName, kind: pa.DataType) -> tuple[str, ...]:
    """Return the fields of the codes that a column of a type has in an encoding, or none where a code is one value."""
    if encoding is EncodingName.DETERMINISTIC:
        return deterministic.TEXT_FIELDS if is_text(kind) else deterministic.NUMBER_FIELDS
    return additive.FIELDS if encoding is EncodingName.ADDITIVE else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyedColumn:
    """A column in one encoding, and what its codes are made and opened with.

    Attributes:
        description: What the companion says of it.
        key: Its key.
        dictionary: Of ``order``: the values in order.
        secret: Of ``homomorphic``: what encrypts, and opens results.
        blocks: Of ``homomorphic``: where its rows lie in ciphertexts.
        total: Of ``additive``: the range of what was encoded so far.
    """

    description: EncodedColumn
    key: DataKey
    dictionary: pa.Array | None = None
    secret: SecretContext | None = None
    blocks: Blocks | None = None
    total: additive.Range = field(default_factory=additive.Range)

    @property
    def type(self) -> pa.DataType:
        """The plaintext column's type."""
        return type_from_text(self.description.type)

    def encode(self, values: pa.ChunkedArray, first_row: int) -> list[pa.Array]:
        """Return the stored columns of some rows, in the order of ``description.stored``.

        Args:
            values: The plaintext column.
            first_row: The number of the first row, from 1.
        """
        match self.description.encoding:
            case EncodingName.DETERMINISTIC:
                codes = deterministic.encode(self.key, values)
            case EncodingName.ADDITIVE:
                digits = self.description.digits if pa.types.is_floating(self.type) else None
                codes = additive.encode(self.key, values, first_row=first_row, digits=digits, total=self.total)
            case EncodingName.ORDER:
                return [order.encode(self._ranks, values)]
            case EncodingName.TOKEN:
                return [token.encode(self.key, values, alphabet=self.description.alphabet)]
            case _:
                return [values.combine_chunks()]
        return list(codes.flatten())

    def literal(self, value: object) -> dict[str, object]:
        """Return what a row that has this value holds in the stored columns, for an equality in a query.

        Raises:
            UsageError: The encoding answers no equality.
        """
        match self.description.encoding:
            case EncodingName.DETERMINISTIC:
                halves = deterministic.encode_literal(self.key, value, self.type)
                return dict(zip(self.description.stored, (halves[name] for name in deterministic.NUMBER_FIELDS), strict=False))
            case EncodingName.TOKEN:
                return {self.description.stored[0]: token.encode_literal(self.key, value, alphabet=self.description.alphabet)}
            case EncodingName.CLEAR:
                return {self.description.stored[0]: value}
            case _:
                raise UsageError(
                    f"Column {self.description.column!r} in the encoding {self.description.encoding.value} is compared with no value.",
                    next_step="Give it the encoding deterministic.",
                    code="usage.encoding",
                )

    def rank(self, value: object, *, above: bool = False) -> int:
        """Return the literal of a comparison in ``order``: the first rank not below a value, or above it (see `order.encode_literal`)."""
        return order.encode_literal(self._ranks, value, self.type, above=above)

    @property
    def _ranks(self) -> pa.Array:
        if self.dictionary is None:
            raise UsageError(f"Column {self.description.column!r} has no order here.", code="usage.encoding")
        return self.dictionary

    def decode(self, stored: Mapping[str, pa.Array | pa.ChunkedArray], rows: NDArray[np.int64] | None = None) -> pa.Array:
        """Return the values of stored columns.

        Args:
            stored: The stored columns by name.
            rows: The rows' numbers, which ``additive`` needs.

        Raises:
            IntegrityError: A code was not made with this column's key.
        """
        columns = [_whole(stored[name]) for name in self.description.stored]
        match self.description.encoding:
            case EncodingName.CLEAR:
                return columns[0]
            case EncodingName.TOKEN:
                return token.decode(self.key, columns[0], alphabet=self.description.alphabet)
            case EncodingName.ORDER:
                return order.decode(self._ranks, columns[0], self.type)
        codes = pa.StructArray.from_arrays(
            columns, names=list(code_fields(self.description.encoding, self.type)), mask=columns[0].is_null()
        )
        if self.description.encoding is EncodingName.DETERMINISTIC:
            return deterministic.decode(self.key, codes, self.type)
        if rows is None:
            raise UsageError("Additive codes are opened with their rows' numbers.", code="usage.encoding")
        return additive.decode(self.key, codes, self.type, rows, self.description.digits)

    def open_sum(self, hi: int, lo: int, cover: NDArray[np.int64]) -> int | Decimal | float:
        """Return the sum of an ``additive`` column over the rows of a cover, from Spark's sums of its limbs (see `additive.open_sum`)."""
        if self.description.encoding is not EncodingName.ADDITIVE:
            raise UsageError(f"Column {self.description.column!r} is not additive here.", code="usage.encoding")
        units = additive.open_sum(self.key, hi, lo, cover)
        if pa.types.is_decimal(self.type):
            return Decimal(units).scaleb(-self.description.digits)
        return units / 10.0**self.description.digits if pa.types.is_floating(self.type) else units

    def open_sums(self, hi: NDArray[np.int64], lo: NDArray[np.int64], rows: NDArray[np.int64], lengths: NDArray[np.int64]) -> pa.Array:
        """Return the sums of an ``additive`` column over groups of rows (see `additive.open_sums`), in the type that Spark gives sums."""
        if self.description.encoding is not EncodingName.ADDITIVE:
            raise UsageError(f"Column {self.description.column!r} is not additive here.", code="usage.encoding")
        units = additive.open_sums(self.key, hi, lo, rows, lengths)
        if pa.types.is_floating(self.type):
            return pa.array(units / 10.0**self.description.digits)
        decimal = pa.types.is_decimal(self.type)
        return from_words(units, None, pa.decimal128(min(self.type.precision + 10, 38), self.type.scale) if decimal else pa.int64())


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
