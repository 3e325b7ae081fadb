"""Frequent sets of items, and the rules between them.

Objective: all sets of items that at least ``ceil(min_support n)`` of n rows hold; of each such set and each of its items the rule from the
others to it, where the rows that hold all are at least ``min_confidence`` of those that hold the others.

Equivalence: ``pyspark.ml.fpm.FPGrowth``: the same sets, counts, rules, confidences, lifts, supports and predictions, by another way: level
by level [1], each counting the sets all of whose parts are frequent, because counts add up and trees of prefixes do not. In a set the
least frequent item comes first, as there; of equally frequent ones the later one in the alphabet, where MLlib's order is that of its
partitions, as is that of sets, rules and predicted items; of integers the larger one counts as the later. Null lists are left out of a
training and predict no item. Items are texts or integers; a null item is refused, and so are lists of the other kind than those of the
training, of which MLlib predicts no item. A level may propose 2**20 sets, and a model hold as many: more are an error that says to raise
``minSupport``.

Cost: one pass that counts items, and one a level; a set of l items costs l bits a row and pass. Statistics are the distinct items of the
rows, then a number a proposed set.

Reveals: with mode="enclave" the number of rows and levels, and by the size of sealed messages how many sets a level proposed and about how
much text the distinct items hold. With mode="partitioned" the same: items are counted inside enclaves, and the counts of sets leave as
masked integers. Sets and rules leave with a released model only.

[1] R. Agrawal, R. Srikant: Fast algorithms for mining association rules, VLDB 1994.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from securemllib.algorithms import fp_growth_sets as sets
from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.feature.counts import TextCounts
from securemllib.algorithms.feature.values import inputs_of
from securemllib.algorithms.fp_growth_sets import Itemsets
from securemllib.algorithms.items import ItemStatistics, are_integers, as_items, least_rows, ranked
from securemllib.algorithms.params import require_number
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.transformer import Column, Transformed
from securemllib.errors import DataError, UsageError

__all__ = ["FPGrowth", "FPGrowthModel", "FPGrowthState"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class FPGrowthState:
    """What is known between passes.

    Attributes:
        rows: Rows that are not null; None before the first pass.
        vocabulary: The frequent items, most frequent first.
        integers: Whether they are integers.
        found: The frequent sets so far.
        proposed: ``(c, l)`` the sets that the next pass counts.
    """

    rows: int | None
    integers: bool
    vocabulary: tuple[str, ...]
    found: Itemsets
    proposed: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class FPGrowthModel:
    """The frequent sets.

    Attributes:
        vocabulary: The frequent items, most frequent first.
        integers: Whether they are integers.
        itemsets: Their frequent sets.
        rows: Rows of the training.
        min_confidence: Of a rule.
    """

    SUMMARY: ClassVar[tuple[str, ...]] = ()
    CHANGEABLE: ClassVar[tuple[str, ...]] = ("min_confidence",)

    vocabulary: tuple[str, ...]
    integers: bool
    itemsets: Itemsets
    rows: int
    min_confidence: float

    def __post_init__(self) -> None:
        require_number(self, "min_confidence", 0.0, 1.0)

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return ``prediction``: the consequents of all rules whose antecedents a list holds, but for the items that it holds.

        Raises:
            DataError: The column holds no lists of texts or integers, or of others than those of the training.
        """
        (column,) = columns
        lists, kind = sets.lists_in(column)
        if len(lists.flatten()) and self.vocabulary and are_integers(kind) is not self.integers:
            raise DataError(f"The model's items are {'integers' if self.integers else 'texts'}, not {kind}.", code="data.type")
        bits = sets.bits_of(lists, self.vocabulary)
        found = np.zeros_like(bits)
        for rules in sets.rules_of(self.itemsets, self.min_confidence):
            found |= sets.where_held(bits, rules.antecedents, rules.consequents)
        ends, items = sets.lists_of(found & ~bits, len(lists))
        values = as_items(pa.array(self.vocabulary, pa.string()).take(pa.array(items)), kind)
        return Transformed(columns={"prediction": Column(pa.ListArray.from_arrays(pa.array(ends, pa.int32()), values))})


@dataclass(frozen=True, slots=True, kw_only=True)
class FPGrowth:
    """Params of ``pyspark.ml.fpm.FPGrowth``."""

    min_support: float = 0.3
    min_confidence: float = 0.8

    def __post_init__(self) -> None:
        require_number(self, "min_support", 0.0, 1.0)
        require_number(self, "min_confidence", 0.0, 1.0)

    def initial(self, summary: Summary, seed: Seed) -> FPGrowthState:
        """Return the state before the first pass."""
        del summary, seed
        none = np.zeros(0, dtype=np.int64)
        empty = Itemsets(members=none, sizes=none, counts=none)
        return FPGrowthState(rows=None, vocabulary=(), integers=False, found=empty, proposed=np.zeros((0, 1), dtype=np.int64))

    def is_done(self, state: FPGrowthState) -> bool:
        """Return whether no set is left to be counted."""
        return state.rows is not None and not len(state.proposed)

    def is_additive(self, state: FPGrowthState) -> bool:
        """Return whether the next pass counts sets."""
        return state.rows is not None

    def statistics(self, state: FPGrowthState, block: Block) -> ItemStatistics:
        """Return the block's rows by item, or by proposed set."""
        (column,) = inputs_of(block)
        if state.rows is None:
            lists, kind = sets.lists_in(column)
            kept = lists.drop_null()
            items = kept.flatten().dictionary_encode()
            sets.require_unique(kept, items)
            return ItemStatistics.of_items(len(kept), kind, TextCounts.of(items))

        def bits() -> NDArray[np.uint64]:
            return sets.bits_of(sets.lists_in(column)[0], state.vocabulary)

        held = block.scratch.get("itemsets", state.vocabulary, bits)
        return ItemStatistics.of_supports(sets.supports(held, state.proposed))

    def update(self, state: FPGrowthState, total: ItemStatistics) -> FPGrowthState:
        """Return the state after a pass; `DataError` where the next level has too many sets."""
        if state.rows is not None:
            counts = np.rint(total.supports).astype(np.int64)
            frequent = counts >= least_rows(self.min_support, state.rows)
            level = state.proposed[frequent]
            return replace(state, found=state.found.more(level, counts[frequent]), proposed=sets.joined(level))
        vocabulary, counts = ranked(total.items, least_rows(self.min_support, total.rows), integers=total.integers)
        level = np.arange(len(vocabulary))[:, None]
        return FPGrowthState(
            rows=total.rows,
            vocabulary=vocabulary,
            integers=total.integers,
            found=state.found.more(level, counts),
            proposed=sets.joined(level),
        )

    def to_model(self, state: FPGrowthState) -> FPGrowthModel:
        """Return the model."""
        if state.rows is None:
            raise UsageError("The training has not finished: its first pass is missing.")
        return FPGrowthModel(
            vocabulary=state.vocabulary,
            integers=state.integers,
            itemsets=state.found,
            rows=state.rows,
            min_confidence=self.min_confidence,
        )
