"""Sets of items: the candidates of a level, the rows that hold them, and the rules between them.

A set is a row of ascending item numbers; the sets of a level have one length and stand in lexicographic order. Rows are bits: one line an
item, one bit a row, so that the rows that hold a set are the conjunction of its items' lines.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from securemllib.algorithms.feature.values import index_in
from securemllib.algorithms.items import as_texts, item_type
from securemllib.algorithms.transformer import Column
from securemllib.errors import DataError

__all__ = ["MOST_SETS", "Itemsets", "bits_of", "joined", "lists_in", "lists_of", "require_unique", "rules_of", "supports", "where_held"]

Ints = NDArray[np.int64]
Bits = NDArray[np.uint64]

# What one level may propose and one model hold: 2**20 sets of eight items are 64 MB.
MOST_SETS = 1 << 20

# Rows whose items are laid out at once, and bytes of bits that one step reads.
_ROWS, _STEP_BYTES = 1 << 13, 1 << 21


@dataclass(frozen=True, slots=True, kw_only=True)
class Itemsets:
    """Frequent sets, level by level.

    Attributes:
        members: The items of all sets, one set after the other.
        sizes: ``(levels,)`` how many sets each level has; those of level l, from 1, have l items.
        counts: ``(sets,)`` the rows that hold each.
    """

    members: Ints
    sizes: Ints
    counts: Ints

    def more(self, sets: Ints, counts: Ints) -> "Itemsets":
        """Return these with the sets of one more level; `DataError` where they are too many."""
        if len(self.counts) + len(counts) > MOST_SETS:
            raise _too_many(len(self.counts) + len(counts))
        return Itemsets(
            members=np.concatenate([self.members, sets.ravel()]),
            sizes=np.append(self.sizes, len(sets)),
            counts=np.concatenate([self.counts, counts]),
        )

    def levels(self) -> Iterator[tuple[Ints, Ints]]:
        """Yield the sets ``(s, l)`` of each level and their counts."""
        first, start = 0, 0
        for level, size in enumerate(self.sizes.tolist(), 1):
            yield self.members[first : first + size * level].reshape(size, level), self.counts[start : start + size]
            first, start = first + size * level, start + size


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules between the sets of two levels: ``(r, l)`` antecedents, ``(r,)`` consequents, and the rows of both, and of antecedents."""

    antecedents: Ints
    consequents: Ints
    both: Ints
    before: Ints


def rules_of(itemsets: Itemsets, confidence: float) -> Iterator[Rules]:
    """Yield the rules with one consequent whose confidence is at least that given, level by level."""
    for (smaller, below), (larger, above) in pairwise(itemsets.levels()):
        for place in range(larger.shape[1]):
            antecedents = np.delete(larger, place, axis=1)
            before = below[_positions(antecedents, smaller)]
            kept = above / before >= confidence
            yield Rules(antecedents[kept], larger[kept, place], above[kept], before[kept])


def joined(sets: Ints) -> Ints:
    """Return the sets of the next level all of whose parts are among those of a level; `DataError` where there are too many."""
    count, level = sets.shape
    if not count:
        return np.zeros((0, level + 1), dtype=np.int64)
    starts = np.flatnonzero(np.concatenate([[True], (sets[1:, :-1] != sets[:-1, :-1]).any(axis=1)]))
    ends = np.repeat(np.append(starts[1:], count), np.diff(np.append(starts, count)))
    partners = ends - np.arange(count) - 1
    if (total := int(partners.sum())) > MOST_SETS:
        raise _too_many(total)
    left = np.repeat(np.arange(count), partners)
    right = left + 1 + np.arange(total) - np.repeat(np.cumsum(partners) - partners, partners)
    proposed = np.column_stack([sets[left], sets[right, -1]])
    there = np.ones(total, dtype=np.bool_)
    # The first two parts are those that were joined.
    for place in range(level - 1):
        there &= _positions(np.delete(proposed, place, axis=1), sets) >= 0
    return proposed[there]


def lists_in(column: Column | pa.Array) -> tuple[pa.Array, pa.DataType]:
    """Return a column of lists with their items as texts, null lists left as they are, and the type of the items as they were.

    Raises:
        DataError: The column holds no lists of texts or integers, or an item is null.
    """
    values = column.values if isinstance(column, Column) else column
    if not isinstance(values, pa.Array):
        raise DataError("Items are in lists of texts or integers, not in vectors.", code="data.type")
    if not len(values):
        return pa.array([], pa.large_list(pa.large_string())), pa.string()
    item = item_type(values.type, 1)
    lengths = pc.fill_null(pc.list_value_length(values), 0)
    ends = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int64())
    return pa.LargeListArray.from_arrays(ends, as_texts(values.flatten()), mask=values.is_null()), item


