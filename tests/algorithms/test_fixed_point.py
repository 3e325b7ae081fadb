"""Are statistics as integers the statistics, for every scale?"""

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from securemllib.algorithms.fixed_point import SUM_BITS, TOO_LARGE, WELL, Exponents, from_limbs, largest, limb_bits, to_limbs, width


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Statistics of every kind of field."""

    ADDITIVE: ClassVar[tuple[str, ...]] = ("rows", "loss", "vector", "gram", "counts", "cube")
    SYMMETRIC: ClassVar[tuple[str, ...]] = ("gram",)

    rows: int
    loss: float
    vector: NDArray[np.float64]
    gram: NDArray[np.float64]
    counts: NDArray[np.int64]
    cube: NDArray[np.float64]
    name: str = "constant"


def _sums(seed: int, spread: float = 0.0) -> Sums:
    generator = np.random.default_rng(seed)
    scale = 10.0 ** np.linspace(-spread, spread, 4)
    rows = generator.normal(size=(9, 4)) * scale
    return Sums(
        rows=int(generator.integers(0, 1000)),
        loss=float(generator.normal()) * 10.0 ** float(generator.integers(-200, 200)),
        vector=rows.sum(axis=0),
        gram=rows.T @ rows,
        counts=generator.integers(-5, 2**48, 3),
        cube=generator.normal(size=(2, 3, 4)) * scale,
    )


def _zeros() -> Sums:
    return Sums(rows=0, loss=0.0, vector=np.zeros(4), gram=np.zeros((4, 4)), counts=np.zeros(3, dtype=np.int64), cube=np.zeros((2, 3, 4)))


def _like(sums: Sums) -> Sums:
    zeros = {name: np.zeros_like(getattr(sums, name)) for name in ("vector", "gram", "counts", "cube")}
    return Sums(rows=0, loss=0.0, **zeros)


def _summed(parts: list[Sums], grown: float = 1.0) -> Sums:
    found = [Exponents.of(part) for part in parts]
    bound = largest([one for one in found if one is not None])
    bits, limbs = limb_bits(len(parts)), np.zeros((len(parts), 2, width(parts[0])), dtype=np.int64)
    for part, own in zip(parts, limbs, strict=True):
        assert to_limbs(part, bound, bits, own) != TOO_LARGE
    total = limbs.sum(axis=0)
    assert np.abs(total).max() < 2**SUM_BITS
    return from_limbs(_like(parts[0]), total, bound, bits)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), shares=st.integers(1, 20), spread=st.sampled_from([0.0, 3.0, 9.0, 15.0]))
def test_summed_limbs_are_the_sum(seed: int, shares: int, spread: float) -> None:
    """Integers are summed exactly, and floats to 1e-15 of their leaf's largest share, whatever the columns' scales are."""
    parts = [_sums(seed + share, spread) for share in range(shares)]
    total = _summed(parts)
    assert total.rows == sum(part.rows for part in parts)
    assert total.counts.tolist() == reduce(add, (part.counts for part in parts)).tolist()
    assert (total.name, total.counts.dtype) == ("constant", np.dtype(np.int64))
    columns = 10.0 ** np.linspace(-spread, spread, 4)
    for name, scale in (("vector", columns), ("gram", np.outer(columns, columns)), ("cube", columns)):
        expected = reduce(add, (getattr(part, name) for part in parts))
        np.testing.assert_allclose((getattr(total, name) - expected) / scale, 0.0, atol=9e-14 * shares, err_msg=name)
    losses = [part.loss for part in parts]
    assert abs(total.loss - sum(losses)) <= 1e-15 * shares * max(map(abs, losses))


def test_a_leaf_may_grow_and_not_beyond_the_headroom() -> None:
    """Exponents measured once hold for statistics a million times larger; far larger and non-finite ones are reported, never wrapped."""
    bound = Exponents.of(_sums(1))
    assert bound is not None
    limbs = np.zeros((2, width(_sums(1))), dtype=np.int64)
    for factor, accepted in ((1.0, True), (1e6, True), (1e-6, True), (1e30, False), (np.inf, False), (np.nan, False)):
        grown = Sums(rows=1, loss=1e-300, vector=_sums(1).vector * factor, gram=np.ones((4, 4)), counts=np.ones(3, int), cube=_sums(1).cube)
        assert (to_limbs(grown, bound, limb_bits(4), limbs) != TOO_LARGE) is accepted
    assert Exponents.of(_sums(1)) is not None
    infinite = Sums(rows=1, loss=np.inf, vector=np.zeros(4), gram=np.zeros((4, 4)), counts=np.zeros(3, int), cube=np.zeros((2, 3, 4)))
    assert Exponents.of(infinite) is None


def test_a_field_that_was_zero_takes_zeros_only() -> None:
    """A field without exponents says that a number does not fit; the same field of zeros fits."""
    bound = Exponents.of(_zeros())
    assert bound is not None
    limbs = np.zeros((2, width(_zeros())), dtype=np.int64)
    assert to_limbs(_zeros(), bound, 56, limbs) == WELL
    assert not limbs.any()
    assert to_limbs(_sums(2), bound, 56, limbs) == TOO_LARGE


@pytest.mark.parametrize("size", [1.7e308, 8.9e307, 1e-320])
def test_leaves_at_the_ends_of_float64_are_themselves(size: float) -> None:
    """A leaf next to the largest float64 comes back to the bit, one that is no normal number as less than 1e-270 away."""
    leaf = Sums(
        rows=1, loss=-size, vector=np.array([size, 0.0]), gram=np.eye(2) * size, counts=np.ones(3, int), cube=np.full((1, 2, 2), size)
    )
    total = _summed([leaf])
    for name in ("loss", "vector", "gram", "cube"):
        np.testing.assert_allclose(getattr(total, name), getattr(leaf, name), rtol=0, atol=1e-270)


def test_another_shape_takes_the_largest_exponent() -> None:
    """Sums over more groups than were measured keep their digits."""

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Groups:
        ADDITIVE: ClassVar[tuple[str, ...]] = ("sums",)
        sums: NDArray[np.float64]

    measured = Exponents.of(Groups(sums=np.array([[1e-3, 5e4], [2e-3, 7e4]])))
    assert measured is not None
    more = Groups(sums=np.array([[1.5e-3, 0.0], [0.1e-3, 3.25e4], [9e-3, 1e-9]]))
    limbs = np.zeros((2, 6), dtype=np.int64)
    assert to_limbs(more, measured, 56, limbs) == WELL
    again = from_limbs(Groups(sums=np.zeros((3, 2))), limbs, measured, 56)
    np.testing.assert_allclose(again.sums, more.sums, rtol=1e-6, atol=0)
    np.testing.assert_allclose(again.sums[:, 0], more.sums[:, 0], rtol=1e-14)


@pytest.mark.parametrize("shares", [1, 2, 3, 4, 5, 1000, 100_000])
def test_no_number_of_shares_overflows(shares: int) -> None:
    """The largest limbs of all shares stay within the sum's bits, and a leaf keeps at least float64's digits."""
    bits = limb_bits(shares)
    assert shares * (2**bits - 1) < 2**SUM_BITS
    assert 2 * bits >= 66 + 20
