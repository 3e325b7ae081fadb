"""Frequent sequential patterns: sets of items that many rows hold one after the other.

Objective: a row is a sequence of sets of items; it holds a pattern ``p_1 ... p_k`` of sets where sets of the row, in the same order though
others may lie between them, hold all of ``p_1``, of ``p_2``, and so on. Of all patterns of at most ``max_pattern_length`` items, those that
at least ``ceil(min_support n)`` of n rows hold, and how many do.

Equivalence: ``pyspark.ml.fpm.PrefixSpan``: the same patterns and counts. Level by level [1], where MLlib goes down one prefix after the
other [2]: a row's part behind a prefix is found again in each pass, in the enclave that has the row. In a set the most frequent item comes
first, as there; of equally frequent ones the earlier one in the alphabet or the smaller number, where MLlib's order is that of its
partitions, as is that of patterns. Null sequences are left out. A set or item that is null is refused, and so is an item that stands twice
in a set, which MLlib takes for two. A level may propose 2**20 patterns, and a result hold as many: more are an error that says to raise
``minSupport``.

Cost: one pass that counts items, and one a level; a pattern costs the sets in which it ends and what follows them. Statistics are the
distinct items of the rows, then a number a proposed pattern.

Reveals: with mode="enclave" the number of rows and levels, and by the size of sealed messages how many patterns a level proposed and about
how much text the distinct items hold. With mode="partitioned" the same: items are counted inside enclaves, and the counts of patterns leave
as masked integers. The patterns leave only as the policy says, as a summary whose smallest group is the rows of the rarest pattern.

[1] J. Ayres et al.: Sequential pattern mining using a bitmap representation, KDD 2002.
[2] J. Pei et al.: PrefixSpan: mining sequential patterns efficiently by prefix-projected pattern growth, ICDE 2001.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.feature.counts import TextCounts
from securemllib.algorithms.feature.values import inputs_of
from securemllib.algorithms.items import ItemStatistics, least_rows, ranked
from securemllib.algorithms.params import require_integer, require_number
from securemllib.algorithms.prefix_span_sequences import Found, Index, Patterns, items_in
from securemllib.algorithms.summary import Summary
from securemllib.errors import UsageError

__all__ = ["FrequentSequences", "PrefixSpan", "PrefixSpanState"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixSpanState:
    """What is known between passes.

    Attributes:
        rows: Rows that are not null; None before the first pass.
        vocabulary: The frequent items, most frequent first.
        integers: Whether they are integers.
        found: The frequent patterns so far.
        length: Their most items.
        proposed: What the next pass counts.
    """

    rows: int | None
    vocabulary: tuple[str, ...]
    integers: bool
    found: Patterns
    length: int
    proposed: Patterns


@dataclass(frozen=True, slots=True, kw_only=True)
class FrequentSequences:
    """The patterns, by `Patterns`' names: ``(p,)`` each.

    Attributes:
        vocabulary: The frequent items.
        integers: Whether they are integers.
    """

    SUMMARY: ClassVar[tuple[str, ...]] = ("vocabulary", "integers", "parents", "items", "joins", "counts")

    vocabulary: tuple[str, ...]
    integers: bool
    parents: Ints
    items: Ints
    joins: NDArray[np.bool_]
    counts: Ints

    @property
    def smallest_group(self) -> float:
        """The rows of the rarest pattern."""
        return float(self.counts.min()) if len(self.counts) else np.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixSpan:
    """Params of ``pyspark.ml.fpm.PrefixSpan``."""

    min_support: float = 0.1
    max_pattern_length: int = 10

    def __post_init__(self) -> None:
        require_number(self, "min_support", 0.0, 1.0)
        require_integer(self, "max_pattern_length", 1)

    def initial(self, summary: Summary, seed: Seed) -> PrefixSpanState:
        """Return the state before the first pass."""
        del summary, seed
        none = Patterns.singles(np.zeros(0, dtype=np.int64))
        return PrefixSpanState(rows=None, vocabulary=(), integers=False, found=none, length=0, proposed=none)

    def is_done(self, state: PrefixSpanState) -> bool:
        """Return whether no pattern is left to be counted."""
        return state.rows is not None and not len(state.proposed.items)

    def is_additive(self, state: PrefixSpanState) -> bool:
        """Return whether the next pass counts patterns."""
        return state.rows is not None

    def statistics(self, state: PrefixSpanState, block: Block) -> ItemStatistics:
        """Return the block's rows by item, or by proposed pattern."""
        (column,) = inputs_of(block)
        if state.rows is None:
            return _items_of(column)

        def index() -> tuple[Ints, Ints, Ints]:
            return Index.arrays(column, state.vocabulary)

        row, items, starts = block.scratch.get("sequences", state.vocabulary, index)
        held = Index(row, items, starts, len(state.vocabulary))
        return ItemStatistics.of_supports(Found(held, state.found).supports(state.proposed))

    def update(self, state: PrefixSpanState, total: ItemStatistics) -> PrefixSpanState:
        """Return the state after a pass; `DataError` where the next level has too many patterns."""
        if state.rows is None:
            vocabulary, counts = ranked(total.items, least_rows(self.min_support, total.rows), integers=total.integers)
            state = replace(state, rows=total.rows, vocabulary=vocabulary, integers=total.integers)
            return self._after(state, Patterns.singles(counts))
        counts = np.rint(total.supports).astype(np.int64)
        return self._after(state, state.proposed.where(counts >= least_rows(self.min_support, state.rows), counts))

    def _after(self, state: PrefixSpanState, level: Patterns) -> PrefixSpanState:
        """Return the state with the patterns of one more level."""
        found, length = state.found.more(level), state.length + 1
        is_last = length == self.max_pattern_length
        proposed = Patterns.singles(np.zeros(0, dtype=np.int64)) if is_last else level.proposed(len(state.found.items))
        return replace(state, found=found, length=length, proposed=proposed)

    def to_model(self, state: PrefixSpanState) -> FrequentSequences:
        """Return the patterns."""
        if state.rows is None:
            raise UsageError("The search has not finished: its first pass is missing.")
        found = state.found
        return FrequentSequences(
            vocabulary=state.vocabulary, integers=state.integers, parents=found.parents, items=found.items, joins=found.joins,
            counts=found.counts,
        )  # fmt: skip


def _items_of(column: pa.Array) -> ItemStatistics:
    """Return the rows of each item, however many sets of a row hold it."""
    found = items_in(column)
    encoded = found.texts.dictionary_encode()
    kinds = max(len(encoded.dictionary), 1)
    once = np.unique(found.row[found.place] * kinds + np.asarray(encoded.indices, dtype=np.int64)) % kinds
    counts = np.bincount(once, minlength=len(encoded.dictionary))[: len(encoded.dictionary)]
    return ItemStatistics.of_items(found.rows, found.item, TextCounts.among(encoded.dictionary, counts[:, None]))
