r"""Texts to lists of words, and lists of words to others.

Objective: Tokenizer and RegexTokenizer split texts, StopWordsRemover drops words, NGram joins each n neighbouring words.

Equivalence: ``pyspark.ml.feature.Tokenizer``, ``RegexTokenizer``, ``StopWordsRemover`` and ``NGram``, with Java's rules of splitting and
lower case. Patterns are matched by RE2: those that it cannot match as Java does are refused, the empty one and ``|`` among them, which
split between all letters there, and so are texts in which it would not: with letters beyond ASCII and ``\b`` or ``\B``, or with a final
line end and ``$``. A null text is refused, as in MLlib.

Reveals: nothing: a plan's step computes them inside enclaves.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from securemllib.algorithms.feature.patterns import re2_of, unlike_of
from securemllib.algorithms.feature.values import boolean, texts, tokens_of
from securemllib.algorithms.params import require_bool, require_integer
from securemllib.algorithms.transformer import Column, Transformed
from securemllib.errors import DataError, UsageError

__all__ = ["NGram", "RegexTokenizer", "StopWordsRemover", "Tokenizer"]

# Characters that do not occur in texts, to mark where matches begin and end.
_MARKS = ("\x00", "\x01", "\x02", "\ufdd0", "\ufdd1")

# Letters whose lower case depends on their place or is two letters: Arrow maps one letter to one.
_SPECIAL = "[\u0130\u03a3]"

# Languages whose i and I are two letters, each with its own lower case, and one whose lower case depends on accents.
_DOTTED_LANGUAGES, _OTHER_LANGUAGES = ("tr", "az"), ("lt",)


def _lower(array: pa.Array, locale: str = "en_US") -> pa.Array:
    """Return texts in Java's lower case."""
    if _language(locale) in _DOTTED_LANGUAGES:
        # Unicode's SpecialCasing: I with a dot, composed or not, is i; without a dot it is dotless.
        for upper, lower in (("\u0130", "i"), ("I\u0307", "i"), ("I", "\u0131")):
            array = pc.replace_substring(array, upper, lower)
    lowered = pc.utf8_lower(array)
    special = pc.match_substring_regex(array, pattern=_SPECIAL).fill_null(False)
    if not pc.any(special).as_py():
        return lowered
    written = pa.array([text.lower() for text in array.filter(special).to_pylist()], array.type)
    return pc.replace_with_mask(lowered, special, written)


def _language(locale: str) -> str:
    return locale.partition("_")[0]


def _read(column: Column) -> pa.Array:
    array = texts(column, "input")
    if array.null_count:
        raise DataError(f"{array.null_count} rows have a null text.", code="data.null")
    return array


def _offsets(lists: pa.Array) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(np.asarray(lists.value_lengths(), dtype=np.int64))])


def _kept(words: pa.Array, offsets: NDArray[np.int64], keep: NDArray[np.bool_]) -> pa.Array:
    """Return lists with only the words that are kept."""
    ends = np.concatenate([[0], np.cumsum(keep)])[offsets]
    return pa.ListArray.from_arrays(pa.array(ends.astype(np.int32)), words.filter(pa.array(keep)).cast(pa.string()))


def _split(array: pa.Array, pattern: str) -> pa.Array:
    """Return what lies between matches, as Java's ``split``: trailing empty texts fall away, a text without a match stays."""
    lists = pc.split_pattern_regex(array, pattern=pattern)
    words, offsets = lists.flatten(), _offsets(lists)
    filled = boolean(pc.greater(pc.binary_length(words), 0))
    last = np.maximum.accumulate(np.where(filled, np.arange(len(words)), -1)) if len(words) else np.zeros(0, np.int64)
    lengths = np.diff(offsets)
    keep = np.arange(len(words)) <= np.repeat(last[offsets[1:] - 1] if len(words) else last, lengths)
    return _kept(words, offsets, keep | np.repeat(lengths == 1, lengths))


