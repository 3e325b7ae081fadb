"""The steps of factorization machines: losses, interactions, gradient descent and AdamW [1], as MLlib makes them.

[1] I. Loshchilov, F. Hutter: Decoupled weight decay regularization, ICLR 2019.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from securemllib.algorithms.base import Array
from securemllib.algorithms.vectors import of_columns

__all__ = ["Loss", "Machine", "Slopes", "adapted", "descended", "logistic_losses", "squared_errors", "values_of"]

Floats = NDArray[np.float64]
# Losses of values and labels, and their slopes in the values.
Loss = Callable[[Floats, Floats], tuple[Floats, Floats]]

# MLlib's AdamW: decays of both moments, and what keeps a quotient finite.
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


def squared_errors(raw: Floats, label: Floats) -> tuple[Floats, Floats]:
    """Return the squared errors and their slopes."""
    error = raw - label
    return error * error, 2.0 * error


def logistic_losses(raw: Floats, label: Floats) -> tuple[Floats, Floats]:
    """Return the logistic losses of labels 0 and 1, and their slopes."""
    decay = np.exp(-np.abs(raw))
    losses = np.log1p(decay) + np.maximum(np.where(label > 0.0, -raw, raw), 0.0)
    return losses, np.where(raw >= 0.0, 1.0, decay) / (1.0 + decay) - label


@dataclass(slots=True)
class Slopes:
    """Sums over stored rows c of slopes g, and of slopes times sums of factors, ``g s``.

    Attributes:
        rows: How many.
        loss: Of them.
        products: ``(d, k + 1)`` of c with g s, and last with g.
        squares: ``(d,)`` of the squares of c with g.
        edges: ``(k + 1,)`` of g s, and last of g.
    """

    rows: float
    loss: float
    products: Floats
    squares: Floats
    edges: Floats

    @classmethod
    def zero(cls, shape: tuple[int, int]) -> Self:
        """Return the sums over no rows, for factors of a shape."""
        columns, size = shape
        return cls(0.0, 0.0, np.zeros((columns, size + 1)), np.zeros(columns), np.zeros(size + 1))


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine on rows as they are stored: less an offset o, and in their own precision, in which the long products are made.

    With lengths L of the factors' rows a true row x = c + o has the sums s = cV + oV, and its value is
    ``b + ow - (oo)L/2 + c(w - oL) + |s|^2/2 - (cc)L/2``: what the offset gives is added in double precision, where nothing cancels.

    Attributes:
        offset: ``(d,)`` o.
        factors: ``(d, k)`` V.
        edges: ``(k + 1,)`` oV, and last the value of c = 0 without interactions.
        matrix: ``(d, k + 1)`` V, and last w - oL, in the rows' precision.
        lengths: ``(d,)`` L, likewise.
    """

    offset: Floats
    factors: Floats
    edges: Floats
    matrix: Array
    lengths: Array

    @classmethod
    def of(cls, offset: Floats, dtype: Any, factors: Floats, linear: Floats, intercept: float) -> Self:
        """Return a machine on rows that are stored less an offset, in a precision."""
        lengths = np.einsum("dk,dk->d", factors, factors)
        constant = intercept + offset @ linear - 0.5 * (offset * offset) @ lengths
        matrix = np.column_stack([factors, linear - offset * lengths]).astype(dtype)
        return cls(offset, factors, np.append(offset @ factors, constant), matrix, lengths.astype(dtype))

    def values(self, rows: Any) -> tuple[Floats, Floats, Any]:
        """Return the values ``(n,)`` of rows, their sums of factors ``(n, k)`` and their squares."""
        squares = rows.power(2) if isinstance(rows, csr_array) else rows * rows
        products = rows @ self.matrix + self.edges
        sums = products[:, :-1]
        return products[:, -1] + 0.5 * (np.einsum("nk,nk->n", sums, sums) - squares @ self.lengths), sums, squares

    def add(self, total: Slopes, rows: Any, label: Floats, loss: Loss) -> None:
        """Add rows to sums of slopes."""
        raw, sums, squares = self.values(rows)
        losses, slope = loss(raw, label)
        slopes = np.column_stack([sums * slope[:, None], slope])
        small = slopes.astype(self.matrix.dtype)
        total.rows += len(label)
        total.loss += float(losses.sum())
        total.products += rows.T @ small
        total.squares += small[:, -1] @ squares
        total.edges += slopes.sum(axis=0)

    def gradient(self, total: Slopes) -> tuple[Floats, Floats]:
        """Return the gradients of the factors ``(d, k)`` and of the linear coefficients ``(d,)``."""
        products = total.products + np.outer(self.offset, total.edges)
        linear = products[:, -1]
        squares = total.squares + self.offset * (total.products[:, -1] + linear)
        return products[:, :-1] - self.factors * squares[:, None], linear


def values_of(features: Any, factors: Floats, linear: Floats, intercept: float) -> Floats:
    """Return ``(n,)`` values of the machine."""
    features = of_columns(features, len(factors))
    return Machine.of(np.zeros(len(factors)), features.dtype, factors, linear, intercept).values(features)[0]


def descended(before: Floats, gradient: Floats, step: int, length: float, decay: float) -> Floats:
    """Return the coefficients after a step of gradient descent, the first of which is 1."""
    shorter = length / np.sqrt(step)
    after: Floats = before * (1.0 - shorter * decay) - shorter * gradient
    return after


def adapted(before: Floats, gradient: Floats, moments: Floats, update: int, length: float, decay: float) -> tuple[Floats, Floats]:
    """Return coefficients and moments after a step of AdamW, the first of which is 1."""
    first = _BETA1 * moments[0] + (1.0 - _BETA1) * gradient
    second = _BETA2 * moments[1] + (1.0 - _BETA2) * gradient * gradient
    mean, deviation = first / (1.0 - _BETA1**update), np.sqrt(second / (1.0 - _BETA2**update))
    return before - (length * mean / (deviation + _EPSILON) + decay * before), np.stack([first, second])
