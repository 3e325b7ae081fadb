"""Which half of its pair a row is in, and sums of rows by half: compiled, or in numpy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from securemllib.algorithms.base import Array
from securemllib.algorithms.kernels.library import INTEGER, array_of, function

__all__ = ["group_sums", "group_sums_twin", "sides", "sides_twin"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Products with so few other rows cost less than to gather the one that each row needs.
_FEW = 8

_FLOATS, _DOUBLES, _PLACES = array_of(np.float32), array_of(np.float64), array_of(np.int64)
_SIDES = function("halves", "halves_sides", _FLOATS, _PLACES, INTEGER, INTEGER, _DOUBLES, _DOUBLES, array_of(np.int64, written=True))
_SUMS_OUT = array_of(np.float64, written=True)
_SUMS = function("halves", "halves_sums", _FLOATS, _DOUBLES, _PLACES, INTEGER, INTEGER, _SUMS_OUT, _SUMS_OUT)


def sides(rows: Array, pair: NDArray[np.integer[Any]], direction: Floats, threshold: Floats) -> Ints:
    """Return ``(n,)`` 1 where a row's product with its pair's direction is above the pair's threshold, 0 elsewhere.

    Args:
        rows: ``(n, d)``.
        pair: ``(n,)`` from 0 to p - 1.
        direction: ``(p, d)``.
        threshold: ``(p,)``.
    """
    count, width = direction.shape
    if _SIDES is None or not _fits(rows, pair, count, width) or threshold.shape != (count,):
        return sides_twin(rows, pair, direction, threshold)
    found = np.empty(len(rows), dtype=np.int64)
    _SIDES(rows, np.ascontiguousarray(pair, dtype=np.int64), *rows.shape, np.ascontiguousarray(direction), threshold, found)
    return found


def sides_twin(rows: Array, pair: NDArray[np.integer[Any]], direction: Floats, threshold: Floats) -> Ints:
    """Return what `sides` does."""
    wide = rows.astype(np.float64)
    if len(direction) <= _FEW:
        products = (wide @ direction.T)[np.arange(len(wide)), pair]
    else:
        products = np.einsum("nd,nd->n", wide, direction[pair])
    right: Ints = (products > threshold[pair]).astype(np.int64)
    return right


def group_sums(rows: Array, group: NDArray[np.integer[Any]], weight: Floats, count: int) -> tuple[Floats, Floats]:
    """Return ``(count, 3)`` the rows of each group, their weight and weighted squares, and ``(count, d)`` their weighted sums.

    Args:
        rows: ``(n, d)``.
        group: ``(n,)`` from 0 to count - 1.
        weight: ``(n,)``.
        count: The groups.
    """
    if _SUMS is None or not _fits(rows, group, count, rows.shape[1]) or weight.shape != group.shape:
        return group_sums_twin(rows, group, weight, count)
    found, sums = np.zeros((count, 3)), np.zeros((count, rows.shape[1]))
    _SUMS(rows, np.ascontiguousarray(weight), np.ascontiguousarray(group, dtype=np.int64), *rows.shape, found, sums)
    return found, sums


def group_sums_twin(rows: Array, group: NDArray[np.integer[Any]], weight: Floats, count: int) -> tuple[Floats, Floats]:
    """Return what `group_sums` does."""
    wide = rows.astype(np.float64)
    squares = np.einsum("nd,nd->n", wide, wide)
    found = [np.bincount(group, weights=values, minlength=count) for values in (np.ones(len(group)), weight, weight * squares)]
    member = csr_array((weight, (group, np.arange(len(group)))), shape=(count, len(group)))
    sums: Floats = np.asarray(member @ wide)
    return np.stack(found, axis=1).astype(np.float64), sums


def _fits(rows: Array, place: NDArray[np.integer[Any]], count: int, width: int) -> bool:
    """Return whether C may read the rows and what their places lead to."""
    return bool(
        rows.dtype == np.float32
        and rows.flags.c_contiguous
        and place.shape == rows.shape[:1]
        and rows.shape[1] == width
        and (not len(place) or 0 <= place.min() <= place.max() < count)
    )
