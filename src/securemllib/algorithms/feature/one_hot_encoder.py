"""One-hot encoding: category indices to sparse vectors with a single 1.

Objective: index ``i`` of a column with ``s`` categories becomes the unit vector ``e_i`` of ``s`` slots; with ``drop_last`` the last
slot is left out, so that the slots do not add up to a constant.

Equivalence: ``pyspark.ml.feature.OneHotEncoder``: the number of categories is the one that a StringIndexer or Bucketizer before
declared, and the largest index + 1 where nobody did; ``handle_invalid="keep"`` adds a slot for invalid indices before ``drop_last``
takes the last away. A null is refused, where MLlib gives a null vector.

Cost: one pass over the columns that declare no categories.

Reveals: with mode="enclave" the number of rows and columns. With mode="partitioned" the same: a maximum is no sum, so it is merged
inside enclaves.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.feature.values import inputs_of, numbers_of, refuse_invalid
from securemllib.algorithms.params import require_bool, require_choice
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.transformer import Column, Transformed
from securemllib.algorithms.vectors import SparseVector
from securemllib.errors import DataError, UsageError

__all__ = ["OneHotEncoder", "OneHotEncoderModel", "OneHotEncoderState", "OneHotEncoderStatistics"]

_INVALID = ("error", "keep")

# Spark's vectors index their slots with 32 bits.
_MOST_CATEGORIES = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class OneHotEncoderStatistics:
    """The number of categories of each column, as far as some rows tell: ``(m,)``."""

    sizes: NDArray[np.int64]

    def __add__(self, other: Self) -> Self:
        return type(self)(sizes=np.maximum(self.sizes, other.sizes))


@dataclass(frozen=True, slots=True, kw_only=True)
class OneHotEncoderState:
    """The number of categories of each column, None before the only round."""

    sizes: NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OneHotEncoderModel:
    """The number of categories of each column.

    Attributes:
        sizes: ``(m,)``.
        drop_last: Whether the last slot is left out.
        handle_invalid: Whether an invalid index is an error or a category of its own.
    """

    SUMMARY: ClassVar[tuple[str, ...]] = ()
    CHANGEABLE: ClassVar[tuple[str, ...]] = ("drop_last", "handle_invalid")

    sizes: NDArray[np.int64]
    drop_last: bool
    handle_invalid: str

    def __post_init__(self) -> None:
        require_bool(self, "drop_last")
        require_choice(self, "handle_invalid", _INVALID)

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return ``output0``, ``output1``...: a sparse vector of each column."""
        if len(columns) != len(self.sizes):
            raise DataError(f"The model encodes {len(self.sizes)} columns, not {len(columns)}.", code="data.length")
        return Transformed(columns={f"output{index}": self._encoded(index, column) for index, column in enumerate(columns)})

    def _encoded(self, index: int, column: Column) -> Column:
        values, size = numbers_of(column, f"input{index}"), int(self.sizes[index])
        if isinstance(column.values, pa.Array) and column.values.null_count:
            raise DataError(f"{column.values.null_count} rows of input {index} are null.", code="data.null")
        valid = (values >= 0) & (values < size)
        if self.handle_invalid == "error":
            refuse_invalid(~valid, "an index that the OneHotEncoder has not seen", '"keep"')
        slots = np.where(valid, values, size).astype(np.int64)
        width = size + (self.handle_invalid == "keep") - self.drop_last
        stored = slots < width
        starts = np.concatenate([[0], np.cumsum(stored)])
        rows = sparse.csr_array((np.ones(int(starts[-1])), slots[stored], starts), shape=(len(values), width))
        return Column(SparseVector(rows), arity=np.full(width, 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class OneHotEncoder:
    """Params of ``pyspark.ml.feature.OneHotEncoder``."""

    drop_last: bool = True
    handle_invalid: str = "error"

    def __post_init__(self) -> None:
        require_bool(self, "drop_last")
        require_choice(self, "handle_invalid", _INVALID)

    def initial(self, summary: Summary, seed: Seed) -> OneHotEncoderState:
        """Return the empty state."""
        del summary, seed
        return OneHotEncoderState()

    def is_done(self, state: OneHotEncoderState) -> bool:
        """Return whether the pass has been made."""
        return state.sizes is not None

    def statistics(self, state: OneHotEncoderState, block: Block) -> OneHotEncoderStatistics:
        """Return the number of categories of each column; `DataError` where a value is no index."""
        del state
        arrays = inputs_of(block)
        arity = np.zeros(len(arrays), dtype=np.int64) if block.arity is None else block.arity
        sizes = [int(known) or _size(array, index) for index, (known, array) in enumerate(zip(arity, arrays, strict=True))]
        return OneHotEncoderStatistics(sizes=np.array(sizes, dtype=np.int64))

    def update(self, state: OneHotEncoderState, total: OneHotEncoderStatistics) -> OneHotEncoderState:
        """Return the finished state."""
        del state
        return OneHotEncoderState(sizes=total.sizes)

    def to_model(self, state: OneHotEncoderState) -> OneHotEncoderModel:
        """Return the model; `DataError` where a column has no category."""
        if state.sizes is None:
            raise UsageError("The training has not finished: its only round is missing.")
        if not (state.sizes > 0).all():
            raise DataError("A column that is to be encoded has no category.", code="data.no_rows")
        return OneHotEncoderModel(sizes=state.sizes, drop_last=self.drop_last, handle_invalid=self.handle_invalid)


def _size(array: pa.Array, index: int) -> int:
    values = numbers_of(array, f"input{index}")
    if not ((values >= 0) & (values == np.floor(values)) & (values < _MOST_CATEGORIES)).all():
        raise DataError(f"The values of input {index} must be category indices: integers from 0 on.", code="data.category")
    return int(values.max(initial=-1)) + 1
