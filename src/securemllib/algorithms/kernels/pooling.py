"""Adjacent violators of an ascending order, pooled: compiled, or in Python."""

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.kernels.library import INTEGER, array_of, function

__all__ = ["pooled", "pooled_twin"]

Floats = NDArray[np.float64]
Blocks = tuple[NDArray[np.int64], Floats, Floats]

_READ, _WRITTEN = array_of(np.float64), array_of(np.float64, written=True)
_POOL = function("pooling", "pool", _READ, _READ, INTEGER, array_of(np.int64, written=True), _WRITTEN, _WRITTEN, result=INTEGER)


def pooled(weights: Floats, moments: Floats) -> Blocks:
    """Return blocks of points, so that their means ascend: where each starts, its weight, and its sum.

    Blocks grow from the left, in the order and with the sums of MLlib's, so that rounding decides ties alike.

    Args:
        weights: ``(p,)``, above 0.
        moments: ``(p,)`` weights times values.
    """
    count = len(weights)
    if _POOL is None or not weights.shape == moments.shape == (count,):
        return pooled_twin(weights, moments)
    starts, masses, sums = np.empty(count, dtype=np.int64), np.empty(count), np.empty(count)
    blocks = _POOL(np.ascontiguousarray(weights), np.ascontiguousarray(moments), count, starts, masses, sums)
    return starts[:blocks], masses[:blocks], sums[:blocks]


def pooled_twin(weights: Floats, moments: Floats) -> Blocks:
    """Return what `pooled` does."""
    starts: list[int] = []
    masses: list[float] = []
    sums: list[float] = []
    for index, (weight, moment) in enumerate(zip(weights.tolist(), moments.tolist(), strict=True)):
        first, mass, total = index, weight, moment
        while starts and sums[-1] / masses[-1] >= total / mass:
            first, mass, total = starts.pop(), masses.pop() + mass, sums.pop() + total
        starts.append(first)
        masses.append(mass)
        sums.append(total)
    return np.array(starts, dtype=np.int64), np.array(masses), np.array(sums)
