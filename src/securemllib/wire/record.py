"""Messages as frozen dataclasses: the annotations are the schema, and the one decoder follows them strictly."""

import types
from dataclasses import fields
from enum import StrEnum
from functools import cache
from typing import Any, ClassVar, Self, Union, get_args, get_origin, get_type_hints

from securemllib.errors import FormatError
from securemllib.wire.encoding import MESSAGE_LIMIT, Value, decode, digest, encode

__all__ = ["Record"]


class Record:
    """Base of every message: a frozen dataclass with a ``TYPE`` that names it on the wire.

    Fields may be bytes, str, int, float, bool, None, a `StrEnum`, another record, a union of these,
    ``tuple[T, ...]`` or ``dict[str, T]``. A domain that the types cannot say is checked in ``__post_init__`` with `FormatError`.
    """

    __slots__ = ()
    TYPE: ClassVar[str]

    def to_tree(self) -> dict[str, Value]:
        """Return the record as a tree of basic values."""
        tree: dict[str, Value] = {"@": self.TYPE}
        for field in fields(self):  # type: ignore[arg-type]
            tree[field.name] = _to_tree(getattr(self, field.name))
        return tree

    @classmethod
    def from_tree(cls, tree: Value) -> Self:
        """Return the record that a tree describes.

        Raises:
            FormatError: Another type, a missing or unknown field, or a value outside of its field's type.
        """
        if not isinstance(tree, dict) or tree.get("@") != cls.TYPE:
            raise FormatError(f"The bytes are no {cls.TYPE}.")
        hints = _hints(cls)  # type: ignore[arg-type]
        if tree.keys() - {"@"} != hints.keys():
            raise FormatError(f"A {cls.TYPE} has the fields {sorted(hints)}, no more and no less.")
        values = {name: _from_tree(hint, tree[name], f"{cls.TYPE}.{name}") for name, hint in hints.items()}
        return cls(**values)

    def to_bytes(self) -> bytes:
        """Return the record's only encoding."""
        return encode(self.to_tree())

    @classmethod
    def from_bytes(cls, data: bytes | memoryview, *, limit: int = MESSAGE_LIMIT) -> Self:
        """Return the record whose encoding is ``data``; `FormatError` otherwise."""
        return cls.from_tree(decode(data, limit=limit))

    def content_digest(self) -> bytes:
        """Return the SHA-256 that names this record: 32 bytes."""
        return digest(self.TYPE, self.to_bytes())


@cache
def _hints(cls: Any) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in fields(cls)}


def _to_tree(value: object) -> Value:
    if isinstance(value, Record):
        return value.to_tree()
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, (tuple, list)):
        return [_to_tree(item) for item in value]
    if isinstance(value, dict):
        return {key: _to_tree(item) for key, item in value.items()}
    return value  # type: ignore[return-value]


def _from_tree(hint: Any, value: Value, where: str) -> Any:
    if type(value) is hint:
        return value
    origin = get_origin(hint)
    if origin in {Union, types.UnionType}:
        return _from_union(get_args(hint), value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise FormatError(f"{where} is no list.")
        return tuple(_from_tree(get_args(hint)[0], item, where) for item in value)
    if origin is dict:
        if not isinstance(value, dict):
            raise FormatError(f"{where} is no map.")
        return {key: _from_tree(get_args(hint)[1], item, where) for key, item in value.items()}
    return _from_simple(hint, value, where)


def _from_union(hints: tuple[Any, ...], value: Value, where: str) -> Any:
    for hint in hints:
        if isinstance(hint, type) and issubclass(hint, Record):
            if isinstance(value, dict) and value.get("@") == hint.TYPE:
                return hint.from_tree(value)
        elif get_origin(hint) in {tuple, dict}:
            try:
                return _from_tree(hint, value, where)
            except FormatError:
                continue
        elif type(value) is hint:
            return value
    raise FormatError(f"{where} has a value outside of its type.")


def _from_simple(hint: Any, value: Value, where: str) -> Any:
    if issubclass(hint, Record):
        return hint.from_tree(value)
    if issubclass(hint, StrEnum):
        if not isinstance(value, str) or value not in hint._value2member_map_:
            raise FormatError(f"{where} is none of {[member.value for member in hint]}.")
        return hint(value)
    raise FormatError(f"{where} is no {hint.__name__}.")
