"""Sums over the rows of each class: the statistics of naive Bayes, and what its models may carry to go on from."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.summary import Summary

__all__ = ["ClassSums", "SumsBehind"]

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassSums:
    """Sums over the rows of each class.

    Attributes:
        weight: ``(k,)`` weights.
        sums: ``(k, d)`` weighted sums of rows less the centre.
        squares: ``(k, d)`` weighted sums of their squares; ``(0, 0)`` but for ``gaussian``.
    """

    ADDITIVE: ClassVar[tuple[str, ...]] = ("weight", "sums", "squares")

    weight: Vector
    sums: Vector
    squares: Vector

    def __add__(self, other: Self) -> Self:
        return replace(self, weight=self.weight + other.weight, sums=self.sums + other.sums, squares=self.squares + other.squares)


@dataclass(frozen=True, slots=True, kw_only=True)
class SumsBehind:
    """The sums behind a model, from which a training goes on.

    Attributes:
        model_type: What kind of features they are of.
        summary: Of all rows.
        centre: ``(d,)`` what was subtracted from features.
        total: The sums.
    """

    model_type: str
    summary: Summary
    centre: Vector
    total: ClassSums

    def decayed(self, factor: float) -> Self:
        """Return the sums of the same rows with each weight times a factor above 0."""
        total = ClassSums(weight=self.total.weight * factor, sums=self.total.sums * factor, squares=self.total.squares * factor)
        return replace(self, summary=self.summary.decayed(factor), total=total)

    def about(self, centre: Vector, classes: int) -> ClassSums:
        """Return the sums less another centre, of at least as many classes."""
        weight, sums, squares = self.total.weight, self.total.sums, self.total.squares
        shift = self.centre - centre
        moved = weight[:, np.newaxis] * shift
        if squares.size:
            squares = squares + shift * (2.0 * sums + moved)
        more = classes - len(weight)
        return ClassSums(
            weight=np.pad(weight, (0, more)),
            sums=np.pad(sums + moved, ((0, more), (0, 0))),
            squares=np.pad(squares, ((0, more if squares.size else 0), (0, 0))),
        )
