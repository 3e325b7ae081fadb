"""Topics that were learned: the mixture of a document, and the variational bound on the likelihood of documents.

The bound is that of equation 16 of Hoffman, Blei and Bach (2010): of each document ``E[log p(tokens) + log p(theta) - log q(theta)]``,
and of the topics, once, ``E[log p(beta) - log q(beta)]``.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import gammaln, logsumexp, psi

from securemllib.algorithms.kernels.topics import expected_log, infer
from securemllib.algorithms.lda_counts import sparse_counts, terms_of
from securemllib.algorithms.vectors import of_columns

__all__ = ["TOLERANCE", "LDAModel"]

Floats = NDArray[np.float64]

# MLlib stops a document's inference when the mean change of its gamma is at most this.
TOLERANCE = 1e-3
# Two gathered matrices of this many bytes each are held at once.
_GATHER_BYTES = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LDAModel:
    """The topics.

    Attributes:
        topics: ``(V, k)``, not normalised: MLlib's ``topicsMatrix``.
        alpha: ``(k,)`` document concentration.
        eta: Topic concentration.
        distributed: Whether em trained it.
        training_log_likelihood: Of em; else None.
        log_prior: Of em; else None.
        likelihood: Whether `predict` also returns what `TopicEvaluator` sums.
    """

    SUMMARY: ClassVar[tuple[str, ...]] = ("training_log_likelihood", "log_prior")
    CHANGEABLE: ClassVar[tuple[str, ...]] = ("likelihood",)
    SPARSE: ClassVar[bool] = True

    topics: Floats
    alpha: Floats
    eta: float
    distributed: bool
    training_log_likelihood: float | None
    log_prior: float | None
    likelihood: bool = False

    def predict(self, features: Floats | csr_array) -> dict[str, Floats]:
        """Return ``topicDistribution (n, k)``, zeros for an empty document.

        Where ``likelihood`` is set also ``likelihood (n, 3)``: the bound of the document, its tokens, and the topics' own bound.
        """
        features = of_columns(features, len(self.topics))
        counts = sparse_counts(features)
        used, counts = terms_of(counts)
        logs = psi(self.topics[used]) - psi(self.topics.sum(axis=0))
        gamma, _ = infer(counts, np.exp(logs), self.alpha, np.ones((features.shape[0], len(self.alpha))), TOLERANCE)
        outputs = {"topicDistribution": np.where(np.diff(counts.indptr)[:, None] > 0, gamma / gamma.sum(axis=1, keepdims=True), 0.0)}
        if self.likelihood:
            bounds = _document_bounds(counts, logs, self.alpha, gamma)
            topics = np.full(len(bounds), _topics_bound(self.topics, self.eta))
            outputs["likelihood"] = np.column_stack([bounds, counts.sum(axis=1), topics])
        return outputs


def _document_bounds(counts: csr_array, logs: Floats, alpha: Floats, gamma: Floats) -> Floats:
    """Return each document's part of the variational bound on the log likelihood; 0 for an empty one.

    Args:
        counts: ``(n, V)``.
        logs: ``(V, k)``, ``E[log beta]``.
        alpha: ``(k,)``.
        gamma: ``(n, k)``.
    """
    theta = expected_log(gamma)
    rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    tokens = np.empty(counts.nnz)
    size = max(_GATHER_BYTES // (8 * max(logs.shape[1], 1)), 1)
    for start in range(0, counts.nnz, size):
        part = slice(start, start + size)
        tokens[part] = counts.data[part] * logsumexp(theta[rows[part]] + logs[counts.indices[part]], axis=1)
    bound: Floats = np.bincount(rows, weights=tokens, minlength=counts.shape[0]).astype(np.float64)
    bound += ((alpha - gamma) * theta + gammaln(gamma) - gammaln(alpha)).sum(axis=1) + gammaln(alpha.sum()) - gammaln(gamma.sum(axis=1))
    return np.where(np.diff(counts.indptr) > 0, bound, 0.0)


def _topics_bound(topics: Floats, eta: float) -> float:
    """Return the bound's part of the topics ``(V, k)``: ``E[log p(beta | eta) - log q(beta | lambda)]``."""
    logs = expected_log(topics.T).T
    terms = ((eta - topics) * logs + gammaln(topics) - gammaln(eta)).sum()
    return float(terms + (gammaln(eta * len(topics)) - gammaln(topics.sum(axis=0))).sum())