def bits_of(lists: pa.Array, vocabulary: tuple[str, ...]) -> Bits:
    """Return ``(m, w)`` 64 rows a word: which lists hold which item of a vocabulary; a null list holds none."""
    lengths = np.asarray(pc.fill_null(pc.list_value_length(lists), 0), dtype=np.int64)
    slots, unknown = index_in(lists.flatten(), pa.array(vocabulary, pa.large_string()))
    rows = np.repeat(np.arange(len(lists)), lengths)[~unknown]
    slots = slots[~unknown]
    words = -(-len(lists) // 64)
    bits = np.zeros((len(vocabulary), words * 8), dtype=np.uint8)
    for start in range(0, len(lists), _ROWS):
        mine = slice(*np.searchsorted(rows, [start, start + _ROWS]))
        held = np.zeros((len(vocabulary), min(_ROWS, len(lists) - start)), dtype=np.bool_)
        held[slots[mine], rows[mine] - start] = True
        packed = np.packbits(held, axis=1)
        bits[:, start // 8 : start // 8 + packed.shape[1]] = packed
    return bits.view(np.uint64)


def supports(bits: Bits, sets: Ints) -> Ints:
    """Return ``(s,)`` how many rows hold each set."""
    found = [np.bitwise_count(held).sum(axis=1, dtype=np.int64) for held in _held(bits, sets)]
    return np.concatenate([np.zeros(0, dtype=np.int64), *found])


def where_held(bits: Bits, sets: Ints, items: Ints) -> Bits:
    """Return ``(m, w)`` which rows hold some set that belongs to an item."""
    out, start = np.zeros_like(bits), 0
    for held in _held(bits, sets):
        np.bitwise_or.at(out, items[start : start + len(held)], held)
        start += len(held)
    return out


def lists_of(bits: Bits, rows: int) -> tuple[Ints, Ints]:
    """Return ``(rows + 1,)`` where each row's items end, after a leading 0, and the items of all rows."""
    lengths, items = [np.zeros(1, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    packed = bits.view(np.uint8)
    for start in range(0, rows, _ROWS):
        held = np.unpackbits(packed[:, start // 8 : (start + _ROWS) // 8], axis=1, count=min(_ROWS, rows - start)).T
        lengths.append(held.sum(axis=1, dtype=np.int64))
        items.append(np.nonzero(held)[1])
    return np.cumsum(np.concatenate(lengths)), np.concatenate(items)


def require_unique(lists: pa.Array, items: pa.DictionaryArray) -> None:
    """Raise `DataError` where a list holds an item twice; the items are those of all lists."""
    rows = np.repeat(np.arange(len(lists)), np.asarray(pc.fill_null(pc.list_value_length(lists), 0), dtype=np.int64))
    pairs = rows * max(len(items.dictionary), 1) + np.asarray(items.indices, dtype=np.int64)
    pairs.sort()
    if (pairs[1:] == pairs[:-1]).any():
        raise DataError("Items in a transaction must be unique.", code="data.items")


def _held(bits: Bits, sets: Ints) -> Iterator[Bits]:
    """Yield the rows that hold the sets, some sets at a time."""
    size = max(_STEP_BYTES // max(8 * bits.shape[1], 1), 1)
    for start in range(0, len(sets), size):
        some = sets[start : start + size]
        held = bits[some[:, 0]]
        for place in range(1, some.shape[1]):
            held &= bits[some[:, place]]
        yield held


def _positions(wanted: Ints, sets: Ints) -> Ints:
    """Return where each wanted set is among distinct sets of its length, -1 where it is not."""
    _, number = np.unique(np.concatenate([sets, wanted]), axis=0, return_inverse=True)
    place = np.full(len(number) + 1, -1)
    place[number[: len(sets)]] = np.arange(len(sets))
    found: Ints = place[number[len(sets) :]]
    return found


def _too_many(count: int) -> DataError:
    return DataError(f"There are {count} sets of items, over the bound of {MOST_SETS}.", code="data.items", next_step="Raise minSupport.")
