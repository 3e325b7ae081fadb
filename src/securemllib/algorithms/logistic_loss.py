"""Logistic loss and softmax cross-entropy of a block of rows, in slices that stay in a core's second-level cache.

Rows and margins keep the block's dtype, those of sparse rows are float64; every sum over slices is float64. Exponentials
never overflow: their arguments are at most 0.
"""

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Array, Block
from securemllib.algorithms.slices import product_type, row_pieces
from securemllib.errors import DataError

__all__ = ["binomial_loss", "multinomial_loss", "sigmoid", "softmax"]

# A product of 64 factors of [1, 2] is at most 2**64, is as exact as a sum of 64 logarithms in float64, and saves 63 of them.
_FACTORS = 64

Vector = NDArray[np.float64]


def sigmoid(margin: Vector) -> Vector:
    """Return 1 / (1 + exp(-margin)) without overflow."""
    decay = np.exp(-np.abs(margin))
    return np.where(margin >= 0, 1.0, decay) / (1.0 + decay)


def softmax(margins: Vector) -> Vector:
    """Return class probabilities of ``(n, k)`` margins; an infinite margin takes all."""
    largest = margins.max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        scaled = np.exp(np.where(margins == largest, 0.0, margins - largest))
    probability: Vector = scaled / scaled.sum(axis=1, keepdims=True)
    return probability


def binomial_loss(block: Block, vectors: Vector, biases: Vector) -> tuple[float, Vector, Vector]:
    """Return the sums of loss, of residual times centred row ``(1, d)`` and of residual ``(1,)``.

    Args:
        block: Rows with labels 0 and 1.
        vectors: ``(1, d)`` coefficients on the centred rows.
        biases: ``(1,)`` constant of the margin.
    """
    dtype = product_type(block)
    vector, bias = vectors[0].astype(dtype), dtype(biases[0])
    loss, residuals, gradient = 0.0, 0.0, np.zeros(block.columns)
    for rows, features in row_pieces(block):
        label = _label(block)[rows].astype(dtype)
        margin = features @ vector
        margin += bias
        decay = np.abs(margin)
        np.exp(np.negative(decay, out=decay), out=decay)
        residual = np.where(margin >= 0, dtype(1), decay)
        residual /= decay + dtype(1)
        residual -= label
        if block.weight is None:
            loss += float(np.maximum(margin, 0).sum(dtype=np.float64)) - float(label @ margin) + _log_product(decay)
        else:
            weight = block.weight[rows]
            losses = np.log1p(decay.astype(np.float64)) + np.maximum(margin, 0) - label * margin
            loss += float(weight @ losses)
            residual *= weight.astype(dtype)
        residuals += float(residual.sum(dtype=np.float64))
        gradient += residual @ features
    return loss, gradient[np.newaxis], np.array([residuals])


def multinomial_loss(block: Block, vectors: Vector, biases: Vector) -> tuple[float, Vector, Vector]:
    """Return the sums of loss, of residual times centred row ``(k, d)`` and of residual ``(k,)``.

    Args:
        block: Rows with labels 0 to k - 1.
        vectors: ``(k, d)`` coefficients on the centred rows.
        biases: ``(k,)`` constants of the margins.
    """
    dtype = product_type(block)
    matrix, bias = np.ascontiguousarray(vectors.T.astype(dtype)), biases.astype(dtype)
    loss, residuals, gradient = 0.0, np.zeros(len(vectors)), np.zeros(vectors.shape)
    for rows, features in row_pieces(block):
        index = _label(block)[rows].astype(np.intp)
        margins = features @ matrix
        margins += bias
        margins -= margins.max(axis=1, keepdims=True)
        own = np.take_along_axis(margins, index[:, np.newaxis], axis=1)[:, 0]
        probability = np.exp(margins, out=margins)
        total = probability.sum(axis=1)
        losses = np.log(total.astype(np.float64)) - own
        probability /= total[:, np.newaxis]
        probability[np.arange(len(index)), index] -= dtype(1)
        if block.weight is not None:
            losses *= block.weight[rows]
            probability *= block.weight[rows].astype(dtype)[:, np.newaxis]
        loss += float(losses.sum())
        residuals += probability.sum(axis=0, dtype=np.float64)
        gradient += probability.T @ features
    return loss, gradient, residuals


def _label(block: Block) -> Vector:
    if block.label is None:
        raise DataError(f"block {block.ordinal} has no label", code="data.label")
    return block.label


def _log_product(decay: Array) -> float:
    """Return the sum of log(1 + decay) of values in [0, 1]."""
    factors = np.add(decay, 1.0, dtype=np.float64)
    whole = len(factors) // _FACTORS * _FACTORS
    products = np.multiply.reduce(factors[:whole].reshape(_FACTORS, -1), axis=0)
    return float(np.log(products).sum() + np.log(factors[whole:]).sum())
