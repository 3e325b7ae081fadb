"""The smallest and largest value of each slot of vectors: statistics that MinMaxScaler and MaxAbsScaler share."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Block
from securemllib.algorithms.feature.values import slots_of
from securemllib.algorithms.vectors import SparseVector
from securemllib.errors import DataError, UsageError

__all__ = ["Extremes", "ExtremesState"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Extremes:
    """Of some rows; NaN is passed over.

    Attributes:
        rows: Their number.
        minimum: ``(d,)``, infinity where there is no value; empty where no row tells how many slots there are.
        maximum: ``(d,)``.
    """

    rows: int
    minimum: NDArray[np.float64]
    maximum: NDArray[np.float64]

    @classmethod
    def of(cls, block: Block) -> Self:
        """Return those of the block's only raw column."""
        vector = slots_of(block)
        if isinstance(vector, SparseVector):
            rows = vector.values
            zeros = np.bincount(rows.indices, minlength=vector.width) < vector.rows
            minimum, maximum = np.where(zeros, 0.0, np.inf), np.where(zeros, 0.0, -np.inf)
            np.fmin.at(minimum, rows.indices, rows.data)
            np.fmax.at(maximum, rows.indices, rows.data)
        else:
            minimum = np.array([np.fmin.reduce(values, initial=np.inf) for values in vector.columns], dtype=np.float64)
            maximum = np.array([np.fmax.reduce(values, initial=-np.inf) for values in vector.columns], dtype=np.float64)
        return cls(rows=block.rows, minimum=minimum, maximum=maximum)

    def __add__(self, other: Self) -> Self:
        if not self.rows or not other.rows:
            return self if self.rows else other
        if len(self.minimum) != len(other.minimum):
            raise DataError("The vectors of two parts differ in length.", code="data.length")
        minimum, maximum = np.minimum(self.minimum, other.minimum), np.maximum(self.maximum, other.maximum)
        return type(self)(rows=self.rows + other.rows, minimum=minimum, maximum=maximum)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtremesState:
    """Those of all rows, None before the only round."""

    total: Extremes | None = None

    @property
    def found(self) -> Extremes:
        """Those of all rows.

        Raises:
            DataError: There is no row.
        """
        if self.total is None:
            raise UsageError("The training has not finished: its only round is missing.")
        if not self.total.rows:
            raise DataError("There is no row to learn from.", code="data.no_rows")
        return self.total
