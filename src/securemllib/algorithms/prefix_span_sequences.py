"""Sequences of sets of items: those of a block, and patterns of them, as a tree in which each has one item more than its parent.

Items are numbers. The sets of a block have numbers too, those of a row one after the other, so that what follows a place in a row are the
sets of larger numbers in it.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from securemllib.algorithms.feature.values import index_in
from securemllib.algorithms.items import as_texts, item_type
from securemllib.errors import DataError

__all__ = ["MOST_PATTERNS", "Found", "Index", "Patterns", "items_in"]

Ints = NDArray[np.int64]

# What one level may propose and one result hold.
MOST_PATTERNS = 1 << 20


@dataclass(frozen=True, slots=True)
class Sequences:
    """The sequences of a column that are not null.

    Attributes:
        rows: Their number.
        row: ``(s,)`` the row of each set.
        place: ``(e,)`` the set of each item.
        texts: ``(e,)`` the items.
        item: The type of the items as they were.
    """

    rows: int
    row: Ints
    place: Ints
    texts: pa.Array
    item: pa.DataType


@dataclass(frozen=True, slots=True, kw_only=True)
class Patterns:
    """Patterns, level by level: those of level l, from 1, have l items.

    Attributes:
        parents: ``(p,)`` the pattern without its last item; -1 of a single item.
        items: ``(p,)`` the last item.
        joins: ``(p,)`` whether that is in the last set of the parent, and not in a set behind it.
        counts: ``(p,)`` the rows that hold each; 0 of those that are proposed.
    """

    parents: Ints
    items: Ints
    joins: NDArray[np.bool_]
    counts: Ints

    @classmethod
    def singles(cls, counts: Ints) -> "Patterns":
        """Return a pattern for each item, with its count."""
        count = len(counts)
        return cls(parents=np.full(count, -1), items=np.arange(count), joins=np.zeros(count, dtype=np.bool_), counts=counts)

    def where(self, kept: NDArray[np.bool_], counts: Ints) -> "Patterns":
        """Return some of the patterns, with their counts."""
        return Patterns(parents=self.parents[kept], items=self.items[kept], joins=self.joins[kept], counts=counts[kept])

    def more(self, level: "Patterns") -> "Patterns":
        """Return these with those of one more level; `DataError` where they are too many."""
        _require_few(len(self.items) + len(level.items))
        return Patterns(
            parents=np.concatenate([self.parents, level.parents]),
            items=np.concatenate([self.items, level.items]),
            joins=np.concatenate([self.joins, level.joins]),
            counts=np.concatenate([self.counts, level.counts]),
        )

    def proposed(self, first: int) -> "Patterns":
        """Return what the next level may hold, if these, whose position among all patterns begins at ``first``, are the whole level.

        An item may come behind a pattern, or into its last set, only where it may so behind or into the pattern's parent: siblings tell
        which do. In the order of parents, of each first the items that come behind, ascending.
        """
        count = len(self.items)
        own = np.arange(count)
        starts = np.flatnonzero(np.diff(self.parents, prepend=-2))
        family = np.cumsum(np.isin(own, starts)) - 1
        start = starts[family]
        opened = start + np.add.reduceat(~self.joins, starts)[family] if count else start
        end = np.append(starts[1:], count)[family]
        begins, ends = np.stack([start, own + 1], axis=1).ravel(), np.stack([opened, np.where(self.joins, end, opened)], axis=1).ravel()
        lengths = ends - begins
        _require_few(int(lengths.sum()))
        sources = _spans(begins, lengths)
        return Patterns(
            parents=np.repeat(np.repeat(own, 2), lengths) + first,
            items=self.items[sources],
            joins=np.repeat(np.tile([False, True], count), lengths),
            counts=np.zeros(len(sources), dtype=np.int64),
        )

    def sequences(self, items: list[str] | list[int]) -> list[list[list[str | int]]]:
        """Return each pattern as a list of sets, by what its items are called."""
        found: list[list[list[str | int]]] = []
        for parent, item, joins in zip(self.parents.tolist(), self.items.tolist(), self.joins.tolist(), strict=True):
            before = found[parent] if parent >= 0 else []
            found.append([*before[:-1], [*before[-1], items[item]]] if joins else [*before, [items[item]]])
        return found


@dataclass(frozen=True)
class Index:
    """Where the items of a block are.

    Attributes:
        row: ``(s,)`` the row of each set.
        items: ``(e,)`` the items of the sets, ascending in each.
        starts: ``(s + 1,)`` where each set's items begin.
        kinds: How many items there are.
    """

    row: Ints
    items: Ints
    starts: Ints
    kinds: int

    @staticmethod
    def arrays(column: pa.Array, vocabulary: tuple[str, ...]) -> tuple[Ints, Ints, Ints]:
        """Return the first three attributes of the index of a column, of which items outside of a vocabulary are left out."""
        found = items_in(column)
        items, unknown = index_in(found.texts, pa.array(vocabulary, pa.large_string()))
        place, items = found.place[~unknown], items[~unknown]
        order = np.lexsort((items, place))
        return found.row, items[order], np.searchsorted(place, np.arange(len(found.row) + 1))

    @cached_property
    def _sets(self) -> tuple[Ints, Ints]:
        """The sets that hold each item, and where those of an item begin."""
        place = np.repeat(np.arange(len(self.row)), np.diff(self.starts))
        order = np.argsort(self.items, kind="stable")
        return place[order], np.searchsorted(self.items[order], np.arange(self.kinds + 1))

    @cached_property
    def _last(self) -> tuple[Ints, Ints, Ints]:
        """The items of each row, the last set that holds each, and where those of a row begin."""
        place, starts = self._sets
        items = np.repeat(np.arange(self.kinds), np.diff(starts))
        rows = self.row[place]
        # A stable order by rows leaves each row's items ascending, and the sets of each ascending.
        order = np.argsort(rows, kind="stable")
        rows, items, place = rows[order], items[order], place[order]
        last = np.flatnonzero(np.append((rows[1:] != rows[:-1]) | (items[1:] != items[:-1]), True)) if len(rows) else np.zeros(0, np.int64)
        return items[last], place[last], np.searchsorted(rows[last], np.arange(self._rows + 1))

    @property
    def _rows(self) -> int:
        return int(self.row[-1]) + 1 if len(self.row) else 0

    def holding(self, item: int) -> Ints:
        """Return the sets that hold an item, ascending."""
        places, starts = self._sets
        return places[starts[item] : starts[item + 1]]

    def joined(self, ends: Ints, item: int) -> Ints:
        """Return where a pattern ends whose last set takes one more item, from where it ends without."""
        return np.intersect1d(ends, self.holding(item), assume_unique=True)

    def followed(self, ends: Ints, item: int) -> Ints:
        """Return where a pattern ends that is followed by a set of one item, from where it ends without."""
        after = np.full(self._rows, len(self.row))
        first = self._first(ends)
        after[self.row[first]] = first
        held = self.holding(item)
        return held[held > after[self.row[held]]]

    def following(self, ends: Ints) -> Ints:
        """Return for each item the rows that hold it behind a pattern, from where that ends."""
        first = self._first(ends)
        items, places, starts = self._last
        rows = self.row[first]
        lengths = starts[rows + 1] - starts[rows]
        entries = _spans(starts[rows], lengths)
        behind = places[entries] > np.repeat(first, lengths)
        return np.bincount(items[entries[behind]], minlength=self.kinds)

    def joining(self, ends: Ints) -> Ints:
        """Return for each item the rows that hold it in a set in which a pattern ends, from where that ends."""
        lengths = self.starts[ends + 1] - self.starts[ends]
        pairs = np.repeat(self.row[ends], lengths) * self.kinds + self.items[_spans(self.starts[ends], lengths)]
        return np.bincount(np.unique(pairs) % self.kinds, minlength=self.kinds)

    def _first(self, ends: Ints) -> Ints:
        """Return of each row that a pattern ends in the first set in which it does."""
        rows = self.row[ends]
        return ends[np.flatnonzero(np.diff(rows, prepend=-1))]


@dataclass
class Found:
    """Where patterns end in a block: those of a path down the tree are held, because the next pattern's path begins as that does."""

    index: Index
    patterns: Patterns
    _path: list[tuple[int, Ints]] = field(default_factory=list)

    def ends(self, pattern: int) -> Ints:
        """Return the sets in which the last set of a pattern can be, ascending."""
        path = [pattern]
        while (parent := int(self.patterns.parents[path[-1]])) >= 0:
            path.append(parent)
        path.reverse()
        known = next((level for level, (held, one) in enumerate(zip(self._path, path, strict=False)) if held[0] != one), len(self._path))
        del self._path[min(known, len(path)) :]
        for one in path[len(self._path) :]:
            item = int(self.patterns.items[one])
            if not self._path:
                found = self.index.holding(item)
            else:
                step = self.index.joined if self.patterns.joins[one] else self.index.followed
                found = step(self._path[-1][1], item)
            self._path.append((one, found))
        return self._path[-1][1]

    def supports(self, proposed: Patterns) -> Ints:
        """Return ``(c,)`` how many rows hold each proposed pattern."""
        counts = np.zeros(len(proposed.items), dtype=np.int64)
        starts = np.flatnonzero(np.diff(proposed.parents, prepend=-1))
        for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(counts)], strict=True):
            ends = self.ends(int(proposed.parents[start]))
            if not len(ends):
                continue
            opened = stop - int(proposed.joins[start:stop].sum())
            if opened > start:
                counts[start:opened] = self.index.following(ends)[proposed.items[start:opened]]
            if stop > opened:
                counts[opened:stop] = self.index.joining(ends)[proposed.items[opened:stop]]
        return counts


