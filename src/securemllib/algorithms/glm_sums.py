"""Sums of a step of reweighted least squares, in slices that stay in a core's second-level cache; every sum over slices is float64."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Array, Block
from securemllib.algorithms.slices import row_slices

__all__ = ["GeneralizedLinearStatistics", "reweighted_sums"]

Floats = NDArray[np.float64]

# From a slice and its features to the working weights and residuals of its rows.
Working = Callable[[slice, Array], tuple[Floats, Floats]]


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneralizedLinearStatistics:
    """Sums over rows with their working weights, of rows less the mean and of working residuals.

    Attributes:
        weight: Of the weights.
        slope: Of the residuals.
        square: Of the squared residuals.
        sums: ``(d,)`` of the rows.
        gradient: ``(d,)`` of residual times row.
        gram: ``(d, d)`` of the products of the rows' features.
    """

    ADDITIVE: ClassVar[tuple[str, ...]] = ("weight", "slope", "square", "sums", "gradient", "gram")
    SYMMETRIC: ClassVar[tuple[str, ...]] = ("gram",)

    weight: float
    slope: float
    square: float
    sums: Floats
    gradient: Floats
    gram: Floats

    def __add__(self, other: Self) -> Self:
        return type(self)(
            weight=self.weight + other.weight,
            slope=self.slope + other.slope,
            square=self.square + other.square,
            sums=self.sums + other.sums,
            gradient=self.gradient + other.gradient,
            gram=self.gram + other.gram,
        )


def reweighted_sums(block: Block, shift: Floats, working: Working) -> GeneralizedLinearStatistics:
    """Return the sums of one block.

    Args:
        block: Rows; a row less the mean is ``features[i] + shift``.
        shift: ``(d,)``.
        working: From a slice and its features to working weights and residuals.
    """
    columns, dtype = block.columns, block.features.dtype
    total, slope, square = 0.0, 0.0, 0.0
    gradient, sums, gram = np.zeros(columns), np.zeros(columns), np.zeros((columns, columns))
    for rows in row_slices(block):
        features = block.features[rows]
        weight, residual = working(rows, features)
        with np.errstate(over="ignore", invalid="ignore"):
            weighted = weight * residual
            total, slope, square = total + float(weight.sum()), slope + float(weighted.sum()), square + float(weighted @ residual)
            gradient += weighted.astype(dtype) @ features
            sums += weight.astype(dtype) @ features
            # numpy computes A.T @ A by the symmetric product of BLAS, at half the cost.
            rooted = features * np.sqrt(weight).astype(dtype)[:, np.newaxis]
            gram += rooted.T @ rooted
    lean = np.outer(sums, shift)
    gram += lean + lean.T + np.outer(shift, shift) * total
    return GeneralizedLinearStatistics(
        weight=total, slope=slope, square=square, sums=sums + total * shift, gradient=gradient + slope * shift, gram=gram
    )
