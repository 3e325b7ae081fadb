"""Does the compiled pooling give its Python twin's blocks?"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securemllib.algorithms.kernels import pooling

WEIGHTS = st.sampled_from([0.1, 0.5, 1.0, 3.0])
VALUES = st.sampled_from([-1.0, 0.1, 0.3, 0.7]) | st.floats(-1e6, 1e6)


@settings(max_examples=200, deadline=None)
@given(points=st.lists(st.tuples(WEIGHTS, VALUES), max_size=60))
def test_blocks_equal_the_twins(points):
    """Starts, weights and sums are the twin's to the last bit, ties of rounded sums included."""
    weights = np.array([weight for weight, _ in points], dtype=np.float64)
    moments = weights * np.array([value for _, value in points], dtype=np.float64)
    for found, twin in zip(pooling.pooled(weights, moments), pooling.pooled_twin(weights, moments), strict=True):
        assert found.tobytes() == twin.astype(found.dtype).tobytes()


@settings(max_examples=60, deadline=None)
@given(points=st.lists(st.tuples(WEIGHTS, VALUES), min_size=1, max_size=60))
def test_means_of_blocks_ascend(points):
    """Blocks follow one another with ascending means, and hold the weight of all points."""
    weights = np.array([weight for weight, _ in points])
    starts, masses, sums = pooling.pooled(weights, weights * np.array([value for _, value in points]))
    assert starts[0] == 0
    assert (np.diff(starts) > 0).all()
    assert (np.diff(sums / masses) > 0).all()
    assert masses.sum() == pytest.approx(weights.sum())


def test_columns_of_different_lengths_do_not_reach_the_compiled_loop():
    """More weights than moments are refused, and as many are pooled."""
    assert pooling.pooled(np.ones(3), np.array([1.0, 3.0, 2.0]))[0].tolist() == [0, 1]
    with pytest.raises(ValueError, match="zip"):
        pooling.pooled(np.ones(3), np.ones(2))
