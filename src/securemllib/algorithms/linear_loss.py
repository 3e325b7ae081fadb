r"""Squared loss and Huber loss of a block of rows, in slices that stay in a core's second-level cache.

With a row's residual :math:`r` = prediction - label the squared loss is :math:`r^2 / 2`, and the Huber loss with a
scale :math:`\sigma` that is fitted too (Owen 2007, "A robust hybrid of lasso and ridge regression") is

.. math:: \frac{1}{2} \left( \sigma + H_\epsilon(r / \sigma) \sigma \right), \quad
          H_\epsilon(u) = u^2 \text{ where } |u| \le \epsilon, \text{ else } 2 \epsilon |u| - \epsilon^2.

Predictions keep the block's dtype, those of sparse rows are float64; every sum over slices is float64.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import diags_array

from securemllib.algorithms.base import Block
from securemllib.algorithms.kernels.products import products
from securemllib.algorithms.slices import product_type, row_pieces

__all__ = ["LinearStatistics", "huber_loss", "normal_equations", "squared_loss"]

Vector = NDArray[np.float64]

# Of residuals: the loss, and its derivatives by the prediction and by the scale.
_Loss = Callable[[Vector], tuple[Vector, Vector, Vector | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearStatistics:
    """Sums over rows of a loss and of its derivatives.

    Attributes:
        loss: Sum of weighted losses.
        slope: Sum of weighted derivatives by the prediction.
        gradient: ``(d,)`` sum of weighted derivative by the prediction times centred row.
        scale_slope: Sum of weighted derivatives by the scale; 0 for a loss without one.
        gram: ``(d, d)`` sum of weighted products of centred rows; ``(0, 0)`` but for `normal_equations`.
    """

    ADDITIVE: ClassVar[tuple[str, ...]] = ("loss", "slope", "gradient", "scale_slope", "gram")
    SYMMETRIC: ClassVar[tuple[str, ...]] = ("gram",)

    loss: float
    slope: float
    gradient: Vector
    scale_slope: float
    gram: Vector

    def __add__(self, other: Self) -> Self:
        return replace(
            self,
            loss=self.loss + other.loss,
            slope=self.slope + other.slope,
            gradient=self.gradient + other.gradient,
            scale_slope=self.scale_slope + other.scale_slope,
            gram=self.gram + other.gram,
        )


def normal_equations(block: Block, label: Vector, shift: Vector) -> LinearStatistics:
    """Return the squared loss of the prediction 0, with the Gram matrix.

    Args:
        block: Rows; a centred row is ``features[i] + shift``.
        label: ``(n,)`` labels of the block.
        shift: ``(d,)``.
    """
    residual = -label
    weighted, weights = (residual, float(block.rows)) if block.weight is None else (block.weight * residual, float(block.weight.sum()))
    gram, gradient, sums = _products(block, residual)
    slope, lean = float(weighted.sum()), np.outer(sums + 0.5 * weights * shift, shift)
    gram = gram + (lean + lean.T)
    return LinearStatistics(
        loss=0.5 * float(weighted @ residual), slope=slope, gradient=gradient + slope * shift, scale_slope=0.0, gram=gram
    )


def squared_loss(block: Block, label: Vector, vector: Vector, constant: float, shift: Vector) -> LinearStatistics:
    """Return the sums of the squared loss.

    Args:
        block: Rows; a centred row is ``features[i] + shift``.
        label: ``(n,)`` labels of the block.
        vector: ``(d,)`` coefficients on the centred rows.
        constant: The prediction of a centred row of zeros.
        shift: ``(d,)``.
    """

    def loss(residual: Vector) -> tuple[Vector, Vector, None]:
        return 0.5 * residual * residual, residual, None

    return _sums(block, label, vector, constant, shift, loss)


def huber_loss(
    block: Block, label: Vector, vector: Vector, constant: float, shift: Vector, *, scale: float, epsilon: float
) -> LinearStatistics:
    """Return the sums of the Huber loss; arguments as of `squared_loss`, with the scale and the shape parameter."""

    def loss(residual: Vector) -> tuple[Vector, Vector, Vector]:
        scaled = residual / scale
        inner = np.clip(scaled, -epsilon, epsilon)
        # Where the clipping changes nothing this is 1 + u**2, else 1 + 2 epsilon |u| - epsilon**2.
        return 0.5 * scale * (1.0 + inner * (2.0 * scaled - inner)), inner, 0.5 * (1.0 - inner * inner)

    return _sums(block, label, vector, constant, shift, loss)


def _sums(block: Block, label: Vector, vector: Vector, constant: float, shift: Vector, loss: _Loss) -> LinearStatistics:
    dtype = product_type(block)
    small, moved = vector.astype(dtype), constant + float(vector @ shift)
    total, slope, scale_slope, gradient = 0.0, 0.0, 0.0, np.zeros(block.columns)
    for rows, features in row_pieces(block):
        losses, slopes, scale_slopes = loss((features @ small).astype(np.float64) + moved - label[rows])
        weight = np.ones(features.shape[0]) if block.weight is None else block.weight[rows]
        weighted = weight * slopes
        total += float(weight @ losses)
        slope += float(weighted.sum())
        gradient += weighted.astype(dtype) @ features
        scale_slope += 0.0 if scale_slopes is None else float(weight @ scale_slopes)
    return LinearStatistics(loss=total, slope=slope, gradient=gradient + slope * shift, scale_slope=scale_slope, gram=np.zeros((0, 0)))


def _products(block: Block, target: Vector) -> tuple[Vector, Vector, Vector]:
    """Return what `products` does, of sparse rows too."""
    if block.sparse is None:
        return products(block.features, block.weight, target)
    gram, edges = np.zeros((block.columns, block.columns)), np.zeros((2, block.columns))
    for rows, features in row_pieces(block):
        weight = np.ones(features.shape[0]) if block.weight is None else block.weight[rows]
        values = features.astype(np.float64)
        gram += (values.T @ (values if block.weight is None else diags_array(weight) @ values)).toarray()
        edges += np.stack((weight * target[rows], weight)) @ values
    return gram, edges[0], edges[1]
