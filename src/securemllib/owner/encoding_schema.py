"""Encoding schemas as owners write them: one YAML file next to the data that says which columns get which encodings.

Columns that the schema does not name stay ``sealed``: only enclaves read them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from securemllib.errors import UsageError
from securemllib.owner.strict_yaml import Document, StrictReader, read_yaml
from securemllib.wire.companion import EncodingName

__all__ = ["ALPHABETS", "TEMPLATE", "ColumnEncoding", "load_encodings", "schema_from_text"]

TEMPLATE = """\
# Which columns plain Spark may work on, and how. Columns that are not named stay sealed: only enclaves read them.
# `securemllib data plan` prints what each encoding reveals, measured on your rows.
columns:
  customer: {encoding: deterministic, join_group: customers}   # equality; joins with other datasets' columns of the group
  amount: additive                                             # sums and averages
  price: {encoding: additive, digits: 2}                       # floats are summed in units of 0.01
  card: {encoding: token, alphabet: digits}                    # same length and characters; equality
  day: [order, deterministic]                                  # ranges and sorting; a column may have several encodings
  region: clear                                                # everybody sees it
"""

_DOCUMENT = Document(name="schema", code="usage.schema", advice="Compare it with `securemllib data schema-template`.")
_SEALED = "sealed"
ALPHABETS = {
    "digits": "0123456789",
    "lower": "abcdefghijklmnopqrstuvwxyz",
    "alphanumeric": "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
}
_FIELDS = {
    EncodingName.DETERMINISTIC: ("join_group",),
    EncodingName.ORDER: (),
    EncodingName.ADDITIVE: ("digits",),
    EncodingName.TOKEN: ("join_group", "alphabet"),
    EncodingName.HOMOMORPHIC: (),
    EncodingName.CLEAR: (),
}
# A double holds no more decimal digits.
_DIGITS_LIMIT = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnEncoding:
    """What a schema says of one column in one encoding.

    Attributes:
        column: The column's name.
        encoding: The encoding.
        join_group: The group whose key it has, or empty.
        digits: Of ``additive`` floats: digits after the point; None where the schema names none.
        alphabet: Of ``token``: the characters that are encrypted.
    """

    column: str
    encoding: EncodingName
    join_group: str = ""
    digits: int | None = None
    alphabet: str = ""


def load_encodings(path: Path) -> tuple[ColumnEncoding, ...]:
    """Return the encodings that a schema's YAML file declares."""
    try:
        return schema_from_text(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"There is no file {path}.", next_step="`securemllib data schema-template` prints one.", code="usage.missing_file"
        ) from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is no UTF-8 text.", code="usage.schema") from None


def schema_from_text(text: str) -> tuple[ColumnEncoding, ...]:
    """Return the encodings that a YAML text declares.

    Raises:
        UsageError: It is no YAML, or has a field, an encoding or a value that schemas do not have.
    """
    reader = _Reader()
    top = reader.mapping(read_yaml(text, _DOCUMENT), "schema", ("columns",), required=("columns",))
    columns = top["columns"]
    if not isinstance(columns, dict):
        raise reader.wrong("columns", "is a map from columns to encodings")
    return tuple(item for name, tree in columns.items() for item in reader.column(reader.text(name, "columns"), tree))


class _Reader(StrictReader):
    document: ClassVar[Document] = _DOCUMENT

    def column(self, name: str, tree: Any) -> list[ColumnEncoding]:
        where = f"columns.{name}"
        if tree == _SEALED:
            return []
        found = [self.encoding(name, item, where) for item in (tree if isinstance(tree, list) else [tree])]
        if len({item.encoding for item in found}) != len(found):
            raise self.wrong(where, "names an encoding once")
        return found

    def encoding(self, name: str, tree: Any, where: str) -> ColumnEncoding:
        names = [item.value for item in EncodingName]
        if isinstance(tree, str):
            return self.declared(name, EncodingName(self.name(tree, where, names)), {}, where)
        known = self.mapping(tree, where, ("encoding", "join_group", "digits", "alphabet"), required=("encoding",))
        encoding = EncodingName(self.name(known["encoding"], where, names))
        options = {field: value for field, value in known.items() if field != "encoding"}
        return self.declared(name, encoding, self.mapping(options, f"{where} ({encoding.value})", _FIELDS[encoding]), where)

    def declared(self, name: str, encoding: EncodingName, options: Mapping[str, Any], where: str) -> ColumnEncoding:
        digits = self.integer(options.get("digits"), f"{where}.digits")
        if digits is not None and digits > _DIGITS_LIMIT:
            raise self.wrong(f"{where}.digits", f"is at most {_DIGITS_LIMIT}")
        alphabet = self.name(options.get("alphabet", "digits"), f"{where}.alphabet", ALPHABETS)
        return ColumnEncoding(
            column=name,
            encoding=encoding,
            join_group=self.text(options["join_group"], f"{where}.join_group") if "join_group" in options else "",
            digits=digits,
            alphabet=ALPHABETS[alphabet] if encoding is EncodingName.TOKEN else "",
        )
