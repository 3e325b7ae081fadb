"""Is memory for rows that stay an array like others, and given back?"""

import mmap

import numpy as np
import pytest

from securemllib.enclave.cache import failed_allocation
from securemllib.enclave.pages import own_pages


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (10, 3), (700_000, 1), (2**19, 2), (123_457, 7)])
def test_an_array_of_any_size_holds_what_is_written(shape, dtype):
    """Shapes from nothing to several large pages, whole ones among them, give a writeable array of that shape and dtype."""
    rows = own_pages(shape, dtype)
    assert rows.shape == shape
    assert rows.dtype == dtype
    assert rows.flags.c_contiguous
    rows[:] = np.arange(rows.size, dtype=dtype).reshape(shape)
    np.testing.assert_array_equal(rows.ravel(), np.arange(rows.size, dtype=dtype))


def test_large_arrays_have_pages_of_their_own_and_small_ones_do_not():
    """An array of a large page or more lies in a mapping of its own, which goes with the array; a small one in numpy's memory."""

    def mappings():
        with open("/proc/self/maps") as file:  # noqa: PTH123 - a file of the kernel
            return sum(int(end, 16) - int(start, 16) for start, _, end in (line.split()[0].partition("-") for line in file))

    assert own_pages((100, 100), "float32").base is None
    before = mappings()
    rows = own_pages((2**20, 64), "float32")
    assert isinstance(rows.base.base if isinstance(rows.base, np.ndarray) else rows.base, (mmap.mmap, memoryview))
    assert mappings() - before >= rows.nbytes
    size = rows.nbytes
    del rows
    assert mappings() - before < size


def test_what_there_is_no_memory_for_is_named():
    """A failed allocation is numpy's error, which says how many bytes were asked for."""
    with pytest.raises(MemoryError) as caught:
        own_pages((2**40, 2**12), "float32")
    assert failed_allocation(caught.value) == 2**54
