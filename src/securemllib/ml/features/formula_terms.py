"""R formulas as MLlib reads them: ``y ~ a + b:c - 1``, and which columns their terms name."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from securemllib.errors import UsageError

__all__ = ["Formula", "parse_formula"]

_DOT, _NONE, _INTERCEPT = ".", "0", "1"
_TOKEN = re.compile(r"\s*((?:[a-zA-Z]|\.[a-zA-Z_])[a-zA-Z0-9._]*|[01](?![0-9a-zA-Z.])|[-+:*.~])")
_OPERATORS = frozenset("-+:*~")

# Columns that are multiplied; of one for a term of its own.
Term = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Formula:
    """A formula.

    Attributes:
        label: The column before the tilde; empty where there is none.
        terms: Whether each term is added, and the columns of it, in their order.
    """

    label: str
    terms: tuple[tuple[bool, Term], ...]

    @property
    def has_intercept(self) -> bool:
        """Whether the model behind the features has an intercept, so that one category of each text is left out."""
        last = [adds == (term == (_INTERCEPT,)) for adds, term in self.terms if term in {(_NONE,), (_INTERCEPT,)}]
        return not last or last[-1]

    def resolved(self, columns: list[str]) -> list[Term]:
        """Return the terms over the columns that a dot stands for, each once.

        Args:
            columns: Names, without the label.
        """
        found: list[Term] = []
        for adds, term in self.terms:
            if term in {(_NONE,), (_INTERCEPT,)}:
                continue
            expanded = _expanded(term, columns)
            if adds:
                found += expanded
            else:
                gone = {frozenset(each) for each in expanded}
                found = [each for each in found if frozenset(each) not in gone]
        return list(dict.fromkeys(found))


def parse_formula(text: str) -> Formula:
    """Return the formula of a text; `UsageError` where it is none, or has parentheses or powers."""
    tokens, end = [], 0
    while end < len(text.rstrip()):
        match = _TOKEN.match(text, end)
        if match is None:
            raise _unreadable(text)
        tokens.append(match.group(1))
        end = match.end()
    if tokens.count("~") != 1 or tokens.index("~") > 1 or tokens[:1] == [_DOT] or tokens[0] in {_NONE, _INTERCEPT}:
        raise _unreadable(text)
    tilde = tokens.index("~")
    return Formula(label="".join(tokens[:tilde]), terms=_terms(tokens[tilde + 1 :], lambda: _unreadable(text)))


def _terms(tokens: list[str], error: Callable[[], UsageError]) -> tuple[tuple[bool, Term], ...]:
    """Return the terms of a sum of products of interactions."""
    operands, operators = tokens[::2], ["+", *tokens[1::2]]
    if not len(tokens) % 2 or any(token in _OPERATORS for token in operands) or not set(operators) <= set("-+:*"):
        raise error()
    sums: list[tuple[bool, list[list[str]]]] = []
    for operator, operand in zip(operators, operands, strict=True):
        if operator in "+-":
            sums.append((operator == "+", [[operand]]))
        elif operator == "*":
            sums[-1][1].append([operand])
        else:
            sums[-1][1][-1].append(operand)
    for _, factors in sums:
        names = [name for factor in factors for name in factor]
        if len(names) > 1 and {_NONE, _INTERCEPT} & set(names):
            raise error()
    return tuple((adds, term) for adds, factors in sums for term in _crossed([tuple(factor) for factor in factors]))


def _crossed(factors: list[Term]) -> list[Term]:
    """Return ``a * b`` as ``a``, ``b`` and ``a:b``."""
    found = [factors[0]]
    for factor in factors[1:]:
        found = [*found, factor, *(term + factor for term in found)]
    return found


def _expanded(term: Term, columns: list[str]) -> list[Term]:
    """Return a term with columns for its dots, shorter products first: ``a:b`` is ``b:a``, and ``a:a`` is ``a``."""
    made: list[Term] = [()]
    for name in reversed(term):
        made = _distinct([tuple(dict.fromkeys((each, *rest))) for each in (columns if name == _DOT else [name]) for rest in made])
    return made


def _distinct(terms: list[Term]) -> list[Term]:
    seen = {frozenset(term): term for term in reversed(terms)}
    return sorted((term for term in dict.fromkeys(terms) if seen[frozenset(term)] == term), key=len)


def _unreadable(text: str) -> UsageError:
    return UsageError(
        f"Could not parse formula: {text}.",
        next_step="Formulas are of ~ . : + - * and column names; write out parentheses and powers.",
        code="usage.param",
    )
