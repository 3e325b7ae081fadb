"""Latent Dirichlet allocation: documents as mixtures of topics, topics as distributions over terms.

Objective: with counts ``n_dw`` of terms in documents, topics ``beta_j ~ Dir(eta)`` and mixtures ``theta_d ~ Dir(alpha)``, the
posterior of ``prod_d,w (sum_j theta_dj beta_jw) ** n_dw``. ``online`` maximises its variational bound on samples of the documents
[1], ``em`` finds the maximum a posteriori by expectation and maximisation over all of them [2].

Equivalence: ``pyspark.ml.clustering.LDA``. ``online`` takes MLlib's steps: a sample with replacement of each round's documents, each
document's inference until the mean change of its gamma is at most 1e-3, ``lambda = (1 - rho) lambda + rho (eta + n / m stat)`` with
``rho = (tau0 + t) ** -kappa`` and m the expected size of a sample, and Newton's step for alpha. What differs are random numbers; a
document drawn twice in one sample counts twice but is inferred once. ``em`` takes MLlib's passes over expected counts, from random
ones. A model infers the mixture of a document from ``gamma = 1``, the mean of MLlib's random start, so that a document has one
answer. A negative count, which MLlib takes, is refused.

Cost: a round of ``online`` is ``r n`` documents' inferences, each about ten times ``4 k`` multiply-adds a distinct term; of ``em``
one such step for all documents. Messages hold ``V k`` numbers. With ``em`` the state grows by as many a round, for a worker that
lost its documents' counts computes them again from all rounds before (docs/adr/0010).

Reveals: with mode="enclave" the number of rows, terms and rounds, by the size of the sealed messages ``V k``, and by their duration
roughly how many terms the documents of a share have. With mode="partitioned" the same: expected counts of terms are sums over rows
and may leave as masked integers.

[1] M. Hoffman, D. Blei, F. Bach: Online learning for latent Dirichlet allocation, NIPS 2010. [2] A. Asuncion, M. Welling, P. Smyth,
Y. W. Teh: On smoothing and inference for topic models, UAI 2009. Alpha: J. Huang: Maximum likelihood estimation of Dirichlet
distribution parameters, section 3.3.
"""

import math
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import polygamma, psi

from securemllib.algorithms import lda_em as em
from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.kernels.topics import expect, expected_log, infer
from securemllib.algorithms.lda_counts import counts_of, terms_of
from securemllib.algorithms.lda_model import TOLERANCE, LDAModel
from securemllib.algorithms.params import require_bool, require_choice, require_integer, require_number
from securemllib.algorithms.summary import Summary
from securemllib.errors import UsageError

__all__ = ["LDA", "LDAModel", "LDAState", "LDAStatistics"]

Floats = NDArray[np.float64]

# MLlib starts from Gamma(100, 1 / 100).
_GAMMA_SHAPE = 100.0
# The engine's messages stay below 2 GiB.
_MOST_STATE_BYTES = 3 << 29
_DOCUMENTS = "lda.documents"


