r"""Java's regular expressions as RE2's, which runs in linear time, and a refusal of those that mean something else there.

RE2 has no backreferences, lookaround or possessive quantifiers and says so. What both accept with another meaning is translated (``\s``
with the vertical tab, ``.`` without line ends) or refused here (class intersections, nested classes, flags, ``\v``, ``\C``, braces that
begin no repetition). What means something else in some texts only is told by `unlike_of`: ``$`` matches before a final line end in Java,
and letters beyond ASCII make words for its ``\b`` and ``\B``.
"""

import re
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from securemllib.errors import UsageError

__all__ = ["re2_of", "unlike_of"]

_SPACES = r"\t\n\x{0B}\f\r "
_LINE_ENDS = r"\n\r\x{85}\x{2028}\x{2029}"
# What matches a place and no letter, but where it is quoted.
_PLACES = frozenset({"^", "$", r"\A", r"\z", r"\b", r"\B"})
_BRACED = re.compile(r"\\[pPx]\{[^}]*\}")
_REPETITION = re.compile(r"\{[0-9]+(,[0-9]*)?\}")


def re2_of(pattern: str) -> str:
    """Return the RE2 pattern that matches what a Java pattern matches.

    Raises:
        UsageError: RE2 cannot match the pattern, or the pattern matches the empty text.
    """
    pieces = list(_pieces(pattern))
    translated = "".join(text for _, text, _ in pieces)
    # What may match between two letters, wherever that is, is where the two libraries go on differently.
    anywhere = "".join("(?:)" if taken in _PLACES and not in_class else text for taken, text, in_class in pieces)
    try:
        pc.match_substring_regex(pa.array([""]), pattern=translated)
        empty = pc.match_substring_regex(pa.array([""]), pattern=anywhere)[0].as_py()
    except pa.ArrowInvalid as error:
        raise _unsupported(pattern, str(error).partition("\n")[0]) from None
    if empty:
        raise _unsupported(pattern, "it matches the empty text")
    return translated


def unlike_of(pattern: str) -> str | None:
    """Return an RE2 pattern of the texts that a Java pattern may match otherwise than `re2_of` of it; None where there are none."""
    places = {taken for taken, _, in_class in _pieces(pattern) if not in_class}
    unlike = {"$": rf"[{_LINE_ENDS}]\z", r"\b": r"[^\x00-\x7F]", r"\B": r"[^\x00-\x7F]"}
    return "|".join(unlike[place] for place in sorted(places & unlike.keys())) or None


def _pieces(pattern: str) -> Iterator[tuple[str, str, bool]]:
    """Yield the parts of a pattern, their translations and whether they are within a class."""
    position, in_class = 0, False
    while position < len(pattern):
        taken, text = _escape(pattern, position, in_class) if pattern[position] == "\\" else _plain(pattern, position, in_class)
        if taken == "[" or (taken == "]" and in_class):
            in_class = taken == "["
        yield taken, text, in_class
        position += len(taken)


def _escape(pattern: str, position: int, in_class: bool) -> tuple[str, str]:
    """Return an escape and its translation."""
    braced = _BRACED.match(pattern, position)
    taken = braced.group() if braced else pattern[position : position + 2]
    if taken == r"\Q":
        end = pattern.find(r"\E", position)
        quoted = pattern[position:] if end < 0 else pattern[position : end + 2]
        if in_class:
            raise _unsupported(pattern, "it quotes within a class")
        return quoted, quoted
    if taken in {r"\v", r"\C"} or (in_class and taken == r"\S"):
        raise _unsupported(pattern, f"{taken} means something else there")
    spaces = {r"\s": _SPACES if in_class else f"[{_SPACES}]", r"\S": f"[^{_SPACES}]"}
    return taken, spaces.get(taken, taken)


def _plain(pattern: str, position: int, in_class: bool) -> tuple[str, str]:
    """Return one letter and its translation."""
    letter, two = pattern[position], pattern[position : position + 2]
    if in_class and (letter == "[" or two == "&&"):
        raise _unsupported(pattern, "it nests or intersects classes")
    if not in_class and two == "(?" and pattern[position + 2 : position + 3] not in {":", "<"}:
        raise _unsupported(pattern, "it sets flags or looks around")
    if not in_class and letter == "{":
        if (repetition := _REPETITION.match(pattern, position)) is None:
            raise _unsupported(pattern, "it has a brace that begins no repetition")
        return repetition.group(), repetition.group()
    return letter, f"[^{_LINE_ENDS}]" if letter == "." and not in_class else letter


def _unsupported(pattern: str, why: str) -> UsageError:
    return UsageError(f"The pattern {pattern!r} cannot be matched by RE2: {why}.", code="usage.unsupported")
