"""Memory for rows that stay: pages of their own, large ones where the kernel has them."""

import mmap
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["own_pages"]

_LARGE_PAGE = 2 << 20


def own_pages(shape: tuple[int, int], dtype: str) -> NDArray[Any]:
    """Return an array of undefined content outside the heap; small ones are `numpy.empty`'s.

    Between arrays that stay, a heap could not use again what rows were read through. And a pass over rows in small pages spends as much
    time on where they are as on what they hold.

    Raises:
        MemoryError: There is not so much memory.
    """
    size = prod(shape) * np.dtype(dtype).itemsize
    whole = size // _LARGE_PAGE * _LARGE_PAGE
    if not whole:
        return np.empty(shape, dtype)
    try:
        # The kernel lays a mapping of whole large pages at their border.
        pages = mmap.mmap(-1, whole + _LARGE_PAGE * (size > whole), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        # The last one would be filled beyond the rows.
        pages.madvise(mmap.MADV_HUGEPAGE, 0, whole)
    except OSError:
        # The kernel has no large pages, or not so many bytes: then numpy's error names them.
        return np.empty(shape, dtype)
    return np.frombuffer(pages, dtype, count=prod(shape)).reshape(shape)
