"""Sums of sparse rows: compiled, or in scipy."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array

from securemllib.algorithms.kernels.library import INTEGER, array_of, function

__all__ = ["add_class_sums", "add_class_sums_twin"]

Vector = NDArray[np.float64]
Index = NDArray[np.int64]

_INDEX = array_of(np.int64)
_CLASS_SUMS = function(
    "sparse_class_sums", _INDEX, array_of(np.int32), array_of(np.float32), _INDEX, _INDEX, array_of(np.float64), INTEGER, INTEGER,
    array_of(np.float64, written=True), result=INTEGER,
)  # fmt: skip


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
    starts = rows.indptr.astype(np.int64)
    if len(index) and not 0 <= index.min() <= index.max() < classes:
        raise ValueError("a class is not below those that there are sums of")
    fits = len(index) == len(weight) == count and sums.shape[1] == width and starts[0] == 0 and starts[-1] <= len(rows.indices)
    if not fits or (np.diff(starts) < 0).any():
        raise ValueError("rows, classes, weights and sums do not fit each other")
    order = np.argsort(index, kind="stable")
    scale = np.ascontiguousarray(weight, dtype=np.float64)
    if _CLASS_SUMS(starts, rows.indices, rows.data, order, index, scale, count, width, sums):
        raise ValueError("a column is not below the width")


def add_class_sums_twin(rows: csr_array, index: Index, weight: Vector, sums: Vector) -> None:
    """Do what `add_class_sums` does."""
    members = csc_array((weight, index, np.arange(len(index) + 1)), shape=(len(sums), len(index)))
    sums += (members.tocsr() @ rows).toarray()
