"""Rows in slices that stay in a core's second-level cache between the two products that read them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from securemllib.algorithms.base import Array, Block

__all__ = ["is_whole", "product_type", "row_pieces", "row_slices"]

# 4096 rows of 50 float32 features; second-level caches of servers hold 1 to 2 MB.
_SLICE_BYTES = 800 << 10
_FEWEST_ROWS, _MOST_ROWS = 64, 8192

# A product of sparse rows in another type copies their values: 8 MB of float64.
_SPARSE_VALUES = 1 << 20


def row_slices(block: Block) -> Iterator[slice]:
    """Yield slices that cover the block's rows in order."""
    row_bytes = max(block.columns * block.features.dtype.itemsize, 1)
    size = min(max(_SLICE_BYTES // row_bytes, _FEWEST_ROWS), _MOST_ROWS)
    for start in range(0, block.rows, size):
        yield slice(start, min(start + size, block.rows))


def row_pieces(block: Block) -> Iterator[tuple[slice, Any]]:
    """Yield slices that cover the block's rows in order, each with its ``(m, d)`` rows: an array, or compressed sparse rows.

    Both are views of the block, and both go with ``@`` and ``.T``.
    """
    if block.sparse is None:
        for rows in row_slices(block):
            yield rows, block.features[rows]
        return
    matrix = block.sparse
    size = max(_SPARSE_VALUES * block.rows // max(matrix.nnz, 1), _FEWEST_ROWS)
    for start in range(0, block.rows, size):
        stop = min(start + size, block.rows)
        first, last = matrix.indptr[start], matrix.indptr[stop]
        stored = (matrix.data[first:last], matrix.indices[first:last], matrix.indptr[start : stop + 1] - first)
        yield slice(start, stop), csr_array(stored, shape=(stop - start, block.columns))


def is_whole(block: Block, label: NDArray[np.float64], vector: Array) -> bool:
    """Return whether dense rows, labels, weights and a vector of their columns have the lengths that a compiled loop reads."""
    weights = block.rows if block.weight is None else len(block.weight)
    return vector.shape == (block.columns,) and block.features.shape[1] == block.columns and len(label) == weights == block.rows


def product_type(block: Block) -> Any:
    """Return the type of vectors that are multiplied by the block's rows: sparse rows are not centred, so float32 may not be enough."""
    return np.float64 if block.sparse is not None else block.features.dtype.type
