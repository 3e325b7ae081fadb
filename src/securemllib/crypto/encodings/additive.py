"""Additive: masked integers whose sums open under the sum of their masks, after ASHE (Papadimitriou et al., Seabed, OSDI 2016, section 3).

The row numbered ``r`` from 1 holds ``value + mask(r)`` modulo ``2**64``, where ``mask(r)`` is word ``r - 1`` of the AES-256-CTR keystream
of the column's key: a one-time pad, so codes tell nothing of values, also not which are equal. Spark adds the codes of whichever rows a
query keeps; whoever opens the sum needs the key and the *cover*, the numbers of just those rows. Seabed's masks are differences that
cancel along runs of rows; ours are not, because the rows of a filter or a group are scattered and a keystream is faster than the query.

A word is stored as two INT limbs with ``word = lo + 2**32 * hi`` modulo ``2**64``. Spark adds INTs into BIGINTs, which overflow only after
``2**32`` rows, so ANSI mode stays on. The signed total of any rows must fit in 64 bits: a column whose positive or negative values
together do not is refused.

Answers: SUM and AVG of whole columns, of filtered rows and of groups, COUNT.
Reveals: where nulls are, and nothing else. Whoever holds the key can open each row and not just sums. A sum is not authenticated: a host
that gives a wrong sum or a wrong cover is noticed only where the opened value is absurd.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

from securemllib.crypto.encodings.blocks import Permutation
from securemllib.crypto.encodings.values import Words, from_words, nulls, single, to_words, with_nulls
from securemllib.crypto.keys import DataKey
from securemllib.errors import DataError, IntegrityError

__all__ = ["BUCKET_ROWS", "FIELDS", "Range", "cover_of_bitmaps", "decode", "encode", "open_sum", "open_sums"]

FIELDS = ("hi", "lo")
# Spark's bitmap_bucket_number and bitmap_bit_position: 32,768 numbers from 1 a bucket, in 4 KiB, lowest bit first.
BUCKET_ROWS = 2**15

_WORD = 2**64
_LIMIT = 2**63
_LIMB = 32
_CHUNK = 2**15
_ZEROS = bytes(8 * _CHUNK)
# Sums of up to 2**31 halves of 32 bits are exact in 64 bits.
_HALF = np.uint64(2**32 - 1)


@dataclass(slots=True)
class Range:
    """The totals of a column's positive and of its negative values so far; `add` refuses what no sum could hold."""

    positive: int = 0
    negative: int = 0

    def add(self, words: Words) -> None:
        """Count values in.

        Raises:
            DataError: A sum of some rows does not fit in 64 bits.
        """
        self.positive += _total(np.maximum(words, 0))
        # The least of all words has no opposite: its bitwise complement is one less in magnitude.
        below = words < 0
        self.negative -= _total(np.where(below, ~words, 0)) + int(np.count_nonzero(below))
        if self.positive >= _LIMIT or self.negative < -_LIMIT:
            raise DataError(
                "The sum of a column does not fit in 64 bits, so it cannot be additive.",
                next_step="Declare fewer digits after the point, or leave it sealed.",
                code="data.additive_range",
            )


def encode(
    key: DataKey, array: pa.Array | pa.ChunkedArray, *, first_row: int = 1, digits: int | None = None, total: Range | None = None
) -> pa.StructArray:
    """Return the masked limbs of a column: structs of ``hi`` and ``lo`` (int32); null where it is.

    Args:
        key: The column's key, of one version of one dataset: a mask that is used twice tells the difference of two values.
        array: Integers, decimals, or floats with ``digits``.
        first_row: The number of the first row, from 1.
        digits: Of floats: how many digits after the point count. A value with more is refused and not rounded.
        total: The range of the rows before, which goes on with these.

    Raises:
        DataError: The type has no sums, a float has more digits, or the range of the sums is exceeded.
    """
    values = single(array)
    where, words = nulls(values), _integers(values, digits)
    (total if total is not None else Range()).add(words if where is None else np.where(where, 0, words))
    limbs = np.empty((len(FIELDS), len(words)), np.int32)
    stream = _Masks(key, first_row)
    for start in range(0, len(words), _CHUNK):
        part = slice(start, start + _CHUNK)
        masked = words[part].view(np.uint64) + stream.take(len(words[part]))
        limbs[1, part] = masked.astype(np.uint32).view(np.int32)
        limbs[0, part] = ((masked - limbs[1, part].astype(np.int64).view(np.uint64)) >> np.uint64(_LIMB)).astype(np.uint32).view(np.int32)
    columns = [with_nulls(limb, where) for limb in limbs]
    return pa.StructArray.from_arrays(columns, names=list(FIELDS), mask=None if where is None else pa.array(where))


def decode(key: DataKey, codes: pa.StructArray | pa.ChunkedArray, kind: pa.DataType, rows: NDArray[np.int64], digits: int = 0) -> pa.Array:
    """Return the values of single rows.

    Args:
        key: The column's key.
        codes: What `encode` made of them.
        kind: The column's type.
        rows: The rows' numbers.
        digits: The digits after the point that `encode` was given, for floats.
    """
    found = single(codes)
    where = nulls(found)
    hi, lo = (limb.fill_null(0).to_numpy().astype(np.int64) for limb in found.flatten())
    words = ((lo + (hi << _LIMB)).view(np.uint64) - _masks_of(key, rows)).view(np.int64)
    if pa.types.is_floating(kind):
        return with_nulls(words / 10.0**digits, where).cast(kind)
    return from_words(words, where, kind)


