"""Rows in slices that stay in a core's second-level cache between the two products that read them."""

from collections.abc import Iterator

from securemllib.algorithms.base import Block

__all__ = ["row_slices"]

# 4096 rows of 50 float32 features; second-level caches of servers hold 1 to 2 MB.
_SLICE_BYTES = 800 << 10
_FEWEST_ROWS, _MOST_ROWS = 64, 8192


def row_slices(block: Block) -> Iterator[slice]:
    """Yield slices that cover the block's rows in order."""
    row_bytes = max(block.columns * block.features.dtype.itemsize, 1)
    size = min(max(_SLICE_BYTES // row_bytes, _FEWEST_ROWS), _MOST_ROWS)
    for start in range(0, block.rows, size):
        yield slice(start, min(start + size, block.rows))
