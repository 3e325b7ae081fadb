"""The least squares of one side of a factorisation: by Cholesky's decomposition, or with no factor below 0."""

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.kernels.ratings import matrices, solve
from securemllib.errors import DataError

__all__ = ["solutions"]

Floats = NDArray[np.float64]

_CHUNK_BYTES = 16 << 20
# A sweep of coordinates that moves no factor by more than this share of the row's largest ends a row.
_TOLERANCE = 1e-9
_MOST_SWEEPS = 2000


def solutions(rows: Floats, ridges: Floats, *, nonnegative: bool) -> NDArray[np.float32]:
    """Return the factors ``(m, r)`` that solve the normal equations of rows.

    Args:
        rows: ``(m, width)`` equations of `kernels.ratings`.
        ridges: ``(m,)`` what is added to their diagonals.
        nonnegative: Whether factors are at least 0.

    Raises:
        DataError: A row's matrix is singular, which a ridge of 0 allows.
    """
    if nonnegative:
        return _nonnegative(rows, ridges).astype(np.float32)
    found, bad = solve(rows, ridges)
    if bad < len(rows):
        raise DataError(
            "The normal equations of an id are singular.", next_step="Use a regParam greater than 0, or a lower rank.", code="data.singular"
        )
    return found.astype(np.float32)


def _nonnegative(rows: Floats, ridges: Floats) -> Floats:
    """Return the minimum of each row's convex quadratic over factors of at least 0, by sweeps over the coordinates of all rows at once."""
    count = len(rows)
    rank = int(np.sqrt(2 * rows.shape[1]))
    while rank * (rank + 3) // 2 > rows.shape[1]:
        rank -= 1
    found = np.zeros((count, rank))
    size = max(_CHUNK_BYTES // (8 * rank * rank), 1)
    for start in range(0, count, size):
        part = slice(start, start + size)
        found[part] = _sweep(matrices(rows[part], ridges[part]), rows[part, -rank:])
    return found


def _sweep(full: Floats, side: Floats) -> Floats:
    found, active = np.zeros_like(side), np.arange(len(side))
    x = found.copy()
    for _ in range(_MOST_SWEEPS):
        before = x.copy()
        for j in range(x.shape[1]):
            # A coordinate without curvature belongs to a row without ratings, and stays 0.
            curvature = full[:, j, j]
            slope = side[:, j] - np.einsum("ij,ij->i", full[:, j], x)
            step = np.divide(slope, curvature, out=np.zeros_like(slope), where=curvature > 0.0)
            x[:, j] = np.maximum(x[:, j] + step, 0.0)
        found[active] = x
        moving = np.abs(x - before).max(axis=1, initial=0.0) > _TOLERANCE * x.max(axis=1, initial=0.0)
        if not moving.any():
            break
        if 2 * int(moving.sum()) < len(moving):
            active, x, full, side = active[moving], x[moving], full[moving], side[moving]
    return found