@dataclass(frozen=True, slots=True, kw_only=True)
class LDAState:
    """What the aggregator knows between rounds.

    Attributes:
        seed: The root of the randomness.
        rows: Documents.
        step: Rounds made; the position of the next round's randomness.
        iteration: Rounds that learned: those whose sample was not empty.
        alpha: ``(k,)`` document concentration.
        topics: ``(1, V, k)`` MLlib's lambda; for em ``(t, V, k)`` the terms' expected counts after each pass so far.
        name: Names the topics so far.
        previous: Names those before the last pass.
        scored: Whether em's likelihood is known.
        log_likelihood: Of the training tokens, for em.
        log_prior: Of the mixtures and topics, for em.
    """

    seed: Seed
    rows: int
    step: int
    iteration: int
    alpha: Floats
    topics: Floats
    name: bytes
    previous: bytes
    scored: bool
    log_likelihood: float
    log_prior: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LDAStatistics:
    """What a round learns from rows.

    Attributes:
        topics: ``(V, k)`` expected counts of terms; for online divided by ``exp(E[log beta])``.
        drawn: Documents drawn, repetitions and empty ones included.
        documents: Documents drawn that are not empty.
        logs: ``(k,)`` their sum of ``E[log theta]``.
        log_likelihood: Of the tokens, in the last round of em.
        log_prior: Of the mixtures, in the last round of em.
    """

    ADDITIVE: ClassVar[tuple[str, ...]] = ("topics", "drawn", "documents", "logs", "log_likelihood", "log_prior")

    topics: Floats
    drawn: int = 0
    documents: int = 0
    logs: Floats
    log_likelihood: float = 0.0
    log_prior: float = 0.0

    def __add__(self, other: Self) -> Self:
        return type(self)(
            topics=self.topics + other.topics,
            drawn=self.drawn + other.drawn,
            documents=self.documents + other.documents,
            logs=self.logs + other.logs,
            log_likelihood=self.log_likelihood + other.log_likelihood,
            log_prior=self.log_prior + other.log_prior,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LDA:
    """Params of ``pyspark.ml.clustering.LDA``."""

    SPARSE: ClassVar[bool] = True

    k: int = 10
    max_iter: int = 20
    optimizer: str = "online"
    learning_offset: float = 1024.0
    learning_decay: float = 0.51
    subsampling_rate: float = 0.05
    optimize_doc_concentration: bool = True
    doc_concentration: tuple[float, ...] | None = None
    topic_concentration: float | None = None

    def __post_init__(self) -> None:
        require_integer(self, "k", 2)
        require_integer(self, "max_iter", 0)
        require_number(self, "learning_offset", math.nextafter(0.0, 1.0))
        require_number(self, "learning_decay", math.nextafter(0.0, 1.0))
        require_number(self, "subsampling_rate", math.nextafter(0.0, 1.0), 1.0)
        require_bool(self, "optimize_doc_concentration")
        if isinstance(self.optimizer, str):
            object.__setattr__(self, "optimizer", self.optimizer.lower())
        require_choice(self, "optimizer", ("online", "em"))
        self._check_concentrations()

    def _check_concentrations(self) -> None:
        if self.topic_concentration is not None:
            require_number(self, "topic_concentration", 0.0)
        alpha = self.doc_concentration
        if alpha is not None and len(alpha) not in (1, self.k):
            raise UsageError(f"doc_concentration must have 1 or k={self.k} values, not {len(alpha)}", code="usage.param")
        if alpha is not None and not all(0.0 <= value < math.inf for value in alpha):
            raise UsageError("doc_concentration must be finite and at least 0", code="usage.param")
        if self.optimizer != "em":
            return
        if alpha is not None and not (alpha[0] > 1.0 and len(set(alpha)) == 1):
            raise UsageError("doc_concentration must be one value greater than 1 for the optimizer em", code="usage.param")
        if self.topic_concentration is not None and not self.topic_concentration > 1.0:
            raise UsageError("topic_concentration must be greater than 1 for the optimizer em", code="usage.param")

    @property
    def _alpha(self) -> Floats:
        default = 50.0 / self.k + 1.0 if self.optimizer == "em" else 1.0 / self.k
        return np.broadcast_to(np.array(self.doc_concentration or (default,), dtype=np.float64), (self.k,)).copy()

    @property
    def _eta(self) -> float:
        default = 1.1 if self.optimizer == "em" else 1.0 / self.k
        return default if self.topic_concentration is None else float(self.topic_concentration)

    def initial(self, summary: Summary, seed: Seed) -> LDAState:
        """Return the state before the first round; `DataError` without rows, `UsageError` where a state would be too large."""
        summary.require_rows()
        matrices = self.max_iter + 1 if self.optimizer == "em" else 1
        if 8 * matrices * summary.columns * self.k > _MOST_STATE_BYTES:
            raise UsageError(
                f"{matrices} matrices of {summary.columns} terms and k={self.k} topics are more than a state holds",
                next_step="Use a smaller vocabulary, fewer topics or, for em, fewer iterations.",
                code="usage.size",
            )
        topics = np.zeros((0, summary.columns, self.k))
        if self.optimizer == "online":
            drawn = seed.generator("lda", "topics").standard_gamma(_GAMMA_SHAPE, (1, summary.columns, self.k))
            topics = drawn / _GAMMA_SHAPE
        name = sha256(seed.value + repr(self).encode()).digest()
        return LDAState(
            seed=seed, rows=summary.rows, step=0, iteration=0, alpha=self._alpha, topics=topics, name=name, previous=name, scored=False,
            log_likelihood=0.0, log_prior=0.0,
        )  # fmt: skip

    def is_done(self, state: LDAState) -> bool:
        """Return whether all rounds are made, and for em the likelihood is known."""
        return state.scored if self.optimizer == "em" else state.step >= self.max_iter

    def statistics(self, state: LDAState, block: Block) -> LDAStatistics:
        """Return what the block's documents, or the sample of them, say of the topics."""
        counts = counts_of(block)
        return self._sampled(state, block, counts) if self.optimizer == "online" else self._expected(state, block, counts)

    def _sampled(self, state: LDAState, block: Block, counts: csr_array) -> LDAStatistics:
        rng = state.seed.generator("lda", state.step, block.ordinal)
        times = rng.poisson(self.subsampling_rate, counts.shape[0])
        chosen = np.flatnonzero((times > 0) & (np.diff(counts.indptr) > 0))
        weight = times[chosen].astype(np.float64)
        used, sample = terms_of(counts[chosen])
        topics = state.topics[-1]
        terms = np.exp(psi(topics[used]) - psi(topics.sum(axis=0)))
        start = rng.standard_gamma(_GAMMA_SHAPE, (len(chosen), self.k)) / _GAMMA_SHAPE
        gamma, theta = infer(sample, terms, state.alpha, start, TOLERANCE)
        found = np.zeros_like(topics)
        found[used] = expect(sample, theta, terms, weight)[1]
        logs = weight @ expected_log(gamma)
        return LDAStatistics(topics=found, drawn=int(times.sum()), documents=int(weight.sum()), logs=logs)

    def _expected(self, state: LDAState, block: Block, counts: csr_array) -> LDAStatistics:
        nothing = np.zeros(self.k)
        if not len(state.topics):
            documents, found = em.assign(counts, self.k, state.seed, block.ordinal)
            block.scratch.get(_DOCUMENTS, state.previous, lambda: documents)
            return LDAStatistics(topics=found, logs=nothing)
        alpha, eta, topics = float(state.alpha[0]), self._eta, state.topics[-1]

        def again() -> Floats:
            return em.documents_after(counts, state.topics[:-1], alpha=alpha, eta=eta, seed=state.seed, ordinal=block.ordinal)

        documents = block.scratch.get(_DOCUMENTS, state.previous, again)
        if state.iteration >= self.max_iter:
            tokens, prior = em.log_likelihood(counts, documents, topics, alpha, eta)
            return LDAStatistics(topics=np.zeros((0, self.k)), logs=nothing, log_likelihood=tokens, log_prior=prior)
        documents, found = em.renew(counts, documents, topics, alpha, eta)
        block.scratch.get(_DOCUMENTS, state.name, lambda: documents)
        return LDAStatistics(topics=found, logs=nothing)

    def update(self, state: LDAState, total: LDAStatistics) -> LDAState:
        """Return the state after a round."""
        state = replace(state, step=state.step + 1)
        if self.optimizer == "online":
            return self._learned(state, total) if total.drawn else state
        if len(state.topics) and state.iteration >= self.max_iter:
            prior = total.log_prior + em.log_prior(state.topics[-1], self._eta)
            return replace(state, scored=True, log_likelihood=total.log_likelihood, log_prior=prior)
        name = sha256(state.name + np.ascontiguousarray(total.topics, dtype="<f8").tobytes()).digest()
        topics = np.concatenate([state.topics, total.topics[None]])
        first = not len(state.topics)
        previous = state.previous if first else state.name
        return replace(state, iteration=state.iteration + (not first), topics=topics, name=name, previous=previous)

    def _learned(self, state: LDAState, total: LDAStatistics) -> LDAState:
        iteration = state.iteration + 1
        rate = (self.learning_offset + iteration) ** -self.learning_decay
        topics = state.topics[-1]
        found = total.topics * np.exp(psi(topics) - psi(topics.sum(axis=0)))
        scale = state.rows / math.ceil(self.subsampling_rate * state.rows)
        topics = (1.0 - rate) * topics + rate * (scale * found + self._eta)
        alpha = state.alpha
        if self.optimize_doc_concentration and total.documents:
            alpha = _newton(alpha, total.logs, float(total.documents), rate)
        return replace(state, iteration=iteration, topics=topics[None], alpha=alpha)

    def to_model(self, state: LDAState) -> LDAModel:
        """Return the topics."""
        distributed = self.optimizer == "em"
        return LDAModel(
            topics=state.topics[-1],
            alpha=state.alpha,
            eta=self._eta,
            distributed=distributed,
            training_log_likelihood=state.log_likelihood if distributed else None,
            log_prior=state.log_prior if distributed else None,
        )


def _newton(alpha: Floats, logs: Floats, documents: float, rate: float) -> Floats:
    """Return alpha after a step of Newton's method on the likelihood of the mixtures, or as it was if it would not stay positive."""
    with np.errstate(all="ignore"):
        gradient = documents * (psi(alpha.sum()) - psi(alpha)) + logs
        curvature = -documents * polygamma(1, alpha)
        shared = (gradient / curvature).sum() / (1.0 / (documents * polygamma(1, alpha.sum())) + (1.0 / curvature).sum())
        moved: Floats = alpha - rate * (gradient - shared) / curvature
    return moved if bool((moved > 0.0).all()) else alpha
