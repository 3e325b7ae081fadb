"""Sums of hinge losses: one pass over the rows, compiled, or in numpy. Margins and sums are float64, also over float32 rows."""

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Block
from securemllib.algorithms.kernels.library import INTEGER, REAL, array_of, function
from securemllib.algorithms.slices import is_whole, product_type, row_pieces

__all__ = ["hinge_sums", "hinge_twin"]

Vector = NDArray[np.float64]

_DOUBLES, _SUMS = array_of(np.float64), array_of(np.float64, written=True)
_HINGE = function(
    "hinge", "hinge_loss",
    array_of(np.float32), _DOUBLES, array_of(np.float64, optional=True), INTEGER, INTEGER, _DOUBLES, REAL, _SUMS, _SUMS,
)  # fmt: skip


def hinge_sums(block: Block, label: Vector, vector: Vector, bias: float) -> tuple[float, float, Vector]:
    """Return the sums of loss, of slope and of slope times row ``(d,)``.

    Args:
        block: Rows.
        label: ``(n,)`` 0 or 1.
        vector: ``(d,)`` coefficients.
        bias: Constant of the margin.
    """
    if _HINGE is None or product_type(block) != np.float32 or not is_whole(block, label, vector):
        return hinge_twin(block, label, vector, bias)
    sums, gradient = np.zeros(2), np.zeros(block.columns)
    _HINGE(block.features, label, block.weight, block.rows, block.columns, vector, bias, gradient, sums)
    return float(sums[0]), float(sums[1]), gradient


def hinge_twin(block: Block, label: Vector, vector: Vector, bias: float) -> tuple[float, float, Vector]:
    """Return what `hinge_sums` does."""
    loss, slope, gradient = 0.0, 0.0, np.zeros(block.columns)
    for rows, stored in row_pieces(block):
        features = stored.astype(np.float64, copy=False)
        sign = 2.0 * label[rows] - 1.0
        slack = np.maximum(1.0 - sign * (features @ vector + bias), 0.0)
        slopes = np.where(slack > 0.0, -sign, 0.0)
        if block.weight is None:
            loss += float(slack.sum())
        else:
            loss += float(block.weight[rows] @ slack)
            slopes *= block.weight[rows]
        slope += float(slopes.sum())
        gradient += slopes @ features
    return loss, slope, gradient
