"""Statistics as integers: what sums as floats up to rounding sums as integers exactly, in any order and behind masks.

A statistics class names the fields that are plain sums in ``ADDITIVE``. Their numbers, one after the other, are the vector's
*leaves*. A leaf ``x`` with the unit ``2**u`` becomes the integer ``round(x / 2**u)``, written as two signed limbs of ``w`` bits,
``high * 2**w + low``, both with the sign of ``x``. Each limb has 64 bits to itself, and ``w`` leaves room for the sum over all
shares, so limbs are added without a carry, and a sum is in range by construction: ``shares * 2**w <= 2**SUM_BITS``.

A field that is in ``SYMMETRIC``, too, is a symmetric matrix, of which little more than the upper triangle is written.

Units follow from *exponents*. A field is seen as a matrix (an array's last axis is the columns, a vector or number one row), and row
``i`` and column ``j`` have exponents with ``|x_ij| < 2**(r_i + c_j)`` in every share, so that columns of very different scale keep
their digits, in a Gram matrix, too. The unit is ``PRECISION`` bits below, and the bits above are left for growth: 50 with 4 shares, 20
with 100,000. A field that is zero everywhere has no exponents, and takes no other value. What does not fit is reported, never wrapped.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "PRECISION", "SUM_BITS", "Exponents", "additive", "exponents", "from_limbs", "has_shrunk", "largest", "limb_bits", "to_limbs", "width",
]  # fmt: skip

T = TypeVar("T")

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# The bits of a sum of limbs: below those of the prime of the keyed check, so that no two sums in range are congruent.
SUM_BITS = 60
# Bits of a leaf below its exponent: float64 has 53, and the rest is for leaves below the largest of all shares and rounds.
PRECISION = 66
# Powers of two beyond these leave the range of float64 in between; what is smaller loses digits that no float64 sum has.
_LEAST, _MOST = -900, 1023
_NONE = -(2**15)
# A largest leaf that is so many bits below its exponent has 32 left.
_SHRUNK = PRECISION - 32
# As many leaves as a core's second-level cache holds together with their limbs.
_CHUNK = 2**14


@dataclass(frozen=True, slots=True, kw_only=True)
class Exponents:
    """One field's exponents.

    Attributes:
        rows: ``(m,)`` int32, at most 0.
        columns: ``(n,)`` int32.
    """

    rows: NDArray[np.int32]
    columns: NDArray[np.int32]

    @classmethod
    def of(cls, field: "_Field") -> Self | None:
        """Return the exponents of a field; None where a leaf is not finite."""
        leaves = field.leaves
        tops = np.zeros(leaves.shape[1])
        for _, tile in field.tiles():
            np.maximum(tops[tile[1]], np.abs(leaves[tile]).max(axis=0, initial=0.0), out=tops[tile[1]])
        columns = _exponents(tops)
        if columns is None:
            return None
        sizes, shrink = np.zeros(leaves.shape[0]), np.exp2(-np.where(columns == _NONE, 0.0, columns))
        for _, tile in field.tiles():
            size = leaves[tile] * shrink[tile[1]]
            np.maximum(sizes[tile[0]], np.abs(size, out=size).max(axis=1, initial=0.0), out=sizes[tile[0]])
        rows = _exponents(sizes)
        return None if rows is None else cls(rows=rows, columns=columns)

    @property
    def is_known(self) -> bool:
        """Whether a leaf of the field was not zero."""
        return bool((self.columns > _NONE).any())

    def scales(self, shape: tuple[int, ...]) -> tuple[Floats, Floats]:
        """Return ``2**r`` as a column and ``2**c`` as a row, for a matrix of that shape.

        What was zero takes the largest exponent, and so does everything where the shape is another one than when it was measured.
        """
        return _powers(self.rows, shape[0])[:, None], _powers(self.columns, shape[1])[None, :]


def additive(kind: type[Any]) -> tuple[str, ...]:
    """Return the fields of a statistics class that are plain sums; none where it declares none."""
    return tuple(getattr(kind, "ADDITIVE", ()))


def limb_bits(shares: int) -> int:
    """Return ``w``, the bits of a limb of one share."""
    return SUM_BITS - (shares - 1).bit_length()


def width(statistics: Any) -> int:
    """Return the number of leaves that are written."""
    return sum(part.stop - part.start for field in _fields(statistics) for part, _ in field.tiles())


def exponents(statistics: Any) -> tuple[Exponents, ...] | None:
    """Return each additive field's exponents; None where a leaf is not finite."""
    found = tuple(Exponents.of(field) for field in _fields(statistics))
    return None if None in found else found  # type: ignore[return-value]


def largest(measured: Sequence[tuple[Exponents, ...]]) -> tuple[Exponents, ...]:
    """Return the exponents that hold for all shares."""
    return tuple(
        Exponents(rows=np.max([found.rows for found in field], axis=0), columns=np.max([found.columns for found in field], axis=0))
        for field in zip(*measured, strict=True)
    )


