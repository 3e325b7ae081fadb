"""Do the compiled kernels of alternating least squares compute what numpy computes?"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securemllib.algorithms.kernels import ratings


def _problem(seed, rows, sources, rank, most=9):
    rng = np.random.default_rng(seed)
    starts = np.concatenate([[0], np.cumsum(rng.integers(0, most, rows))]).astype(np.int64)
    chosen = rng.integers(0, sources, starts[-1]).astype(np.int32)
    factors = rng.normal(size=(sources, rank)).astype(np.float32)
    return starts, chosen, rng.uniform(0, 40, len(chosen)), rng.normal(size=len(chosen)), factors


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 12), st.integers(1, 20), st.integers(1, 21), st.booleans())
def test_equations_are_those_of_numpy(seed, rows, sources, rank, weighted):
    """Equations of rows, with and without ratings, of all of them and of a range, are numpy's."""
    starts, chosen, confidences, targets, factors = _problem(seed, rows, sources, rank, most=150 if rows < 4 else 9)
    given_confidences = confidences if weighted else None
    whole = ratings.equations(starts, chosen, given_confidences, targets, factors)
    assert whole.shape == (rows, ratings.width(rank))
    twin = ratings.equations_twin(starts, chosen, given_confidences, targets, factors)
    # Products of float32 are exact in float64; up to 150 of them, times a confidence, add up in another order.
    np.testing.assert_allclose(whole, twin, rtol=1e-11, atol=1e-10)
    part = ratings.equations(starts[rows // 2 :], chosen, given_confidences, targets, factors)
    np.testing.assert_array_equal(part, whole[rows // 2 :])
    for of in (ratings.equations, ratings.equations_twin):
        total = np.ones_like(whole)
        assert of(starts, chosen, given_confidences, targets, factors, total) is total
        np.testing.assert_allclose(total - 1.0, twin, rtol=1e-11, atol=1e-10)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 12), st.integers(1, 21))
def test_solutions_are_those_of_numpy(seed, rows, rank):
    """Every row's solution solves its equations, and is numpy's."""
    starts, chosen, confidences, targets, factors = _problem(seed, rows, 20, rank)
    equations = ratings.equations(starts, chosen, confidences, targets, factors)
    ridges = np.random.default_rng(seed).uniform(0.5, 3.0, rows)
    found, bad = ratings.solve(equations, ridges)
    twin, same = ratings.solve_twin(equations, ridges)
    assert bad == same == rows
    # Confidences up to 40 over a ridge of 0.5 make condition numbers of up to 1e5.
    np.testing.assert_allclose(found, twin, rtol=1e-9, atol=1e-10)
    full = ratings.matrices(equations, ridges)
    np.testing.assert_allclose((full @ found[:, :, None])[:, :, 0], equations[:, ratings.width(rank) - rank :], rtol=1e-8, atol=1e-8)


def test_a_matrix_that_is_not_positive_definite_is_named():
    """A row without ratings and ridge has no solution: both say which row, and with a ridge it has one."""
    starts, chosen, confidences, targets, factors = _problem(3, 5, 6, 3)
    starts[3:] = starts[2]
    equations = ratings.equations(starts, chosen, confidences, targets, factors)
    ridges = np.array([1.0, 1.0, 0.0, 1.0, 1.0])
    assert ratings.solve(equations, ridges)[1] == ratings.solve_twin(equations, ridges)[1] == 2
    assert ratings.solve(equations, np.ones(5))[1] == 5


def test_what_does_not_fit_is_refused_before_the_call():
    """Sources that are none, starts that go back or beyond, and lists of other lengths are ValueErrors; fitting ones pass."""
    starts, chosen, confidences, targets, factors = _problem(4, 5, 6, 3)
    good = {"starts": starts, "sources": chosen, "confidences": confidences, "targets": targets, "factors": factors}
    ratings.equations(**good)
    beyond, back = starts.copy(), starts.copy()
    beyond[-1] += 1
    back[1] = back[-1]
    for bad in (
        {"factors": factors[:2]}, {"sources": chosen - 1}, {"starts": beyond}, {"starts": back}, {"starts": starts - 1},
        {"targets": targets[1:]}, {"confidences": confidences[1:]}, {"total": np.zeros((4, ratings.width(3)))},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"fit|none"):
            ratings.equations(**{**good, **bad})
    with pytest.raises(ValueError, match="fit"):
        ratings.solve(np.zeros((2, ratings.width(3))), np.ones(3))
    with pytest.raises(ValueError, match="normal"):
        ratings.solve(np.zeros((2, 6)), np.ones(2))
