"""Lists of numbers, one a row, as evaluators of several labels or of rankings compare them."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from securemllib.algorithms.base import Block
from securemllib.algorithms.vectors import numbers
from securemllib.errors import DataError

__all__ = ["Lists", "distinct", "lists_of"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Lists:
    """The lists of a block, one after the other.

    Attributes:
        values: ``(m,)`` the numbers.
        row: ``(m,)`` which row each is of.
        place: ``(m,)`` where in its list each is, from 0.
        lengths: ``(n,)`` of the lists.
    """

    values: Floats
    row: Integers
    place: Integers
    lengths: Integers

    @classmethod
    def of(cls, array: pa.Array, name: str) -> "Lists":
        """Return the lists of a column.

        Raises:
            DataError: The column holds no lists of floating numbers, a list is null, or a number null or not finite.
        """
        kind = array.type
        is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        # MLlib compares doubles; large integers that are made such are no longer told apart.
        if not is_list or not pa.types.is_floating(kind.value_type):
            raise DataError(f"The {name} column is of type {kind}, not a list of floating numbers.", code="data.type")
        if array.null_count:
            raise DataError(f"{array.null_count} rows of the {name} column are null.", code="data.null")
        values = numbers(array.flatten(), name)
        if not np.isfinite(values).all():
            raise DataError(f"The {name} column has a value that is no finite number.", code=f"data.{name}")
        fixed = kind.list_size if pa.types.is_fixed_size_list(kind) else None
        lengths = np.full(len(array), fixed) if fixed is not None else np.asarray(array.value_lengths())
        lengths = lengths.astype(np.int64)
        row = np.repeat(np.arange(len(lengths)), lengths)
        starts = np.cumsum(lengths) - lengths
        return cls(values, row, np.arange(len(values)) - starts[row], lengths)


def lists_of(block: Block) -> tuple[Lists, Lists]:
    """Return the predictions and the labels of a block: its inputs 0 and 1; errors as those of `Lists.of`."""
    return Lists.of(block.raw["input0"], "prediction"), Lists.of(block.raw["input1"], "label")


def distinct(predictions: Lists, labels: Lists) -> tuple[Floats, Integers, Integers]:
    """Return the distinct numbers, ascending, and a key of each prediction and each label: ``row * numbers + position of the number``."""
    found, index = np.unique(np.concatenate([predictions.values, labels.values]), return_inverse=True)
    keys = np.concatenate([predictions.row, labels.row]) * found.size + index
    return found, keys[: len(predictions.values)], keys[len(predictions.values) :]
