"""Vector indexing: slots with few distinct values become categories.

Objective: a slot of at most ``max_categories`` distinct values is nominal, and a value becomes its position among them in ascending
order, 0 first where it occurs; every other slot stays as it is.

Equivalence: ``pyspark.ml.feature.VectorIndexer``. NaN is refused, and so are vectors without slots, which MLlib
leaves as they are. Trees see the number of categories of each slot.

Cost: one pass; statistics are ``d (max_categories + 1)`` numbers.

Reveals: with mode="enclave" the number of rows and columns. With mode="partitioned" the same: sets of values are merged inside enclaves.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.feature.quantiles import columns_of
from securemllib.algorithms.feature.values import of_width, refuse_invalid, slots_of, vector_of
from securemllib.algorithms.params import require_choice, require_integer
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.transformer import Column, Transformed
from securemllib.algorithms.vectors import AnyVector, SparseVector, Vector
from securemllib.errors import DataError, UsageError

__all__ = ["VectorIndexer", "VectorIndexerModel", "VectorIndexerState", "VectorIndexerStatistics"]

_INVALID = ("error", "skip", "keep")


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorIndexerStatistics:
    """The smallest distinct values of each slot: ``(d, max_categories + 1)``, ascending, NaN behind the last one."""

    values: NDArray[np.float64]

    def __add__(self, other: Self) -> Self:
        if not self.values.size or not other.values.size:
            return self if self.values.size else other
        both = np.sort(np.concatenate([self.values, other.values], axis=1), axis=1)
        both[:, 1:][both[:, 1:] == both[:, :-1]] = np.nan
        return type(self)(values=np.sort(both, axis=1)[:, : self.values.shape[1]])


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorIndexerState:
    """The distinct values of all rows, None before the only round."""

    total: VectorIndexerStatistics | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorIndexerModel:
    """The categories of each slot.

    Attributes:
        arity: ``(d,)`` how many, 0 for a slot that stays as it is.
        values: What they were, slot by slot, in the order of their index.
        handle_invalid: What happens to a value that no row had.
    """

    SUMMARY: ClassVar[tuple[str, ...]] = ()
    CHANGEABLE: ClassVar[tuple[str, ...]] = ("handle_invalid",)

    arity: NDArray[np.int64]
    values: NDArray[np.float64]
    handle_invalid: str

    def __post_init__(self) -> None:
        require_choice(self, "handle_invalid", _INVALID)

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return ``output``: the vectors with indices in nominal slots; sparse ones stay sparse."""
        (column,) = columns
        vector = of_width(vector_of(column, "input"), len(self.arity), "The model")
        indexed, unseen = self._dense(vector) if isinstance(vector, Vector) else self._sparse(vector)
        if self.handle_invalid == "error":
            refuse_invalid(unseen, "a value that the VectorIndexer has not seen in a nominal slot")
        arity = np.where(self.arity > 0, self.arity + (self.handle_invalid == "keep"), 0)
        keep = ~unseen if self.handle_invalid == "skip" else None
        return Transformed(columns={"output": Column(indexed, arity=arity)}, keep=keep)

    def _dense(self, vector: Vector) -> tuple[AnyVector, NDArray[np.bool_]]:
        made, unseen = list(vector.columns), np.zeros(vector.rows, dtype=bool)
        for slot, categories in self._nominal():
            made[slot], wrong = _indexed(vector.columns[slot], categories)
            unseen |= wrong
        return Vector(tuple(made)), unseen

    def _sparse(self, vector: SparseVector) -> tuple[AnyVector, NDArray[np.bool_]]:
        by_column, unseen = sparse.csc_array(vector.values, copy=True), np.zeros(vector.rows, dtype=bool)
        for slot, categories in self._nominal():
            stored = slice(by_column.indptr[slot], by_column.indptr[slot + 1])
            by_column.data[stored], wrong = _indexed(by_column.data[stored], categories)
            unseen[by_column.indices[stored][wrong]] = True
        return SparseVector(sparse.csr_array(by_column)), unseen

    def _nominal(self) -> list[tuple[int, NDArray[np.float64]]]:
        """Return the nominal slots and their values."""
        cuts = np.split(self.values, np.cumsum(self.arity)[:-1])
        return [(int(slot), cuts[slot]) for slot in np.flatnonzero(self.arity)]


def _indexed(values: NDArray[np.float64], categories: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the index of each value, the number of categories for unseen ones; and which are unseen."""
    order = np.argsort(categories)
    place = order[np.minimum(np.searchsorted(categories, values, sorter=order), len(categories) - 1)]
    unseen = categories[place] != values
    return np.where(unseen, float(len(categories)), place.astype(np.float64)), unseen


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorIndexer:
    """Params of ``pyspark.ml.feature.VectorIndexer``."""

    max_categories: int = 20
    handle_invalid: str = "error"

    def __post_init__(self) -> None:
        require_integer(self, "max_categories", 2)
        require_choice(self, "handle_invalid", _INVALID)

    def initial(self, summary: Summary, seed: Seed) -> VectorIndexerState:
        """Return the empty state."""
        del summary, seed
        return VectorIndexerState()

    def is_done(self, state: VectorIndexerState) -> bool:
        """Return whether the pass has been made."""
        return state.total is not None

    def statistics(self, state: VectorIndexerState, block: Block) -> VectorIndexerStatistics:
        """Return the distinct values of the block's slots; `DataError` where one is NaN."""
        del state
        vector = slots_of(block)
        if vector.invalid().any():
            raise DataError(f"{int(vector.invalid().sum())} rows of part {block.ordinal} have a NaN.", code="data.features")
        found = np.full((vector.width, self.max_categories + 1), np.nan)
        for slot, (values, zeros) in enumerate(columns_of(vector)):
            distinct = np.unique(np.append(values, 0.0) if zeros else values + 0.0)[: self.max_categories + 1]
            found[slot, : len(distinct)] = distinct
        return VectorIndexerStatistics(values=found)

    def update(self, state: VectorIndexerState, total: VectorIndexerStatistics) -> VectorIndexerState:
        """Return the finished state."""
        del state
        return VectorIndexerState(total=total)

    def to_model(self, state: VectorIndexerState) -> VectorIndexerModel:
        """Return the model; `DataError` where there is no row."""
        if state.total is None:
            raise UsageError("The training has not finished: its only round is missing.")
        found = state.total.values
        counts = (~np.isnan(found)).sum(axis=1)
        if not found.size or not counts.all():
            raise DataError("There is no row to learn from.", code="data.no_rows")
        arity = np.where(counts <= self.max_categories, counts, 0).astype(np.int64)
        values = [_zero_first(row[:size]) for row, size in zip(found, arity, strict=True)]
        return VectorIndexerModel(arity=arity, values=np.concatenate(values), handle_invalid=self.handle_invalid)


def _zero_first(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ascending values with 0 moved to the front, so that sparse vectors stay sparse."""
    return np.concatenate([values[values == 0], values[values != 0]])