def to_limbs(statistics: Any, bound: tuple[Exponents, ...], bits: int, limbs: Integers) -> bool:
    """Write the leaves' limbs, and return whether all leaves fit them.

    Args:
        statistics: Whose additive fields are written.
        bound: Their exponents.
        bits: ``w``.
        limbs: ``(2, n)``, low limbs before high ones.
    """
    start = 0
    for field, exponent in zip(_fields(statistics), bound, strict=True):
        if not exponent.is_known and field.leaves.any():
            return False
        rows, columns = exponent.scales(field.leaves.shape)
        for part, tile in field.tiles() if exponent.is_known else ():
            value = field.leaves[tile] * (2.0**PRECISION / columns[:, tile[1]])
            value *= 1.0 / rows[tile[0]]
            np.rint(value, out=value)
            high = value * 2.0**-bits
            if not max(high.max(initial=0.0), -high.min(initial=0.0)) < 2.0**bits:
                return False
            np.trunc(high, out=high)
            limbs[1, start + part.start : start + part.stop] = high.ravel()
            high *= 2.0**bits
            value -= high
            limbs[0, start + part.start : start + part.stop] = value.ravel()
        start += field.width
    return True


def has_shrunk(statistics: Any, bound: tuple[Exponents, ...]) -> bool:
    """Return whether the largest leaf of a field is so far below the field's exponents that too few of its digits are left."""
    fields = zip(_fields(statistics), bound, strict=True)
    return any(e.is_known and np.abs(f.leaves).max(initial=0.0) < 2.0 ** (int(e.columns.max()) - _SHRUNK) for f, e in fields)


def from_limbs(like: T, limbs: Integers, bound: tuple[Exponents, ...], bits: int) -> T:
    """Return the statistics that summed limbs stand for.

    Args:
        like: Statistics of no rows: they give shapes, types and the fields that are no sums.
        limbs: ``(2, n)`` sums.
        bound: The exponents of each additive field.
        bits: ``w``.
    """
    start, values = 0, {}
    for name, field, exponent in zip(additive(type(like)), _fields(like), bound, strict=True):
        found = np.zeros(field.leaves.shape)
        rows, columns = exponent.scales(found.shape)
        for part, tile in field.tiles() if exponent.is_known else ():
            moved = slice(start + part.start, start + part.stop)
            value = limbs[1, moved] * 2.0**bits
            value += limbs[0, moved]
            value = value.reshape(found[tile].shape) * rows[tile[0]]
            value *= columns[:, tile[1]] * 2.0**-PRECISION
            found[tile] = value
            if field.is_symmetric:
                found[tile[1], tile[0]] = value.T
        start += field.width
        values[name] = _shaped(getattr(like, name), found)
    return replace(like, **values)  # type: ignore[type-var]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    """One additive field, as a matrix."""

    leaves: Floats
    is_symmetric: bool

    @property
    def width(self) -> int:
        """The leaves that are written."""
        return sum(part.stop - part.start for part, _ in self.tiles())

    def tiles(self) -> Iterator[tuple[slice, tuple[slice, slice]]]:
        """Yield where each tile of leaves is written, and where it is in the matrix; symmetric rows begin at their tile's diagonal."""
        rows, columns = self.leaves.shape
        high, wide, start = max(_CHUNK // max(columns, 1), 1), max(min(columns, _CHUNK), 1), 0
        for row in range(0, rows, high):
            below = min(row + high, rows)
            for column in range(row if self.is_symmetric else 0, columns, wide):
                right = min(column + wide, columns)
                size = (below - row) * (right - column)
                yield slice(start, start + size), (slice(row, below), slice(column, right))
                start += size


def _shaped(old: Any, leaves: Floats) -> Any:
    if isinstance(old, np.ndarray):
        whole = np.rint(leaves) if np.issubdtype(old.dtype, np.integer) else leaves
        return whole.reshape(old.shape).astype(old.dtype, copy=False)
    return round(float(leaves[0, 0])) if isinstance(old, int) else float(leaves[0, 0])


def _fields(statistics: Any) -> Iterator[_Field]:
    symmetric = getattr(type(statistics), "SYMMETRIC", ())
    for name in additive(type(statistics)):
        values = np.asarray(getattr(statistics, name), dtype=np.float64)
        leaves = values.reshape(-1, values.shape[-1]) if values.ndim > 1 and values.shape[-1] else values.reshape(1, -1)
        yield _Field(leaves=leaves, is_symmetric=name in symmetric)


def _exponents(size: Floats) -> NDArray[np.int32] | None:
    if not np.isfinite(size).all():
        return None
    # At the end of float64's range a leaf has one bit more than its exponent, and the headroom takes it.
    found = np.clip(np.frexp(size)[1], _LEAST, _MOST)
    return np.where(size > 0, found, _NONE).astype(np.int32)


def _powers(found: NDArray[np.int32], count: int) -> Floats:
    most = found.max(initial=_NONE)
    if len(found) != count or most == _NONE:
        return np.full(count, np.exp2(float(max(most, _LEAST))))
    powers: Floats = np.exp2(np.where(found == _NONE, most, found).astype(np.float64))
    return powers