def open_sum(key: DataKey, hi: int, lo: int, cover: NDArray[np.int64]) -> int:
    """Return the sum of some rows' values, in units of the last digit.

    Args:
        key: The column's key.
        hi: What Spark's ``sum`` gave of the high limbs.
        lo: The same of the low limbs.
        cover: The numbers of the rows that were summed, in any order: those that the query kept and that are not null.

    Raises:
        IntegrityError: The cover names a row twice, or none that there can be.
    """
    ordered = np.sort(cover)
    if ordered.size and (ordered[0] < 1 or np.any(ordered[1:] == ordered[:-1])):
        raise IntegrityError(f"A cover of {ordered.size} rows names a row twice, or one before the first.", code="integrity.cover")
    masks = sum(_total(_masks_of(key, part).view(np.int64)) for part in _pieces(ordered))
    word = (lo + (hi << _LIMB) - masks) % _WORD
    return word - _WORD if word >= _LIMIT else word


def open_sums(
    key: DataKey, hi: NDArray[np.int64], lo: NDArray[np.int64], rows: NDArray[np.int64], lengths: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the sums of many groups of rows, in units of the last digit.

    Args:
        key: The column's key.
        hi: ``(n,)`` what Spark's ``sum`` gave of the high limbs, a group each.
        lo: ``(n,)`` the same of the low limbs.
        rows: The numbers of the rows of the first group, then of the second, and so on, each of a group once.
        lengths: ``(n,)`` how many rows each group has.
    """
    # Sums modulo 2**64 up to each row; those of a group are the difference at its ends.
    until = np.zeros(len(rows) + 1, np.uint64)
    for start in range(0, len(rows), _CHUNK):
        part = rows[start : start + _CHUNK]
        until[start + 1 : start + 1 + len(part)] = _masks_of(key, part)
    np.cumsum(until, out=until)
    ends = np.cumsum(lengths)
    masks = until[ends] - until[ends - lengths]
    words: NDArray[np.uint64] = (lo + (hi << _LIMB)).view(np.uint64) - masks
    return words.view(np.int64)


def cover_of_bitmaps(buckets: Sequence[int], bitmaps: Sequence[bytes]) -> NDArray[np.int64]:
    """Return the row numbers in bitmaps of Spark's ``bitmap_construct_agg(bitmap_bit_position(row))``, one a ``bitmap_bucket_number(row)``.

    Raises:
        IntegrityError: A bitmap is larger than a bucket, or a bucket comes before the first.
    """
    found = [np.empty(0, np.int64)]
    for bucket, bitmap in zip(buckets, bitmaps, strict=True):
        if len(bitmap) > BUCKET_ROWS // 8 or bucket < 1:
            raise IntegrityError(f"Bucket {bucket} with {len(bitmap)} bytes is no part of a cover.", code="integrity.cover")
        bits = np.unpackbits(np.frombuffer(bitmap, np.uint8), bitorder="little")
        found.append(np.flatnonzero(bits) + (BUCKET_ROWS * (bucket - 1) + 1))
    return np.concatenate(found)


class _Masks:
    """The keystream from some row on. A block holds the words of two rows."""

    def __init__(self, key: DataKey, first_row: int) -> None:
        block, self._skip = divmod(first_row - 1, 2)
        self._cipher = Cipher(AES256(key.expose()), CTR(block.to_bytes(16, "big"))).encryptor()
        self._cipher.update(_ZEROS[: 8 * self._skip])

    def take(self, count: int) -> NDArray[np.uint64]:
        """Return the masks of the next rows, at most `_CHUNK`."""
        return np.frombuffer(self._cipher.update(memoryview(_ZEROS)[: 8 * count]), np.uint64)


def _masks_of(key: DataKey, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the masks of scattered rows: a block of a CTR keystream is the encrypted counter."""
    counters = np.zeros((len(rows), 2), ">u8")
    counters[:, 1] = (rows - 1) >> 1
    words = Permutation(key.expose()).encrypt(counters).view(np.uint64)
    return np.asarray(words[np.arange(len(rows)), (rows - 1) & 1], np.uint64)


def _integers(values: pa.Array, digits: int | None) -> Words:
    kind = values.type
    if pa.types.is_floating(kind):
        return _fixed_point(values, digits)
    if not (pa.types.is_integer(kind) or pa.types.is_decimal(kind)):
        raise DataError(f"A column of {kind} has no sums, so it cannot be additive.", code="data.type")
    return to_words(values)


def _fixed_point(values: pa.Array, digits: int | None) -> Words:
    if digits is None:
        raise DataError(
            "A column of floats is additive only with a number of digits after the point.",
            next_step="Write `digits: 2`, for example, beside its encoding.",
            code="data.additive_digits",
        )
    scaled = values.fill_null(0).to_numpy(zero_copy_only=False).astype(np.float64) * 10.0**digits
    words: NDArray[np.float64] = np.rint(scaled)
    # A decimal of few digits is off by at most a unit in the last place of the scaled double, or of a float that it was stored in.
    tolerance = np.finfo(np.float32 if pa.types.is_float32(values.type) else np.float64).eps * 2
    if not np.all(np.abs(scaled) < 2.0**62) or np.any(np.abs(scaled - words) > np.abs(scaled) * tolerance):
        raise DataError(f"A column of floats has values with more than {digits} digits after the point.", code="data.additive_digits")
    return words.astype(np.int64, copy=False)


def _total(words: Words) -> int:
    """Return the exact sum of words read as unsigned ones."""
    unsigned = words.view(np.uint64)
    return int((unsigned & _HALF).sum()) + (int((unsigned >> np.uint64(_LIMB)).sum()) << _LIMB)


def _pieces(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