def items_in(column: pa.Array) -> Sequences:
    """Return the sequences of a column.

    Raises:
        DataError: The column holds no lists of lists of texts or integers, a list within or an item is null, or one stands twice in a set.
    """
    kept = column.drop_null()
    if not len(kept):
        none = np.zeros(0, dtype=np.int64)
        return Sequences(0, none, none, pa.array([], pa.large_string()), pa.string())
    item = item_type(kept.type, 2)
    sets = kept.flatten()
    if sets.null_count:
        raise DataError("A set of a sequence is null.", code="data.null")
    row = np.repeat(np.arange(len(kept)), np.asarray(pc.list_value_length(kept)))
    place = np.repeat(np.arange(len(sets)), np.asarray(pc.list_value_length(sets)))
    texts = as_texts(sets.flatten())
    encoded = texts.dictionary_encode()
    pairs = place * max(len(encoded.dictionary), 1) + np.asarray(encoded.indices, dtype=np.int64)
    if len(np.unique(pairs)) < len(pairs):
        raise DataError("An item stands twice in a set of a sequence.", code="data.items")
    return Sequences(len(kept), row, place, texts, item)


def _spans(starts: Ints, lengths: Ints) -> Ints:
    """Return all positions from each start on, as many as it has, one span after the other."""
    before = np.cumsum(lengths) - lengths
    positions: Ints = np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)
    return positions


def _require_few(count: int) -> None:
    if count > MOST_PATTERNS:
        raise DataError(f"There are {count} patterns, over the bound of {MOST_PATTERNS}.", code="data.items", next_step="Raise minSupport.")
