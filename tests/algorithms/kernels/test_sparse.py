"""Do the compiled sums of sparse rows compute what scipy computes?"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array, random_array

from securemllib.algorithms.kernels import sparse


def _problem(seed, rows, columns, classes):
    rng = np.random.default_rng(seed)
    found = random_array((rows, columns), density=0.3, rng=rng, data_sampler=lambda size: rng.normal(size=size), format="csr")
    parts = found.data.astype(np.float32), found.indices.astype(np.int32), found.indptr.astype(np.int32)
    return csr_array(parts, shape=(rows, columns)), rng.integers(0, classes, rows), rng.uniform(0, 3, rows)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(1, 30), st.integers(1, 5))
def test_sums_of_classes_are_those_of_scipy(seed, rows, columns, classes):
    """Sums by class, of classes with and without rows, are scipy's, added to what was there."""
    matrix, index, weight = _problem(seed, rows, columns, classes)
    assert matrix.indices.dtype == np.int32
    found, expected = np.ones((classes, columns)), np.ones((classes, columns))
    sparse.add_class_sums(matrix, index, weight, found)
    sparse.add_class_sums_twin(matrix, index, weight, expected)
    # Both add a class's rows in their order; the compiled product and sum are rounded once.
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-13)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(1, 30), st.booleans())
def test_moments_of_columns_are_those_of_numpy(seed, rows, columns, weighted):
    """Moments, means and squares of stored values are the twin's, of rows without weight too, and of columns without values."""
    matrix, index, weight = _problem(seed, rows, columns, 3)
    weight = weight * (index > 0) if weighted else None
    found, expected = sparse.column_moments(matrix, weight), sparse.column_moments_twin(matrix, weight)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-13)
    np.testing.assert_array_equal(found[0][:, 2:], expected[0][:, 2:])


def test_a_nan_is_an_extreme():
    """A NaN is the least and the largest value of its column wherever it stands, as it is to numpy."""
    for values in ([np.nan, 1.0, 2.0], [1.0, np.nan, 2.0], [2.0, 1.0, np.nan]):
        matrix = csr_array(np.array(values, dtype=np.float32)[:, None])
        parts = matrix.data, matrix.indices.astype(np.int32), matrix.indptr
        for moments in (sparse.column_moments, sparse.column_moments_twin):
            with np.errstate(invalid="ignore"):
                assert np.isnan(moments(csr_array(parts, shape=(3, 1)), None)[0][0, 3:]).all()


@pytest.mark.parametrize("broken", ["column", "negative", "weights", "starts"])
def test_moments_of_what_does_not_fit_are_refused(broken):
    """Columns, weights and starts that do not fit are refused before anything is read or written there."""
    matrix, _, weight = _problem(5, 8, 6, 3)
    if broken == "column":
        matrix.indices[0] = 6
    elif broken == "negative":
        matrix.indices[-1] = -1
    elif broken == "starts":
        matrix.indptr[-1] += 1
    else:
        weight = weight[:-1]
    with pytest.raises(ValueError, match=r"below|fit"):
        sparse.column_moments(matrix, weight)


@pytest.mark.parametrize("broken", ["class", "column", "negative", "weights", "width"])
def test_what_does_not_fit_is_refused(broken):
    """What is out of range or does not fit is refused and written nowhere beside the sums; rows in range are added."""
    matrix, index, weight = _problem(5, 8, 6, 3)
    room = np.zeros((5, 6))
    sums = room[1:4]
    sparse.add_class_sums(matrix, index, weight, sums)
    if broken == "class":
        index[2] = 3
    elif broken == "column":
        matrix.indices[0] = 6
    elif broken == "negative":
        matrix.indices[-1] = -1
    elif broken == "weights":
        weight = weight[:-1]
    with pytest.raises(ValueError, match=r"below|fit"):
        sparse.add_class_sums(matrix, index, weight, np.zeros((3, 5)) if broken == "width" else sums)
    assert not room[[0, 4]].any()
