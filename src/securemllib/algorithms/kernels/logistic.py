"""Sums of logistic losses: one pass over the rows, compiled, or in numpy in slices that stay in a core's second-level cache."""

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Array, Block
from securemllib.algorithms.kernels.library import INTEGER, LANES, REAL, array_of, function, padded
from securemllib.algorithms.slices import is_whole, product_type, row_pieces

__all__ = ["binomial_sums", "binomial_twin", "softmax_residuals", "softmax_twin"]

Vector = NDArray[np.float64]

# A product of 64 factors of [1, 2] is at most 2**64, is as exact as a sum of 64 logarithms in float64, and saves 63 of them.
_FACTORS = 64

_FLOATS, _DOUBLES, _WEIGHTS = array_of(np.float32), array_of(np.float64), array_of(np.float64, optional=True)
_SUMS, _SCRATCH = array_of(np.float64, written=True), array_of(np.float32, written=True)
_BINOMIAL = function("logistic", "binomial_loss", _FLOATS, _DOUBLES, _WEIGHTS, INTEGER, INTEGER, _FLOATS, REAL, _SCRATCH, _SUMS, _SUMS)
_SOFTMAX = function("logistic", "softmax_residuals", _SCRATCH, _DOUBLES, _WEIGHTS, INTEGER, INTEGER, _SUMS)


def binomial_sums(block: Block, label: Vector, vector: Array, bias: float) -> tuple[float, float, Vector]:
    """Return the sums of loss, of residual and of residual times row ``(d,)``.

    Args:
        block: Rows.
        label: ``(n,)`` 0 or 1.
        vector: ``(d,)`` coefficients in the rows' dtype.
        bias: Constant of the margin.
    """
    columns = block.columns
    if _BINOMIAL is None or product_type(block) != np.float32 or columns < LANES or not is_whole(block, label, vector):
        return binomial_twin(block, label, vector, bias)
    sums, gradient, scratch = np.zeros(2), np.zeros(columns), np.empty(padded(columns), dtype=np.float32)
    _BINOMIAL(block.features, label, block.weight, block.rows, columns, vector, bias, scratch, gradient, sums)
    return float(sums[0]), float(sums[1]), gradient


def binomial_twin(block: Block, label: Vector, vector: Array, bias: float) -> tuple[float, float, Vector]:
    """Return what `binomial_sums` does."""
    dtype = product_type(block)
    loss, residuals, gradient = 0.0, 0.0, np.zeros(block.columns)
    for rows, features in row_pieces(block):
        own = label[rows].astype(dtype)
        margin = features @ vector
        margin += dtype(bias)
        decay = np.abs(margin)
        np.exp(np.negative(decay, out=decay), out=decay)
        residual = np.where(margin >= 0, dtype(1), decay)
        residual /= decay + dtype(1)
        residual -= own
        if block.weight is None:
            loss += float(np.maximum(margin, 0).sum(dtype=np.float64)) - float(own @ margin) + _log_product(decay)
        else:
            weight = block.weight[rows]
            losses = np.log1p(decay.astype(np.float64)) + np.maximum(margin, 0) - own * margin
            loss += float(weight @ losses)
            residual *= weight.astype(dtype)
        residuals += float(residual.sum(dtype=np.float64))
        gradient += residual @ features
    return loss, residuals, gradient


def softmax_residuals(margins: Array, label: Vector, weight: Vector | None) -> tuple[float, Vector]:
    """Turn margins ``(k, n)`` into weighted residuals, and return the sums of loss and of residuals ``(k,)``.

    Args:
        margins: C-contiguous, written over.
        label: ``(n,)`` integers in [0, k).
        weight: ``(n,)``, or None where every row weighs 1.
    """
    classes, rows = margins.shape
    if _SOFTMAX is None or margins.dtype != np.float32 or label.shape != (rows,) or not _are_classes(label, classes):
        return softmax_twin(margins, label, weight)
    sums = np.zeros(1 + classes)
    _SOFTMAX(margins, label, weight, rows, classes, sums)
    return float(sums[0]), sums[1:]


def softmax_twin(margins: Array, label: Vector, weight: Vector | None) -> tuple[float, Vector]:
    """Return, and write, what `softmax_residuals` does."""
    dtype, index, order = margins.dtype.type, label.astype(np.intp), np.arange(len(label))
    margins -= margins.max(axis=0)
    own = margins[index, order]
    np.exp(margins, out=margins)
    total = margins.sum(axis=0)
    losses = np.log(total.astype(np.float64)) - own
    margins /= total
    margins[index, order] -= dtype(1)
    if weight is not None:
        losses *= weight
        margins *= weight.astype(dtype)
    return float(losses.sum()), margins.sum(axis=1, dtype=np.float64)


def _are_classes(label: Vector, classes: int) -> bool:
    return not len(label) or bool(label.min() >= 0 and label.max() < classes)


def _log_product(decay: Array) -> float:
    """Return the sum of log(1 + decay) of values in [0, 1]."""
    factors = np.add(decay, 1.0, dtype=np.float64)
    whole = len(factors) // _FACTORS * _FACTORS
    products = np.multiply.reduce(factors[:whole].reshape(_FACTORS, -1), axis=0)
    return float(np.log(products).sum() + np.log(factors[whole:]).sum())
