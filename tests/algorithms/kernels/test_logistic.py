"""Do the compiled logistic sums equal those of their numpy twins?"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securemllib.algorithms.base import Block
from securemllib.algorithms.kernels import logistic
from securemllib.algorithms.kernels.library import INTEGER, array_of, function

# Half a unit in the last place of float32.
EPSILON = 2.0**-24


def block(seed: int, rows: int, columns: int, *, scale: float, weighted: bool) -> Block:
    """Return rows of one scale, some weights of them 0."""
    rng = np.random.default_rng(seed)
    return Block(
        ordinal=0,
        features=(rng.standard_normal((rows, columns)) * scale).astype(np.float32),
        offset=np.zeros(columns),
        label=rng.integers(0, 2, rows).astype(np.float64),
        weight=rng.integers(0, 3, rows) * 0.5 if weighted else None,
    )


def in_double(of: Block) -> Block:
    """Return the same rows in float64."""
    return Block(ordinal=0, features=of.features.astype(np.float64), offset=of.offset, label=of.label, weight=of.weight)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(0, 40) | st.integers(505, 530),
    columns=st.integers(1, 40),
    scale=st.sampled_from([1e-3, 1.0, 50.0]),
    weighted=st.booleans(),
)
def test_binomial_sums_equal_the_twins(seed, rows, columns, scale, weighted):
    """Loss, residual and gradient are the numpy twin's in double precision up to the rounding of single-precision margins and sums."""
    of = block(seed, rows, columns, scale=scale, weighted=weighted)
    vector = np.random.default_rng(seed + 1).standard_normal(columns).astype(np.float32)
    loss, residual, gradient = logistic.binomial_sums(of, of.label, vector, 0.25)
    expected = logistic.binomial_twin(in_double(of), of.label, vector.astype(np.float64), 0.25)
    total = rows if of.weight is None else of.weight.sum()
    size = np.abs(of.features * vector).sum(axis=1).max(initial=0) + 0.25
    # A margin of d terms is off by d roundings of its terms' size; probabilities by four more; a stretch adds 512 rows in float32.
    margin = (columns + 4) * EPSILON * (size + 1)
    assert abs(loss - expected[0]) <= total * margin + 1e-12
    assert abs(residual - expected[1]) <= total * (margin + 4 * EPSILON) + 1e-12
    largest = np.abs(of.features).max(initial=0)
    assert np.abs(gradient - expected[2]).max() <= total * largest * (margin + 512 * EPSILON) + 1e-12


def test_a_rerun_gives_the_same_bytes():
    """The compiled sums of the same rows are equal in every bit."""
    of = block(3, 1000, 37, scale=1.0, weighted=True)
    vector = np.linspace(-1, 1, 37, dtype=np.float32)
    one, other = (logistic.binomial_sums(of, of.label, vector, 0.5) for _ in range(2))
    assert one[:2] == other[:2]
    assert one[2].tobytes() == other[2].tobytes()


def test_the_exponential_is_exact_to_two_units():
    """Over its whole range the exponential is within 2 units in the last place; 0 below the normal numbers; NaN stays."""
    exponentials = function("logistic", "exponentials", array_of(np.float32), INTEGER, array_of(np.float32, written=True))
    assert exponentials is not None
    values = np.concatenate([np.linspace(-87.3, 0, 2**18 - 16), np.full(8, -0.0), np.full(8, -1e-30)]).astype(np.float32)
    found = np.empty_like(values)
    exponentials(values, len(values), found)
    expected = np.exp(values.astype(np.float64))
    assert (np.abs(found - expected) <= 2 * np.spacing(expected.astype(np.float32))).all()
    edges = np.array([-88, -1e30, -np.inf, np.nan, -87.4, -200, -1e9, 0], dtype=np.float32)
    results = np.empty_like(edges)
    exponentials(edges, len(edges), results)
    np.testing.assert_array_equal(results, [0, 0, 0, np.nan, 0, 0, 0, 1])


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(0, 40),
    classes=st.integers(1, 12),
    scale=st.sampled_from([1e-3, 1.0, 100.0]),
    weighted=st.booleans(),
)
def test_softmax_residuals_equal_the_twins(seed, rows, classes, scale, weighted):
    """Residuals and their sums are the numpy twin's in double precision up to a few roundings in single precision."""
    rng = np.random.default_rng(seed)
    margins = (rng.standard_normal((classes, rows)) * scale).astype(np.float32)
    label = rng.integers(0, classes, rows).astype(np.float64)
    weight = rng.integers(0, 3, rows) * 0.5 if weighted else None
    single, double = margins.copy(), margins.astype(np.float64)
    if rows == 0:
        assert logistic.softmax_residuals(single, label, weight)[0] == 0.0
        return
    loss, sums = logistic.softmax_residuals(single, label, weight)
    expected_loss, expected = logistic.softmax_twin(double, label, weight)
    # The largest margin is subtracted exactly up to its last place, which is its size times EPSILON.
    rounding = (classes + 8) * EPSILON * (1 + 2 * np.abs(margins).max())
    np.testing.assert_allclose(single, double, rtol=0, atol=rounding)
    assert abs(loss - expected_loss) <= rows * rounding
    np.testing.assert_allclose(sums, expected, rtol=0, atol=rows * rounding)


@pytest.mark.parametrize("label", [-1.0, 3.0])
def test_a_label_that_is_no_class_never_reaches_the_compiled_loop(label):
    """A label out of range, which C would use as an address, goes to the twin; one below the number of classes is computed."""
    margins = np.zeros((3, 2), dtype=np.float32)
    assert logistic.softmax_residuals(margins.copy(), np.array([0.0, 2.0]), None)[0] == pytest.approx(2 * np.log(3))
    if label < 0:
        # numpy counts from the end.
        logistic.softmax_residuals(margins, np.array([0.0, label]), None)
    else:
        with pytest.raises(IndexError):
            logistic.softmax_residuals(margins, np.array([0.0, label]), None)
