"""Do the compiled kernels of trees do to the bit what their twins do?"""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securemllib.algorithms.kernels import trees

WIDTHS = st.sampled_from([np.uint8, np.uint16])


def _tree(generator: np.random.Generator, columns: int, bins: int, inner: int) -> dict[str, Any]:
    """Return a random tree, some of whose splits are of categories."""
    left = np.full(2 * inner + 1, -1, dtype=np.int32)
    leaves = [0]
    for split in range(inner):
        node = leaves.pop(generator.integers(len(leaves)))
        left[node] = 2 * split + 1
        leaves += [2 * split + 1, 2 * split + 2]
    nodes = len(left)
    return {
        "left": left,
        "feature": generator.integers(0, columns, nodes).astype(np.int32),
        "bin": generator.integers(0, bins, nodes).astype(np.int32),
        "subset": generator.integers(-1, 2, nodes).astype(np.int32),
        "subsets": generator.integers(0, 3, (2, bins)).astype(np.uint8),
    }


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), rows=st.integers(0, 70), columns=st.integers(1, 9), dtype=WIDTHS, value=st.sampled_from(["f4", "f8"]))
def test_bins_are_the_twins(seed: int, rows: int, columns: int, dtype: Any, value: str) -> None:
    """Each value gets the number of thresholds below it, for no, few and many thresholds, where it equals one or is next to one."""
    generator = np.random.default_rng(seed)
    counts = generator.choice([0, 1, 2, 31, 48, 49, 200], columns)
    features = generator.integers(-50, 50, (rows, columns)).astype(value) / 4
    # No value of single precision lies between a quarter and what is a billionth beside it, or beyond 1e300.
    beside, far = [0.0, 0.0, 1e-9, -1e-9], [-1e300, 1e300]
    features[generator.random(features.shape) < 0.05] = generator.choice([-np.inf, np.inf, np.nan])
    drawn = [generator.integers(-60, 60, count) / 4.0 + generator.choice(beside, count) for count in counts]
    thresholds = np.concatenate([np.sort(np.where(generator.random(len(some)) < 0.02, generator.choice(far), some)) for some in drawn])
    starts = np.cumsum([0, *counts])
    ours, twins = (np.zeros((rows, columns), dtype=dtype) for _ in range(2))
    trees.bin_rows(features, thresholds, starts, ours)
    trees.bin_rows_twin(features, thresholds, starts, twins)
    known = ~np.isnan(features)
    assert (ours == twins)[known].all()
    assert (ours[~known] == 0).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), rows=st.integers(0, 70), columns=st.integers(1, 9), dtype=WIDTHS, inner=st.integers(0, 40))
def test_rows_by_leaf_are_the_twins(seed: int, rows: int, columns: int, dtype: Any, inner: int) -> None:
    """Rows are sorted by the leaves they reach, each where its splits lead and in their order, from the root or from any level."""
    generator = np.random.default_rng(seed)
    tree = _tree(generator, columns, 12, inner)
    bins = generator.integers(0, 12, (rows, columns)).astype(dtype)
    used = np.flatnonzero(generator.random(rows) < 0.8).astype(np.int32)
    ours = twins = root = used, np.zeros(1, dtype=np.int32), np.array([0, len(used)])
    while (tree["left"][twins[1]] >= 0).any():
        twins = trees.split_rows_twin(bins, rows=twins, **tree)
        ours = trees.split_rows(bins, rows=root, **tree)
        again = trees.split_rows(bins, rows=twins, **tree)
        for found, repeated in zip(ours, again, strict=True):
            assert found.dtype == repeated.dtype
            assert (found == repeated).all()
    for found, expected in zip(ours, twins, strict=True):
        assert found.dtype == expected.dtype
        assert (found == expected).all()
    for leaf, begin, end in zip(ours[1], ours[2][:-1], ours[2][1:], strict=True):
        mine = [row for row in used if _leaf_of(tree, bins[row]) == leaf]
        assert ours[0][begin:end].tolist() == mine


def _leaf_of(tree: dict[str, Any], row: Any) -> int:
    node = 0
    while tree["left"][node] >= 0:
        value, subset = row[tree["feature"][node]], tree["subset"][node]
        right = value > tree["bin"][node] if subset < 0 else tree["subsets"][subset, value] != 1
        node = tree["left"][node] + right
    return int(node)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31), rows=st.integers(0, 70), columns=st.integers(1, 9), inner=st.integers(0, 40),
    lie=st.sampled_from(["rows", "columns", "backwards"]),
)  # fmt: skip
def test_leaves_are_the_twins(seed: int, rows: int, columns: int, inner: int, lie: str) -> None:
    """Rows reach the same leaves of true features, NaN and infinity included, however their matrix lies in memory."""
    generator = np.random.default_rng(seed)
    tree = _tree(generator, columns, 12, inner)
    features = generator.choice([np.nan, np.inf, -np.inf, 0.0, 0.5, 1.0], (rows, columns))
    threshold = generator.choice([0.0, 0.5], len(tree["left"]))
    roots = generator.integers(0, len(tree["left"]), 3).astype(np.int32)
    features = {"rows": features, "columns": np.asfortranarray(features), "backwards": features[::-1]}[lie]
    found = trees.find_leaves(features, tree["left"], tree["feature"], threshold, roots)
    assert rows == 0 or found is not None
    for mine, root in zip(found if rows else [], roots, strict=rows > 0):
        for leaf, row in zip(mine, features, strict=True):
            node = root
            while tree["left"][node] >= 0:
                node = tree["left"][node] + (not row[tree["feature"][node]] <= threshold[node])
            assert leaf == node


@pytest.mark.parametrize("draws", [False, True])
@pytest.mark.parametrize(("values", "channels", "classes"), [(2, 2, 0), (3, 3, 0), (1, 2, 2), (1, 5, 5), (2, 4, 3)])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), rows=st.integers(0, 70), columns=st.sampled_from([1, 2, 9, 64, 70, 131]), dtype=WIDTHS)
def test_sums_are_the_twins(seed: int, rows: int, columns: int, dtype: Any, values: int, channels: int, classes: int, draws: bool) -> None:
    """Sums of some nodes are the twins', of targets and classes, with and without counted rows and drawn features, also wide."""
    generator = np.random.default_rng(seed)
    nodes, width = 3, int(generator.integers(1, columns + 1)) if draws else columns
    bins = generator.integers(0, 7, (rows, columns)).astype(dtype)
    order = generator.permutation(rows).astype(np.int32)
    bounds = np.sort(generator.integers(0, rows + 1, (nodes, 2)), axis=1)
    channel = generator.integers(0, classes, rows).astype(np.int32) if classes else None
    chosen = np.stack([generator.permutation(columns)[:width] for _ in range(nodes)]).astype(np.int32) if draws else None
    starts = np.arange(nodes * width, dtype=np.int64).reshape(nodes, width) * 7
    ours, twins = (np.zeros((nodes * width * 7, channels)) for _ in range(2))
    added = generator.standard_normal((rows, values))
    added[:, 0] = generator.integers(0, 3, rows)
    for sums, add in ((ours, trees.add_rows), (twins, trees.add_rows_twin)):
        add(bins, (order, bounds), channel, added, max(classes, 1), chosen, starts, sums)
    assert (ours == twins).all()
    used = np.concatenate([order[begin:end] for begin, end in bounds])
    np.testing.assert_allclose(ours.sum(), width * added[used].sum(), atol=1e-9)
