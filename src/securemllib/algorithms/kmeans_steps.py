"""The inner steps of K-Means: distances, assignment and sums of a block, and k-means++ on a few weighted candidates.

Cosine distance is half the squared Euclidean distance of rows scaled to length 1, so that both measures share every step.
"""

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Array, Block
from securemllib.algorithms.columns import true_rows_of, weights_of
from securemllib.algorithms.kernels import kmeans as kernels
from securemllib.algorithms.kernels.kmeans import Assigned, nearest
from securemllib.errors import DataError

__all__ = ["Assigned", "assign", "distinct", "nearest", "plus_plus", "resolution", "unit", "weighted_costs"]

Floats = NDArray[np.float64]

# MLlib's LocalKMeans makes at most 30 Lloyd steps on the candidates.
_LOCAL_ITERATIONS = 30
_FAR = 2.0**60


def unit(rows: Floats) -> Floats:
    """Return the rows scaled to length 1; a row of length 0 raises DataError, as it does in MLlib."""
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    if norms.size and not norms.min() > 0:
        raise DataError("Cosine distance is not defined for zero-length vectors.", code="data.zero_vector")
    scaled: Floats = rows / norms[:, None]
    return scaled


def resolution(block: Block) -> float:
    """Return how far the block's precision may have moved a coordinate of a row that has a weight."""
    used = True if block.weight is None else (block.weight > 0)[:, None]
    largest = float(np.abs(block.features).max(initial=0, where=used))
    return 2 * float(np.finfo(block.features.dtype).eps) * largest + 2 * float(np.finfo(np.float64).eps) * float(
        np.abs(block.offset).max(initial=0)
    )


def _local(block: Block, centers: Floats, cosine: bool) -> tuple[Array, Floats, Floats]:
    """Return rows and centres in the frame where distances are taken, and the frame's origin."""
    if cosine:
        return unit(true_rows_of(block)), unit(centers), np.zeros(block.columns)
    local = centers - block.offset
    # Squares of what lies as far from the part as the centres of others may are no numbers of float32.
    rows = block.features if np.abs(local).max(initial=0.0) < _FAR else block.features.astype(np.float64)
    return rows, local, block.offset


def assign(block: Block, centers: Floats, *, cosine: bool) -> Assigned:
    """Return rows, weight, weighted sums and cost of the block by nearest centre."""
    rows, local, origin = _local(block, centers, cosine)
    total = kernels.assign(rows, local.astype(rows.dtype), None if block.weight is None else weights_of(block))
    total.sums += np.outer(total.weight, origin)
    total.cost = total.cost / 2 if cosine else total.cost
    return total


def weighted_costs(block: Block, centers: Floats, *, cosine: bool) -> Floats:
    """Return ``(n,)`` weight times cost of each row, or its weight alone where there is no centre yet."""
    weights = weights_of(block)
    if centers.shape[0] == 0:
        return weights
    rows, local, _ = _local(block, centers, cosine)
    costs = kernels.squared_distances(rows, local.astype(rows.dtype))
    # A row that is a centre itself has only the rounding of its coordinates as cost and must not be drawn again.
    noise = 2 * resolution(block) / (np.linalg.norm(true_rows_of(block), axis=1) if cosine else 1.0)
    costs[costs <= block.columns * noise**2] = 0.0
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
