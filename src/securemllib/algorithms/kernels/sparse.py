"""Sums of sparse rows: compiled, or in scipy."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array

from securemllib.algorithms.kernels.library import INTEGER, array_of, function

__all__ = ["add_class_sums", "add_class_sums_twin", "column_moments", "column_moments_twin"]

Vector = NDArray[np.float64]
Index = NDArray[np.int64]

_INDEX, _COLUMNS, _VALUES = array_of(np.int64), array_of(np.int32), array_of(np.float32)
_WEIGHTS, _DOUBLES, _SUMS = array_of(np.float64, optional=True), array_of(np.float64), array_of(np.float64, written=True)
_CLASS_SUMS = function(
    "sparse", "sparse_class_sums", _INDEX, _COLUMNS, _VALUES, _INDEX, _INDEX, _DOUBLES, INTEGER, INTEGER, _SUMS, result=INTEGER
)
_MOMENTS = function("sparse", "sparse_moments", _INDEX, _COLUMNS, _VALUES, _WEIGHTS, INTEGER, INTEGER, _SUMS, result=INTEGER)
_SQUARES = function("sparse", "sparse_squares", _INDEX, _COLUMNS, _VALUES, _WEIGHTS, INTEGER, _DOUBLES, _SUMS)
# Of a column's stored values: weight, weighted sum, number, least and largest.
_NO_MOMENTS = (0.0, 0.0, 0.0, np.inf, -np.inf)


def add_class_sums(rows: csr_array, index: Index, weight: Vector, sums: Vector) -> None:
    """Add the weighted rows to the sums of their classes.

    Args:
        rows: ``(n, d)``.
        index: ``(n,)`` the class of each row, from 0 to k - 1.
        weight: ``(n,)``.
        sums: ``(k, d)``, which is written to.
    """
    count, width = rows.shape
    classes = len(sums)
    if _CLASS_SUMS is None or rows.dtype != np.float32 or rows.indices.dtype != np.int32:
        add_class_sums_twin(rows, index, weight, sums)
        return
    starts = _starts(rows)
    if len(index) and not 0 <= index.min() <= index.max() < classes:
        raise ValueError("a class is not below those that there are sums of")
    if not len(index) == len(weight) == count or sums.shape[1] != width:
        raise ValueError("rows, classes, weights and sums do not fit each other")
    order = np.argsort(index, kind="stable")
    scale = np.ascontiguousarray(weight, dtype=np.float64)
    if _CLASS_SUMS(starts, rows.indices, rows.data, order, index, scale, count, width, sums):
        raise ValueError("a column is not below the width")


def add_class_sums_twin(rows: csr_array, index: Index, weight: Vector, sums: Vector) -> None:
    """Do what `add_class_sums` does."""
    members = csc_array((weight, index, np.arange(len(index) + 1)), shape=(len(sums), len(index)))
    sums += (members.tocsr() @ rows).toarray()


def column_moments(rows: csr_array, weight: Vector | None) -> tuple[Vector, Vector, Vector]:
    """Return moments of each column's stored values, of rows whose weight is not 0.

    The moments ``(d, 5)`` are weight, weighted sum, number, least and largest value, infinite where there is none; then the means
    ``(d,)`` of all values, the zeros that are not stored included, and the sum of weighted squares of stored values' distances to them.

    Args:
        rows: ``(n, d)``.
        weight: ``(n,)``, or None where every row weighs 1.
    """
    count, width = rows.shape
    if _MOMENTS is None or _SQUARES is None or rows.dtype != np.float32 or rows.indices.dtype != np.int32:
        return column_moments_twin(rows, weight)
    if weight is not None and len(weight) != count:
        raise ValueError("rows and weights do not fit each other")
    starts, moments, squares = _starts(rows), np.tile(_NO_MOMENTS, (width, 1)), np.zeros(width)
    if _MOMENTS(starts, rows.indices, rows.data, weight, count, width, moments):
        raise ValueError("a column is not below the width")
    mean = moments[:, 1] * _scale(weight, count)
    _SQUARES(starts, rows.indices, rows.data, weight, count, mean, squares)
    return moments, mean, squares


def column_moments_twin(rows: csr_array, weight: Vector | None) -> tuple[Vector, Vector, Vector]:
    """Return what `column_moments` does."""
    count, width = rows.shape
    of_value = np.repeat(np.ones(count) if weight is None else weight, np.diff(rows.indptr))
    used = of_value != 0
    of_value, index, values = of_value[used], rows.indices[used], rows.data[used].astype(np.float64)
    least, largest = np.full(width, np.inf), np.full(width, -np.inf)
    np.minimum.at(least, index, values)
    np.maximum.at(largest, index, values)
    sums = np.bincount(index, of_value * values, width)
    mean: Vector = sums * np.float64(_scale(weight, count))
    columns = [np.bincount(index, of_value, width), sums, np.bincount(index, minlength=width), least, largest]
    moments: Vector = np.stack(columns, axis=1).astype(np.float64)
    squares: Vector = np.bincount(index, of_value * (values - mean[index]) ** 2, width).astype(np.float64)
    return moments, mean, squares


def _starts(rows: csr_array) -> Index:
    """Return where each row starts and the last one ends; `ValueError` unless they are within what is stored."""
    starts: Index = rows.indptr.astype(np.int64)
    if starts[0] != 0 or starts[-1] > min(len(rows.indices), len(rows.data)) or (np.diff(starts) < 0).any():
        raise ValueError("the rows do not fit what is stored")
    return starts


def _scale(weight: Vector | None, count: int) -> float:
    total = float(count) if weight is None else float(weight.sum())
    return 1.0 / total if total > 0 else 0.0
