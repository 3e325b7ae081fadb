"""Do the compiled passes of a Gaussian mixture equal their numpy twins?"""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from securemllib.algorithms.kernels.mixture import products_by_share, products_by_share_twin, whitened_squares, whitened_squares_twin

_EPS = 2.0**-23
_SHAPES = {"seed": st.integers(0, 2**32 - 1), "rows": st.integers(0, 300), "columns": st.integers(1, 40) | st.just(127) | st.just(128)}


def _drawn(rng, rows, columns, count):
    features = (rng.standard_normal((rows, columns)) * 10.0 ** rng.integers(-2, 3, columns)).astype(np.float32)
    return features, rng.standard_normal((count, columns)).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 6), **_SHAPES)
def test_squares_equal_the_twins(seed, rows, columns, count):
    """Whitened squares differ from those in double precision by the rounding of their terms."""
    rng = np.random.default_rng(seed)
    features, means = _drawn(rng, rows, columns, count)
    roots = np.tril(rng.standard_normal((count, columns, columns))).astype(np.float32)
    found = whitened_squares(features, means, roots)
    expected = whitened_squares_twin(*(each.astype(np.float64) for each in (features, means, roots)))
    size = np.abs(features.astype(np.float64))[np.newaxis] + np.abs(means.astype(np.float64))[:, np.newaxis]
    bound = (((size @ np.abs(roots)) ** 2).sum(axis=2)) * 2 * (columns + 4) * _EPS
    assert found.shape == (count, rows)
    assert (np.abs(found - expected) <= bound).all()


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 6), zeros=st.booleans(), **_SHAPES)
def test_products_equal_the_twins(seed, rows, columns, count, zeros):
    """Sums and products differ from those in double precision by rounding, and rows without a share of a component count for nothing."""
    rng = np.random.default_rng(seed)
    features, means = _drawn(rng, rows, columns, count)
    shares = rng.random((count, rows)).astype(np.float32)
    if zeros:
        shares[rng.random(shares.shape) < 0.5] = 0.0
    found = products_by_share(features, shares, means)
    expected = products_by_share_twin(*(each.astype(np.float64) for each in (features, shares, means)))
    size = np.abs(features.astype(np.float64))[np.newaxis] + np.abs(means.astype(np.float64))[:, np.newaxis]
    bounds = (np.einsum("kn,knd->kd", shares, size), np.einsum("kn,knd,kne->kde", shares, size, size, optimize=True))
    np.testing.assert_array_equal(found[1], found[1].swapaxes(1, 2))
    for one, other, bound in zip(found, expected, bounds, strict=True):
        assert one.shape == other.shape
        assert (np.abs(one - other) <= (rows + 6) * _EPS * bound).all()


def test_no_row_beyond_the_last_is_read():
    """The last rows of an array are computed as though others followed: what lies behind it changes nothing."""
    rng = np.random.default_rng(7)
    features, means = _drawn(rng, 40, 5, 2)
    roots = np.tril(rng.standard_normal((2, 5, 5))).astype(np.float32)
    shares = rng.random((2, 37)).astype(np.float32)
    behind = features.copy()
    behind[37:] = np.nan
    for rows in (features, behind):
        np.testing.assert_array_equal(whitened_squares(rows[:37], means, roots), whitened_squares(features[:37].copy(), means, roots))
        for one, other in zip(
            products_by_share(rows[:37], shares, means), products_by_share(features[:37].copy(), shares, means), strict=True
        ):
            np.testing.assert_array_equal(one, other)
