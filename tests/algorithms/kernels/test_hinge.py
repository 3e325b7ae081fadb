"""Do the compiled hinge sums equal those of their numpy twin?"""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from securemllib.algorithms.base import Block
from securemllib.algorithms.kernels import hinge
from securemllib.algorithms.kernels.library import status
from tests.algorithms.kernels.test_logistic import block

# Half a unit in the last place of float64.
EPSILON = 2.0**-53


def test_the_loop_is_compiled() -> None:
    """The comparison below is of two things."""
    assert hinge._HINGE is not None
    assert status() == "compiled"


@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(0, 40),
    columns=st.integers(0, 40),
    scale=st.sampled_from([1e-3, 1.0, 50.0]),
    weighted=st.booleans(),
)
def test_sums_equal_the_twins(seed: int, rows: int, columns: int, scale: float, *, weighted: bool) -> None:
    """Loss, slope and gradient are the twin's up to the rounding of sums in double precision, with rows on both sides of the kink."""
    of = block(seed, rows, columns, scale=scale, weighted=weighted)
    assert of.label is not None
    vector = np.random.default_rng(seed + 1).standard_normal(columns)
    loss, slope, gradient = hinge.hinge_sums(of, of.label, vector, 0.25)
    expected = hinge.hinge_twin(of, of.label, vector, 0.25)
    total = float(rows if of.weight is None else of.weight.sum())
    size = float(np.abs(of.features * vector).sum(axis=1).max(initial=0)) + 1.25
    room = (columns + rows + 4) * EPSILON * total * size
    assert abs(loss - expected[0]) <= room
    assert slope == expected[1]
    assert np.abs(gradient - expected[2]).max(initial=0) <= (rows + 1) * EPSILON * total * np.abs(of.features).max(initial=0)


def test_a_margin_that_overflows_is_no_loss_of_zero() -> None:
    """Infinite margins of both signs in one row are not a number, for the loop as for its twin."""
    of = Block(ordinal=0, features=np.ones((5, 8), dtype=np.float32), offset=np.zeros(8), label=np.ones(5), weight=None)
    vector = np.array([np.inf, -np.inf, 0, 0, 0, 0, 0, 0])
    assert np.isnan(hinge.hinge_sums(of, np.ones(5), vector, 0.0)[0])
    with np.errstate(invalid="ignore"):
        assert np.isnan(hinge.hinge_twin(of, np.ones(5), vector, 0.0)[0])


def test_rows_that_fill_up_the_last_four_add_nothing() -> None:
    """A last row with an infinite loss makes the loss infinite, although it also stands where rows are missing."""
    of = Block(ordinal=0, features=np.ones((5, 8), dtype=np.float32), offset=np.zeros(8), label=np.ones(5), weight=None)
    assert hinge.hinge_sums(of, np.ones(5), np.full(8, -np.inf), 0.0)[0] == np.inf


def test_a_rerun_gives_the_same_bytes() -> None:
    """The compiled sums of the same rows are equal in every bit."""
    of = block(3, 1001, 37, scale=1.0, weighted=True)
    assert of.label is not None
    one, other = (hinge.hinge_sums(of, of.label, np.linspace(-1, 1, 37), 0.5) for _ in range(2))
    assert one[:2] == other[:2]
    assert one[2].tobytes() == other[2].tobytes()
