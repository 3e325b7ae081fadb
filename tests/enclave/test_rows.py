"""Do the rows of a part stay whole when steps drop some or all of them?"""

import numpy as np
import pyarrow as pa
import pytest
from scipy import sparse

from securemllib.algorithms.transformer import Column
from securemllib.algorithms.vectors import SparseVector, to_stored
from securemllib.enclave.rows import Rows


def part(**columns):
    """Return a part as it was stored."""
    count = len(next(iter(columns.values())))
    return Rows(count=count, columns={name: Column(values) for name, values in columns.items()}, positions=np.arange(count))


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_stored_vectors_keep_their_width(kept):
    """A filter leaves vectors their width, lists of texts and numbers their type, however few rows it keeps."""
    rows = part(
        lists=pa.array([None, [1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]) if kept < 2 else pa.array([[1.0, 2.0, 3.0]] * 3),
        sparse=to_stored(SparseVector(sparse.csr_array(np.eye(3)))),
        words=pa.array([["a"], [], ["b", "c"]]),
        number=pa.array([1, 2, 3]),
    ).take(np.arange(3) > 2 - kept)
    assert rows.count == kept
    assert [rows.vector(name).width for name in ("lists", "sparse", "number")] == [3, 3, 1]
    assert rows.vector("lists").rows == kept
    assert rows.scalar("words").type == pa.list_(pa.string())


def test_empty_lists_are_dropped_as_others():
    """A part whose first list is empty loses all of its rows as one of other lists does, and is still a column of lists."""
    for lists in ([[], [1.0]], [[1.0], []]):
        dropped = part(lists=pa.array(lists)).take(np.zeros(2, dtype=bool))
        assert dropped.count == len(dropped.stored("lists")) == 0
