r"""Java's regular expressions as RE2's, which runs in linear time, and a refusal of those that mean something else there.

RE2 has no backreferences, lookaround or possessive quantifiers and says so. What both accept with another meaning is translated (``\s``
with the vertical tab, ``.`` without line ends) or refused here (class intersections, nested classes, flags, ``\v``, ``\C``).
"""

import pyarrow as pa
import pyarrow.compute as pc

from securemllib.errors import UsageError

__all__ = ["re2_of"]

_SPACES = r"\t\n\x{0B}\f\r "
_LINE_ENDS = r"\n\r\x{85}\x{2028}\x{2029}"


def re2_of(pattern: str) -> str:
    """Return the RE2 pattern that matches what a Java pattern matches.

    Raises:
        UsageError: RE2 cannot match the pattern, or the pattern matches the empty text.
    """
    translated = _translated(pattern)
    try:
        # What matches nothing at all matches between any two letters, where the two libraries go on differently.
        empty = pc.match_substring_regex(pa.array([""]), pattern=translated)[0].as_py()
    except pa.ArrowInvalid as error:
        raise _unsupported(pattern, str(error).partition("\n")[0]) from None
    if empty:
        raise _unsupported(pattern, "it matches the empty text")
    return translated


def _translated(pattern: str) -> str:
    made: list[str] = []
    position, in_class = 0, False
    while position < len(pattern):
        taken, text = _escape(pattern, position, in_class) if pattern[position] == "\\" else _plain(pattern, position, in_class)
        if taken == "[" or (taken == "]" and in_class):
            in_class = taken == "["
        made.append(text)
        position += len(taken)
    return "".join(made)


def _escape(pattern: str, position: int, in_class: bool) -> tuple[str, str]:
    """Return an escape and its translation."""
    taken = pattern[position : position + 2]
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
    return letter, f"[^{_LINE_ENDS}]" if letter == "." and not in_class else letter


def _unsupported(pattern: str, why: str) -> UsageError:
    return UsageError(f"The pattern {pattern!r} cannot be matched by RE2: {why}.", code="usage.unsupported")
