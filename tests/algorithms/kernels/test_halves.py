"""Do the compiled sides and sums of halves equal those of their numpy twins?"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securemllib.algorithms.kernels import halves

shapes = {
    "seed": st.integers(0, 2**32 - 1),
    "rows": st.integers(0, 40),
    "columns": st.integers(1, 30),
    "count": st.integers(1, 13),
}


def made(seed: int, rows: int, columns: int, count: int) -> tuple[np.random.Generator, np.ndarray, np.ndarray]:
    """Return a generator, rows, and the place of each."""
    rng = np.random.default_rng(seed)
    return rng, rng.standard_normal((rows, columns)).astype(np.float32), rng.integers(0, count, rows)


@settings(max_examples=60, deadline=None)
@given(**shapes)
def test_sides_equal_the_twins(seed, rows, columns, count):
    """Each row is on the side that the twin says, wherever it is not on the border up to rounding; alone halves take all rows."""
    rng, points, pair = made(seed, rows, columns, count)
    direction, threshold = rng.standard_normal((count, columns)), rng.standard_normal(count)
    direction[0], threshold[0] = 0.0, rng.choice([np.inf, -np.inf])
    distance = np.einsum("nd,nd->n", points.astype(np.float64), direction[pair]) - threshold[pair]
    clear = np.abs(distance) > 1e-12 * columns
    found, twin = (each(points, pair, direction, threshold) for each in (halves.sides, halves.sides_twin))
    np.testing.assert_array_equal(found[clear], twin[clear])
    np.testing.assert_array_equal(found[clear], distance[clear] > 0)


@settings(max_examples=60, deadline=None)
@given(**shapes)
def test_sums_equal_the_twins(seed, rows, columns, count):
    """Rows, weights, squares and sums of each group are the twin's, up to the order in which they are added in double precision."""
    rng, points, group = made(seed, rows, columns, count)
    weight = rng.integers(0, 3, rows) * 0.5
    (found, sums), (twin, theirs) = (each(points, group, weight, count) for each in (halves.group_sums, halves.group_sums_twin))
    np.testing.assert_array_equal(found[:, :2], twin[:, :2])
    np.testing.assert_allclose(found[:, 2], twin[:, 2], rtol=1e-13)
    np.testing.assert_allclose(sums, theirs, rtol=0, atol=1e-13 * max(rows, 1))


def test_a_row_on_the_border_is_on_the_left():
    """Of equally near centres the left one wins, compiled and in numpy."""
    points, none = np.ones((9, 10), dtype=np.float32), np.zeros(9, dtype=np.int64)
    for sides in (halves.sides, halves.sides_twin):
        assert not sides(points, none, np.ones((1, 10)), np.array([10.0])).any()
        assert sides(points, none, np.ones((1, 10)), np.array([9.5])).all()


@pytest.mark.parametrize("wrong", [2, -1])
def test_places_that_lead_elsewhere_are_refused(wrong):
    """A group beyond the last, or before the first, is refused before C is called."""
    points = np.ones((3, 4), dtype=np.float32)
    assert halves.group_sums(points, np.array([0, 1, 1]), np.ones(3), 2)[0][:, 0].tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match=r"index|negative"):
        halves.group_sums(points, np.array([0, wrong, 1]), np.ones(3), 2)
