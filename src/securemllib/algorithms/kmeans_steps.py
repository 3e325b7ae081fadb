"""The inner steps of K-Means: distances, assignment and sums of a block, and k-means++ on a few weighted candidates.

Cosine distance is half the squared Euclidean distance of rows scaled to length 1, so that both measures share every step.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Array, Block
from securemllib.algorithms.columns import true_rows_of, weights_of
from securemllib.errors import DataError

__all__ = ["Assigned", "assign", "distinct", "nearest", "plus_plus", "resolution", "unit", "weighted_costs"]

Floats = NDArray[np.float64]

# Rows, scores and one-hot assignment of a slice together: what a core's second-level cache holds.
_CACHE_BYTES = 512 * 1024

# Below this share of the squared norms, a cost computed from norms and products has lost too many digits and is computed from differences.
_CANCELLATION = 1e-2

# MLlib's LocalKMeans makes at most 30 Lloyd steps on the candidates.
_LOCAL_ITERATIONS = 30


@dataclass(slots=True)
class Assigned:
    """Rows ``(m,)``, weight ``(m,)``, weighted sums ``(m, d)`` and cost of a block by nearest centre."""

    rows: Floats
    weight: Floats
    sums: Floats
    cost: float


def unit(rows: Floats) -> Floats:
    """Return the rows scaled to length 1; a row of length 0 raises DataError, as it does in MLlib."""
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    if norms.size and not norms.min() > 0:
        raise DataError("Cosine distance is not defined for zero-length vectors.", code="data.zero_vector")
    scaled: Floats = rows / norms[:, None]
    return scaled


def resolution(block: Block) -> float:
    """Return how far the block's precision may have moved a coordinate of a row."""
    largest = float(np.abs(block.features).max(initial=0))
    return 2 * float(np.finfo(block.features.dtype).eps) * largest + 2 * float(np.finfo(np.float64).eps) * float(
        np.abs(block.offset).max(initial=0)
    )


def _slices(rows: int, columns: int, centers: int, itemsize: int) -> Iterator[slice]:
    size = min(max(_CACHE_BYTES // (itemsize * (columns + 2 * centers)), 256), 16384)
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def _local(block: Block, centers: Floats, cosine: bool) -> tuple[Array, Floats, Floats]:
    """Return rows and centres in the frame where distances are taken, and the frame's origin."""
    if cosine:
        return unit(true_rows_of(block)), unit(centers), np.zeros(block.columns)
    return block.features, centers - block.offset, block.offset


def _scores(rows: Array, centers: Array) -> Array:
    """Return ``(m, n)`` scores ``x.c - |c|^2 / 2``: the nearest centre has the largest."""
    scores: Array = centers @ rows.T
    scores -= (0.5 * np.einsum("ij,ij->i", centers, centers))[:, None]
    return scores


def nearest(rows: Array, centers: Array) -> NDArray[np.intp]:
    """Return the index of each row's nearest centre, the first of equally near ones."""
    found = np.empty(rows.shape[0], dtype=np.intp)
    for part in _slices(rows.shape[0], rows.shape[1], centers.shape[0], rows.itemsize):
        found[part] = _scores(rows[part], centers).argmax(axis=0)
    return found


def _squared_distances(rows: Array, centers: Array, index: NDArray[np.intp]) -> Floats:
    difference = rows - centers[index]
    squared: Floats = np.einsum("ij,ij->i", difference, difference).astype(np.float64)
    return squared


def assign(block: Block, centers: Floats, *, cosine: bool) -> Assigned:
    """Return rows, weight, weighted sums and cost of the block by nearest centre."""
    rows, local, origin = _local(block, centers, cosine)
    cast = local.astype(rows.dtype)
    weights = None if block.weight is None else weights_of(block)
    total = Assigned(np.zeros(len(centers)), np.zeros(len(centers)), np.zeros_like(centers), 0.0)
    for part in _slices(rows.shape[0], rows.shape[1], len(centers), rows.itemsize):
        _add(total, rows[part], cast, None if weights is None else weights[part])
    total.sums += np.outer(total.weight, origin)
    total.cost = total.cost / 2 if cosine else total.cost
    return total


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
        distances = _squared_distances(rows, centers, scores.argmax(axis=0))
        cost = float(distances.sum() if weights is None else np.dot(distances, weights))
    total.cost += cost
    total.sums += one_hot @ rows


def weighted_costs(block: Block, centers: Floats, *, cosine: bool) -> Floats:
    """Return ``(n,)`` weight times cost of each row, or its weight alone where there is no centre yet."""
    weights = weights_of(block)
    if centers.shape[0] == 0:
        return weights
    rows, local, _ = _local(block, centers, cosine)
    cast = local.astype(rows.dtype)
    costs = np.concatenate([np.zeros(0)] + [
        _squared_distances(rows[part], cast, nearest(rows[part], cast))
        for part in _slices(rows.shape[0], rows.shape[1], len(centers), rows.itemsize)
    ])  # fmt: skip
    # A row that is a centre itself has only the rounding of its coordinates as cost and must not be drawn again.
    costs[costs <= block.columns * (2 * resolution(block)) ** 2] = 0.0
    mass: Floats = costs * weights
    return mass


def distinct(rows: Floats, tolerance: float, rng: np.random.Generator) -> Floats:
    """Return the rows without those that another equals up to ``tolerance`` in every coordinate; first come, first kept."""
    order = np.argsort(rows @ rng.standard_normal(rows.shape[1]), kind="stable")
    same = (np.abs(np.diff(rows[order], axis=0)) <= tolerance).all(axis=1)
    kept: Floats = rows[np.sort(order[np.concatenate([[True], ~same])])]
    return kept


def plus_plus(points: Floats, weights: Floats, k: int, rng: np.random.Generator) -> Floats:
    """Return k centres of weighted points: k-means++ seeding, then Lloyd's steps, as MLlib's LocalKMeans does."""
    middle = points.mean(axis=0)
    points = points - middle
    chosen = [_draw(weights, rng)]
    costs = ((points - points[chosen[0]]) ** 2).sum(axis=1)
    for _ in range(1, k):
        chosen.append(_draw(weights * costs, rng))
        costs = np.minimum(costs, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
    centers = points[chosen]
    before = np.full(len(points), -1)
    for _ in range(_LOCAL_ITERATIONS):
        index = nearest(points, centers)
        if np.array_equal(index, before):
            break
        before = index
        one_hot = (index == np.arange(k)[:, None]) * weights
        counts = one_hot.sum(axis=1)
        filled = counts > 0
        centers[filled] = (one_hot @ points)[filled] / counts[filled, None]
        centers[~filled] = points[rng.integers(0, len(points), size=int((~filled).sum()))]
    found: Floats = centers + middle
    return found


def _draw(mass: Floats, rng: np.random.Generator) -> int:
    """Return an index drawn with probability proportional to its mass; the first where no mass is left."""
    cumulative = np.cumsum(mass)
    if not cumulative[-1] > 0:
        return 0
    return min(int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")), len(mass) - 1)
