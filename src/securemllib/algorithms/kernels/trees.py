"""Trees: values to bins, rows to leaves, and sums by (node, feature, bin).

Bins are ``uint8`` or ``uint16``. The functions here are what algorithms call; the twins do the same in numpy, bit for bit, because each
sum adds the rows in their order.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.kernels.library import INTEGER, LANES, REAL, array_of, function

__all__ = [
    "add_rows", "add_rows_twin", "bin_rows", "bin_rows_twin", "find_leaves", "scan_targets", "split_rows", "split_rows_twin",
]  # fmt: skip

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Places = NDArray[np.int64]
Bins = NDArray[np.unsignedinteger[Any]]
# Rows, leaves, and where the rows of each begin.
ByLeaf = tuple[Ints, Ints, Places]
# Rows, and where those of each node begin and end.
Ranges = tuple[Ints, Places]

_BINS: dict[int, Any] = {1: np.uint8, 2: np.uint16}
_VALUES: dict[int, Any] = {4: np.float32, 8: np.float64}
_READ_32, _READ_64, _READ_REAL = array_of(np.int32), array_of(np.int64), array_of(np.float64)
_WRITTEN_32, _WRITTEN_64, _WRITTEN_REAL = (array_of(kind, written=True) for kind in (np.int32, np.int64, np.float64))
_OPTIONAL_32 = array_of(np.int32, optional=True)

_BIN_ROWS = {
    (value, size): function(
        "trees", f"bin_rows_{value}_{size}",
        array_of(_VALUES[value]), INTEGER, INTEGER, array_of(_VALUES[value]), _READ_64, array_of(_BINS[size], written=True),
    )
    for value in _VALUES for size in _BINS
}  # fmt: skip
_FIND_LEAVES = function(
    "trees", "find_leaves", _READ_REAL, *[INTEGER] * 3, _READ_32, _READ_32, _READ_REAL, _READ_32, INTEGER, _WRITTEN_32,
)  # fmt: skip
_SPLIT_ROWS = {
    size: function(
        "trees", f"split_rows_{size}",
        array_of(_BINS[size]), INTEGER, *[_READ_32] * 4, array_of(np.uint8), INTEGER, _READ_32, _READ_32, _READ_64, INTEGER,
        *[_WRITTEN_32] * 3, _WRITTEN_64,
    )
    for size in _BINS
}  # fmt: skip
_ADD_ROWS = {
    size: function(
        "trees", f"add_rows_{size}",
        array_of(_BINS[size]), INTEGER, _READ_32, _READ_64, INTEGER, _OPTIONAL_32, _READ_REAL, INTEGER, INTEGER, _OPTIONAL_32, _READ_64,
        INTEGER, INTEGER, _WRITTEN_REAL,
    )
    for size in _BINS
}  # fmt: skip
_SCAN_TARGETS = function(
    "trees", "scan_targets",
    _READ_REAL, INTEGER, INTEGER, _READ_64, _READ_64, *[REAL] * 4, INTEGER, _WRITTEN_REAL, _WRITTEN_REAL, _WRITTEN_64, _WRITTEN_REAL,
    _WRITTEN_REAL,
)  # fmt: skip


def bin_rows(features: NDArray[np.floating[Any]], thresholds: Floats, starts: Places, bins: Bins) -> None:
    """Write into ``bins`` how many of its column's thresholds are below each value.

    Args:
        features: ``(n, d)``.
        thresholds: Ascending thresholds of each column, one column after another.
        starts: ``(d + 1,)`` where each column's thresholds begin.
        bins: ``(n, d)``.
    """
    if bins.shape != features.shape or len(starts) != features.shape[1] + 1 or starts[-1] != len(thresholds):
        raise ValueError(f"features {features.shape}, bins {bins.shape} and {len(thresholds)} thresholds do not fit")
    compiled = _BIN_ROWS[features.dtype.itemsize, bins.dtype.itemsize]
    if compiled is None:
        bin_rows_twin(features, thresholds, starts, bins)
        return
    # No value of the features' type lies between a threshold and the next one of that type at or below it.
    with np.errstate(over="ignore"):
        nearest = thresholds.astype(features.dtype)
    below = np.where(nearest > thresholds, np.nextafter(nearest, -np.inf, dtype=features.dtype), nearest)
    # Each column's in whole lanes: nothing is above infinity.
    sizes = np.diff(starts)
    begins = np.concatenate([[0], np.cumsum(-(-sizes // LANES) * LANES)])
    filled = np.full(begins[-1], np.inf, dtype=features.dtype)
    filled[np.arange(len(below)) + np.repeat(begins[:-1] - starts[:-1], sizes)] = below
    compiled(features, *features.shape, filled, begins, bins)


def bin_rows_twin(features: NDArray[np.floating[Any]], thresholds: Floats, starts: Places, bins: Bins) -> None:
    """`bin_rows` in numpy."""
    for column in range(features.shape[1]):
        bins[:, column] = np.searchsorted(thresholds[starts[column] : starts[column + 1]], features[:, column])


def find_leaves(features: Floats, left: Ints, feature: Ints, threshold: Floats, roots: Ints) -> Ints | None:
    """Return the leaves, ``(t, n)``, that rows ``(n, d)`` reach in the trees of some roots, which split only continuous features.

    It is None where nothing was compiled, or there are no features: `Forest` is the twin.
    """
    if _FIND_LEAVES is None or not features.size:
        return None
    nodes = np.empty((len(roots), len(features)), dtype=np.int32)
    # Column by column or row by row, as they lie: a transposed copy would take as long as the trees.
    rows = features if features.flags.forc else np.ascontiguousarray(features)
    steps = (step // rows.itemsize for step in rows.strides)
    _FIND_LEAVES(rows.ravel(order="K"), len(rows), *steps, left, feature, threshold, roots, len(roots), nodes)
    return nodes


def split_rows(bins: Bins, left: Ints, feature: Ints, bin: Ints, subset: Ints, subsets: NDArray[np.uint8], rows: ByLeaf) -> ByLeaf:
    """Return the rows of a tree by the leaves that they reach, from left to right, and in their order within one.

    Args:
        bins: ``(n, d)``.
        left: ``(m,)`` the left child of each node, before the right one; -1 for a leaf.
        feature: ``(m,)`` the feature that a node splits.
        bin: ``(m,)`` the largest bin that goes left.
        subset: ``(m,)`` the row of `subsets` where the feature is nominal, else -1.
        subsets: ``(q, a)`` 1 for bins that go left.
        rows: ``(r,)`` rows by what were the leaves, ``(g,)`` those, and ``(g + 1,)`` where the rows of each begin.
    """
    compiled = _SPLIT_ROWS[bins.dtype.itemsize]
    while (splits := np.count_nonzero(left[rows[1]] >= 0)) > 0:
        if compiled is None:
            rows = split_rows_twin(bins, left, feature, bin, subset, subsets, rows)
            continue
        count, groups = len(rows[0]), len(rows[1])
        # One more than there are rows: what goes to the other side is written, too.
        room, order = np.empty(count + 1, dtype=np.int32), np.empty(count + 1, dtype=np.int32)
        found = np.empty(groups + splits, dtype=np.int32), np.empty(groups + splits + 1, dtype=np.int64)
        compiled(bins, bins.shape[1], left, feature, bin, subset, subsets, subsets.shape[1], *rows, groups, room, order, *found)
        rows = order[:count], *found
    return rows


def split_rows_twin(bins: Bins, left: Ints, feature: Ints, bin: Ints, subset: Ints, subsets: NDArray[np.uint8], rows: ByLeaf) -> ByLeaf:
    """`split_rows` in numpy, of one level."""
    parts: list[Ints] = []
    leaves: list[int] = []
    for node, begin, end in zip(rows[1], rows[2][:-1], rows[2][1:], strict=True):
        mine = rows[0][begin:end]
        if left[node] < 0:
            parts, leaves = [*parts, mine], [*leaves, node]
            continue
        value = bins[mine, feature[node]]
        right = value > bin[node] if subset[node] < 0 else subsets[subset[node], value] != 1
        parts, leaves = [*parts, mine[~right], mine[right]], [*leaves, left[node], left[node] + 1]
    return np.concatenate(parts), np.array(leaves, dtype=np.int32), np.cumsum([0, *map(len, parts)])


def add_rows(
    bins: Bins, rows: Ranges, channel: Ints | None, added: Floats, rest: int, chosen: Ints | None, starts: Places, sums: Floats
) -> None:
    """Add rows to the cells of their node and bins.

    Args:
        bins: ``(n, d)``.
        rows: Rows, and ``(s, 2)`` where those of each node begin and end.
        channel: ``(n,)`` the channel of each row's first value; None where that is the first one.
        added: ``(n, v)`` values.
        rest: The channel of the second value, behind which the others' are.
        chosen: ``(s, m)`` the features of each node; None where these are all, in order.
        starts: ``(s, m)`` the first cell of each node and feature.
        sums: ``(cells, channels)``, changed in place.
    """
    compiled = _ADD_ROWS[bins.dtype.itemsize]
    if compiled is None:
        add_rows_twin(bins, rows, channel, added, rest, chosen, starts, sums)
        return
    nodes, features = starts.shape
    compiled(bins, bins.shape[1], *rows, nodes, channel, added, added.shape[1], rest, chosen, starts, features, sums.shape[1], sums)


def add_rows_twin(
    bins: Bins, rows: Ranges, channel: Ints | None, added: Floats, rest: int, chosen: Ints | None, starts: Places, sums: Floats
) -> None:
    """`add_rows` in numpy."""
    order, bounds = np.concatenate([rows[0][begin:end] for begin, end in rows[1]]), rows[1]
    mine, flat = np.repeat(np.arange(len(starts)), bounds[:, 1] - bounds[:, 0]), sums.reshape(-1)
    first = np.zeros(len(order), dtype=np.int64) if channel is None else channel[order].astype(np.int64)
    for k in range(starts.shape[1]):
        column: Any = k if chosen is None else chosen[mine, k]
        cell = (starts[mine, k] + bins[order, column]) * sums.shape[1]
        for value in range(added.shape[1]):
            np.add.at(flat, cell + (rest + value - 1 if value else first), added[order, value])


def scan_targets(
    sums: Floats, starts: Places, sizes: Places, *, min_rows: float, min_weight: float, min_gain: float, tie: float
) -> tuple[Floats, Places, Floats, Floats] | None:
    """Return the best split of each histogram of a continuous feature, or None where nothing was compiled: `SplitSearch` is the twin.

    Args:
        sums: ``(cells, 2 or 3)`` weight, weighted target, and rows where these are counted.
        starts: ``(h,)`` the first cell of each histogram.
        sizes: ``(h,)`` cells of each.
        min_rows: What a split must leave on each side.
        min_weight: The same in weight; above 0.
        min_gain: What it must gain.
        tie: Of gains that differ by less than this share, the first wins.

    Returns:
        Gains ``(h,)``, minus infinity where no split is valid; the last bin that goes left; sums of the left side, and of both.
    """
    if _SCAN_TARGETS is None:
        return None
    count, channels, widest = len(starts), sums.shape[1], int(sizes.max(initial=1))
    gains, places, room = np.empty(count), np.empty(count, dtype=np.int64), np.empty(4 * widest + 3)
    lefts, totals = np.empty((count, channels)), np.empty((count, channels))
    _SCAN_TARGETS(sums, count, channels, starts, sizes, min_rows, min_weight, min_gain, tie, widest, room, gains, places, lefts, totals)
    return gains, places, lefts, totals
