"""Do the compiled centring and moments equal those of their numpy twins?"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securemllib.algorithms.kernels import matrix

EPSILON = 2.0**-53

ODD = [np.nan, np.inf, -np.inf, 1e300, -1e300, 1e-310, 0.0]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(0, 40) | st.integers(250, 270),
    columns=st.integers(1, 30),
    odd=st.sampled_from([0.0, 0.05]),
    strided=st.booleans(),
)
def test_centred_rows_are_the_twins_in_every_bit(seed, rows, columns, odd, strided):
    """A difference is taken in double precision and rounded once, as numpy does, whatever the columns' shape, stride or values."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((rows, columns)) * 10.0 ** rng.integers(-6, 6, columns)
    values[rng.random(values.shape) < odd] = rng.choice(ODD)
    parts = [values[:, j] if strided else values[:, j].copy() for j in range(columns)]
    offsets = rng.standard_normal(columns)
    found = matrix.centred_rows(parts, offsets, "float32")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, matrix.centred_rows_twin(parts, offsets, "float32"))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(0, 70), columns=st.integers(1, 9), odd=st.sampled_from([0.0, 0.05]))
def test_column_sums_equal_the_twins(seed, rows, columns, odd):
    """Sums differ by the rounding of another order, and are NaN or infinite where the twin's are."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((rows, columns))
    values[rng.random(values.shape) < odd] = rng.choice(ODD[:3])
    parts = [values[:, j].copy() for j in range(columns)]
    with np.errstate(invalid="ignore"):
        found, expected = matrix.column_sums(parts), matrix.column_sums_twin(parts)
    size = np.abs(np.where(np.isfinite(values), values, 0.0)).sum(axis=0)
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
    finite = np.isfinite(found)
    assert (np.abs(found[finite] - expected[finite]) <= rows * EPSILON * size[finite]).all()
    np.testing.assert_array_equal(found[~finite], expected[~finite])


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(0, 70),
    columns=st.integers(1, 19),
    weighted=st.booleans(),
    far=st.sampled_from([0.0, 1e4]),
)
def test_moments_equal_the_twins(seed, rows, columns, weighted, far):
    """Means and squares are the twin's up to double-precision rounding, also far from 0; edges are equal and pass over weight 0."""
    rng = np.random.default_rng(seed)
    features = (rng.standard_normal((rows, columns)) + far).astype(np.float32)
    weight = rng.integers(0, 3, rows) * 0.5 if weighted else None
    total = rows if weight is None else weight.sum()
    scale = 1.0 / total if total else 0.0
    found, expected = (each(features, weight, scale) for each in (matrix.moments, matrix.moments_twin))
    size = 1.0 + np.abs(features).max(initial=0)
    np.testing.assert_allclose(found[0], expected[0], rtol=0, atol=(rows + 4) * EPSILON * size)
    # A mean that is off by e moves the sum of squares by 2 e times a sum of differences, which is nearly 0, and by e**2 a row.
    np.testing.assert_allclose(found[1], expected[1], rtol=(rows + 8) * 4 * EPSILON, atol=rows * ((rows + 4) * EPSILON * size) * 8)
    np.testing.assert_array_equal(found[2], expected[2])
    np.testing.assert_array_equal(found[3], expected[3])


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_shows_as_in_numpy(odd):
    """With a NaN or an infinity all moments are numpy's; without it the column has finite ones."""
    features = np.random.default_rng(1).standard_normal((20, 9)).astype(np.float32)
    assert np.isfinite(matrix.moments(features, None, 1 / 20)[1]).all()
    features[7, 3] = odd
    with np.errstate(invalid="ignore"):
        found, expected = matrix.moments(features, None, 1 / 20), matrix.moments_twin(features, None, 1 / 20)
    assert not np.isfinite(found[1][3])
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_columns_of_different_lengths_are_refused():
    """Columns that C would read beyond their end never reach it; equal ones pass."""
    assert matrix.column_sums([np.ones(9), np.ones(9)]).tolist() == [9, 9]
    with pytest.raises(ValueError, match=r"inhomogeneous|shape|broadcast"):
        matrix.centred_rows([np.ones(9), np.ones(8)], np.zeros(2), "float32")
