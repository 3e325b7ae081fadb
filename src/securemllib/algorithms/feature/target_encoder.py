"""Target encoding: categories replaced by the mean label of their rows, drawn towards that of all rows.

Objective: with ``n`` rows of a category, their mean label ``m``, that of all rows ``M`` and ``w = n / (n + smoothing)``,
``output = w m + (1 - w) M``; a null is a category of its own where rows had one. Rows without a label (null or NaN) count for nothing.

Equivalence: ``pyspark.ml.feature.TargetEncoder``, whose ``binary`` estimates are the mean of labels 0 and 1. Trees see the outputs as the
continuous numbers that they are, where MLlib declares them nominal.

Cost: one pass; statistics are two numbers and a count for each category, at most `MAX_VALUES` a column.

Reveals: with mode="enclave" the number of rows and columns, and by the size of sealed messages about how many categories there are. With
mode="partitioned" the same: means are merged inside enclaves. A category of few rows nearly tells their labels, in the model and in what
it encodes: a large ``smoothing`` hides them.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.feature.moments import Moments
from securemllib.algorithms.feature.values import decoded, inputs_of, numbers_of, refuse_invalid
from securemllib.algorithms.params import require_choice, require_number
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.transformer import Column, Transformed
from securemllib.algorithms.vectors import Vector
from securemllib.errors import DataError, UsageError

__all__ = ["TargetEncoder", "TargetEncoderModel", "TargetEncoderState", "TargetEncoderStatistics"]

_INVALID = ("error", "keep")
# MLlib's category of nulls, and the largest index of one that is none.
_NULL, _LARGEST = -1.0, 2.0**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetEncoderStatistics:
    """The labels of each column's categories, and in the end of all rows."""

    columns: tuple[Moments, ...]

    def __add__(self, other: Self) -> Self:
        return type(self)(columns=tuple(one + two for one, two in zip(self.columns, other.columns, strict=True)))


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetEncoderState:
    """The labels of all rows, None before the only round."""

    total: TargetEncoderStatistics | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetEncoderModel:
    """The labels of each column's categories.

    Attributes:
        sizes: ``(m,)`` how many categories each column has.
        categories: What they are, ascending, column by column; -1 is a null.
        rows: Of each category.
        means: The mean label of each category.
        mean: The mean label of all rows.
        handle_invalid: What happens to a category that no row had.
        smoothing: How many rows of the mean of all weigh as much as those of a category.
    """

    SUMMARY: ClassVar[tuple[str, ...]] = ()
    CHANGEABLE: ClassVar[tuple[str, ...]] = ("handle_invalid", "smoothing")

    sizes: NDArray[np.int64]
    categories: NDArray[np.float64]
    rows: NDArray[np.int64]
    means: NDArray[np.float64]
    mean: float
    handle_invalid: str
    smoothing: float

    def __post_init__(self) -> None:
        require_choice(self, "handle_invalid", _INVALID)
        require_number(self, "smoothing", low=0.0)

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return ``output0``, ``output1``...: the encodings; unseen categories as `handle_invalid` says."""
        if len(columns) != len(self.sizes):
            raise DataError(f"The model encodes {len(self.sizes)} columns, not {len(columns)}.", code="data.length")
        weight = self.rows / (self.rows + self.smoothing)
        cuts = np.cumsum(self.sizes)[:-1]
        encodings = np.split(weight * self.means + (1.0 - weight) * self.mean, cuts)
        outputs = {}
        for index, (column, known, encoding) in enumerate(zip(columns, np.split(self.categories, cuts), encodings, strict=True)):
            values, missing = _values(column, index)
            values = np.where(missing, _NULL, values)
            place = np.minimum(np.searchsorted(known, values), len(known) - 1)
            # A stored -1 is not the category of nulls.
            unseen = (known[place] != values) | ((values == _NULL) & ~missing)
            if self.handle_invalid == "error":
                refuse_invalid(unseen, "a category that the TargetEncoder has not seen", '"keep"')
            outputs[f"output{index}"] = Column(pa.array(np.where(unseen, self.mean, encoding[place])))
        return Transformed(columns=outputs)


def _values(column: Column | pa.Array, index: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return a column of numbers, and which of them are null."""
    array = decoded(column.values if isinstance(column, Column) else column)
    return numbers_of(array, f"input{index}"), np.asarray(array.is_null())


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetEncoder:
    """Params of ``pyspark.ml.feature.TargetEncoder``; the label is the last of the columns, for it may be null."""

    handle_invalid: str = "error"
    target_type: str = "binary"
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        require_choice(self, "handle_invalid", _INVALID)
        require_choice(self, "target_type", ("binary", "continuous"))
        require_number(self, "smoothing", low=0.0)

    def initial(self, summary: Summary, seed: Seed) -> TargetEncoderState:
        """Return the empty state."""
        del summary, seed
        return TargetEncoderState()

    def is_done(self, state: TargetEncoderState) -> bool:
        """Return whether the pass has been made."""
        return state.total is not None

    def statistics(self, state: TargetEncoderState, block: Block) -> TargetEncoderStatistics:
        """Return the labels of the block's categories; `DataError` where a category is no index, or a label not of its kind."""
        del state
        *arrays, last = inputs_of(block)
        label = numbers_of(last, "label")
        known = ~np.isnan(label)
        label = label[known]
        wrong = ~(np.isfinite(label) if self.target_type == "continuous" else (label == 0) | (label == 1))
        if wrong.any():
            raise DataError(
                f"{int(wrong.sum())} rows of part {block.ordinal} have a label that is not {self.target_type}.", code="data.label"
            )
        columns = [_categories(array, index, known, block.ordinal) for index, array in enumerate(arrays)]
        return TargetEncoderStatistics(columns=tuple(Moments.of(Vector((label,)), each) for each in (*columns, np.zeros(len(label)))))

    def update(self, state: TargetEncoderState, total: TargetEncoderStatistics) -> TargetEncoderState:
        """Return the finished state."""
        del state
        return TargetEncoderState(total=total)

    def to_model(self, state: TargetEncoderState) -> TargetEncoderModel:
        """Return the model; `DataError` where there is no label."""
        if state.total is None:
            raise UsageError("The training has not finished: its only round is missing.")
        *columns, everything = state.total.columns
        if not everything.rows:
            raise DataError("There is no row with a label to learn from.", code="data.no_rows")
        return TargetEncoderModel(
            sizes=np.array([len(column.means) for column in columns], dtype=np.int64),
            categories=np.concatenate([column.groups.numbers for column in columns]),
            rows=np.concatenate([column.groups.counts for column in columns]),
            means=np.concatenate([column.means[:, 0] for column in columns]),
            mean=float(everything.means[0, 0]),
            handle_invalid=self.handle_invalid,
            smoothing=self.smoothing,
        )


def _categories(array: pa.Array, index: int, known: NDArray[np.bool_], ordinal: int) -> NDArray[np.float64]:
    """Return the categories of the rows that have a label, -1 for null; `DataError` where one is no index."""
    values, missing = _values(array, index)
    values, missing = values[known], missing[known]
    wrong = ~(missing | ((values >= 0) & (values <= _LARGEST) & (values == np.floor(values))))
    if wrong.any():
        raise DataError(f"{int(wrong.sum())} rows of part {ordinal} have a category that is no index.", code="data.category")
    return np.where(missing, _NULL, values)