def _matches(array: pa.Array, pattern: str) -> pa.Array:
    """Return the matches of each text."""
    mark = next((mark for mark in _MARKS if not pc.any(pc.match_substring(array, mark)).as_py()), None)
    if mark is None:
        raise DataError("The texts hold every character that could mark a match.", code="data.invalid")
    marked = pc.replace_substring_regex(array, pattern=f"({pattern})", replacement=f"{mark}\\1{mark}")
    lists = pc.split_pattern(marked, mark)
    words, offsets = lists.flatten(), _offsets(lists)
    # Text and match alternate: a list begins with what lies before the first match.
    odd = (np.arange(len(words)) - np.repeat(offsets[:-1], np.diff(offsets))) % 2 == 1
    return _kept(words, offsets, odd)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenizer:
    """``pyspark.ml.feature.Tokenizer``, which has no Params but its columns."""

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return ``output``: the words of each text in lower case, split at each white space."""
        (column,) = columns
        return Transformed(columns={"output": Column(_split(_lower(_read(column)), re2_of(r"\s")))})


@dataclass(frozen=True, slots=True, kw_only=True)
class RegexTokenizer:
    """Params of ``pyspark.ml.feature.RegexTokenizer``."""

    pattern: str = r"\s+"
    gaps: bool = True
    min_token_length: int = 1
    to_lowercase: bool = True

    def __post_init__(self) -> None:
        require_integer(self, "min_token_length", 0)
        require_bool(self, "gaps", "to_lowercase")
        re2_of(self.pattern)

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return ``output``: what lies between the pattern's matches, or the matches, where these are long enough."""
        (column,) = columns
        array = _lower(_read(column)) if self.to_lowercase else _read(column)
        unlike = unlike_of(self.pattern)
        if unlike is not None and (others := pc.sum(pc.match_substring_regex(array, unlike)).as_py()):
            raise DataError(f"In the texts of {others} rows the pattern {self.pattern!r} may match otherwise in Java.", code="data.pattern")
        lists = (_split if self.gaps else _matches)(array, re2_of(self.pattern))
        words = lists.flatten()
        # Java counts UTF-16 units: a letter beyond the basic multilingual plane is two.
        lengths = pc.add(pc.utf8_length(words), pc.count_substring_regex(words, pattern=r"[\x{10000}-\x{10FFFF}]"))
        return Transformed(columns={"output": Column(_kept(words, _offsets(lists), np.asarray(lengths) >= self.min_token_length))})


@dataclass(frozen=True, slots=True, kw_only=True)
class StopWordsRemover:
    """Params of ``pyspark.ml.feature.StopWordsRemover``; Turkish and Azerbaijani have a lower case of their own."""

    stop_words: tuple[str, ...]
    case_sensitive: bool = False
    locale: str = "en_US"

    def __post_init__(self) -> None:
        require_bool(self, "case_sensitive")
        if _language(self.locale) in _OTHER_LANGUAGES and not self.case_sensitive:
            raise UsageError(f"locale {self.locale} has a lower case of its own, which is not known here", code="usage.unsupported")

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return ``output0``, ``output1``...: the words that are no stop words."""
        stops = pa.array(self.stop_words, pa.string())
        stops = stops if self.case_sensitive else _lower(stops, self.locale)
        return Transformed(columns={f"output{index}": Column(self._rest(column, index, stops)) for index, column in enumerate(columns)})

    def _rest(self, column: Column, index: int, stops: pa.Array) -> pa.Array:
        lists = tokens_of(column, f"input{index}")
        words = lists.flatten()
        encoded = words.dictionary_encode()
        distinct = encoded.dictionary.cast(pa.string())
        stopped = pc.is_in(distinct if self.case_sensitive else _lower(distinct, self.locale), value_set=stops)
        return _kept(words, _offsets(lists), ~boolean(stopped.take(encoded.indices).fill_null(False)))


@dataclass(frozen=True, slots=True, kw_only=True)
class NGram:
    """Params of ``pyspark.ml.feature.NGram``."""

    n: int = 2

    def __post_init__(self) -> None:
        require_integer(self, "n", 1)

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return ``output``: each n neighbouring words of a list, joined by spaces."""
        (column,) = columns
        lists = tokens_of(column, "input")
        words, offsets = lists.flatten().fill_null("null"), _offsets(lists)
        counts = np.maximum(np.diff(offsets) - self.n + 1, 0)
        ends = np.concatenate([[0], np.cumsum(counts)])
        starts = np.arange(ends[-1]) + np.repeat(offsets[:-1] - ends[:-1], counts)
        neighbours = [words.take(pa.array(starts + step)) for step in range(self.n if len(starts) else 1)]
        joined = pc.binary_join_element_wise(*neighbours, pa.scalar(" ", words.type))
        return Transformed(columns={"output": Column(pa.ListArray.from_arrays(pa.array(ends.astype(np.int32)), joined.cast(pa.string())))})
