"""Imputation: nulls, NaN and a given missing value replaced by a column's mean, median or mode.

Objective: of the values that are there, the mean, the element of rank ``ceil(n / 2)``, or the most frequent one (of equally frequent ones
the smallest).

Equivalence: ``pyspark.ml.feature.Imputer``: outputs have their inputs' type. The median is exact, so it is within every
``relativeError`` of MLlib's, and equal to MLlib's where that keeps all values.

Cost: one pass; a median takes four for up to 64 columns. A mode's statistics are the distinct values, at most `MAX_VALUES` a column.

Reveals: with mode="enclave" the number of rows, columns and rounds, and for a mode by the size of sealed messages about how many
distinct values there are. With mode="partitioned" the same: sums for a mean leave as masked integers, other statistics are added inside
enclaves.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.feature.counts import NumberCounts
from securemllib.algorithms.feature.quantiles import QuantileCounts, QuantileSearch
from securemllib.algorithms.feature.values import decoded, inputs_of, numbers_of
from securemllib.algorithms.params import require_choice, require_number
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.transformer import Column, Transformed
from securemllib.errors import DataError, UsageError

__all__ = ["Imputer", "ImputerModel", "ImputerState", "ImputerStatistics"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImputerStatistics:
    """What one strategy needs of ``m`` columns.

    Attributes:
        rows: ``(m,)`` values that are there.
        totals: ``(m,)`` their sums, for a mean; else zeros.
        quantiles: Their leading bits, for a median.
        values: How often each occurs, for a mode.
    """

    ADDITIVE: ClassVar[tuple[str, ...]] = ("rows", "totals")

    rows: NDArray[np.int64]
    totals: NDArray[np.float64]
    quantiles: QuantileCounts | None
    values: tuple[NumberCounts, ...]

    def __add__(self, other: Self) -> Self:
        quantiles = None if self.quantiles is None or other.quantiles is None else self.quantiles + other.quantiles
        return type(self)(
            rows=self.rows + other.rows,
            totals=self.totals + other.totals,
            quantiles=quantiles,
            values=tuple(one + two for one, two in zip(self.values, other.values, strict=True)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ImputerState:
    """The search for medians, or None; and the surrogates ``(m,)``, None before the last round."""

    search: QuantileSearch | None
    surrogates: NDArray[np.float64] | None = None


def _require_value(missing: float) -> None:
    if isinstance(missing, bool) or not isinstance(missing, int | float):
        raise UsageError(f"missing_value must be a number or NaN, not a {type(missing).__name__}", code="usage.param")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImputerModel:
    """What replaces a missing value in each column: ``(m,)``."""

    SUMMARY: ClassVar[tuple[str, ...]] = ()
    CHANGEABLE: ClassVar[tuple[str, ...]] = ("missing_value",)

    surrogates: NDArray[np.float64]
    missing_value: float

    def __post_init__(self) -> None:
        _require_value(self.missing_value)

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return ``output0``, ``output1``...: the columns without gaps."""
        if len(columns) != len(self.surrogates):
            raise DataError(f"The model imputes {len(self.surrogates)} columns, not {len(columns)}.", code="data.length")
        pairs = enumerate(zip(columns, self.surrogates, strict=True))
        return Transformed(columns={f"output{index}": self._filled(column, value, index) for index, (column, value) in pairs})

    def _filled(self, column: Column, surrogate: float, index: int) -> Column:
        values = numbers_of(column, f"input{index}")
        array = decoded(column.values)
        missing = np.asarray(array.is_null()) | (np.isnan(values) if np.isnan(self.missing_value) else values == self.missing_value)
        filled = np.where(missing, surrogate, values)
        if pa.types.is_integer(array.type):
            # As Spark's cast, towards zero.
            return Column(pa.array(np.trunc(filled).astype(np.int64)).cast(array.type))
        return Column(pa.array(filled).cast(array.type, safe=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class Imputer:
    """Params of ``pyspark.ml.feature.Imputer``."""

    strategy: str = "mean"
    missing_value: float = float("nan")
    relative_error: float = 0.001

    def __post_init__(self) -> None:
        require_choice(self, "strategy", ("mean", "median", "mode"))
        require_number(self, "relative_error", low=0.0, high=1.0)
        _require_value(self.missing_value)

    def initial(self, summary: Summary, seed: Seed) -> ImputerState:
        """Return the empty state."""
        del summary, seed
        return ImputerState(search=QuantileSearch.start() if self.strategy == "median" else None)

    def is_done(self, state: ImputerState) -> bool:
        """Return whether the surrogates are known."""
        return state.surrogates is not None

    def statistics(self, state: ImputerState, block: Block) -> ImputerStatistics:
        """Return what the strategy needs of the block."""
        columns = [self._there(array, index) for index, array in enumerate(inputs_of(block))]
        return ImputerStatistics(
            rows=np.array([len(values) for values in columns], dtype=np.int64),
            totals=np.array([values.sum() if self.strategy == "mean" else 0.0 for values in columns], dtype=np.float64),
            quantiles=None if state.search is None else state.search.counted([(values, 0) for values in columns], 1),
            values=tuple(map(NumberCounts.of, columns)) if self.strategy == "mode" else (),
        )

    def is_additive(self, state: ImputerState) -> bool:
        """Return whether the next statistics are sums: those of a mean."""
        del state
        return self.strategy == "mean"

    def _there(self, array: pa.Array, index: int) -> NDArray[np.float64]:
        values = numbers_of(array, f"input{index}")
        there: NDArray[np.float64] = values[~np.isnan(values) & (values != self.missing_value)]
        return there

    def update(self, state: ImputerState, total: ImputerStatistics) -> ImputerState:
        """Return the surrogates, or the refined search; `DataError` where a column has no value."""
        if not (total.rows > 0).all():
            empty = int(np.flatnonzero(total.rows == 0)[0])
            raise DataError(f"A surrogate cannot be computed: all values of input {empty} are missing.", code="data.no_rows")
        if state.search is not None and total.quantiles is not None:
            search = state.search.refined(total.quantiles, np.array([[0.5]]), self.relative_error)
            return ImputerState(search=search, surrogates=search.values[:, 0] if search.is_done else None)
        if self.strategy == "mode":
            return ImputerState(search=None, surrogates=np.array([counted.mode for counted in total.values]))
        return ImputerState(search=None, surrogates=total.totals / total.rows)

    def to_model(self, state: ImputerState) -> ImputerModel:
        """Return the model."""
        if state.surrogates is None:
            raise UsageError("The training has not finished: a round is missing.")
        return ImputerModel(surrogates=state.surrogates, missing_value=self.missing_value)
