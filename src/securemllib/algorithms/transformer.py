"""What turns columns into columns: transformers that nothing was trained for, and models that read more than one vector.

A transformer is a frozen dataclass of Params whose `Transformer.transform` is a pure function of whole columns of one part.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from securemllib.algorithms.vectors import AnyVector, SparseVector, Vector

__all__ = ["Column", "Transformed", "Transformer"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a part.

    Attributes:
        values: An Arrow array of scalars or lists of strings, or a vector column.
        arity: Categories of each slot (a scalar has one slot), 0 for a continuous one; None where no slot is nominal.
        labels: What the categories of a nominal scalar were called.
    """

    values: pa.Array | AnyVector
    arity: NDArray[np.int64] | None = None
    labels: tuple[str, ...] | None = None

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.values.rows if isinstance(self.values, Vector | SparseVector) else len(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transformed:
    """What a transformer made of the columns that it read.

    Attributes:
        columns: The outputs by stem (``output``, or ``output0``, ``output1``...), as long as the inputs.
        keep: ``(n,)`` which rows stay, where ``handleInvalid="skip"`` drops some; None keeps all.
    """

    columns: Mapping[str, Column]
    keep: NDArray[np.bool_] | None = None


class Transformer(Protocol):
    """Columns to columns."""

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return the outputs.

        Args:
            columns: The inputs in the order of the Params ``inputCol`` or ``inputCols``.

        Raises:
            DataError: A value is invalid, and the Params do not say to skip or keep it.
        """
