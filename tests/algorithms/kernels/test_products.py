"""Do the compiled products of rows equal those of their numpy twin?"""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from securemllib.algorithms.kernels.products import products, products_twin


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(0, 300),
    columns=st.integers(1, 40) | st.just(126) | st.just(127),
    weighted=st.booleans(),
)
def test_products_equal_the_twins(seed, rows, columns, weighted):
    """Sums of products differ from the twin's by the rounding of another order, and rows of weight 0 count for nothing."""
    rng = np.random.default_rng(seed)
    features = (rng.standard_normal((rows, columns)) * 10.0 ** rng.integers(-3, 3, columns)).astype(np.float32)
    target = rng.standard_normal(rows)
    weight = rng.integers(0, 4, rows).astype(np.float64) if weighted else None
    found, expected = products(features, weight, target), products_twin(features, weight, target)
    size = np.sqrt(np.ones(rows) if weight is None else weight)[:, np.newaxis] * np.abs(
        np.column_stack((features.astype(np.float64), target, np.ones(rows)))
    )
    bound = (rows + 3) * 2.0**-23 * (size.T @ size)
    np.testing.assert_array_equal(found[0], found[0].T)
    for one, other, allowed in zip(found, expected, (bound[:columns, :columns], *bound[columns:, :columns]), strict=True):
        assert one.shape == other.shape
        assert (np.abs(one - other) <= allowed).all()
