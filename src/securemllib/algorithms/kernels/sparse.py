"""Sums of sparse rows: compiled, or in scipy."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array

from securemllib.algorithms.kernels.library import INTEGER, array_of, function

__all__ = ["class_sums", "class_sums_twin"]

Vector = NDArray[np.float64]
Index = NDArray[np.int64]

_INDEX = array_of(np.int64)
_CLASS_SUMS = function(
    "sparse_class_sums", _INDEX, array_of(np.int32), array_of(np.float32), _INDEX, _INDEX, array_of(np.float64), INTEGER, INTEGER,
    array_of(np.float64, written=True),
)  # fmt: skip


def class_sums(rows: csr_array, index: Index, weight: Vector, classes: int) -> Vector:
    """Return the weighted sums of the rows of each class: ``(k, d)``.

    Args:
        rows: ``(n, d)``.
        index: ``(n,)`` the class of each row, from 0 to k - 1.
        weight: ``(n,)``.
        classes: k.
    """
    count, width = rows.shape
    if _CLASS_SUMS is None or rows.dtype != np.float32 or rows.indices.dtype != np.int32:
        return class_sums_twin(rows, index, weight, classes)
    starts = rows.indptr.astype(np.int64)
    for found, most, what in ((index, classes, "class"), (rows.indices, width, "column")):
        if len(found) and not 0 <= found.min() <= found.max() < most:
            raise ValueError(f"a {what} is not below {most}")
    if not len(index) == len(weight) == count or starts[0] != 0 or (np.diff(starts) < 0).any() or starts[-1] > len(rows.indices):
        raise ValueError("rows, classes and weights do not fit each other")
    sums = np.zeros((classes, width))
    order = np.argsort(index, kind="stable")
    _CLASS_SUMS(starts, rows.indices, rows.data, order, index, np.ascontiguousarray(weight, dtype=np.float64), count, width, sums)
    return sums


def class_sums_twin(rows: csr_array, index: Index, weight: Vector, classes: int) -> Vector:
    """Return what `class_sums` does."""
    members = csc_array((weight, index, np.arange(len(index) + 1)), shape=(classes, len(index)))
    return np.asarray((members.tocsr() @ rows).toarray(), dtype=np.float64)
