"""Logistic loss and softmax cross-entropy of a block of rows; their inner loops are kernels.

Rows and margins keep the block's dtype, those of sparse rows are float64; every sum over slices is float64. Exponentials
never overflow: their arguments are at most 0.
"""

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Block
from securemllib.algorithms.kernels.logistic import binomial_sums, softmax_residuals
from securemllib.algorithms.slices import product_type, row_pieces
from securemllib.errors import DataError

__all__ = ["binomial_loss", "multinomial_loss", "sigmoid", "softmax"]

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
    vector = vectors[0].astype(product_type(block))
    loss, residuals, gradient = binomial_sums(block, _label(block), vector, float(biases[0]))
    return loss, gradient[np.newaxis], np.array([residuals])


def multinomial_loss(block: Block, vectors: Vector, biases: Vector) -> tuple[float, Vector, Vector]:
    """Return the sums of loss, of residual times centred row ``(k, d)`` and of residual ``(k,)``.

    Args:
        block: Rows with labels 0 to k - 1.
        vectors: ``(k, d)`` coefficients on the centred rows.
        biases: ``(k,)`` constants of the margins.
    """
    dtype = product_type(block)
    matrix, bias, label = vectors.astype(dtype), biases.astype(dtype)[:, np.newaxis], _label(block)
    loss, residuals, gradient = 0.0, np.zeros(len(vectors)), np.zeros(vectors.shape)
    for rows, features in row_pieces(block):
        margins = matrix @ features.T
        margins += bias
        losses, sums = softmax_residuals(margins, label[rows], None if block.weight is None else block.weight[rows])
        loss += losses
        residuals += sums
        gradient += margins @ features
    return loss, gradient, residuals


def _label(block: Block) -> Vector:
    if block.label is None:
        raise DataError(f"block {block.ordinal} has no label", code="data.label")
    # A class that the others do not have belongs to a row of weight 0.
    return block.label if block.weight is None else np.where(block.weight > 0.0, block.label, 0.0)
