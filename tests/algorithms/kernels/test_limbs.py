"""Do compiled limbs and residues equal those of their numpy twins?"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securemllib.algorithms.kernels.limbs import PRIME, join, join_twin, leaves, residues, residues_twin, split, split_twin

LIMIT = 2**60 - 1


def matrices():
    """Return matrices of all sizes and signs, with zeros, and whether they are symmetric."""
    return st.builds(_matrix, st.integers(0, 2**32 - 1), st.integers(0, 9), st.integers(0, 9), st.booleans(), st.sampled_from([0, 5, 150]))


def _matrix(seed, rows, columns, symmetric, spread):
    rng = np.random.default_rng(seed)
    shape = (columns, columns) if symmetric else (rows, columns)
    found = rng.normal(size=shape) * 10.0 ** rng.uniform(-spread, spread, shape) * (rng.random(shape) < 0.8)
    return (np.triu(found) + np.triu(found, 1).T if symmetric else found), symmetric


def _scales(rng, shape, top):
    """Return powers of two by which all of a matrix is below ``2**top``."""
    return np.exp2(rng.integers(-4, 1, shape[0]).astype(float)), np.full(shape[1], 2.0**top)


@settings(max_examples=200, deadline=None)
@given(given_matrix=matrices(), seed=st.integers(0, 99), bits=st.integers(43, 60), top=st.integers(-20, 110))
def test_limbs_equal_the_twins_and_join_to_the_matrix(given_matrix, seed, bits, top):
    """Both write the same limbs or refuse the same matrix, whatever the scales; joined they are its leaves to half a unit."""
    matrix, symmetric = given_matrix
    scales = _scales(np.random.default_rng(seed), matrix.shape, top)
    limbs, expected = np.zeros((2, 2, leaves(matrix, symmetric)), dtype=np.int64)
    most = split(matrix, symmetric, scales, bits, limbs)
    assert most == split_twin(matrix, symmetric, scales, bits, expected)
    if most == np.inf:
        return
    assert most == np.abs(matrix).max(initial=0.0)
    np.testing.assert_array_equal(limbs, expected)
    assert np.abs(limbs).max(initial=0) < 2**bits
    joined, twin = np.empty((2, *matrix.shape))
    back = 1.0 / scales[0], 1.0 / scales[1]
    join(joined, symmetric, back, bits, limbs)
    join_twin(twin, symmetric, back, bits, limbs)
    np.testing.assert_array_equal(joined, twin)
    # Half a unit, and float64's rounding of both limbs together.
    unit = back[0][:, None] * back[1]
    allowed = np.maximum(unit, unit.T) if symmetric else unit
    assert (np.abs(joined - matrix) <= 0.5 * allowed + 2.0**-52 * np.abs(matrix)).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 2.0**120])
def test_what_has_no_limbs_is_told(value):
    """A leaf that is no number, or beyond two limbs, is told by both; the largest that has them is not."""
    limbs, scales = np.zeros((2, 6), dtype=np.int64), (np.ones(2), np.ones(3))
    for one in (split, split_twin):
        assert one(np.array([[1.0, 2.0, value], [0.0, 0.0, 0.0]]), False, scales, 60, limbs) == np.inf
        assert one(np.array([[1.0, 2.0, np.nextafter(2.0**120, 0)], [0.0, 0.0, 0.0]]), False, scales, 60, limbs) < 2.0**120


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(0, 5), columns=st.integers(0, 130), edge=st.sampled_from([-LIMIT, 0, LIMIT]))
def test_residues_equal_the_twins(seed, rows, columns, edge):
    """Sums of products modulo the prime are exact, at the ends of the range, too."""
    rng = np.random.default_rng(seed)
    values, factors = rng.integers(-LIMIT, LIMIT, (rows, columns), endpoint=True), rng.integers(0, PRIME, columns, endpoint=True)
    values[:, : columns // 2] = edge
    factors[: columns // 3] = PRIME
    expected = [sum(int(one) * int(other) for one, other in zip(row, factors, strict=True)) % PRIME for row in values]
    assert residues(values, factors).tolist() == residues_twin(values, factors).tolist() == expected


def test_shapes_that_do_not_fit_reach_no_compiled_loop():
    """Limbs for fewer leaves, scales of another size, a matrix that cannot be symmetric and other factors are errors of numpy's."""
    matrix, right = np.ones((3, 2)), (np.ones(3), np.ones(2))
    limbs = np.zeros((2, 6), dtype=np.int64)
    assert split(matrix, False, right, 60, limbs) == 1.0
    for scales, short in ((right, limbs[:, :5]), ((np.ones(3), np.ones(1)), limbs), ((np.ones(2), np.ones(2)), limbs)):
        with pytest.raises((ValueError, IndexError)):
            split(matrix, False, scales, 60, short)
    with pytest.raises((ValueError, IndexError)):
        split(matrix, True, right, 60, limbs)
    with pytest.raises(ValueError, match="mismatch"):
        residues(np.ones((2, 3), dtype=np.int64), np.ones(2, dtype=np.int64))
