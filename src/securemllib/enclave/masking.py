"""Sums that an untrusted party adds: one-time masks modulo 2**64, and a keyed check that is additive like the sums.

A share's vector ``x`` of 64-bit integers leaves as ``x + mask(k, salt) mod 2**64``, behind it the tag
``check(x) + pad(k, salt) mod p`` in two halves of 31 bits, ``p = 2**61 - 1``. Mask and pad come from AES-256-CTR and HKDF under a
key of the round, the share and a **fresh random salt**: a share that is computed twice, perhaps on another processor that rounds
otherwise, is masked anew, so two masked vectors never tell their difference. Adding the masked vectors of all shares, and nothing
else, gives the sum under the sum of the masks; only a holder of the key can take those away, so whoever adds does not learn the
sum either.

``check`` is linear over the integers modulo p with secret coefficients: entry ``i`` of row ``j`` of up to 2048 entries has the
coefficient ``b_j * r_i``. Two different vectors of entries below ``2**60`` in magnitude differ modulo p in some entry, and then
have the same check with a probability of at most ``2/p``, whatever the adversary knows but the key: tags are padded one time each.
A vector that was changed, or that lacks, repeats or exchanges a share, therefore passes with a probability below ``2**-59``.
"""

import os
from collections.abc import Sequence
from operator import mul

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

from securemllib.algorithms.kernels.limbs import PRIME, residues
from securemllib.crypto.keys import KEY_BYTES, DataKey
from securemllib.errors import FormatError, UnsealError

__all__ = ["SALT_BYTES", "TAG_WORDS", "mask", "unmask"]

SALT_BYTES = 32
TAG_WORDS = 2

_HALF_BITS = 31
_PAD_BYTES = 32
_LARGEST = 2**60
_ROW = 2**11
# A chunk and its keystream stay in a core's second-level cache.
_CHUNK = 16 * _ROW
_ZEROS = bytes(8 * _CHUNK)

Words = NDArray[np.uint64]
Integers = NDArray[np.int64]


def mask(key: DataKey, context: bytes, vector: Integers) -> bytes:
    """Mask a share's vector in place, put its tag behind it, and return its salt.

    Args:
        key: Of the round.
        context: Which share.
        vector: ``(n + 2,)``: n numbers below ``2**60`` in magnitude, and room for the tag.
    """
    salt = os.urandom(SALT_BYTES)
    values, words = vector[:-TAG_WORDS], vector.view(np.uint64)
    (stream, pad), check = _masks(key, context, salt), _Check(key, values.size)
    for start in range(0, values.size, _CHUNK):
        part = slice(start, min(start + _CHUNK, values.size))
        check.add(values[part])
        words[part] += stream.take(part.stop - start)
    tag = (check.value + pad) % PRIME
    words[values.size :] = tag & (2**_HALF_BITS - 1), tag >> _HALF_BITS
    return salt


def unmask(key: DataKey, shares: Sequence[tuple[bytes, bytes]], total: Words) -> Integers:
    """Return the sum of the vectors of all shares, in the place of its masked words.

    Args:
        key: Of the round.
        shares: The context of every share that must be in the sum, and the salt that its vector is said to have.
        total: The sum of what `mask` returned, modulo ``2**64``.

    Raises:
        UnsealError: The sum is not exactly that of one masked vector a share.
    """
    if total.size < TAG_WORDS or any(len(salt) != SALT_BYTES for _, salt in shares):
        raise FormatError(f"{total.size} words and {len(shares)} salts are no masked sum.")
    masks = [_masks(key, context, salt) for context, salt in shares]
    low, high = (int(word) for word in total[-TAG_WORDS:])
    claimed = (low + (high << _HALF_BITS) - sum(pad for _, pad in masks)) % PRIME
    words = total[:-TAG_WORDS]
    values, check, in_range = words.view(np.int64), _Check(key, words.size), True
    for start in range(0, words.size, _CHUNK):
        part = slice(start, min(start + _CHUNK, words.size))
        for stream, _ in masks:
            words[part] -= stream.take(part.stop - start)
        in_range &= bool(values[part].max() < _LARGEST and values[part].min() > -_LARGEST)
        check.add(values[part] if in_range else np.zeros(part.stop - start, dtype=np.int64))
    if not in_range or check.value != claimed:
        raise UnsealError(f"A masked sum of {len(shares)} shares was changed, or is not of exactly these shares.")
    return values


class _Stream:
    """AES-256-CTR of zeros: the key is used for this stream alone, so the counter starts at zero."""

    def __init__(self, key: bytes) -> None:
        self._cipher: CipherContext = Cipher(AES256(key), CTR(bytes(16))).encryptor()
        self._buffer = bytearray(0)

    def take(self, count: int) -> Words:
        """Return the next words; valid until the next call."""
        if len(self._buffer) < 8 * count:
            self._buffer = bytearray(8 * count)
        self._cipher.update_into(memoryview(_ZEROS)[: 8 * count], self._buffer)
        return np.frombuffer(self._buffer, dtype="<u8", count=count)


class _Check:
    """The check of a vector of some size that comes in chunks; all but the last have `_CHUNK` entries."""

    def __init__(self, key: DataKey, size: int) -> None:
        self._width = min(max(size, 1), _ROW)
        derived = key.derive_bytes(2 * KEY_BYTES, "securemllib/check/v1")
        words = _Stream(derived[:KEY_BYTES]).take(self._width)
        self._rows = _Stream(derived[KEY_BYTES:])
        self._factors = (words >> np.uint64(3)).view(np.int64)
        self.value = 0

    def add(self, values: Integers) -> None:
        """Add the next entries."""
        rows = -(-values.size // self._width)
        if rows * self._width != values.size:
            values = np.concatenate([values, np.zeros(rows * self._width - values.size, dtype=np.int64)])
        sums, scales = residues(values.reshape(rows, self._width), self._factors), self._rows.take(rows) >> np.uint64(3)
        self.value = (self.value + sum(map(mul, sums.tolist(), scales.tolist()))) % PRIME


def _masks(key: DataKey, context: bytes, salt: bytes) -> tuple[_Stream, int]:
    """Return the mask and the pad of one share."""
    derived = key.derive_bytes(KEY_BYTES + _PAD_BYTES, "securemllib/mask/v1", context, salt)
    return _Stream(derived[:KEY_BYTES]), int.from_bytes(derived[KEY_BYTES:], "big") % PRIME
