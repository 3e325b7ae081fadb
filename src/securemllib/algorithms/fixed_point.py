"""Statistics as integers: what sums as floats up to rounding sums as integers exactly, in any order and behind masks.

A statistics class names the fields that are plain sums in ``ADDITIVE``. Their numbers, one after the other, are the vector's
*leaves*. A leaf ``x`` with the unit ``2**u`` becomes the integer ``round(x / 2**u)``, written as two signed limbs of ``w`` bits,
``high * 2**w + low``, both with the sign of ``x``. Each limb has 64 bits to itself, and ``w`` leaves room for the sum over all
shares, so limbs are added without a carry, and a sum is in range by construction: ``shares * 2**w <= 2**SUM_BITS``.

A field that is in ``SYMMETRIC``, too, is a symmetric matrix, of which the upper triangle is written.

Units follow from *exponents*. A field is seen as a matrix (an array's last axis is the columns, a vector or number one row), and row
``i`` and column ``j`` have exponents with ``|x_ij| < 2**(r_i + c_j)`` in every share, so that columns of very different scale keep
their digits, in a Gram matrix, too. The unit is ``_PRECISION`` bits below, and the bits above are left for growth: 50 with 4 shares, 20
with 100,000. A field that is zero everywhere has no exponents, and takes no other value. What does not fit is reported, never wrapped.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.kernels.limbs import join, leaves, split

__all__ = ["SHRUNK", "SUM_BITS", "TOO_LARGE", "Exponents", "additive", "from_limbs", "largest", "limb_bits", "to_limbs", "width"]

T = TypeVar("T")

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# The bits of a sum of limbs: below those of the prime of the keyed check, so that no two sums in range are congruent.
SUM_BITS = 60
# Bits of a leaf below its exponent: float64 has 53, and the rest is for leaves below the largest of all shares and rounds.
_PRECISION = 66
# Powers of two beyond these leave the range of float64 in between; what is smaller loses digits that no float64 sum has.
_LEAST, _MOST = -900, 1023
_NONE = -(2**15)
# A largest leaf that is so many bits below its exponent has 32 left.
_SHRUNK = _PRECISION - 32
# As many leaves as a core's second-level cache holds.
_CHUNK = 2**14


# How a share's statistics fit exponents: well; a field that was not zero is; the largest leaf of a field is so far below its exponents that
# too few of its digits are left; a leaf is too large. The sum over fewer than 2**20 shares counts each.
WELL, ZERO, SHRUNK, TOO_LARGE = 0, 1, 2**20, 2**40


@dataclass(frozen=True, slots=True, kw_only=True)
class Exponents:
    """The exponents of statistics.

    Attributes:
        shapes: ``(fields, 2)``: the rows and columns of each field.
        found: Those of a field's rows, at most 0, and of its columns, field after field.
    """

    shapes: Integers
    found: NDArray[np.int32]

    @classmethod
    def of(cls, statistics: Any) -> Self | None:
        """Return the exponents of one share's statistics; None where a leaf is not finite."""
        shapes, found = [], []
        for matrix, _ in _fields(statistics):
            tops = np.maximum(matrix.max(axis=0, initial=0.0), -matrix.min(axis=0, initial=0.0))
            if not np.isfinite(tops).all():
                return None
            columns = _exponents(tops)
            shrink, chunks = np.exp2(-np.where(columns == _NONE, 0.0, columns)), np.array_split(matrix, 1 + matrix.size // _CHUNK)
            found += [*(_exponents(np.abs(chunk * shrink).max(axis=1, initial=0.0)) for chunk in chunks), columns]
            shapes.append(matrix.shape)
        return cls(shapes=np.array(shapes), found=np.concatenate(found))

    def units(self, statistics: Any) -> Iterator[tuple[Floats, bool, slice, Floats, Floats, int]]:
        """Yield each field's matrix, whether it is symmetric, the place of its leaves, ``2**r`` and ``2**c``, and the largest ``c``.

        What was zero takes the largest exponent, and so does everything where the shape is another one than when it was measured.
        """
        start, first = 0, 0
        for (matrix, symmetric), (m, n) in zip(_fields(statistics), self.shapes.tolist(), strict=True):
            rows, columns = np.split(self.found[start : start + m + n], [m])
            powers = _powers(rows, matrix.shape[0]), _powers(columns, matrix.shape[1])
            start, end = start + m + n, first + leaves(matrix, symmetric)
            yield matrix, symmetric, slice(first, end), *powers, int(columns.max(initial=_NONE))
            first = end


def additive(kind: type[Any]) -> tuple[str, ...]:
    """Return the fields of a statistics class that are plain sums; none where it declares none."""
    return tuple(getattr(kind, "ADDITIVE", ()))


def limb_bits(shares: int) -> int:
    """Return ``w``, the bits of a limb of one share."""
    return SUM_BITS - (shares - 1).bit_length()


def width(statistics: Any) -> int:
    """Return the number of leaves that are written."""
    return sum(leaves(*field) for field in _fields(statistics))


def largest(measured: Sequence[Exponents]) -> Exponents:
    """Return the exponents that hold for all shares."""
    return replace(measured[0], found=np.max([each.found for each in measured], axis=0))


def to_limbs(statistics: Any, bound: Exponents, bits: int, limbs: Integers) -> int:
    """Write the leaves' limbs, and return how they fit: `WELL`, `ZERO`, `SHRUNK` or `TOO_LARGE`.

    Args:
        statistics: Whose additive fields are written.
        bound: Their exponents.
        bits: ``w``.
        limbs: ``(2, n)``, low limbs before high ones.
    """
    fit = WELL
    for matrix, symmetric, place, rows, columns, top in bound.units(statistics):
        most = split(matrix, symmetric, (1.0 / rows, 2.0**_PRECISION / columns), bits, limbs[:, place])
        if most == np.inf:
            return TOO_LARGE
        if most < 2.0 ** (top - _SHRUNK):
            fit = max(fit, SHRUNK if most else ZERO)
    return fit


def from_limbs(like: T, limbs: Integers, bound: Exponents, bits: int) -> T:
    """Return the statistics that summed limbs stand for.

    Args:
        like: Statistics of no rows: they give shapes, types and the fields that are no sums.
        limbs: ``(2, n)`` sums.
        bound: The exponents.
        bits: ``w``.
    """
    values = {}
    for name, (matrix, symmetric, place, rows, columns, _) in zip(additive(type(like)), bound.units(like), strict=True):
        found = np.empty(matrix.shape)
        join(found, symmetric, (rows, columns * 2.0**-_PRECISION), bits, limbs[:, place])
        values[name] = _shaped(getattr(like, name), found)
    return replace(like, **values)  # type: ignore[type-var]


def _shaped(old: Any, leaves: Floats) -> Any:
    if isinstance(old, np.ndarray):
        whole = np.rint(leaves) if np.issubdtype(old.dtype, np.integer) else leaves
        return whole.reshape(old.shape).astype(old.dtype, copy=False)
    return round(float(leaves[0, 0])) if isinstance(old, int) else float(leaves[0, 0])


def _fields(statistics: Any) -> Iterator[tuple[Floats, bool]]:
    """Yield each additive field as a matrix, and whether it is symmetric."""
    symmetric = getattr(type(statistics), "SYMMETRIC", ())
    for name in additive(type(statistics)):
        values = np.asarray(getattr(statistics, name), dtype=np.float64)
        matrix = values.reshape(-1, values.shape[-1]) if values.ndim > 1 and values.shape[-1] else values.reshape(1, -1)
        yield np.ascontiguousarray(matrix), name in symmetric


def _exponents(sizes: Floats) -> NDArray[np.int32]:
    # At the end of float64's range a leaf has one bit more than its exponent, and the headroom takes it.
    return np.where(sizes > 0, np.clip(np.frexp(sizes)[1], _LEAST, _MOST), _NONE).astype(np.int32)


def _powers(found: NDArray[np.int32], count: int) -> Floats:
    most = found.max(initial=_NONE)
    found = np.where(found == _NONE, most, found) if len(found) == count else np.full(count, most)
    return np.exp2(np.maximum(found, _LEAST).astype(np.float64))
