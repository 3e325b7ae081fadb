"""Order: each value's rank among the distinct values of the column, in one version of a dataset.

The codes are 0, 1, 2... in the values' order, so Spark compares and sorts them as it would the values; nothing is encrypted but the
dictionary that leads back, which stays sealed beside the companion. A value that no row has lies between two ranks, so a literal becomes
the first rank that is not below it, or the first that is above it. Texts are ordered by their bytes and not-a-number is the largest
number, as in Spark. Ranks of two columns, or of two versions, have nothing to do with one another.

Answers: comparisons (<, <=, =, >=, >, BETWEEN), ORDER BY, top-k, MIN and MAX, GROUP BY, DISTINCT, COUNT.
Reveals: the order of all rows and which are equal, where nulls are, and how many values there are. Whoever knows how the values are
distributed in general reads most of them off their ranks: of ages or dates, nearly every row.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from securemllib.crypto.aead import seal, unseal
from securemllib.crypto.encodings.values import from_words, is_text, literal, nulls, single, to_words, with_nulls
from securemllib.crypto.keys import DataKey
from securemllib.errors import FormatError, IntegrityError

__all__ = ["DictionaryBuilder", "decode", "encode", "encode_literal", "open_dictionary", "seal_dictionary"]

# A hash table of the dictionary costs as much as so many rows for each of its values.
_REPEATS = 4


class DictionaryBuilder:
    """Gathers the distinct values of a column that comes in parts; its memory is that of the distinct values."""

    def __init__(self) -> None:
        self._found: list[pa.Array] = []

    def add(self, array: pa.Array | pa.ChunkedArray) -> None:
        """Take the values of a part."""
        self._found.append(_distinct(_plain(single(array)).drop_null()))
        # Merged when there are as many new values as old ones, so that each is touched a few times only.
        if sum(map(len, self._found[1:])) >= len(self._found[0]):
            self._found = [self.finish()]

    def finish(self) -> pa.Array:
        """Return the dictionary: all values in order, as int64 words, doubles or texts."""
        if not self._found:
            raise FormatError("A column without a part has no dictionary.")
        return _distinct(pa.concat_arrays(self._found))


def encode(dictionary: pa.Array, array: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return the ranks (int64) of a column's values in the dictionary that was made of them; null where it is."""
    values = _plain(single(array))
    if len(dictionary) <= _REPEATS * len(values):
        return pc.index_in(values, value_set=dictionary).cast(pa.int64())
    # A part is small beside this dictionary, which a hash table of it would have to read again for each part.
    encoded = values.dictionary_encode()
    needles = _sortable(encoded.dictionary)
    order = np.argsort(needles)
    ranks = np.empty(len(needles), np.int64)
    # Needles in order walk through the dictionary instead of jumping about in it.
    ranks[order] = np.searchsorted(_sortable(dictionary), needles[order])
    return pa.array(ranks).take(encoded.indices)


def decode(dictionary: pa.Array, codes: pa.Array | pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    """Return the column of a type that has these ranks.

    Raises:
        IntegrityError: A rank is none of the dictionary's.
    """
    ranks = single(codes)
    if not pa.types.is_integer(ranks.type):
        raise IntegrityError(f"Values of {ranks.type} are no codes in order.", code="integrity.encoding")
    bounds = pc.min_max(ranks).as_py()
    if bounds["min"] is not None and not 0 <= bounds["min"] <= bounds["max"] < len(dictionary):
        raise IntegrityError(f"Codes are outside of a dictionary of {len(dictionary)} values.", code="integrity.encoding")
    values = dictionary.take(ranks)
    if is_text(kind) or pa.types.is_floating(kind):
        return values.cast(kind)
    return from_words(np.asarray(values.fill_null(0), np.int64), nulls(values), kind)


def encode_literal(dictionary: pa.Array, value: object, kind: pa.DataType, *, above: bool = False) -> int:
    """Return the first rank whose value is at least ``value``, or with ``above`` greater than it.

    ``x < value`` is ``rank < literal``, ``x <= value`` is ``rank < literal above``, ``x >= value`` is ``rank >= literal``, ``x > value`` is
    ``rank >= literal above``, and ``x = value`` is both ``x <= value`` and ``x >= value``.
    """
    needle = _sortable(_plain(literal(value, kind)))
    return int(np.searchsorted(_sortable(dictionary), needle, side="right" if above else "left")[0])


def seal_dictionary(key: DataKey, context: bytes, dictionary: pa.Array) -> bytes:
    """Return the dictionary as an envelope that only its column's key opens."""
    table = pa.table({"value": dictionary})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return seal(key, context, memoryview(sink.getvalue()).cast("B"))


def open_dictionary(key: DataKey, context: bytes, envelope: bytes) -> pa.Array:
    """Return the dictionary of an envelope; `UnsealError` where it is of another column, key or version."""
    with pa.ipc.open_stream(pa.BufferReader(unseal(key, context, envelope))) as reader:
        return single(reader.read_all()["value"])


def _plain(array: pa.Array) -> pa.Array:
    """Return the column in one of three types with the same order: texts, doubles, 64-bit words."""
    if is_text(array.type):
        return array.cast(pa.string())
    words = to_words(array)
    return with_nulls(words.view(np.float64) if pa.types.is_floating(array.type) else words, nulls(array))


def _sortable(values: pa.Array) -> NDArray[Any]:
    """Return values that numpy sorts as Spark does: Python's texts compare as their UTF-8 does."""
    return np.asarray(values.to_numpy(zero_copy_only=False))


def _distinct(values: pa.Array) -> pa.Array:
    """Return the distinct values in order."""
    if is_text(values.type):
        texts = pc.unique(values)
        return texts.take(pc.array_sort_indices(texts))
    ordered = np.sort(values.to_numpy())
    is_new = np.ones(len(ordered), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=is_new[1:])
    if values.type == pa.float64():
        is_new[1:] &= ~np.isnan(ordered[:-1])
    return pa.array(ordered[is_new])
