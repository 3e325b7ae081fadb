"""Columns to centred rows, and the moments and products of rows: compiled, or in numpy."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Array
from securemllib.algorithms.kernels.library import INTEGER, REAL, array_of, function, padded

__all__ = [
    "centred_rows",
    "centred_rows_twin",
    "column_sums",
    "column_sums_twin",
    "moments",
    "moments_twin",
    "products",
    "products_twin",
]

Vector = NDArray[np.float64]

# What is transposed at once stays in a core's second-level cache.
_TILE_BYTES = 512 << 10
_FEWEST_ROWS = 16

# The widest rows of the compiled products, with target and one, as in matrix.c; BLAS is faster on wider ones.
_WIDEST = 128
# Rows whose products are added up in their own precision.
_PRODUCT_ROWS = 4096

_DOUBLES, _ADDRESSES, _SUMS = array_of(np.float64), array_of(np.uintp), array_of(np.float64, written=True)
_FLOATS, _FLOATS_OUT, _WEIGHTS = array_of(np.float32), array_of(np.float32, written=True), array_of(np.float64, optional=True)
_COLUMN_SUMS = function("column_sums", _ADDRESSES, INTEGER, INTEGER, _SUMS)
_CENTRED_ROWS = function("centred_rows", _ADDRESSES, INTEGER, INTEGER, _DOUBLES, _FLOATS_OUT)
_PRODUCTS = function("products", _FLOATS, _WEIGHTS, _DOUBLES, INTEGER, INTEGER, _SUMS)
_MOMENTS = function("moments", _FLOATS, _WEIGHTS, INTEGER, INTEGER, REAL, _SUMS, _SUMS, _FLOATS_OUT, _FLOATS_OUT)


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


def centred_rows(columns: Sequence[Vector], offsets: Vector, dtype: str) -> NDArray[Any]:
    """Return the ``(n, d)`` matrix, of one dtype, of ``d`` columns ``(n,)`` minus their offsets."""
    held = _held(columns)
    if _CENTRED_ROWS is None or held is None or dtype != "float32" or offsets.shape != (len(held),):
        return centred_rows_twin(columns, offsets, dtype)
    out = np.empty((len(held[0]), len(held)), dtype=np.float32)
    _CENTRED_ROWS(_addresses(held), *out.shape, np.ascontiguousarray(offsets), out)
    return out


def centred_rows_twin(columns: Sequence[Vector], offsets: Vector, dtype: str) -> NDArray[Any]:
    """Return what `centred_rows` does."""
    rows = len(columns[0]) if columns else 0
    out = np.empty((rows, len(columns)), dtype=dtype)
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


def products(features: Array, weight: Vector | None, target: Vector) -> tuple[Vector, Vector, Vector]:
    """Return the weighted sums of rows' products with themselves ``(d, d)``, of rows times target ``(d,)``, and of rows ``(d,)``.

    Args:
        features: ``(n, d)`` rows.
        weight: ``(n,)`` weights of at least 0, or None where every row weighs 1.
        target: ``(n,)``, rounded to the rows' type.
    """
    rows, columns = features.shape
    width = padded(columns + 2)
    known = {len(target), rows if weight is None else len(weight)} == {rows}
    if _PRODUCTS is None or features.dtype != np.float32 or width > _WIDEST or not known:
        return products_twin(features, weight, target)
    found = np.zeros((width, width))
    _PRODUCTS(features, weight, target, rows, columns, found)
    gram = np.triu(found[:columns, :columns])
    gram += np.triu(gram, 1).T
    return gram, found[:columns, columns], found[:columns, columns + 1]


def products_twin(features: Array, weight: Vector | None, target: Vector) -> tuple[Vector, Vector, Vector]:
    """Return what `products` does."""
    columns = features.shape[1]
    gram, edges = np.zeros((columns, columns)), np.zeros((2, columns))
    for start in range(0, len(features), _PRODUCT_ROWS):
        rows = slice(start, start + _PRODUCT_ROWS)
        extra, rooted = np.stack((target[rows], np.ones_like(target[rows]))), features[rows]
        if weight is not None:
            root = np.sqrt(weight[rows])
            extra, rooted = extra * root, rooted * root.astype(features.dtype)[:, np.newaxis]
        # numpy computes A.T @ A by the symmetric product of BLAS, at half the cost.
        gram += rooted.T @ rooted
        edges += extra.astype(features.dtype) @ rooted
    return gram, edges[0], edges[1]


def _held(columns: Sequence[Vector]) -> list[Vector] | None:
    """Return the columns as C reads them, to be kept while it does; None where they are no float64 columns of one length."""
    if not columns or any(column.dtype != np.float64 or column.shape != (len(columns[0]),) for column in columns):
        return None
    return [np.ascontiguousarray(column) for column in columns]


def _addresses(columns: list[Vector]) -> NDArray[np.uintp]:
    return np.array([column.__array_interface__["data"][0] for column in columns], dtype=np.uintp)
