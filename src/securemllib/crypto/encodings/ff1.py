"""FF1, the format-preserving mode of NIST SP 800-38G (2016, section 5.1), on many rows at once.

The rounds are ours and the cipher is AES: each of the ten rounds is one call of the cipher for all rows, because everything before the last
block of a round's CBC-MAC is the same for all of them. Both halves of a message are numbers below ``2**56``, so that arithmetic stays in
64 bits: up to 32 decimal digits, or 18 letters and digits.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from securemllib.crypto.encodings.blocks import BLOCK, Permutation
from securemllib.errors import DataError

__all__ = ["FF1", "MINIMUM_DOMAIN"]

# SP 800-38G Revision 1 (second draft, 2025) asks for a million messages of one length at least: smaller domains can be searched.
MINIMUM_DOMAIN = 1_000_000

_ROUNDS = 10
_HALF_BITS = 56
_WORD_BITS = 64

Numerals = NDArray[np.uint8]
Numbers = NDArray[np.uint64]


class FF1:
    """FF1 with one AES key, one radix and one tweak."""

    def __init__(self, secret: bytes, radix: int, tweak: bytes = b"") -> None:
        self._permutation = Permutation(secret)
        self._radix = radix
        self._tweak = tweak

    def encrypt(self, numerals: Numerals) -> Numerals:
        """Return the encryption of each row of numerals: ``(rows, n)``.

        Raises:
            DataError: There are fewer than a million messages of this length, or the length exceeds this implementation's.
        """
        return self._walk(numerals, range(_ROUNDS), is_forward=True)

    def decrypt(self, numerals: Numerals) -> Numerals:
        """Return the rows whose encryption these are."""
        return self._walk(numerals, reversed(range(_ROUNDS)), is_forward=False)

    def _walk(self, numerals: Numerals, rounds: Iterable[int], *, is_forward: bool) -> Numerals:
        length = numerals.shape[1]
        self._check(length)
        cut = length // 2
        sizes = (cut, length - cut)
        moduli = [np.uint64(self._radix**size) for size in sizes]
        function = _Round(self._permutation, self._radix, length, self._tweak)
        # The two halves take turns: in round i the half i mod 2 changes, by a function of the other (SP 800-38G, algorithms 7 and 8).
        halves = [_number(numerals[:, :cut], self._radix), _number(numerals[:, cut:], self._radix)]
        for i in rounds:
            changed, modulus = i % 2, moduli[i % 2]
            shift = function(i, halves[1 - changed], modulus)
            moved = halves[changed] + (shift if is_forward else modulus - shift)
            halves[changed] = np.where(moved >= modulus, moved - modulus, moved)
        out = np.empty_like(numerals)
        _write(out[:, :cut], halves[0], self._radix)
        _write(out[:, cut:], halves[1], self._radix)
        return out

    def _check(self, length: int) -> None:
        if self._radix**length < MINIMUM_DOMAIN:
            raise DataError(
                f"Texts with {length} characters of an alphabet of {self._radix} are fewer than a million: their tokens could be searched.",
                next_step="Leave the column sealed, or encode it as deterministic.",
                code="data.token_domain",
            )
        if self._radix ** (length - length // 2) >= 2**_HALF_BITS:
            raise DataError(
                f"Texts with {length} characters of an alphabet of {self._radix} are too long for a token.", code="data.token_length"
            )


class _Round:
    """The round function of rows of one length: a CBC-MAC whose constant part is computed once."""

    def __init__(self, permutation: Permutation, radix: int, length: int, tweak: bytes) -> None:
        half = length - length // 2
        self._permutation = permutation
        self._bytes = -(-(radix**half - 1).bit_length() // 8)
        self._is_long = self._bytes > 4  # then S has 12 bytes, else 8: d = 4 * ceil(b / 4) + 4
        header = bytes([1, 2, 1]) + radix.to_bytes(3, "big") + bytes([_ROUNDS, length // 2 % 256])
        header += length.to_bytes(4, "big") + len(tweak).to_bytes(4, "big")
        padded = tweak + bytes(-(len(tweak) + self._bytes + 1) % BLOCK) + bytes(1 + self._bytes)
        message, chained = header + padded, bytes(BLOCK)
        for start in range(0, len(message) - BLOCK, BLOCK):
            chained = permutation.encrypt(np.frombuffer(_xor(chained, message[start : start + BLOCK]), np.uint8)).tobytes()
        last = _xor(chained, message[-BLOCK:])
        self._high, self._low = (np.uint64(int.from_bytes(last[start : start + 8], "big")) for start in (0, 8))

    def __call__(self, i: int, numbers: Numbers, modulus: np.uint64) -> Numbers:
        blocks = np.empty((len(numbers), 2), ">u8")
        blocks[:, 0] = self._high
        blocks[:, 1] = numbers ^ (self._low ^ np.uint64(i << 8 * self._bytes))
        found = self._permutation.encrypt(blocks).view(">u8")
        first = found[:, 0].astype(np.uint64)
        return _remainder(first, (found[:, 1] >> np.uint64(32)).astype(np.uint64) if self._is_long else None, modulus)


def _remainder(first: Numbers, next_half: Numbers | None, modulus: np.uint64) -> Numbers:
    """Return ``first`` modulo the modulus, or ``2**32 * first + next_half`` where there is a next half."""
    found = _modulo(first, modulus)
    if next_half is not None:
        left, step = 32, min(32, _WORD_BITS - int(modulus).bit_length())
        while left:
            taken = min(step, left)
            left -= taken
            piece = (next_half >> np.uint64(left)) & np.uint64(2**taken - 1)
            found = _modulo((found << np.uint64(taken)) | piece, modulus)
    return found


def _modulo(values: Numbers, modulus: np.uint64) -> Numbers:
    # numpy divides by a scalar with a multiplication, but takes remainders with the slow instruction.
    return values - values // modulus * modulus


def _number(numerals: Numerals, radix: int) -> Numbers:
    found = np.zeros(len(numerals), np.uint64)
    for position in range(numerals.shape[1]):
        found *= np.uint64(radix)
        found += numerals[:, position]
    return found


def _write(numerals: Numerals, numbers: Numbers, radix: int) -> None:
    for position in reversed(range(numerals.shape[1])):
        rest = numbers // np.uint64(radix)
        numerals[:, position] = numbers - rest * np.uint64(radix)
        numbers = rest


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(one ^ other for one, other in zip(left, right, strict=True))
