"""Do values survive as trees, and is everything else refused?"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from securemllib.algorithms.codec import from_tree, to_tree
from securemllib.errors import FormatError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    numbers: NDArray[np.float64]
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    inner: Inner | None
    count: int
    share: float
    flag: bool
    raw: bytes
    pair: tuple[int, float]
    many: tuple[Inner, ...]


ARRAYS = hnp.arrays(st.sampled_from(["<f8", "<f4", "<i8", "|b1", ">f8"]), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
INNERS = st.builds(Inner, numbers=ARRAYS, name=st.text())
FLOATS = st.floats(allow_nan=False)
OUTERS = st.builds(
    Outer,
    inner=st.none() | INNERS,
    count=st.integers(),
    share=FLOATS,
    flag=st.booleans(),
    raw=st.binary(),
    pair=st.tuples(st.integers(), FLOATS),
    many=st.lists(INNERS, max_size=3).map(tuple),
)


@given(OUTERS)
def test_a_tree_gives_its_value_back(value: Outer) -> None:
    """The tree of a value is the tree of the value that it decodes to, and the decoded arrays are equal and read-only."""
    tree = to_tree(value)
    back = from_tree(Outer, tree)
    assert to_tree(back) == tree
    for one, other in zip(value.many, back.many, strict=True):
        np.testing.assert_array_equal(one.numbers, other.numbers)
        assert not other.numbers.flags.writeable


def _tree(**changes: Any) -> dict[str, Any]:
    array = {"dtype": "<f8", "shape": [2], "data": bytes(16)} | changes
    return {"numbers": array, "name": "x"}


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "|O"},
        {"dtype": "<f2"},
        {"dtype": 8},
        {"shape": [3]},
        {"shape": [-2]},
        {"shape": [True, 2]},
        {"shape": [2.0]},
        {"shape": [2, 1, 1, 1, 1]},
        {"shape": [0, 1 << 70], "data": b""},
        {"shape": [0, 1 << 62, 1 << 62], "data": b""},
        {"data": bytes(15)},
        {"data": [0] * 16},
        {"dtype": "|b1", "data": b"\2\0"},
        {"order": "F"},
    ],
)
def test_arrays_that_are_not_what_they_say_are_refused(changes: dict[str, Any]) -> None:
    """An array of another dtype, shape, length or spelling is refused, beside the one that is accepted."""
    from_tree(Inner, _tree())
    with pytest.raises(FormatError):
        from_tree(Inner, _tree(**changes))


@pytest.mark.parametrize("tree", [None, [], {}, {"name": "x"}, _tree() | {"more": 1}, _tree() | {"name": b"x"}])
def test_other_fields_are_refused(tree: Any) -> None:
    """A tree without exactly the class's fields and types is refused."""
    with pytest.raises(FormatError):
        from_tree(Inner, tree)


def test_values_without_a_tree_are_refused() -> None:
    """An object array and a list have no tree."""
    for value in (np.array([object()]), [1]):
        with pytest.raises(UsageError):
            to_tree(value)
