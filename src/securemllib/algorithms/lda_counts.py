"""Counts of terms in documents, as topic models read them: sparse, without stored zeros."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from securemllib.algorithms.base import Block
from securemllib.algorithms.slices import row_slices
from securemllib.errors import DataError

__all__ = ["counts_of", "sparse_counts", "terms_of"]

Floats = NDArray[np.float64]


def counts_of(block: Block) -> csr_array:
    """Return a block's counts as ``(n, V)`` float64 rows.

    Raises:
        DataError: A count is negative or no finite number.
    """
    if block.sparse is not None:
        counts = block.sparse.astype(np.float64)
    else:
        data, indices, indptr = block.scratch.get("lda.counts", b"", lambda: _dense_counts(block))
        counts = csr_array((data, indices, indptr), shape=(block.rows, block.columns))
    return _usable(counts, f"Part {block.ordinal}")


def _dense_counts(block: Block) -> tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.int64]]:
    """Return the parts of the CSR matrix of centred rows; what the centring left of a zero is one again."""
    noise = 4.0 * float(np.finfo(block.features.dtype).eps) * np.abs(block.offset)
    values, columns, lengths = [np.zeros(0)], [np.zeros(0, dtype=np.int32)], [np.zeros(0, dtype=np.int64)]
    for rows in row_slices(block):
        dense = block.features[rows].astype(np.float64) + block.offset
        dense[np.abs(dense) <= noise] = 0.0
        found = csr_array(dense)
        values.append(found.data)
        columns.append(found.indices.astype(np.int32))
        lengths.append(np.diff(found.indptr).astype(np.int64))
    indptr = np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64)
    return np.concatenate(values), np.concatenate(columns), indptr


def sparse_counts(features: NDArray[np.float64] | csr_array) -> csr_array:
    """Return rows to predict as ``(n, V)`` counts without stored zeros; `DataError` for a negative one or no finite number."""
    counts = csr_array(features) if isinstance(features, np.ndarray) else features
    return _usable(counts.astype(np.float64), "A document")


def _usable(counts: csr_array, where: str) -> csr_array:
    if not counts.nnz:
        return counts
    least = counts.data.min()
    if not (least >= 0.0 and np.isfinite(counts.data).all()):
        raise DataError(f"{where} has a count that is negative or no finite number.", code="data.features")
    if least == 0.0:
        counts = counts.copy()
        counts.eliminate_zeros()
    return counts


def terms_of(counts: csr_array) -> tuple[NDArray[np.int64], csr_array]:
    """Return the terms that occur, ascending, and the counts over those columns only."""
    used = np.flatnonzero(np.bincount(counts.indices, minlength=counts.shape[1]))
    position = np.zeros(counts.shape[1], dtype=np.int32)
    position[used] = np.arange(used.size, dtype=np.int32)
    return used, csr_array((counts.data, position[counts.indices], counts.indptr), shape=(counts.shape[0], used.size))
