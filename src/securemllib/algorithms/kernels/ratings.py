"""Normal equations of alternating least squares, and their solution.

A row's equations are ``r (r + 1) / 2 + r`` numbers: the upper triangle of ``sum c f f'``, row by row, then ``sum t f``, over the row's
ratings with factors f, confidences c and targets t.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from securemllib.algorithms.kernels.library import INTEGER, array_of, function

__all__ = ["equations", "equations_twin", "matrices", "solve", "solve_twin", "width"]

Floats = NDArray[np.float64]

# Products of two factors that the twin holds at once, and matrices that it solves at once.
_TWIN_BYTES = 32 << 20
# Vectors of doubles, and ratings whose factors are widened at once, in the C file.
_WIDTH, _TOGETHER = 4, 64

_READ, _WRITTEN = array_of(np.float64), array_of(np.float64, written=True)
_EQUATIONS = function(
    "ratings", "ratings_equations",
    array_of(np.int64), array_of(np.int32), array_of(np.float64, optional=True), _READ, INTEGER, array_of(np.float32), INTEGER, INTEGER,
    _WRITTEN, _WRITTEN,
)  # fmt: skip
_SOLVE = function("ratings", "ratings_solve", _READ, _READ, INTEGER, INTEGER, _WRITTEN, _WRITTEN, result=INTEGER)


def width(rank: int) -> int:
    """Return how many numbers the equations of one row are."""
    return rank * (rank + 1) // 2 + rank


def equations(
    starts: NDArray[np.int64],
    sources: NDArray[np.int32],
    confidences: Floats | None,
    targets: Floats,
    factors: NDArray[np.float32],
    total: Floats | None = None,
) -> Floats:
    """Return the equations of rows: ``(m, width)``.

    Args:
        starts: ``(m + 1,)`` where each row's ratings start and the last one's end.
        sources: The rating's row of the factors.
        confidences: Of each rating; None where all are 1.
        targets: Of each rating.
        factors: ``(n, r)``.
        total: ``(m, width)`` equations that these are added to, in place; none when not given.
    """
    _check(starts, sources, confidences, targets, factors)
    if _EQUATIONS is None:
        return equations_twin(starts, sources, confidences, targets, factors, total)
    rows, rank = len(starts) - 1, factors.shape[1]
    k = -(-rank // _WIDTH) * _WIDTH
    padded = np.zeros((len(factors), k), dtype=np.float32)
    padded[:, :rank] = factors
    found = np.zeros((rows, width(rank))) if total is None else total
    if found.shape != (rows, width(rank)):
        raise ValueError(f"equations of {found.shape} do not fit {rows} rows of rank {rank}")
    work = np.empty(k * k + k + 2 * _TOGETHER * k)
    _EQUATIONS(starts, sources, confidences, targets, rows, padded, rank, k, work, found)
    return found


def equations_twin(
    starts: NDArray[np.int64],
    sources: NDArray[np.int32],
    confidences: Floats | None,
    targets: Floats,
    factors: NDArray[np.float32],
    total: Floats | None = None,
) -> Floats:
    """Return what `equations` returns, with numpy: ratings as a sparse matrix times products of factors."""
    first, last, rank = int(starts[0]), int(starts[-1]), factors.shape[1]
    shape = (len(starts) - 1, len(factors))
    weights = np.ones(last - first) if confidences is None else confidences[first:last]
    rows = csr_array((weights, sources[first:last], starts - first), shape=shape)
    wide = factors.astype(np.float64)
    one, other = np.triu_indices(rank)
    found = np.empty((shape[0], width(rank)))
    size = max(_TWIN_BYTES // (8 * max(len(factors), 1)), 1)
    for start in range(0, len(one), size):
        pairs = slice(start, min(start + size, len(one)))
        found[:, pairs] = np.asarray(rows @ (wide[:, one[pairs]] * wide[:, other[pairs]]))
    found[:, len(one) :] = np.asarray(csr_array((targets[first:last], sources[first:last], starts - first), shape=shape) @ wide)
    if total is None:
        return found
    total += found
    return total


def solve(rows: Floats, ridges: Floats) -> tuple[Floats, int]:
    """Return ``x (m, r)`` with ``(A + ridge I) x = b`` for each row's equations, and the first row without solution (m when all have one).

    Args:
        rows: ``(m, width)`` equations.
        ridges: ``(m,)``.
    """
    count, rank = len(rows), _rank(rows)
    if ridges.shape != (count,):
        raise ValueError(f"{count} rows and {ridges.shape} ridges do not fit")
    if _SOLVE is None:
        return solve_twin(rows, ridges)
    found = np.zeros((count, rank))
    bad = _SOLVE(np.ascontiguousarray(rows), np.ascontiguousarray(ridges), count, rank, np.empty(rank * rank + rank), found)
    return found, int(bad)


def solve_twin(rows: Floats, ridges: Floats) -> tuple[Floats, int]:
    """Return what `solve` returns, with numpy."""
    count, rank = len(rows), _rank(rows)
    found = np.zeros((count, rank))
    size = max(_TWIN_BYTES // (8 * rank * rank), 1)
    for start in range(0, count, size):
        part = slice(start, start + size)
        full = matrices(rows[part], ridges[part])
        try:
            np.linalg.cholesky(full)
        except np.linalg.LinAlgError:
            least = np.linalg.eigvalsh(full)[:, 0]
            return found, start + int(np.argmin(least))
        found[part] = np.linalg.solve(full, rows[part, -rank:, None])[:, :, 0]
    return found, count


def matrices(rows: Floats, ridges: Floats) -> Floats:
    """Return ``A + ridge I`` of rows: ``(m, r, r)``."""
    rank = _rank(rows)
    full = np.zeros((len(rows), rank, rank))
    one, other = np.triu_indices(rank)
    full[:, one, other] = rows[:, : len(one)]
    full[:, other, one] = rows[:, : len(one)]
    diagonal = np.arange(rank)
    full[:, diagonal, diagonal] += ridges[:, None]
    return full


def _rank(rows: Floats) -> int:
    """Return r from ``r (r + 1) / 2 + r`` columns."""
    rank = int((np.sqrt(9 + 8 * rows.shape[1]) - 3) / 2 + 0.5)
    if width(rank) != rows.shape[1] or rank < 1:
        raise ValueError(f"{rows.shape[1]} numbers are no normal equations")
    return rank


def _check(
    starts: NDArray[np.int64], sources: NDArray[np.int32], confidences: Floats | None, targets: Floats, factors: NDArray[np.float32]
) -> None:
    """Raise ValueError unless every index lies within its array: C reads what it is told to."""
    if not len(starts) or starts[0] < 0 or (np.diff(starts) < 0).any() or starts[-1] > len(sources):
        raise ValueError("the starts of rows do not fit the ratings")
    if len(targets) != len(sources) or (confidences is not None and len(confidences) != len(sources)):
        raise ValueError(f"{len(sources)} sources and {len(targets)} targets do not fit")
    if len(sources) and not 0 <= sources.min() <= sources.max() < len(factors):
        raise ValueError(f"a rating is of none of {len(factors)} factors")
