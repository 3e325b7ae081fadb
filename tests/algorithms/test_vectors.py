"""Vector columns: what is stored becomes the same numbers, sparse or dense, and sparse summaries are dense ones."""

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import csr_array

from securemllib.algorithms.base import Block, Scratch
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.vectors import MOST_COLUMNS, PACKED, VECTOR, SparseVector, Vector, beside, stored_vector, type_text, unpacked
from securemllib.errors import CapacityError, DataError, FormatError

MIXED = [
    {"type": 0, "size": 4, "indices": [1, 3], "values": [1.5, 2.0]},
    {"type": 1, "size": None, "indices": None, "values": [1.0, 0.0, 3.0, 4.0]},
    {"type": 0, "size": 4, "indices": [], "values": []},
]
EXPECTED = [[0.0, 1.5, 0.0, 2.0], [1.0, 0.0, 3.0, 4.0], [0.0, 0.0, 0.0, 0.0]]


@pytest.fixture
def random_rows():
    """Return sparse rows, labels and weights, one of them 0."""
    generator = np.random.default_rng(3)
    values = np.where(generator.random((40, 7)) < 0.3, generator.normal(2.0, 1.0, (40, 7)), 0.0)
    values[:, 2] = generator.normal(0.0, 1.0, 40)
    weight = generator.random(40)
    weight[5] = 0.0
    return values, generator.integers(0, 3, 40).astype(float), weight


def test_sparks_vectors_of_both_kinds_are_read():
    """A column that mixes Spark's sparse and dense vectors becomes the rows that it stands for."""
    column = stored_vector(pa.array(MIXED, VECTOR), "f")
    assert isinstance(column, SparseVector)
    assert column.matrix().tolist() == EXPECTED


def test_vectors_of_either_layout_are_unpacked():
    """Lists that a part holds as bytes become lists; a part that holds lists, as older ones do, and any other column stays as it is."""
    bytes_of = {"indices": np.int32, "values": np.float64}
    rows = [
        row | {name: None if row[name] is None else np.array(row[name], kind).tobytes() for name, kind in bytes_of.items()} for row in MIXED
    ]
    packed = pa.array([*rows, None], PACKED)
    unpacked_ = unpacked(pa.chunked_array([packed, packed[1:2], packed[:0]]))
    unpacked_.validate(full=True)
    assert unpacked_.type == VECTOR
    assert unpacked_.to_pylist() == [*MIXED, None, MIXED[1]]
    for column in (pa.chunked_array([pa.array(MIXED, VECTOR)]), pa.chunked_array([pa.array([b"1234"])])):
        assert unpacked(column) is column


@pytest.mark.parametrize(("indices", "values"), [(b"123", b"12345678"), (b"1234", b"1234567"), (b"1", b"")])
def test_bytes_that_are_no_numbers_are_refused(indices, values):
    """A row of a part whose bytes are no whole number of numbers is refused; its neighbours do not lend it theirs."""
    neighbour = {"type": 0, "size": 4, "indices": b"\0\0\0\0" * 3, "values": b"\0" * 24}
    with pytest.raises(FormatError):
        unpacked(pa.chunked_array([pa.array([neighbour, neighbour | {"indices": indices, "values": values}, neighbour], PACKED)]))


def test_only_dense_vectors_stay_dense():
    """A column of dense Spark vectors becomes dense columns."""
    column = stored_vector(pa.array(MIXED[1:2] * 2, VECTOR), "f")
    assert isinstance(column, Vector)
    assert column.matrix().tolist() == [EXPECTED[1]] * 2


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"type": 0, "size": 5, "indices": [0], "values": [1.0]}, "data.length"),
        ({"type": 0, "size": 4, "indices": [4], "values": [1.0]}, "data.length"),
        ({"type": 0, "size": 4, "indices": [-1], "values": [1.0]}, "data.length"),
        ({"type": 0, "size": 4, "indices": [1, 2], "values": [1.0]}, "data.length"),
        (None, "data.null"),
    ],
)
def test_a_vector_that_does_not_fit_is_refused(row, code):
    """A width, an index or a number of values that does not fit is an error, never a wrong row."""
    with pytest.raises(DataError) as refused:
        stored_vector(pa.array([*MIXED, row], VECTOR), "f")
    assert refused.value.error_code == code


@pytest.mark.parametrize("numbers", [pa.float64(), pa.int64(), pa.uint32()])
def test_numbers_of_other_types_are_no_sparse_vector(numbers):
    """Sizes and indices of another type than Spark's, which a cast could make others than those that were checked, are refused."""
    kind = pa.struct({**{field.name: field.type for field in VECTOR}, "size": numbers, "indices": pa.list_(numbers)})
    row = {"type": 0, "size": 4, "indices": [3], "values": [1.0]}
    assert stored_vector(pa.array([row], VECTOR), "f").width == 4
    with pytest.raises(DataError) as refused:
        stored_vector(pa.array([row], kind), "f")
    assert refused.value.error_code == "data.not_numeric"


