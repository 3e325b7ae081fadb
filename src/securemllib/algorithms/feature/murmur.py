"""MurmurHash3 (x86, 32 bits) of texts, as Spark hashes terms to feature indices.

Source: Austin Appleby, MurmurHash3, in the public domain; Spark's seed is 42 and its index is the signed hash modulo the features.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = ["SEED", "indices_of", "murmur"]

SEED = 42

_C1, _C2 = np.uint32(0xCC9E2D51), np.uint32(0x1B873593)
_STEP, _M1, _M2 = np.uint32(0xE6546B64), np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)
_FIVE = np.uint32(5)

Words = NDArray[np.uint32]


def indices_of(texts: pa.Array, features: int) -> NDArray[np.int64]:
    """Return the feature index of each text, a null's as that of Spark: its seed's."""
    hashes = murmur(texts.fill_null("")).view(np.int32).astype(np.int64)
    if texts.null_count:
        hashes[np.asarray(texts.is_null())] = SEED
    return hashes % features


def murmur(texts: pa.Array) -> Words:
    """Return the hashes of texts without nulls: ``(n,)``. All texts take a step together, the longest ones last."""
    array = texts.cast(pa.large_string())
    ends = (
        np.frombuffer(array.buffers()[1], dtype="<i8")[array.offset : array.offset + len(array) + 1]
        if len(array)
        else np.zeros(1, np.int64)
    )
    data = array.buffers()[2]
    # Four bytes beyond the end, so that every text has whole words to read.
    text = np.concatenate([np.frombuffer(data, dtype=np.uint8) if data is not None else np.zeros(0, np.uint8), np.zeros(4, np.uint8)])
    lengths = np.diff(ends)
    order = np.argsort(-lengths, kind="stable")
    starts, sizes = ends[:-1][order], lengths[order]
    state = np.full(len(array), SEED, dtype=np.uint32)
    with np.errstate(over="ignore"):
        for word in range(int(sizes.max(initial=0)) // 4):
            active = int(np.searchsorted(-sizes, -4 * (word + 1), side="right"))
            mixed = _mixed(_words(text, starts[:active] + 4 * word, np.full(active, 4)))
            state[:active] = _rotated(state[:active] ^ mixed, 13) * _FIVE + _STEP
        state ^= _mixed(_words(text, starts + sizes // 4 * 4, sizes % 4))
        state ^= sizes.astype(np.uint32)
        state = (state ^ (state >> np.uint32(16))) * _M1
        state = (state ^ (state >> np.uint32(13))) * _M2
        state ^= state >> np.uint32(16)
    hashes = np.empty_like(state)
    hashes[order] = state
    return hashes


def _words(text: NDArray[np.uint8], starts: NDArray[np.int64], counts: NDArray[np.int64]) -> Words:
    """Return little-endian words of the first ``counts`` bytes (0 to 4) from each start."""
    total = np.zeros(len(starts), dtype=np.uint32)
    for byte in range(4):
        total |= np.where(byte < counts, text[np.minimum(starts + byte, len(text) - 1)], 0).astype(np.uint32) << np.uint32(8 * byte)
    return total


def _mixed(words: Words) -> Words:
    return _rotated(words * _C1, 15) * _C2


def _rotated(words: Words, bits: int) -> Words:
    return (words << np.uint32(bits)) | (words >> np.uint32(32 - bits))
