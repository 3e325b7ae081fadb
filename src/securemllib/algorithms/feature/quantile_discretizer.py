"""Discretizing by quantiles: buckets with about as many rows each.

Objective: splits at the quantiles ``1/k, 2/k ... (k-1)/k`` of a column, equal ones once, from ``-inf`` to ``inf``.

Equivalence: ``pyspark.ml.feature.QuantileDiscretizer``, whose model is a Bucketizer; nulls and NaN count for nothing. The quantiles are
exact, so they are within every ``relativeError`` of MLlib's, and equal to MLlib's where that keeps all values.

Cost: four passes for up to 64 quantiles of all columns together, more for others, whose counts are kept at 32 MiB.

Reveals: with mode="enclave" the number of rows, columns and rounds. With mode="partitioned" the same: counts leave as masked
integers, but those of the first round, whose size only the rows tell, are added inside enclaves.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.feature.bucketing import INVALID, bucketed, require_splits
from securemllib.algorithms.feature.quantiles import QuantileCounts, QuantileSearch
from securemllib.algorithms.feature.values import inputs_of, numbers_of
from securemllib.algorithms.params import require_choice, require_integer, require_number
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.transformer import Column, Transformed
from securemllib.errors import UsageError

__all__ = ["QuantileDiscretizer", "QuantileDiscretizerModel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantileDiscretizerModel:
    """The splits of each column, and what happens to nulls and NaN."""

    SUMMARY: ClassVar[tuple[str, ...]] = ()
    CHANGEABLE: ClassVar[tuple[str, ...]] = ("handle_invalid",)

    splits: tuple[tuple[float, ...], ...]
    handle_invalid: str

    def __post_init__(self) -> None:
        require_choice(self, "handle_invalid", INVALID)
        for splits in self.splits:
            require_splits(splits)

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return ``output0``, ``output1``...: the index of each number's bucket."""
        return bucketed(columns, self.splits, self.handle_invalid)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantileDiscretizer:
    """Params of ``pyspark.ml.feature.QuantileDiscretizer``; ``num_buckets_array`` is for several columns."""

    num_buckets: int = 2
    num_buckets_array: tuple[int, ...] | None = None
    relative_error: float = 0.001
    handle_invalid: str = "error"

    def __post_init__(self) -> None:
        require_integer(self, "num_buckets", 2)
        require_number(self, "relative_error", low=0.0, high=1.0)
        require_choice(self, "handle_invalid", INVALID)
        if self.num_buckets_array is not None and not all(type(count) is int and count >= 2 for count in self.num_buckets_array):
            raise UsageError("num_buckets_array must hold integers of at least 2", code="usage.param")

    @property
    def _most(self) -> int:
        return max(self.num_buckets_array) if self.num_buckets_array else self.num_buckets

    def initial(self, summary: Summary, seed: Seed) -> QuantileSearch:
        """Return the search that knows nothing."""
        del summary, seed
        return QuantileSearch.start()

    def is_done(self, state: QuantileSearch) -> bool:
        """Return whether the quantiles are found."""
        return state.is_done

    def statistics(self, state: QuantileSearch, block: Block) -> QuantileCounts:
        """Return the counts of the block."""
        columns = [(numbers_of(array, f"input{index}"), 0) for index, array in enumerate(inputs_of(block))]
        return state.counted(columns, self._most - 1)

    def is_additive(self, state: QuantileSearch) -> bool:
        """Return whether the next counts are sums of a known shape: all but the first are."""
        return state.is_sized

    def nothing(self, state: QuantileSearch) -> QuantileCounts:
        """Return the counts of no rows."""
        return state.nothing()

    def update(self, state: QuantileSearch, total: QuantileCounts) -> QuantileSearch:
        """Return the refined search; `DataError` where a column has no value."""
        return state.refined(total, self._probabilities(total.counts.shape[0]), self.relative_error)

    def to_model(self, state: QuantileSearch) -> QuantileDiscretizerModel:
        """Return the model."""
        found = [(-np.inf, *np.unique(row[np.isfinite(row)]).tolist(), np.inf) for row in state.values]
        return QuantileDiscretizerModel(splits=tuple(found), handle_invalid=self.handle_invalid)

    def _probabilities(self, columns: int) -> NDArray[np.float64]:
        """Return ``(columns, q)``: those of a column with fewer buckets repeat its last one."""
        counts = self.num_buckets_array if self.num_buckets_array is not None else (self.num_buckets,) * columns
        if len(counts) != columns:
            raise UsageError(f"num_buckets_array has {len(counts)} numbers for {columns} columns", code="usage.param")
        steps = np.arange(1, self._most)[None, :]
        of_column = np.array(counts)[:, None]
        probabilities: NDArray[np.float64] = np.minimum(steps, of_column - 1) / of_column
        return probabilities