@pytest.mark.parametrize(("width", "accepted"), [(MOST_COLUMNS, True), (MOST_COLUMNS + 1, False)])
def test_a_width_that_no_enclave_should_hold_is_refused(width, accepted):
    """A stored size beyond the bound is an error that names it, before anything of that size is allocated."""
    column = pa.array([{"type": 0, "size": width, "indices": [0], "values": [1.0]}], VECTOR)
    if accepted:
        assert stored_vector(column, "f").width == width
    else:
        with pytest.raises(CapacityError, match=str(MOST_COLUMNS)):
            stored_vector(column, "f")


def test_columns_side_by_side_keep_their_order():
    """Assembled columns are the inputs' columns in their order, sparse as soon as one of them is."""
    sparse = SparseVector(csr_array(np.array([[0.0, 2.0], [3.0, 0.0]])))
    joined = beside([Vector((np.array([1.0, np.nan]),)), sparse])
    assert isinstance(joined, SparseVector)
    assert np.array_equal(joined.matrix(), [[1.0, 0.0, 2.0], [np.nan, 3.0, 0.0]], equal_nan=True)
    assert joined.invalid().tolist() == [False, True]
    assert joined.take(np.array([True, False])).matrix().tolist() == [[1.0, 0.0, 2.0]]


@pytest.mark.parametrize("weighted", [False, True])
def test_a_sparse_summary_is_the_dense_one(random_rows, weighted):
    """The summary of sparse rows has the numbers of the same rows with all their zeros."""
    values, label, weight = random_rows
    weight = weight if weighted else None
    zeros = np.zeros(7)
    dense = Summary.of(Block(ordinal=0, features=values, offset=zeros, label=label, weight=weight))
    sparse = Summary.of(Block(ordinal=0, features=np.zeros((40, 0)), offset=zeros, label=label, weight=weight, sparse=csr_array(values)))
    for name in ("rows", "used_rows", "weight_sum", "weight_square_sum", "minimum", "maximum", "label_weights", "label_m2"):
        assert np.allclose(getattr(sparse, name), getattr(dense, name), rtol=1e-12), name
    assert np.allclose(sparse.mean, dense.mean, rtol=1e-12)
    assert np.allclose(sparse.m2, dense.m2, rtol=1e-9)


def test_invalid_sparse_rows_are_counted_once(random_rows):
    """A row with two NaN is one invalid row."""
    values, label, _ = random_rows
    values[4, :2] = np.nan
    values[9, 6] = np.inf
    block = Block(ordinal=0, features=np.zeros((40, 0)), offset=np.zeros(7), label=label, sparse=csr_array(values))
    assert Summary.of(block).invalid_features == 2


def test_a_centred_sparse_column_is_the_centred_dense_one(random_rows):
    """Where an algorithm wants all zeros it gets the same matrix and means that the dense column gives."""
    values = random_rows[0]
    dense, means = Vector.of(values).centred("float64")
    sparse, sparse_means = SparseVector(csr_array(values)).centred("float64")
    assert np.allclose(sparse, dense, atol=1e-14)
    assert np.allclose(sparse_means, means, atol=1e-14)


def test_types_have_one_name():
    """A list's inner field name, which Parquet changes, is no part of its type's name."""
    named = pa.list_(pa.field("element", pa.float64()))
    assert type_text(named) == type_text(pa.list_(pa.float64())) == "list<double>"
    assert type_text(pa.list_(pa.list_(pa.field("element", pa.int64())))) == "list<list<int64>>"
    assert type_text(VECTOR) == "vector"


def test_scratch_gives_what_was_made_for_the_same_key_only():
    """What is derived is made once a key, and again for another key."""
    made = []

    def make():
        made.append(1)
        return np.full(4, float(len(made)))

    scratch = Scratch()
    assert scratch.get("bins", 1, make) is scratch.get("bins", 1, make)
    assert scratch.get("bins", 2, make)[0] == 2.0
    assert scratch.held("bins", 1) is None
    assert scratch.get("bins", 1, make)[0] == 3.0


def test_scratch_keeps_to_its_bound_and_gives_bytes_back():
    """What does not fit is returned and not kept; what is dropped is given back."""
    used = [0]

    def reserve(change):
        if used[0] + change > 64:
            return False
        used[0] += change
        return True

    scratch = Scratch(reserve)
    scratch.get("small", 0, lambda: np.zeros(8))
    assert used[0] == 64
    assert scratch.get("large", 0, lambda: np.ones(9)).sum() == 9
    assert scratch.held("large", 0) is None
    scratch.get("small", 1, lambda: np.zeros(4))
    assert used[0] == 32
    scratch.clear()
    assert used[0] == 0
    # A job ended while it was computed for: what is made then is returned, and no bytes are taken that nobody would give back.
    assert scratch.get("late", 0, lambda: np.ones(4)).sum() == 4
    assert used[0] == 0


def test_stored_indices_in_any_order_are_read() -> None:
    """A stored sparse vector whose indices come out of order, or twice, is the vector of their sums; a negative size is refused."""
    rows = [{"type": 0, "size": 3, "indices": [2, 0, 2], "values": [1.0, 2.0, 3.0]}]
    array = pa.array(rows, VECTOR)
    assert stored_vector(array, "v").matrix().tolist() == [[2.0, 0.0, 4.0]]
    assert array.to_pylist() == rows
    with pytest.raises(DataError, match="length"):
        stored_vector(pa.array([{"type": 0, "size": -1, "indices": [], "values": []}], VECTOR), "v")
