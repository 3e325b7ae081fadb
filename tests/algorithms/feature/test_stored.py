"""Do vectors come back from the Arrow array that raw roles and released rows carry them in?"""

import numpy as np
import pytest
from scipy import sparse

from securemllib.algorithms.vectors import SparseVector, Vector, stored_vector, to_stored

MATRIX = np.array([[0.1, 0.0, -2.0], [0.0, 0.0, 0.0], [1e300, 3.0, 0.0]])


@pytest.mark.parametrize("rows", [3, 0])
def test_stored_vectors_come_back(rows):
    """Dense and sparse vectors come back bit by bit and in their kind; without rows, sparse ones as none."""
    dense = stored_vector(to_stored(Vector.of(MATRIX[:rows])), "x")
    assert (dense.rows, dense.matrix().tolist() if rows else []) == (rows, MATRIX[:rows].tolist())
    stored = to_stored(SparseVector(sparse.csr_array(MATRIX[:rows])))
    assert len(stored) == rows
    if rows:
        back = stored_vector(stored, "x")
        assert isinstance(back, SparseVector)
        assert back.matrix().tolist() == MATRIX.tolist()
        assert back.values.nnz == np.count_nonzero(MATRIX)
