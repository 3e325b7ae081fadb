"""The companion of a dataset: encoded columns as ordinary Parquet that plain Spark reads, and one signed record that says what they are.

The record is clear, because the host plans queries with it: it names columns, types, encodings and keys' public names, and no key. It is
signed by the dataset's owner and names the dataset's version by its manifest's digest, so that a companion goes with that version alone.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from securemllib.errors import FormatError
from securemllib.wire.dataset import DatasetRef
from securemllib.wire.encoding import length_prefixed
from securemllib.wire.record import Record

__all__ = [
    "COMPANION_DIRECTORY",
    "COMPANION_FILE",
    "PUBLIC_CONTEXT",
    "ROW_COLUMN",
    "SECRET_CONTEXT",
    "Companion",
    "CompanionFile",
    "EncodedColumn",
    "EncodingName",
    "ciphertext_context",
    "dictionary_context",
    "stored_names",
]

# Within the dataset's directory.
COMPANION_DIRECTORY = "companion"
COMPANION_FILE = "companion.sml"
# The rows' numbers, from 1: the cover of an additive sum is made of them.
ROW_COLUMN = "__row"
# In the metadata of a file of ciphertexts, in hexadecimal: what a host computes with, and what the owner opens results with, sealed.
PUBLIC_CONTEXT = "securemllib.ckks.public"
SECRET_CONTEXT = "securemllib.ckks.sealed"  # noqa: S105 - a name, no secret


class EncodingName(StrEnum):
    """The encodings that a companion can hold; `sealed` columns are in none."""

    DETERMINISTIC = "deterministic"
    ORDER = "order"
    ADDITIVE = "additive"
    TOKEN = "token"  # noqa: S105 - an encoding, no secret
    HOMOMORPHIC = "homomorphic"
    CLEAR = "clear"


# What is behind a column's name in the names of its stored columns.
_SUFFIXES = {
    EncodingName.DETERMINISTIC: "__det",
    EncodingName.ORDER: "__ord",
    EncodingName.ADDITIVE: "__add",
    EncodingName.TOKEN: "__token",
    EncodingName.CLEAR: "",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedColumn(Record):
    """One column in one encoding; a column may have several.

    Attributes:
        column: The column's name in the dataset.
        encoding: How it is encoded.
        type: The column's type, as a text (see `securemllib.wire.dataset.Column`).
        kind: What its values can be compared with: two columns are joined only where kind and key id are equal.
        stored: The names of the companion's columns that hold it: of ``deterministic`` two halves ``COLUMN__det_hi`` and
            ``COLUMN__det_lo`` (BIGINT) and of a text also ``COLUMN__det_text`` (BINARY, for opening); of ``additive`` two limbs
            ``COLUMN__add_hi`` and ``COLUMN__add_lo`` (INT); of ``order`` ``COLUMN__ord`` (BIGINT); of ``token`` ``COLUMN__token``
            (STRING); of ``clear`` the column's own name. ``homomorphic`` columns lie in files of their own.
        nullable: Whether it holds nulls.
        key_id: The public name of its key; empty without a key.
        join_group: The group whose key it has, or empty.
        digits: Of ``additive``: the digits after the point of the sums' unit; a decimal's scale, 0 of integers.
        alphabet: Of ``token``: the characters that are encrypted; others stay where they are.
    """

    TYPE: ClassVar[str] = "securemllib/encoded-column/v1"

    column: str
    encoding: EncodingName
    type: str
    kind: str
    stored: tuple[str, ...]
    nullable: bool
    key_id: str
    join_group: str
    digits: int
    alphabet: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CompanionFile(Record):
    """One file of a companion.

    Attributes:
        file: Its plain name in the companion's directory.
        length: Its bytes.
        sha256: Their SHA-256.
        rows: The rows that it holds, or stands for.
    """

    TYPE: ClassVar[str] = "securemllib/companion-file/v1"

    file: str
    length: int
    sha256: bytes
    rows: int

    def __post_init__(self) -> None:
        if not self.file or "/" in self.file or "\\" in self.file or self.file.startswith("."):
            raise FormatError("A companion's file is a plain name in its directory.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Companion(Record):
    """What a companion holds.

    Attributes:
        dataset: The dataset's version.
        owner: The owner's fingerprint.
        salt: 32 random bytes that the columns' keys depend on.
        columns: The encoded columns.
        parts: The Parquet files, in order: rows are numbered through them from 1, and they follow the dataset's own parts.
        dictionaries: Of each column in ``order``, by name, its sealed dictionary.
        ciphertexts: Of each ``homomorphic`` column, by name, its Parquet file of ciphertexts, a row a block of rows.
    """

    TYPE: ClassVar[str] = "securemllib/companion/v1"

    dataset: DatasetRef
    owner: str
    salt: bytes
    columns: tuple[EncodedColumn, ...]
    parts: tuple[CompanionFile, ...]
    dictionaries: dict[str, CompanionFile]
    ciphertexts: dict[str, CompanionFile]

    def __post_init__(self) -> None:
        # Spark sees no difference in case.
        stored = [name.lower() for column in self.columns for name in column.stored]
        if len({*stored, ROW_COLUMN}) != len(stored) + 1:
            raise FormatError("Two encoded columns are stored under one name.")
        if {item.column for item in self.columns if item.encoding is EncodingName.ORDER} != set(self.dictionaries):
            raise FormatError("A companion has a dictionary for each column in order, and for no other.")
        if {item.column for item in self.columns if item.encoding is EncodingName.HOMOMORPHIC} != set(self.ciphertexts):
            raise FormatError("A companion has a file of ciphertexts for each homomorphic column, and for no other.")

    @property
    def rows(self) -> int:
        """The rows of all parts."""
        return sum(part.rows for part in self.parts)

    def find(self, column: str, encoding: EncodingName) -> EncodedColumn | None:
        """Return a column in an encoding, or None where the companion lacks it."""
        return next((item for item in self.columns if (item.column, item.encoding) == (column, encoding)), None)


def stored_names(column: str, encoding: EncodingName, fields: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the companion's columns for a column in an encoding whose codes have these fields, or none."""
    if encoding is EncodingName.HOMOMORPHIC:
        return ()
    stem = column + _SUFFIXES[encoding]
    return tuple(f"{stem}_{field}" for field in fields) or (stem,)


def dictionary_context(dataset_id: str, version: int, column: str) -> bytes:
    """Return the associated data of a sealed dictionary of order codes."""
    return length_prefixed("securemllib/order-dictionary/v1", dataset_id, version, column)


def ciphertext_context(dataset_id: str, version: int, column: str) -> bytes:
    """Return the associated data of the sealed context of a homomorphic column."""
    return length_prefixed("securemllib/ckks-context/v1", dataset_id, version, column)
