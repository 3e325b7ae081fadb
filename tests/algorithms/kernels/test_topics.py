"""Do the compiled topic kernels compute what numpy computes?"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.special import psi

from securemllib.algorithms.kernels import topics


def _problem(seed, rows, terms, k, zeros=False):
    rng = np.random.default_rng(seed)
    counts = csr_array(rng.poisson(0.7, (rows, terms)).astype(float) * rng.choice([1.0, 0.3, 7.0], (rows, terms)))
    factors = rng.gamma(0.3, 1.0, (terms, k)) + (0.0 if zeros else 1e-12)
    if zeros:
        factors[:: max(terms // 2, 1)] = 0.0
    return counts, factors, rng.gamma(1.0, 1.0, k) + 0.01, rng.gamma(100.0, 0.01, (rows, k))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 9), st.integers(1, 40), st.integers(1, 13), st.booleans())
def test_inference_is_that_of_numpy(seed, rows, terms, k, zeros):
    """Mixtures of documents, empty ones and terms of probability 0 included, are numpy's."""
    counts, factors, alpha, gamma = _problem(seed, rows, terms, k, zeros)
    compiled = topics.infer(counts, factors, alpha, gamma, 1e-3)
    # Both stop at the same step unless a change equals the tolerance to 1e-10; up to there they differ by rounding.
    for ours, twin in zip(compiled, topics.infer_twin(counts, factors, alpha, gamma, 1e-3), strict=True):
        np.testing.assert_allclose(ours, twin, rtol=1e-7, atol=1e-12)
    assert compiled[0].shape == (rows, k)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 9), st.integers(1, 40), st.integers(1, 13))
def test_expected_counts_are_those_of_numpy(seed, rows, terms, k):
    """Expected counts of documents and of terms, weighted by document, are numpy's."""
    counts, factors, _, documents = _problem(seed, rows, terms, k)
    weights = np.random.default_rng(seed).integers(0, 3, rows).astype(float)
    twin = topics.expect_twin(counts, documents, factors, weights)
    for ours, theirs in zip(topics.expect(counts, documents, factors, weights), twin, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


def test_digamma_is_scipys():
    """The first factors of a document without tokens are exp(digamma(alpha_j) - digamma(sum)) to 1e-13, and nothing below 1e-2."""
    alpha = np.geomspace(1e-6, 1e8, 400)
    nothing = csr_array((1, 1))
    _, theta = topics.infer(nothing, np.ones((1, 400)), alpha, alpha[None], 1e-3)
    # exp multiplies digamma's own relative error of a few units in the last place by the size of its argument, up to 1e6.
    near = alpha > 1e-2
    np.testing.assert_allclose(theta[0][near], np.exp(psi(alpha[near]) - psi(alpha.sum())), rtol=1e-13)
    assert (theta[0][~near] < 1e-30).all()


def test_a_term_that_is_none_is_refused_before_the_call():
    """Indices beyond the terms and documents of another number are ValueErrors; fitting ones pass."""
    counts, factors, alpha, gamma = _problem(1, 3, 5, 2)
    topics.infer(counts, factors, alpha, gamma, 1e-3)
    beyond = csr_array((counts.data, counts.indices + 9, counts.indptr), shape=(3, 20))
    with pytest.raises(ValueError, match="do not fit"):
        topics.infer(beyond, factors, alpha, gamma, 1e-3)
    with pytest.raises(ValueError, match="do not fit"):
        topics.expect(counts, gamma[:2], factors, np.ones(3))
    lying = csr_array((counts.data, counts.indices.copy(), counts.indptr), shape=(3, 5))
    lying.indices[0] = 5
    with pytest.raises(ValueError, match="none"):
        topics.expect(lying, gamma, factors, np.ones(3))
