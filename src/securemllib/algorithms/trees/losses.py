"""The losses of gradient boosting, as MLlib defines them: of a label and the sum of the trees so far."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["CLASSIFICATION_LOSSES", "REGRESSION_LOSSES", "errors", "pseudo_residuals"]

Floats = NDArray[np.float64]

CLASSIFICATION_LOSSES, REGRESSION_LOSSES = ("logistic",), ("squared", "absolute")


def pseudo_residuals(loss: str, label: Floats, margin: Floats) -> Floats:
    """Return the negative gradient by the margin, ``(n,)``; labels of ``logistic`` are -1 and 1."""
    if loss == "logistic":
        # 4 y / (1 + exp(2 y m)), without the overflow.
        return 2.0 * label * (1.0 - np.tanh(label * margin))
    if loss == "squared":
        return 2.0 * (label - margin)
    return np.where(label < margin, -1.0, 1.0)


def errors(loss: str, label: Floats, margin: Floats) -> Floats:
    """Return the loss of each row, ``(n,)``."""
    if loss == "logistic":
        return 2.0 * np.logaddexp(0.0, -2.0 * label * margin)
    difference = label - margin
    return difference * difference if loss == "squared" else np.abs(difference)
