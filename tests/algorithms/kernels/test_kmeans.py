"""Do the compiled assignment and distances equal those of their numpy twins?"""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from securemllib.algorithms.kernels import kmeans
from securemllib.algorithms.kernels.library import LANES

EPSILON = 2.0**-24

shapes = {
    "seed": st.integers(0, 2**32 - 1),
    "rows": st.integers(0, 40) | st.integers(505, 530),
    "columns": st.integers(1, 30),
    "count": st.integers(1, 13),
}


def made(seed: int, rows: int, columns: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows around centres, and the centres, of which the last equals the first."""
    rng = np.random.default_rng(seed)
    centers = (rng.standard_normal((count, columns)) * 3).astype(np.float32)
    centers[-1] = centers[0]
    return (centers[rng.integers(0, count, rows)] + rng.standard_normal((rows, columns))).astype(np.float32), centers


def merged(sums: np.ndarray) -> np.ndarray:
    """Return sums by distinct centre: a matrix product may round the two equal ones apart, so that its rows go to either."""
    return np.concatenate([sums[:1] + sums[-1:], sums[1:-1]]) if len(sums) > 1 else sums


def exact(rows: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Return all squared distances ``(n, m)`` in double precision."""
    return ((rows.astype(np.float64)[:, None] - centers.astype(np.float64)) ** 2).sum(axis=2)


@settings(max_examples=60, deadline=None)
@given(weighted=st.booleans(), **shapes)
def test_assignment_equals_the_twins(seed, rows, columns, count, weighted):
    """Rows, weights, sums and cost by nearest centre are the twin's, wherever a row is not halfway between two centres."""
    points, centers = made(seed, rows, columns, count)
    squared = exact(points, centers)
    # Scores are off by d roundings of their terms' size: such a near tie may go either way.
    ordered = np.sort(exact(points, np.unique(centers, axis=0)), axis=1)
    slack = 8 * (columns + 2) * EPSILON * (np.abs(points).max(initial=0) + np.abs(centers).max()) ** 2 * columns
    clear = ordered[:, 1] - ordered[:, 0] > slack if ordered.shape[1] > 1 else np.ones(rows, dtype=bool)
    points, squared = np.ascontiguousarray(points[clear]), squared[clear]
    weights = np.random.default_rng(seed).integers(0, 3, len(points)) * 0.5 if weighted else None
    found, twin = (each(points, centers, weights) for each in (kmeans.assign, kmeans.assign_twin))
    np.testing.assert_array_equal(merged(found.rows), merged(twin.rows))
    np.testing.assert_array_equal(merged(found.weight), merged(twin.weight))
    # 512 rows are added in single precision.
    np.testing.assert_allclose(
        merged(found.sums), merged(twin.sums), rtol=0, atol=1e-12 + 512 * EPSILON * np.abs(points).sum(axis=0).max(initial=0)
    )
    cost = (squared.min(axis=1) * (1 if weights is None else weights)).sum()
    # With fewer columns than lanes the twin runs: it subtracts from the sum of squared norms, whose rounding stays.
    norms = float((points.astype(np.float64) ** 2).sum()) if columns < LANES else 0.0
    np.testing.assert_allclose(found.cost, cost, rtol=(columns + 4) * 2 * EPSILON, atol=1e-12 + (rows + columns) * EPSILON * norms)


@settings(max_examples=60, deadline=None)
@given(**shapes)
def test_distances_equal_the_twins(seed, rows, columns, count):
    """Each row's squared distance is that to a nearest centre, as the twin's is."""
    points, centers = made(seed, rows, columns, count)
    found, twin = kmeans.squared_distances(points, centers), kmeans.squared_distances_twin(points, centers)
    slack = 8 * (columns + 2) * EPSILON * (np.abs(points).max(initial=0) + np.abs(centers).max()) ** 2 * columns
    expected = exact(points, centers).min(axis=1)
    assert found.shape == twin.shape == (rows,)
    np.testing.assert_allclose(found, expected, rtol=(columns + 4) * 2 * EPSILON, atol=slack)
    np.testing.assert_allclose(found, twin, rtol=(columns + 4) * 2 * EPSILON, atol=slack)


def test_a_row_that_is_a_centre_costs_nothing():
    """The cost of rows that are centres is exactly 0: it is computed from differences, where products would leave rounding."""
    centers = (np.random.default_rng(0).standard_normal((5, 19)) + 1e3).astype(np.float32)
    assert kmeans.assign(np.repeat(centers, 7, axis=0), centers, None).cost == 0.0
    assert not kmeans.squared_distances(np.repeat(centers, 7, axis=0), centers).any()


def test_equally_near_centres_give_the_row_to_the_first():
    """Of equal centres only the first gets rows, compiled and in numpy."""
    points, centers = made(4, 100, 9, 4)
    centers[:] = centers[0]
    assert kmeans.assign(points, centers, None).rows.tolist() == [100, 0, 0, 0]
    assert kmeans.nearest(points, centers).max() == 0


def test_a_rerun_gives_the_same_bytes():
    """The compiled sums of the same rows are equal in every bit."""
    points, centers = made(5, 1000, 21, 7)
    one, other = (kmeans.assign(points, centers, None) for _ in range(2))
    assert one.sums.tobytes() == other.sums.tobytes()
    assert one.cost == other.cost
