"""Items of sets, texts or integers: inside enclaves an integer is the text of its decimals, outside of them a number again."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from securemllib.algorithms.feature.counts import TextCounts
from securemllib.errors import DataError

__all__ = ["ItemStatistics", "are_integers", "as_items", "as_texts", "item_type", "least_rows", "ranked", "shown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemStatistics:
    """What a search for what is frequent counts: items in its first pass, sets or sequences of them in the others.

    Attributes:
        rows: Rows that are not null; 0 but in the first pass.
        integers: Whether items are known to be integers; False but in the first pass.
        items: The rows of each item.
        supports: ``(c,)`` the rows that hold each thing that was proposed.
    """

    ADDITIVE: ClassVar[tuple[str, ...]] = ("supports",)

    rows: int
    integers: bool
    items: TextCounts
    supports: NDArray[np.float64]

    @classmethod
    def of_items(cls, rows: int, kind: pa.DataType, items: TextCounts) -> Self:
        """Return the statistics of a first pass over so many rows, with items of a type."""
        return cls(rows=rows, integers=are_integers(kind), items=items, supports=np.zeros(0))

    @classmethod
    def of_supports(cls, supports: NDArray[np.int64]) -> Self:
        """Return the statistics of a later pass."""
        return cls(rows=0, integers=False, items=_NO_ITEMS, supports=supports.astype(np.float64))

    def __add__(self, other: Self) -> Self:
        return type(self)(
            rows=self.rows + other.rows,
            integers=self.integers or other.integers,
            items=self.items + other.items,
            supports=self.supports + other.supports,
        )


_NO_ITEMS = TextCounts.of(pa.array([], pa.string()))


def least_rows(min_support: float, rows: int) -> int:
    """Return in how many rows something frequent is at least; MLlib finds what occurs, also where that is 0."""
    return max(math.ceil(min_support * rows), 1)


def item_type(kind: pa.DataType, depth: int) -> pa.DataType:
    """Return the type of the items of lists, of lists of lists where the depth is 2; `DataError` where they are no texts or integers."""
    item = kind
    for _ in range(depth):
        item = item.value_type if pa.types.is_list(item) or pa.types.is_large_list(item) else pa.binary()
    if pa.types.is_string(item) or pa.types.is_large_string(item) or pa.types.is_integer(item) or pa.types.is_null(item):
        return item
    raise DataError(f"Items are in {'lists of ' * depth}texts or integers, not in {kind}.", code="data.type")


def are_integers(item: pa.DataType) -> bool:
    """Return whether items of a type are integers."""
    return bool(pa.types.is_integer(item))


def as_texts(items: pa.Array) -> pa.Array:
    """Return items as ``large_string``; `DataError` where one is null."""
    if items.null_count:
        raise DataError("An item is null.", code="data.null")
    return items.cast(pa.large_string())


def as_items(texts: pa.Array, item: pa.DataType) -> pa.Array:
    """Return items of a type from their texts; `DataError` where an integer is too large for it."""
    if not are_integers(item):
        return texts
    try:
        return texts.cast(item)
    except pa.ArrowInvalid:
        raise DataError(f"An item is too large for {item}.", code="data.type") from None


def ranked(counts: TextCounts, least: int, *, integers: bool) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the items that occur in at least so many rows, most frequent first, and their counts; of equally frequent ones the smaller."""
    kept = np.flatnonzero(counts.counts[:, 0] >= least)
    texts = counts.values.take(pa.array(kept)).to_pylist()
    rows = counts.counts[kept, 0]
    order = sorted(range(len(kept)), key=lambda place: (-rows[place], int(texts[place]) if integers else place))
    return tuple(texts[place] for place in order), rows[order]


def shown(vocabulary: Iterable[str], *, integers: bool) -> list[str] | list[int]:
    """Return items as they were."""
    return [int(text) for text in vocabulary] if integers else list(vocabulary)
