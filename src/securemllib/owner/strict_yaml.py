"""YAML read strictly: an unknown name, a repeated key and a value of another type are errors that say where they are."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import yaml

from securemllib.errors import UsageError

__all__ = ["POLICY", "Document", "StrictReader", "read_yaml", "read_yaml_lines", "wrong"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What is being read.

    Attributes:
        name: How errors call it.
        code: The code of its errors.
        advice: Where the reader finds what it should look like.
    """

    name: str
    code: str
    advice: str


POLICY = Document(name="policy", code="usage.policy", advice="Compare it with `securemllib policy new`.")


def read_yaml(text: str, document: Document = POLICY) -> Any:
    """Return the values of a document in YAML; `UsageError` where it is none, or a key stands twice."""
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader that also refuses repeated keys
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark is not None else ""
        raise UsageError(
            f"The {document.name} is no valid YAML{where}: {getattr(error, 'problem', None) or 'it cannot be read'}.", code=document.code
        ) from None


def read_yaml_lines(text: str, document: Document = POLICY) -> tuple[Any, dict[tuple[str | int, ...], int]]:
    """Return the values of a document in YAML, as `read_yaml` does, and the line in which each field and item begins."""
    tree = read_yaml(text, document)
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    return tree, {} if node is None else dict(_lines(node, ()))


def _lines(node: yaml.Node, place: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*place, key.value)
            yield inner, key.start_mark.line + 1
            yield from _lines(value, inner)
    elif isinstance(node, yaml.SequenceNode):
        for position, value in enumerate(node.value):
            yield (*place, position), value.start_mark.line + 1
            yield from _lines(value, (*place, position))


class _StrictLoader(yaml.SafeLoader):
    """YAML without objects, in which a key stands once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(problem=f"the key {key.value!r} stands twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class StrictReader:
    """Checks values; each error names where it is."""

    document: ClassVar[Document] = POLICY

    def mapping(self, tree: Any, where: str, known: Iterable[str], required: Iterable[str] = ()) -> Mapping[str, Any]:
        """Return a map that has only known names, and all required ones."""
        if not isinstance(tree, dict):
            raise self.wrong(where, "is a map of fields")
        for field in tree:
            self.name(field, where, list(known))
        for field in required:
            if field not in tree:
                raise self.wrong(where, f"needs the field {field!r}")
        return tree

    def name(self, value: Any, where: str, known: Iterable[str]) -> str:
        """Return one of the known names; the error offers the nearest one."""
        names = list(known)
        if isinstance(value, str) and value in names:
            return value
        near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.5)
        advice = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(names) or 'none'}."
        raise UsageError(f"In the {self.document.name}, {where} has no {str(value)!r}.", next_step=advice, code=self.document.code)

    def sequence(self, tree: Any, where: str) -> list[Any]:
        """Return a list."""
        if not isinstance(tree, list):
            raise self.wrong(where, "is a list")
        return tree

    def text(self, value: Any, where: str) -> str:
        """Return a text that is not empty."""
        if not isinstance(value, str) or not value:
            raise self.wrong(where, "is a text")
        return value

    def integer(self, value: Any, where: str) -> int | None:
        """Return a whole number from 0 on, or None where there is none."""
        if value is not None and (type(value) is not int or value < 0):
            raise self.wrong(where, "is a whole number")
        return value

    def digest(self, value: Any, where: str, lengths: tuple[int, ...]) -> bytes:
        """Return the bytes of a hexadecimal text of one of these lengths."""
        try:
            found = bytes.fromhex(value)
        except (TypeError, ValueError):
            found = b""
        if len(found) not in lengths:
            raise self.wrong(where, f"holds quoted hexadecimal texts of {' or '.join(map(str, lengths))} bytes")
        return found

    def wrong(self, where: str, rule: str, found: str | None = None) -> UsageError:
        """Return the error for a value that does not follow its rule."""
        return wrong(where, rule, found, self.document)


def wrong(where: str, rule: str, found: str | None = None, document: Document = POLICY) -> UsageError:
    """Return the error for a value that does not follow its rule."""
    seen = "" if found is None else f", not {found!r}"
    return UsageError(f"In the {document.name}, {where} {rule}{seen}.", next_step=document.advice, code=document.code)
