"""One column of a block, checked: what every algorithm asks of labels, weights and predictions before it uses them."""

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Block
from securemllib.errors import DataError

__all__ = ["labels_of", "offsets_of", "predictions_of", "true_rows_of", "weights_of"]

Column = NDArray[np.float64]


def _finite(column: Column | None, name: str, ordinal: int) -> Column:
    if column is None:
        raise DataError(f"The {name} column is missing in part {ordinal}.", code="data.missing_column")
    values = np.asarray(column, dtype=np.float64)
    if not np.isfinite(values).all():
        raise DataError(f"The {name} column of part {ordinal} has a value that is no finite number.", code=f"data.{name}")
    return values


def labels_of(block: Block) -> Column:
    """Return the labels; a part without them, or one that is no finite number, raises DataError."""
    return _finite(block.label, "label", block.ordinal)


def predictions_of(block: Block) -> Column:
    """Return the predictions; a part without them, or one that is no finite number, raises DataError."""
    return _finite(block.prediction, "prediction", block.ordinal)


def offsets_of(block: Block) -> Column:
    """Return the offsets of the linear predictors, 0 where the block has none; one that is no finite number raises DataError."""
    offset = block.extras.get("offset")
    return np.zeros(block.rows) if offset is None else _finite(offset, "offset", block.ordinal)


def weights_of(block: Block) -> Column:
    """Return the weights, 1 for every row where the block has none; a negative one raises DataError."""
    if block.weight is None:
        return np.ones(block.rows)
    weights = _finite(block.weight, "weight", block.ordinal)
    if weights.size and weights.min() < 0:
        raise DataError(f"The weight column of part {block.ordinal} has a negative value.", code="data.weight")
    return weights


def true_rows_of(block: Block) -> NDArray[np.float64]:
    """Return the rows in float64 and not centred; a value that is no finite number raises DataError."""
    rows = block.features.astype(np.float64) + block.offset
    if not np.isfinite(rows).all():
        raise DataError(f"The features of part {block.ordinal} have a value that is no finite number.", code="data.features")
    return rows
