"""Columns to centred rows, and the moments of rows: compiled, or in numpy."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Array
from securemllib.algorithms.kernels.library import INTEGER, REAL, array_of, function

__all__ = ["Empty", "centred_rows", "centred_rows_twin", "column_sums", "column_sums_twin", "moments", "moments_twin"]

Vector = NDArray[np.float64]
# Gives a new array of a shape and a dtype.
Empty = Callable[[tuple[int, int], str], NDArray[Any]]

# What is transposed at once stays in a core's second-level cache.
_TILE_BYTES = 512 << 10
_FEWEST_ROWS = 16

_DOUBLES, _ADDRESSES, _SUMS = array_of(np.float64), array_of(np.uintp), array_of(np.float64, written=True)
_FLOATS, _FLOATS_OUT, _WEIGHTS = array_of(np.float32), array_of(np.float32, written=True), array_of(np.float64, optional=True)
_COLUMN_SUMS = function("matrix", "column_sums", _ADDRESSES, INTEGER, INTEGER, _SUMS)
_CENTRED_ROWS = function("matrix", "centred_rows", _ADDRESSES, INTEGER, INTEGER, _DOUBLES, _FLOATS_OUT)
_MOMENTS = function("matrix", "moments", _FLOATS, _WEIGHTS, INTEGER, INTEGER, REAL, _SUMS, _SUMS, _FLOATS_OUT, _FLOATS_OUT)


def column_sums(columns: Sequence[Vector]) -> Vector:
    """Return the sums ``(d,)`` of ``d`` columns ``(n,)``."""
    held = _held(columns)
    if _COLUMN_SUMS is None or held is None:
        return column_sums_twin(columns)
    sums = np.empty(len(held))
    _COLUMN_SUMS(_addresses(held), len(held[0]), len(held), sums)
    return sums


def column_sums_twin(columns: Sequence[Vector]) -> Vector:
    """Return what `column_sums` does."""
    return np.array([np.add.reduce(column) for column in columns], dtype=np.float64)


def centred_rows(columns: Sequence[Vector], offsets: Vector, dtype: str, empty: Empty = np.empty) -> NDArray[Any]:
    """Return the ``(n, d)`` matrix, of one dtype, of ``d`` columns ``(n,)`` minus their offsets, in memory that ``empty`` gives."""
    held = _held(columns)
    if _CENTRED_ROWS is None or held is None or dtype != "float32" or offsets.shape != (len(held),):
        return centred_rows_twin(columns, offsets, dtype, empty)
    out = empty((len(held[0]), len(held)), dtype)
    _CENTRED_ROWS(_addresses(held), *out.shape, np.ascontiguousarray(offsets), out)
    return out


def centred_rows_twin(columns: Sequence[Vector], offsets: Vector, dtype: str, empty: Empty = np.empty) -> NDArray[Any]:
    """Return what `centred_rows` does."""
    rows = len(columns[0]) if columns else 0
    out = empty((rows, len(columns)), dtype)
    size = max(_TILE_BYTES // (8 * max(len(columns), 1)), _FEWEST_ROWS)
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, rows, size):
            tile = np.array([column[start : start + size] for column in columns])
            np.subtract(tile.T, offsets, out=out[start : start + size], casting="same_kind")
    return out


def moments(features: Array, weight: Vector | None, scale: float) -> tuple[Vector, Vector, Vector, Vector]:
    """Return the weighted means, weighted squares about them, least and largest values, each ``(d,)``.

    Args:
        features: ``(n, d)`` rows.
        weight: ``(n,)``, or None where every row weighs 1; the edges are those of rows whose weight is not 0.
        scale: 1 over the sum of weights.
    """
    if _MOMENTS is None or features.dtype != np.float32 or (weight is not None and weight.shape != features.shape[:1]):
        return moments_twin(features, weight, scale)
    rows, columns = features.shape
    mean, squares = np.empty(columns), np.empty(columns)
    minimum, maximum = np.full(columns, np.inf, dtype=np.float32), np.full(columns, -np.inf, dtype=np.float32)
    _MOMENTS(features, weight, rows, columns, scale, mean, squares, minimum, maximum)
    if not np.isfinite(squares).all():
        # What NaN and infinity make of the edges is numpy's to say.
        return moments_twin(features, weight, scale)
    return mean, squares, minimum.astype(np.float64), maximum.astype(np.float64)


def moments_twin(features: Array, weight: Vector | None, scale: float) -> tuple[Vector, Vector, Vector, Vector]:
    """Return what `moments` does."""
    rows = features.astype(np.float64)
    mean: Vector = (rows.sum(axis=0) if weight is None else weight @ rows) * scale
    used = rows if weight is None or weight.all() else rows[weight != 0]
    minimum, maximum = used.min(axis=0, initial=np.inf), used.max(axis=0, initial=-np.inf)
    rows -= mean
    squares = np.einsum("ij,ij->j", rows, rows) if weight is None else np.einsum("i,ij,ij->j", weight, rows, rows)
    return mean, squares, minimum, maximum


def _held(columns: Sequence[Vector]) -> list[Vector] | None:
    """Return the columns as C reads them, to be kept while it does; None where they are no float64 columns of one length."""
    if not columns or any(column.dtype != np.float64 or column.shape != (len(columns[0]),) for column in columns):
        return None
    return [np.ascontiguousarray(column) for column in columns]


def _addresses(columns: list[Vector]) -> NDArray[np.uintp]:
    return np.array([column.__array_interface__["data"][0] for column in columns], dtype=np.uintp)
