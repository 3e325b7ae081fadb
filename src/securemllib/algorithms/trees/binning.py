"""Bins: each value of a row by the candidates that it lies between, in one byte where these are few."""

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Block
from securemllib.algorithms.kernels import trees
from securemllib.algorithms.trees.candidates import ColumnValues
from securemllib.errors import DataError, UsageError

__all__ = ["Binning", "Bins"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bins = NDArray[np.unsignedinteger[Any]]

_BYTE = 256


# Without slots: what is asked for each round is kept.
@dataclass(frozen=True, kw_only=True)
class Binning:
    """The candidates of all columns.

    Attributes:
        thresholds: Ascending thresholds of the continuous columns, one column after another.
        starts: ``(d + 1,)`` where each column's thresholds begin.
        arity: ``(d,)`` categories of each nominal column, 0 where it is continuous.
        unordered: ``(d,)`` whether every subset of a nominal column's categories is a candidate.
    """

    thresholds: Floats
    starts: Ints
    arity: Ints
    unordered: NDArray[np.bool_]

    @classmethod
    def of(cls, values: ColumnValues, *, max_bins: int, rows: int, multiclass: bool) -> Self:
        """Return the candidates.

        Args:
            values: Of all rows.
            max_bins: MLlib's ``maxBins``.
            rows: Rows to learn from; there are no more bins than rows.
            multiclass: Whether there are more than two classes.

        Raises:
            UsageError: A column has more categories than there may be bins.
        """
        bins = min(max_bins, rows)
        if (values.arity > bins).any():
            worst = int(values.arity.argmax())
            reason = f"max_bins (= {bins}) must be at least the number of values of each categorical feature"
            raise UsageError(f"{reason}, but feature {worst} has {values.arity[worst]}", code="usage.param")
        found = [values.thresholds(column, bins) if arity == 0 else np.zeros(0) for column, arity in enumerate(values.arity)]
        # MLlib's condition: all 2^(arity - 1) - 1 splits of the categories fit into the bins.
        few = (values.arity > 1) & (values.arity <= int(np.log2(bins // 2 + 1) + 1))
        return cls(
            thresholds=np.concatenate([np.zeros(0), *found]),
            starts=np.cumsum([0, *map(len, found)]),
            arity=values.arity,
            unordered=few if multiclass else np.zeros_like(few),
        )

    @property
    def columns(self) -> int:
        """The number of features."""
        return len(self.arity)

    @cached_property
    def sizes(self) -> Ints:
        """``(d,)`` bins of each column."""
        return np.where(self.arity > 0, self.arity, np.diff(self.starts) + 1)

    @cached_property
    def key(self) -> bytes:
        """What names these candidates."""
        parts = (self.thresholds, self.starts, self.arity, self.unordered)
        return sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).digest()

    def bins_of(self, block: Block) -> Bins:
        """Return the ``(n, d)`` bins of a block; kept with it."""
        bins: Bins = block.scratch.get("trees/bins", self.key, lambda: self._bin(block))
        return bins

    def keep(self, block: Block, bins: Bins) -> None:
        """Keep the bins of a block that has no features with it."""
        block.scratch.get("trees/bins", self.key, lambda: bins)

    def _bin(self, block: Block) -> Bins:
        bins: Bins = np.zeros((block.rows, self.columns), dtype=np.uint8 if self.sizes.max(initial=0) <= _BYTE else np.uint16)
        thresholds = self.thresholds - np.repeat(block.offset, np.diff(self.starts))
        trees.bin_rows(block.features, thresholds, self.starts, bins)
        for column in np.flatnonzero(self.arity):
            values = block.features[:, column] + block.offset[column]
            bins[:, column] = _categories(values, int(self.arity[column]), int(column), block.ordinal)
        return bins


def _categories(values: Floats, arity: int, column: int, ordinal: int) -> Floats:
    found = np.rint(values)
    if len(found) and not (found.min() >= 0 and found.max() < arity):
        raise DataError(f"Feature {column} of part {ordinal} has a value outside of its {arity} categories.", code="data.category")
    return found
