"""The EM of smoothed topic models: expected counts of documents and terms, and the passes that renew them.

The expected counts of a document, ``N_j``, are renewed from those before and from the terms' ``N_w``; whoever has the seed and the
terms' counts of every pass so far computes them again. So a state holds the terms' counts of all passes, the documents' counts stay
with their rows, and losing them costs time, not truth.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from securemllib.algorithms.base import Seed
from securemllib.algorithms.kernels.topics import expect, ratios

__all__ = ["assign", "documents_after", "log_likelihood", "log_prior", "renew"]

Floats = NDArray[np.float64]

_GATHER_BYTES = 4 << 20


def assign(counts: csr_array, k: int, seed: Seed, ordinal: int) -> tuple[Floats, Floats]:
    """Return the expected counts of documents ``(n, k)`` and terms ``(V, k)`` when each document's terms get random topics."""
    rng = seed.generator("lda-em", ordinal)
    documents, terms = np.zeros((counts.shape[0], k)), np.zeros((counts.shape[1], k))
    for rows in _row_ranges(counts, k):
        part = counts[rows]
        shares = rng.random((part.nnz, k))
        shares *= (part.data / shares.sum(axis=1))[:, None]
        each, tokens = np.ones(part.nnz), np.arange(part.nnz + 1)
        documents[rows] = np.asarray(csr_array((each, tokens[:-1], part.indptr), shape=(part.shape[0], part.nnz)) @ shares)
        terms += np.asarray(csr_array((each, part.indices, tokens), shape=(part.nnz, counts.shape[1])).T @ shares)
    return documents, terms


def _row_ranges(counts: csr_array, k: int) -> Iterator[slice]:
    """Yield ranges of documents with at most as many tokens as fit in memory, or of one document."""
    size, start = max(_GATHER_BYTES // (8 * k), 1), 0
    while start < counts.shape[0]:
        stop = int(np.searchsorted(counts.indptr, counts.indptr[start] + size, side="right")) - 1
        stop = min(max(stop, start + 1), counts.shape[0])
        yield slice(start, stop)
        start = stop


def renew(counts: csr_array, documents: Floats, topics: Floats, alpha: float, eta: float) -> tuple[Floats, Floats]:
    """Return the expected counts of documents and terms after one pass.

    Args:
        counts: ``(n, V)``.
        documents: ``(n, k)`` expected counts.
        topics: ``(V, k)`` expected counts of all rows.
        alpha: Document concentration.
        eta: Topic concentration.
    """
    terms, weights = _probabilities(topics, eta), documents + (alpha - 1.0)
    by_document, by_term = expect(counts, weights, terms, np.ones(len(weights)))
    return weights * by_document, terms * by_term


def documents_after(counts: csr_array, topics: Floats, *, alpha: float, eta: float, seed: Seed, ordinal: int) -> Floats:
    """Return the documents' expected counts ``(n, k)`` after the passes that read ``topics (t, V, k)``."""
    documents, _ = assign(counts, topics.shape[2], seed, ordinal)
    for before in topics:
        documents, _ = renew(counts, documents, before, alpha, eta)
    return documents


def log_likelihood(counts: csr_array, documents: Floats, topics: Floats, alpha: float, eta: float) -> tuple[float, float]:
    """Return the log likelihood of the tokens, and the documents' part of the log prior."""
    weights = documents + (alpha - 1.0)
    theta = weights / weights.sum(axis=1, keepdims=True)
    ratio = ratios(counts, theta, _probabilities(topics, eta))
    tokens = float(counts.data @ np.log(counts.data / ratio.data))
    present = np.diff(counts.indptr) > 0
    return tokens, (alpha - 1.0) * float(np.log(theta[present]).sum())


def log_prior(topics: Floats, eta: float) -> float:
    """Return the terms' part of the log prior; a term that no document has is none."""
    present = topics.sum(axis=1) > 0.0
    return (eta - 1.0) * float(np.log(_probabilities(topics, eta)[present]).sum())


def _probabilities(topics: Floats, eta: float) -> Floats:
    smoothed: Floats = (topics + (eta - 1.0)) / (topics.sum(axis=0) + len(topics) * (eta - 1.0))
    return smoothed
