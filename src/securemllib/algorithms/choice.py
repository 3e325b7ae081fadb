"""The class that a classifier predicts from its raw predictions, its probabilities and MLlib's thresholds."""

import numpy as np
from numpy.typing import NDArray

from securemllib.errors import UsageError

__all__ = ["chosen_class", "require_thresholds"]

Matrix = NDArray[np.float64]


def require_thresholds(thresholds: tuple[float, ...] | None) -> None:
    """Raise unless each threshold is at least 0 and finite, and at most one of them is 0."""
    if thresholds is None:
        return
    if not all(0.0 <= threshold < np.inf for threshold in thresholds) or sum(threshold == 0 for threshold in thresholds) > 1:
        raise UsageError("thresholds must be at least 0, and at most one of them 0", code="usage.param")


def chosen_class(raw: Matrix, probability: Matrix, thresholds: tuple[float, ...] | None) -> NDArray[np.float64]:
    """Return ``(n,)`` the class of the largest raw prediction, or of the largest probability / threshold.

    Args:
        raw: ``(n, k)``.
        probability: ``(n, k)``.
        thresholds: One a class, or None.
    """
    if thresholds is None:
        return np.asarray(raw.argmax(axis=1), dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = probability / np.asarray(thresholds)
    # A class of probability 0 and threshold 0 is not chosen.
    return np.asarray(np.where(np.isnan(scaled), -np.inf, scaled).argmax(axis=1), dtype=np.float64)
