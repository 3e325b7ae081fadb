"""Decrypted blocks within a memory bound, so that rounds and jobs do not decrypt again."""

from collections import OrderedDict
from math import prod
from threading import Lock
from typing import Any

import numpy as np

from securemllib.algorithms.base import Scratch
from securemllib.algorithms.summary import Summary
from securemllib.errors import CapacityError

__all__ = ["BlockCache", "CachedBlock", "failed_allocation"]


def failed_allocation(error: MemoryError) -> int:
    """Return the bytes of the array that there was no memory for, as numpy's own error says; 0 where it does not."""
    shape, dtype = getattr(error, "shape", ()), getattr(error, "dtype", None)
    return prod(shape) * dtype.itemsize if isinstance(dtype, np.dtype) else 0


class CachedBlock:
    """A `Block` and its summary, computed once; or `Rows` that are ready for a model."""

    __slots__ = ("_lock", "_summary", "block", "size")

    def __init__(self, block: Any) -> None:
        self.block = block
        self.size = block.nbytes
        self._summary: Summary | None = None
        self._lock = Lock()

    @property
    def summary(self) -> Summary:
        """The block's summary statistics."""
        with self._lock:
            if self._summary is None:
                self._summary = Summary.of(self.block)
            return self._summary


class BlockCache:
    """Blocks by what they were made of, least recently used first.

    The origin of a block is a value that only a holder of the dataset secret can compute,
    so a job without it cannot find another job's rows.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._blocks: OrderedDict[tuple[bytes, int], CachedBlock] = OrderedDict()
        self._scratches: dict[tuple[str, int], Scratch] = {}
        self._lock = Lock()

    def get(self, origin: bytes, ordinal: int) -> CachedBlock | None:
        """Return a block, or None when it is not held."""
        with self._lock:
            found = self._blocks.get((origin, ordinal))
            if found is not None:
                self._blocks.move_to_end((origin, ordinal))
            return found

    def put(self, origin: bytes, ordinal: int, block: Any) -> CachedBlock:
        """Hold a block, and drop others of another origin until it fits.

        Blocks of one origin are never dropped for each other: a round that scans more than fits keeps the first blocks and
        passes the others through, instead of evicting each block just before its next use.

        Raises:
            CapacityError: The block alone is larger than the bound.
        """
        cached = CachedBlock(block)
        self.require(cached.size)
        with self._lock:
            if (origin, ordinal) in self._blocks:
                return self._blocks[origin, ordinal]
            if self._make_room(cached.size, origin):
                self._blocks[origin, ordinal] = cached
                self._size += cached.size
        return cached

    def require(self, size: int) -> None:
        """Raise CapacityError where a block of so many bytes is larger than the bound: before it is made, not once memory is gone."""
        if size > self._limit:
            error = CapacityError(
                f"A block of {size} bytes is larger than the enclave's memory bound of {self._limit}.", code="unavailable.capacity.block"
            )
            error.needed = size
            raise error

    def _make_room(self, size: int, origin: bytes) -> bool:
        for old in [old for old in self._blocks if old[0] != origin]:
            if self._size + size <= self._limit:
                break
            self._size -= self._blocks.pop(old).size
        return self._size + size <= self._limit

    def scratch(self, job_id: str, origin: bytes, ordinal: int) -> Scratch:
        """Return what one job derived from one block; its bytes count within the bound."""

        def reserve(change: int) -> bool:
            with self._lock:
                if change > 0 and not self._make_room(change, origin):
                    return False
                self._size += change
                return True

        with self._lock:
            return self._scratches.setdefault((job_id, ordinal), Scratch(reserve))

    def forget(self, job_id: str) -> None:
        """Drop what a job derived from its blocks."""
        with self._lock:
            found = [self._scratches.pop(key) for key in [key for key in self._scratches if key[0] == job_id]]
        for scratch in found:
            scratch.clear()

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._blocks.clear()
            self._scratches.clear()
            self._size = 0
