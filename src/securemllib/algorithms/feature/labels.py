"""Category indices back to their labels.

Objective: the label whose position is the index.

Equivalence: ``pyspark.ml.feature.IndexToString``: the labels of the Param, or those that the column itself carries.

Reveals: nothing: a plan's step computes it inside enclaves.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from securemllib.algorithms.feature.values import numbers_of
from securemllib.algorithms.transformer import Column, Transformed
from securemllib.errors import DataError

__all__ = ["IndexToString"]


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexToString:
    """Params of ``pyspark.ml.feature.IndexToString``."""

    labels: tuple[str, ...] | None = None

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return ``output``: the label of each index; `DataError` where an index has none, or nobody knows the labels."""
        (column,) = columns
        labels = self.labels or column.labels
        if not labels:
            raise DataError("The column carries no labels.", code="data.labels", next_step="Set the Param labels.")
        values = numbers_of(column, "input")
        # As in Java, an index is cut to an integer: -0.5 and 0.5 are index 0.
        cut = np.trunc(values)
        unseen = ~((cut >= 0) & (cut < len(labels)))
        if unseen.any():
            raise DataError(f"{int(unseen.sum())} rows have a null or an index that has no label.", code="data.invalid")
        return Transformed(columns={"output": Column(pa.array(labels, pa.string()).take(pa.array(cut.astype(np.int64))))})
