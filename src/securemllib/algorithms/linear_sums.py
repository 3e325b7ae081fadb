r"""The sums behind a linear regression, from which a training goes on: moments of all rows about their means, the label's among them.

Moments about :math:`m` are moved to :math:`m'` by adding :math:`W \delta \delta^T`, :math:`\delta = m - m'`, as Chan, Golub and LeVeque
(1979) merge summaries: nothing is subtracted, so no digits are lost, however far a batch's mean is from that of the rows before.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.linear_loss import LinearStatistics
from securemllib.algorithms.summary import Summary

__all__ = ["LinearSums"]

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearSums:
    """What the normal equations of all rows are made of, in the units of features and label.

    Attributes:
        summary: Of all rows.
        gram: ``(d, d)`` sum of weighted products of rows less their mean.
        products: ``(d,)`` sum of weighted products of them and the label less its mean.
        square: Sum of weighted squares of the label less its mean.
    """

    summary: Summary
    gram: Vector
    products: Vector
    square: float

    @classmethod
    def of(cls, summary: Summary, total: LinearStatistics, deviation: float) -> Self:
        """Return them from the statistics of the prediction 0 about the summary's means, with labels over a deviation."""
        square = 2.0 * total.loss * deviation**2
        return cls(summary=summary, gram=total.gram, products=-total.gradient * deviation, square=square)

    def decayed(self, factor: float) -> Self:
        """Return the sums of the same rows with each weight times a factor above 0."""
        moved = replace(self, gram=self.gram * factor, products=self.products * factor, square=self.square * factor)
        return replace(moved, summary=self.summary.decayed(factor))

    def about(self, mean: Vector, label_mean: float, deviation: float) -> LinearStatistics:
        """Return the statistics of the prediction 0 about other means, with labels over a deviation."""
        weight, shift, lean = self.summary.weight_sum, self.summary.mean - mean, self.summary.label_mean - label_mean
        return LinearStatistics(
            loss=0.5 * (self.square + weight * lean * lean) / deviation**2,
            slope=-weight * lean / deviation,
            gradient=-(self.products + weight * lean * shift) / deviation,
            scale_slope=0.0,
            gram=self.gram + weight * np.outer(shift, shift),
        )
