"""Topic models over sparse counts: inference of documents, and the expected counts of documents and terms.

With counts ``N (n, V)``, documents ``D (n, k)`` and terms ``T (V, k)``, a token of term w in document d has probability ``(D T')[d, w]``,
to which MLlib adds 1e-100; ``R`` is ``N`` divided by it at the non-zeros.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import psi

from securemllib.algorithms.kernels.library import INTEGER, REAL, array_of, function

__all__ = ["expect", "expect_twin", "expected_log", "infer", "infer_twin", "ratios"]

Floats = NDArray[np.float64]

_LEAST = 1e-100
# Two gathered matrices of this many bytes each are held at once.
_GATHER_BYTES = 4 << 20
# Vectors of doubles in the C file.
_WIDTH = 4

_STARTS, _INDICES, _READ, _WRITTEN = array_of(np.int64), array_of(np.int32), array_of(np.float64), array_of(np.float64, written=True)
_INFER = function(
    "topics", "topics_infer", _STARTS, _INDICES, _READ, INTEGER, _READ, _READ, INTEGER, INTEGER, REAL, _WRITTEN, _WRITTEN, _WRITTEN
)  # fmt: skip
_EXPECT = function("topics", "topics_expect", _STARTS, _INDICES, _READ, INTEGER, _READ, _READ, _READ, INTEGER, _WRITTEN, _WRITTEN)


def infer(counts: csr_array, terms: Floats, alpha: Floats, gamma: Floats, tolerance: float) -> tuple[Floats, Floats]:
    """Return the variational distributions of documents over topics.

    Args:
        counts: ``(n, V)``.
        terms: ``(V, k)``, ``exp(E[log beta])``.
        alpha: ``(k,)``.
        gamma: ``(n, k)`` to start from.
        tolerance: A document is done when the mean change of its gamma is at most this.

    Returns:
        ``gamma (n, k)``, and ``exp(E[log theta]) (n, k)``.
    """
    if _INFER is None:
        return infer_twin(counts, terms, alpha, gamma, tolerance)
    _check(counts, gamma, terms)
    if alpha.shape != terms.shape[1:]:
        raise ValueError(f"alpha {alpha.shape} and terms {terms.shape} do not fit")
    k, found, factors = len(alpha), _padded(gamma), _padded(terms)
    theta, work = np.zeros_like(found), np.zeros(found.shape[1])
    _INFER(*_arrays(counts), len(found), factors, _padded(alpha[None]), k, found.shape[1], tolerance, found, theta, work)
    return np.ascontiguousarray(found[:, :k]), np.ascontiguousarray(theta[:, :k])


def infer_twin(counts: csr_array, terms: Floats, alpha: Floats, gamma: Floats, tolerance: float) -> tuple[Floats, Floats]:
    """Return what `infer` returns, with numpy."""
    gamma = gamma.copy()
    theta = np.exp(expected_log(gamma))
    active, rest = np.arange(len(gamma)), counts
    while active.size:
        found = theta[active] * (ratios(rest, theta[active], terms) @ terms) + alpha
        change = np.abs(found - gamma[active]).mean(axis=1)
        gamma[active] = found
        theta[active] = np.exp(expected_log(found))
        moving = change > tolerance
        if not moving.all():
            active, rest = active[moving], rest[moving]
    return gamma, theta


def expect(counts: csr_array, documents: Floats, terms: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Return ``R T (n, k)`` and ``R' (w D) (V, k)`` for weights ``w (n,)`` of documents."""
    if _EXPECT is None:
        return expect_twin(counts, documents, terms, weights)
    _check(counts, documents, terms)
    if weights.shape != documents.shape[:1]:
        raise ValueError(f"weights {weights.shape} and documents {documents.shape} do not fit")
    k, rows, factors = terms.shape[1], _padded(documents), _padded(terms)
    by_row, by_term = np.zeros_like(rows), np.zeros_like(factors)
    _EXPECT(*_arrays(counts), len(rows), rows, np.ascontiguousarray(weights), factors, rows.shape[1], by_row, by_term)
    return np.ascontiguousarray(by_row[:, :k]), np.ascontiguousarray(by_term[:, :k])


def expect_twin(counts: csr_array, documents: Floats, terms: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Return what `expect` returns, with numpy."""
    ratio = ratios(counts, documents, terms)
    return ratio @ terms, ratio.T @ (documents * weights[:, None])


def ratios(counts: csr_array, documents: Floats, terms: Floats) -> csr_array:
    """Return ``R``, within bounded memory."""
    data = np.empty(counts.nnz)
    rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    size = max(_GATHER_BYTES // (8 * max(terms.shape[1], 1)), 1)
    for start in range(0, counts.nnz, size):
        part = slice(start, start + size)
        probability = np.einsum("ij,ij->i", documents[rows[part]], terms[counts.indices[part]])
        np.divide(counts.data[part], probability + _LEAST, out=data[part])
    return csr_array((data, counts.indices, counts.indptr), shape=counts.shape)


def expected_log(weights: Floats) -> Floats:
    """Return ``E[log p]`` under Dirichlet distributions, one a row."""
    logs: Floats = psi(weights) - psi(weights.sum(axis=1))[:, None]
    return logs


def _check(counts: csr_array, documents: Floats, terms: Floats) -> None:
    """Raise ValueError unless the shapes fit and every index lies within the terms: C reads what it is told to."""
    rows, width = counts.shape
    if documents.shape != (rows, terms.shape[1]) or len(terms) != width or len(counts.indptr) != rows + 1:
        raise ValueError(f"counts {counts.shape}, documents {documents.shape} and terms {terms.shape} do not fit")
    if counts.nnz and not 0 <= counts.indices.min() <= counts.indices.max() < width:
        raise ValueError("a count is of a term that is none")


def _arrays(counts: csr_array) -> tuple[NDArray[np.int64], NDArray[np.int32], Floats]:
    return (
        np.ascontiguousarray(counts.indptr, dtype=np.int64),
        np.ascontiguousarray(counts.indices, dtype=np.int32),
        np.ascontiguousarray(counts.data, dtype=np.float64),
    )


def _padded(matrix: Floats) -> Floats:
    rows, columns = matrix.shape
    padded = np.zeros((rows, -(-columns // _WIDTH) * _WIDTH))
    padded[:, :columns] = matrix
    return padded
