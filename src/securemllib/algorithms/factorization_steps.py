"""The steps of factorization machines: losses, interactions, gradient descent and AdamW [1], as MLlib makes them.

[1] I. Loshchilov, F. Hutter: Decoupled weight decay regularization, ICLR 2019.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import expit

from securemllib.errors import DataError

__all__ = ["Loss", "adapted", "descended", "interactions", "logistic_losses", "squared_errors", "values_of"]

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
    return np.logaddexp(0.0, np.where(label > 0.0, -raw, raw)), expit(raw) - label


def values_of(features: Any, factors: Floats, linear: Floats, intercept: float) -> Floats:
    """Return ``(n,)`` values of the machine."""
    if features.shape[1] != len(factors):
        raise DataError(f"The model has {len(factors)} columns, the rows have {features.shape[1]}.")
    squares = features.power(2) if isinstance(features, csr_array) else features * features
    found: Floats = intercept + features @ linear + interactions(features @ factors, squares, factors)
    return found


def interactions(sums: Floats, squares: Any, factors: Floats) -> Floats:
    """Return ``(n,)`` the interactions of all pairs, of rows' products with the factors and their squares."""
    found: Floats = 0.5 * (np.einsum("nk,nk->n", sums, sums) - squares @ np.einsum("dk,dk->d", factors, factors))
    return found


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
