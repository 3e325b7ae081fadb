"""Sums of rows by nearest centre, and distances to it: compiled, or in numpy in slices that stay in a core's second-level cache."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Array
from securemllib.algorithms.kernels.library import INTEGER, LANES, array_of, function, padded

__all__ = ["Assigned", "assign", "assign_twin", "nearest", "squared_distances", "squared_distances_twin"]

Floats = NDArray[np.float64]

# Rows, scores and one-hot assignment of a slice together: what a core's second-level cache holds.
_CACHE_BYTES = 512 * 1024

# Below this share of the squared norms, a cost computed from norms and products has lost too many digits and is computed from differences.
_CANCELLATION = 1e-2

# As in kmeans.c.
_TOGETHER, _GROUP = 4, 16

_FLOATS, _WEIGHTS = array_of(np.float32), array_of(np.float64, optional=True)
_SUMS, _SCRATCH = array_of(np.float64, written=True), array_of(np.float32, written=True)
_ASSIGN = function(
    "kmeans",
    "kmeans_assign",
    *(_FLOATS, _WEIGHTS, INTEGER, INTEGER, _FLOATS, _FLOATS, INTEGER, _SCRATCH, _SCRATCH, _SUMS, _SUMS, _SUMS),
)
_DISTANCES = function("kmeans", "kmeans_distances", _FLOATS, INTEGER, INTEGER, _FLOATS, _FLOATS, INTEGER, _SCRATCH, _SUMS)


@dataclass(slots=True)
class Assigned:
    """Rows ``(m,)``, weight ``(m,)``, weighted sums ``(m, d)`` and cost of a block by nearest centre."""

    rows: Floats
    weight: Floats
    sums: Floats
    cost: float


def assign(rows: Array, centers: Array, weights: Floats | None) -> Assigned:
    """Return rows, weight, weighted sums and cost of ``(n, d)`` rows by nearest of ``(m, d)`` centres of the same dtype."""
    if _ASSIGN is None or not _fits(rows, centers) or (weights is not None and weights.shape != rows.shape[:1]):
        return assign_twin(rows, centers, weights)
    filled, halves = _filled(centers)
    found, sums, cost = np.zeros((len(filled), 2)), np.zeros(filled.shape), np.zeros(1)
    scratch, stretch = _scratch(centers), np.empty((len(filled), padded(centers.shape[1])), dtype=np.float32)
    _ASSIGN(rows, weights, *rows.shape, filled, halves, len(filled), scratch, stretch, found, sums, cost)
    used = slice(len(centers))
    return Assigned(found[used, 0].copy(), found[used, 1].copy(), sums[used], float(cost[0]))


def squared_distances(rows: Array, centers: Array) -> Floats:
    """Return ``(n,)`` squared distances of rows to their nearest centre."""
    if _DISTANCES is None or not _fits(rows, centers):
        return squared_distances_twin(rows, centers)
    filled, halves = _filled(centers)
    squared = np.empty(len(rows))
    _DISTANCES(rows, *rows.shape, filled, halves, len(filled), _scratch(centers), squared)
    return squared


def nearest(rows: Array, centers: Array, middle: Array | None = None) -> NDArray[np.intp]:
    """Return the index of each row's nearest centre, the first of equally near ones.

    Args:
        rows: ``(n, d)``.
        centers: ``(k, d)``.
        middle: ``(d,)``, taken from both, so that large values do not cancel; nothing where it is None.
    """
    if middle is not None:
        centers = centers - middle
    found = np.empty(rows.shape[0], dtype=np.intp)
    for part in _slices(rows.shape[0], rows.shape[1], centers.shape[0], rows.itemsize):
        found[part] = _scores(rows[part] if middle is None else rows[part] - middle, centers).argmax(axis=0)
    return found


def assign_twin(rows: Array, centers: Array, weights: Floats | None) -> Assigned:
    """Return what `assign` does."""
    total = Assigned(np.zeros(len(centers)), np.zeros(len(centers)), np.zeros(centers.shape), 0.0)
    for part in _slices(rows.shape[0], rows.shape[1], len(centers), rows.itemsize):
        _add(total, rows[part], centers, None if weights is None else weights[part])
    return total


def squared_distances_twin(rows: Array, centers: Array) -> Floats:
    """Return what `squared_distances` does."""
    parts = _slices(rows.shape[0], rows.shape[1], len(centers), rows.itemsize)
    found = [_squared(rows[part], centers, nearest(rows[part], centers)) for part in parts]
    return np.concatenate([np.zeros(0), *found])


def _fits(rows: Array, centers: Array) -> bool:
    return bool(
        rows.dtype == centers.dtype == np.float32
        and rows.flags.c_contiguous
        and rows.shape[1] == centers.shape[1] >= LANES
        and len(centers)
    )


def _halves(centers: Array) -> Array:
    halves: Array = 0.5 * np.einsum("ij,ij->i", centers, centers)
    return halves


def _filled(centers: Array) -> tuple[Array, Array]:
    """Return the centres and half their squared norms, filled up with centres that no row is near to."""
    filled = np.zeros((-(-len(centers) // _TOGETHER) * _TOGETHER, centers.shape[1]), dtype=np.float32)
    filled[: len(centers)] = centers
    halves = np.full(len(filled), np.inf, dtype=np.float32)
    halves[: len(centers)] = _halves(centers)
    return filled, halves


def _scratch(centers: Array) -> Array:
    return np.empty(_GROUP * centers.shape[1], dtype=np.float32)


def _slices(rows: int, columns: int, centers: int, itemsize: int) -> Iterator[slice]:
    size = min(max(_CACHE_BYTES // (itemsize * (columns + 2 * centers)), 256), 16384)
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def _scores(rows: Array, centers: Array) -> Array:
    """Return ``(m, n)`` scores ``x.c - |c|^2 / 2``: the nearest centre has the largest."""
    scores: Array = centers @ rows.T
    scores -= _halves(centers)[:, None]
    return scores


def _squared(rows: Array, centers: Array, index: NDArray[np.intp]) -> Floats:
    difference = rows - centers[index]
    squared: Floats = np.einsum("ij,ij->i", difference, difference).astype(np.float64)
    return squared


def _add(total: Assigned, rows: Array, centers: Array, weights: Floats | None) -> None:
    scores = _scores(rows, centers)
    best = scores.max(axis=0)
    one_hot = np.equal(scores, best).astype(rows.dtype)
    counts = one_hot.sum(axis=1, dtype=np.float64)
    if counts.sum() != rows.shape[0]:
        one_hot[:] = 0
        one_hot[scores.argmax(axis=0), np.arange(rows.shape[0])] = 1
        counts = one_hot.sum(axis=1, dtype=np.float64)
    total.rows += counts
    if weights is None:
        total.weight += counts
        flat = rows.reshape(-1)
        norms = float(np.dot(flat, flat))
        cost = norms - 2 * float(best.sum(dtype=np.float64))
    else:
        total.weight += one_hot @ weights
        one_hot *= weights.astype(rows.dtype)
        norms = float(np.dot(np.einsum("ij,ij->i", rows, rows), weights))
        cost = norms - 2 * float(np.dot(best, weights))
    if cost < _CANCELLATION * norms:
        distances = _squared(rows, centers, scores.argmax(axis=0))
        cost = float(distances.sum() if weights is None else np.dot(distances, weights))
    total.cost += cost
    total.sums += one_hot @ rows
