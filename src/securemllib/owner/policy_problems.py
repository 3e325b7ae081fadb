"""What is wrong with a policy's YAML, in words: where, what, and the nearest name that policies have."""

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import ValidationError

from securemllib.errors import UsageError
from securemllib.owner.policy_schema import known_names, written_schema

__all__ = ["Problem", "nearest", "problems_of"]

_ADVICE = "Compare it with `securemllib policy new`, or let an editor check it with `securemllib policy schema`."
# The fields whose texts have a shape of their own.
_SHAPES = {
    "measurement": "holds quoted hexadecimal texts of 32 or 48 bytes",
    "signer": "holds quoted hexadecimal texts of 32 bytes",
    "insecure_roots": "holds quoted hexadecimal texts of 32 bytes",
    "advisories": "holds ids like INTEL-SA-00615",
    "dataset_id": "is the dataset's id: write `dataset: ID`, or sign it for the dataset's directory",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        place: Where: fields and positions.
        words: What: goes on from the place's name.
        advice: What to do.
    """

    place: tuple[str | int, ...]
    words: str
    advice: str = _ADVICE

    def error(self, name: str, line: Callable[[tuple[str | int, ...]], int]) -> UsageError:
        """Return the error of a file's problem."""
        return UsageError(f"In {name}, line {line(self.place)}: {self.said}.", next_step=self.advice, code="usage.policy")

    @property
    def said(self) -> str:
        """Where and what."""
        place = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in self.place).lstrip(".")
        return f"{place or 'the policy'} {self.words}"


def nearest(name: str, known: Sequence[str]) -> str:
    """Return advice about a name that is not among the known ones."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(known) or 'none'}."


def problems_of(error: ValidationError, tree: Any) -> list[Problem]:
    """Return the problems of a policy: names that policies do not have first, because what is missing often follows from them."""
    found = sorted(
        error.errors(include_url=False), key=lambda item: item["type"] not in {"unexpected_keyword_argument", "unknown_name", "enum"}
    )
    return list(dict.fromkeys(_problem(dict(item), tree) for item in found))


@cache
def _schema() -> dict[str, Any]:
    return written_schema()


def _problem(item: dict[str, Any], tree: Any) -> Problem:
    context = item.get("ctx") or {}
    place = _place((*item["loc"], *context.get("path", ())), tree)
    last = item["loc"][-1] if item["loc"] else ""
    if item["type"] == "unexpected_keyword_argument":
        advice = nearest(str(last), known_names(_schema(), item["loc"][:-1]))
        return Problem(place=place, words="is no field of a policy", advice=advice)
    if item["type"] == "missing":
        return Problem(place=place, words=_SHAPES.get(str(last), f"needs the field {last!r}"))
    if "known" in context:
        return Problem(place=place, words=item["msg"], advice=nearest(str(place[-1]), context["known"]))
    if item["type"] in {"enum", "literal_error"}:
        known = re.findall(r"'([^']*)'", context.get("expected", ""))
        return Problem(place=place, words="has a value that it cannot have", advice=nearest(str(item["input"]), known))
    shape = next((_SHAPES[part] for part in reversed(item["loc"]) if part in _SHAPES and "string" in item["type"]), None)
    return Problem(place=place, words=shape or _lower(item["msg"]))


def _place(location: tuple[str | int, ...], tree: Any) -> tuple[str | int, ...]:
    """Return the part of a location that the file has: pydantic also names the variants of a type."""
    place: list[str | int] = []
    for part in location:
        known: Any = tree if isinstance(tree, dict) else dict(enumerate(tree)) if isinstance(tree, list) else {}
        if part in known:
            tree = known[part]
            place.append(part)
    return tuple(place)


def _lower(words: str) -> str:
    return words.replace("Input should", "should").rstrip(".")
