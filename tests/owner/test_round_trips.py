"""Does every table that can be encrypted come back as it was?"""

import math
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Context, Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from securemllib.algorithms.vectors import PACKED, VECTOR
from securemllib.crypto.aead import unseal
from securemllib.errors import DataError, UsageError
from securemllib.owner import dataset, reading
from securemllib.owner.column_types import parse_types, type_from_text, type_text
from securemllib.owner.parts import WRAPPING_PURPOSE, part_key
from securemllib.owner.sources import open_source
from securemllib.owner.writing import _joined
from securemllib.wire.dataset import aad_prefix, part_key_context

TYPES = [
    *(pa.type_for_alias(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)),
    pa.float32(),
    pa.float64(),
    pa.bool_(),
    pa.string(),
    pa.date32(),
    pa.decimal128(9, 2),
    pa.decimal128(38, 0),
    pa.list_(pa.float32()),
    pa.list_(pa.float64()),
    pa.list_(pa.string()),
    pa.list_(pa.int8()),
    pa.list_(pa.int64()),
    pa.list_(pa.uint64()),
    pa.list_(pa.list_(pa.string())),
    pa.list_(pa.list_(pa.int64())),
    pa.timestamp("ms"),
    pa.timestamp("us", tz="UTC"),
    pa.timestamp("ns"),
]
WIDE = Context(prec=38)
MOMENT = datetime(2024, 2, 29, 12, 30, 15, 123000, tzinfo=UTC)


def values(kind: pa.DataType) -> st.SearchStrategy[Any]:
    """Return values of a type, None among them."""
    if pa.types.is_integer(kind):
        low, high = (
            (0, 2**kind.bit_width - 1)
            if pa.types.is_unsigned_integer(kind)
            else (-(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1) - 1)
        )
        plain: st.SearchStrategy[Any] = st.integers(low, high)
    elif pa.types.is_floating(kind):
        plain = st.floats(width=kind.bit_width, allow_nan=False)
    elif pa.types.is_boolean(kind):
        plain = st.booleans()
    elif pa.types.is_string(kind):
        plain = st.text(max_size=8)
    elif pa.types.is_date(kind):
        plain = st.dates()
    elif pa.types.is_decimal(kind):
        plain = st.integers(-(10**kind.precision) + 1, 10**kind.precision - 1).map(lambda digits: Decimal(digits).scaleb(-kind.scale, WIDE))
    elif pa.types.is_list(kind):
        plain = st.lists(values(kind.value_type), max_size=3)
    else:
        plain = st.integers(-(2**40), 2**40)
    return st.none() | plain


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Return small tables of any columns that datasets hold."""
    rows = draw(st.integers(1, 12))
    kinds = draw(st.lists(st.sampled_from(TYPES), min_size=1, max_size=4))
    names = draw(
        st.lists(
            st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6), min_size=len(kinds), max_size=len(kinds), unique=True
        )
    )
    columns = [pa.array(draw(st.lists(values(kind), min_size=rows, max_size=rows)), kind) for kind in kinds]
    return pa.Table.from_arrays(columns, names=names)


def opened(owner, directory: Path) -> pa.Table:
    """Return all rows of a dataset."""
    return pa.concat_tables(reading.open_dataset(directory, owner=owner.identity.public, keystore=owner.keystore).tables())


@given(table=tables(), rows_per_part=st.none() | st.integers(1, 5), size_hiding=st.booleans())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_table_comes_back(owner, tmp_path_factory, sorted_rows, table: pa.Table, rows_per_part: int | None, size_hiding: bool) -> None:
    """Encrypting and decrypting gives the same rows, types and nulls, whatever the columns and the parts are."""
    directory = tmp_path_factory.mktemp("any") / "dataset"
    manifest = owner.encrypt(table, directory, rows_per_part=rows_per_part, size_hiding=size_hiding)
    back = opened(owner, directory)
    assert back.schema == table.schema
    assert sorted_rows(back) == sorted_rows(table)
    assert manifest.rows == table.num_rows
    assert [column.nullable for column in manifest.columns] == [column.null_count > 0 for column in table.columns]


def test_dates_and_decimals_of_a_csv_file_are_kept(owner, tmp_path: Path) -> None:
    """A column of dates is one of dates, and a decimal that is declared keeps every digit."""
    (tmp_path / "rows.csv").write_text("day,price\n2024-02-29,12345678901234567.89\n,0.10\n")
    source = open_source(tmp_path / "rows.csv", types=parse_types("price=decimal(19, 2)"))
    owner.encrypt(source, tmp_path / "dataset")
    back = opened(owner, tmp_path / "dataset").sort_by("price")
    assert back.schema == pa.schema([("day", pa.date32()), ("price", pa.decimal128(19, 2))])
    assert back["day"].to_pylist() == [None, date(2024, 2, 29)]
    assert back["price"].to_pylist() == [Decimal("0.10"), Decimal("12345678901234567.89")]


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_a_type_s_text_names_it(kind: pa.DataType) -> None:
    """The text that a manifest names a type by gives the type back."""
    assert type_from_text(type_text(kind)) == kind


def test_lists_are_stored_in_one_form(owner, tmp_path: Path) -> None:
    """Large and fixed-size lists, nested ones too, and large texts within come back as plain lists of plain texts and the same integers."""
    source = pa.table(
        {
            "large": pa.array([[["a"], []], None], pa.large_list(pa.large_list(pa.large_string()))),
            "fixed": pa.array([[1, 2], [3, None]], pa.list_(pa.field("element", pa.int32(), nullable=True), 2)),
        }
    )
    owner.encrypt(source, tmp_path / "dataset", seed=1)
    back = opened(owner, tmp_path / "dataset")
    assert back.schema == pa.schema([("large", pa.list_(pa.list_(pa.string()))), ("fixed", pa.list_(pa.int32()))])
    rows = {tuple(row["fixed"]): row["large"] for row in back.to_pylist()}
    assert rows == {(1, 2): [["a"], []], (3, None): None}


def test_nan_and_infinity_are_kept(owner, tmp_path: Path) -> None:
    """NaN, infinities and negative zero come back as they are: encryption judges no value."""
    owner.encrypt(pa.table({"x": [math.nan, math.inf, -math.inf, -0.0]}), tmp_path / "dataset", seed=1)
    back = sorted(opened(owner, tmp_path / "dataset")["x"].to_pylist(), key=repr)
    assert [repr(value) for value in back] == ["-0.0", "-inf", "inf", "nan"]


@pytest.mark.parametrize("format_", ["parquet", "csv", "jsonl", "pandas", "reader", "directory"])
def test_every_source_gives_the_same_rows(owner, tmp_path: Path, table: pa.Table, sorted_rows, format_: str) -> None:
    """Parquet, CSV, JSON lines, pandas, a stream of batches and a directory of Parquet files give the rows of the table."""
    source: Any = tmp_path / f"rows.{format_}"
    if format_ == "parquet":
        pq.write_table(table, source)
    elif format_ == "csv":
        pa_csv.write_csv(table, source)
    elif format_ == "jsonl":
        table.to_pandas().to_json(source, orient="records", lines=True, double_precision=15)
    elif format_ == "pandas":
        source = table.to_pandas()
    elif format_ == "reader":
        source = table.to_reader(max_chunksize=7)
    else:
        source.mkdir()
        pq.write_table(table.slice(0, 60), source / "a.parquet")
        pq.write_table(table.slice(60), source / "b.parquet")
    owner.encrypt(source, tmp_path / "dataset")
    back = opened(owner, tmp_path / "dataset").sort_by("id")
    assert back.drop(["weight"]) == table.drop(["weight"])
    # JSON carries 15 digits.
    assert back["weight"].to_pylist() == pytest.approx(table["weight"].to_pylist(), rel=1e-14)


def test_pandas_missing_values_are_nulls(owner, tmp_path: Path) -> None:
    """NaN in a pandas column, which is how pandas writes a missing value, becomes null."""
    frame = pd.DataFrame({"x": [1.0, math.nan], "category": pd.Categorical(["a", None])})
    owner.encrypt(frame, tmp_path / "dataset")
    back = opened(owner, tmp_path / "dataset")
    assert back.schema == pa.schema([("x", pa.float64()), ("category", pa.string())])
    assert [column.null_count for column in back.columns] == [1, 1]


@pytest.mark.parametrize(
    "kind",
    [
        pa.time32("s"),
        pa.decimal256(50, 2),
        pa.decimal128(3, -2),
        pa.binary(),
        pa.list_(pa.bool_()),
        pa.list_(pa.list_(pa.float64())),
        pa.list_(pa.list_(pa.list_(pa.string()))),
        pa.struct([("a", pa.int8())]),
        pa.null(),
    ],
    ids=str,
)
def test_other_types_are_refused(owner, tmp_path: Path, kind: pa.DataType) -> None:
    """A column of a type that datasets do not hold is refused by name before anything is written."""
    source = pa.table({"good": pa.array([1.0]), "bad": pa.nulls(1, kind)})
    with pytest.raises(DataError, match="'bad'"):
        owner.encrypt(source, tmp_path / "dataset")
    assert not (tmp_path / "dataset").exists()
    owner.encrypt(source.select(["good"]), tmp_path / "dataset")


def test_a_part_opens_with_parquet_encryption_alone(owner, tmp_path: Path, table: pa.Table) -> None:
    """A part is a standard encrypted Parquet file: its key and AAD prefix open it, and without the prefix it stays closed."""
    manifest = owner.encrypt(table, tmp_path / "dataset", rows_per_part=100)
    opened_ = reading.open_dataset(tmp_path / "dataset", owner=owner.identity.public, keystore=owner.keystore)
    part = opened_.body.parts[0]
    key = unseal(opened_.secret.derive(WRAPPING_PURPOSE), part_key_context(manifest.dataset_id, 1, 0), part.wrapped_key)
    prefix = aad_prefix(manifest.dataset_id, 1, 0, part.rows, part.salt)
    path = tmp_path / "dataset" / part.file
    assert pq.read_table(path, decryption_properties=pe.create_decryption_properties(key, aad_prefix=prefix)).num_rows == 100
    with pytest.raises(OSError, match="AAD"):
        pq.read_table(path, decryption_properties=pe.create_decryption_properties(key))


def test_columns_without_nulls_store_no_levels(owner, tmp_path: Path) -> None:
    """In its file a column without nulls is one that may have none, which is faster on both sides; to its reader all columns are alike."""
    source = pa.table({"full": pa.array([1.0, 2.0]), "holes": pa.array([1.0, None])})
    owner.encrypt(source, tmp_path / "dataset")
    opened_ = reading.open_dataset(tmp_path / "dataset", owner=owner.identity.public, keystore=owner.keystore)
    (part,) = opened_.body.parts
    key = part_key(part, secret=opened_.secret, dataset_id=opened_.manifest.dataset_id, version=1)
    schema = pq.read_schema(tmp_path / "dataset" / part.file, decryption_properties=key.decryption())
    assert {field.name: field.nullable for field in schema} == {"full": False, "holes": True}
    assert all(field.nullable for field in opened_.table(part).schema)


SPARSE, EMPTY = ({"type": 0, "size": 4, "indices": [1, 3], "values": [1.5, 2.0]}, {"type": 0, "size": 4, "indices": [], "values": []})
DENSE, HOLE = ({"type": 1, "size": None, "indices": None, "values": [1.0, value, 3.0, 4.0]} for value in (0.0, None))


@pytest.mark.parametrize(
    ("rows", "are_bytes"),
    [
        ([SPARSE, EMPTY, SPARSE], True),
        ([DENSE, DENSE], True),
        ([EMPTY], True),
        ([SPARSE, None, DENSE, None, EMPTY], True),
        ([None, None], True),
        ([HOLE, HOLE], False),
    ],
)
def test_vectors_lie_in_parts_as_bytes(owner, tmp_path: Path, rows: list[object], *, are_bytes: bool) -> None:
    """Sparse, dense, mixed and null vectors come back as they were; in the file their lists are bytes, but where a number is null."""
    source = pa.table({"f": pa.concat_arrays([pa.array([SPARSE], VECTOR), pa.array(rows * 3, VECTOR)])[1:]})
    owner.encrypt(source, tmp_path / "dataset", rows_per_part=2)
    opened_ = reading.open_dataset(tmp_path / "dataset", owner=owner.identity.public, keystore=owner.keystore)
    for part in opened_.body.parts:
        key = part_key(part, secret=opened_.secret, dataset_id=opened_.manifest.dataset_id, version=1)
        stored = pq.read_schema(tmp_path / "dataset" / part.file, decryption_properties=key.decryption()).field("f").type
        assert (stored == PACKED) is are_bytes
        opened_.table(part).validate(full=True)
    assert sorted(map(repr, opened(owner, tmp_path / "dataset")["f"].to_pylist())) == sorted(map(repr, rows * 3))


@pytest.mark.parametrize("kind", [pa.float32(), pa.bool_(), pa.string(), pa.list_(pa.float64())])
@pytest.mark.parametrize("has_nulls", [False, True])
def test_batches_are_joined_whatever_they_hold(kind: pa.DataType, *, has_nulls: bool) -> None:
    """Batches of one table are joined in place where their memory is one; others, in any order, are copied: the rows are the same."""
    values = [
        [float(number)] if pa.types.is_list(kind) else number % 2 == 0 if pa.types.is_boolean(kind) else number for number in range(20)
    ]
    whole = pa.array([None if has_nulls and not number % 3 else value for number, value in enumerate(values)]).cast(kind)
    cut = [whole.slice(2, 5), whole.slice(7, 1), whole.slice(8, 9)]
    assert _joined(cut).equals(whole.slice(2, 15))
    assert pa.types.is_list(kind) or _joined(cut).buffers()[-1].address == whole.buffers()[-1].address
    for others in ([cut[0], cut[2]], [cut[1], cut[0]], [whole.slice(0, 3), pa.concat_arrays([whole.slice(3)])]):
        assert _joined(others).equals(pa.concat_arrays(others))


def test_rows_are_shuffled(owner, tmp_path: Path) -> None:
    """The order of the source is gone, and a seed repeats a shuffle."""
    source = pa.table({"id": list(range(1000))})
    orders = []
    for name, seed in (("a", 7), ("b", 7), ("c", None)):
        owner.encrypt(source, tmp_path / name, seed=seed)
        orders.append(opened(owner, tmp_path / name)["id"].to_pylist())
    assert orders[0] == orders[1]
    assert list(range(1000)) not in orders
    assert orders[0] != orders[2]
    assert sorted(orders[2]) == list(range(1000))


def test_parts_have_equal_rows(owner, tmp_path: Path) -> None:
    """Rows are dealt evenly: at most as many a part as asked for, and no part more than one row above another."""
    owner.encrypt(pa.table({"id": list(range(1000))}), tmp_path / "dataset", rows_per_part=300)
    described = reading.inspect(tmp_path / "dataset", owner=owner.identity.public, keystore=owner.keystore)
    assert described["part_rows"] == [250, 250, 250, 250]


def test_hidden_sizes_do_not_tell_texts_apart(owner, tmp_path: Path) -> None:
    """With size hiding, parts of short and of longer texts have the same length; without it they do not."""
    lengths: dict[bool, set[int]] = {True: set(), False: set()}
    for size_hiding in lengths:
        for size in (1, 20):
            directory = tmp_path / f"{size_hiding}-{size}"
            manifest = owner.encrypt(pa.table({"text": ["x" * size] * 1000}), directory, size_hiding=size_hiding, rows_per_part=1000)
            lengths[size_hiding] |= {part.length for part in manifest.parts}
    assert len(lengths[True]) == 1
    assert len(lengths[False]) == 2


@pytest.mark.parametrize("rows", [1, 700, 5_000, 21_000, 90_000, 300_000])
def test_hidden_sizes_are_steps(owner, tmp_path: Path, rows: int) -> None:
    """Whatever the size, a padded file's length is a multiple of 64 KiB, with few significant bits, and of at most an eighth more."""
    source = pa.table({"x": [float(row) for row in range(rows)]})
    length = owner.encrypt(source, tmp_path / "hidden", size_hiding=True, rows_per_part=rows).parts[0].length
    plain = owner.encrypt(source, tmp_path / "open", rows_per_part=rows).parts[0].length
    assert length % max(2**16, 2 ** length.bit_length() // 16) == 0
    assert plain < length <= max(plain * 9 / 8, plain + 2**16) + 2**15


def test_clear_section_shows_only_what_it_may(owner, tmp_path: Path, table: pa.Table) -> None:
    """The owner can keep columns and row count out of the clear section, and still sees them with keys."""
    owner.encrypt(table, tmp_path / "open")
    owner.encrypt(table, tmp_path / "hidden", hide_columns=True, hide_rows=True)
    assert reading.inspect(tmp_path / "open")["rows"] == 100
    described = reading.inspect(tmp_path / "hidden")
    assert (described["rows"], described["columns"], described["verified"]) == (None, [], False)
    assert b"weight" not in (tmp_path / "hidden" / reading.MANIFEST_FILE).read_bytes()
    assert b"weight" in (tmp_path / "open" / reading.MANIFEST_FILE).read_bytes()
    sealed = reading.inspect(tmp_path / "hidden", owner=owner.identity.public, keystore=owner.keystore)
    assert (sealed["rows"], len(sealed["columns"]), sealed["verified"]) == (100, 3, True)


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_decrypting_to_a_file(owner, tmp_path: Path, table: pa.Table, suffix: str) -> None:
    """A dataset decrypts to Parquet and CSV with all its rows, and never over an existing file."""
    owner.encrypt(table, tmp_path / "dataset", rows_per_part=30)
    target = tmp_path / f"clear{suffix}"
    assert reading.decrypt(tmp_path / "dataset", target, owner=owner.identity.public, keystore=owner.keystore) == 100
    back = (pq.read_table if suffix == ".parquet" else pa_csv.read_csv)(target)
    assert back.sort_by("id") == table
    with pytest.raises(UsageError, match="exists"):
        reading.decrypt(tmp_path / "dataset", target, owner=owner.identity.public, keystore=owner.keystore)


def test_appending_makes_the_next_version(owner, tmp_path: Path, table: pa.Table) -> None:
    """Appending gives version 2 of the same dataset, which names version 1 and holds the rows of both."""
    first = owner.encrypt(table.slice(0, 60), tmp_path / "v1")
    second = dataset.append(table.slice(60), tmp_path / "v1", tmp_path / "v2", identity=owner.identity, keystore=owner.keystore)
    assert (second.dataset_id, second.version, second.previous) == (first.dataset_id, 2, first.reference.digest)
    assert opened(owner, tmp_path / "v2").sort_by("id") == table


def test_appending_other_columns_is_refused(owner, tmp_path: Path, table: pa.Table) -> None:
    """Rows with other columns are not appended, and version 1 stays the latest."""
    owner.encrypt(table, tmp_path / "v1")
    with pytest.raises(DataError, match="columns"):
        dataset.append(table.drop(["name"]), tmp_path / "v1", tmp_path / "v2", identity=owner.identity, keystore=owner.keystore)
    assert not (tmp_path / "v2").exists()
    reading.verify(tmp_path / "v1", owner=owner.identity.public, keystore=owner.keystore)


def test_progress_is_told(owner, tmp_path: Path, table: pa.Table) -> None:
    """The progress function hears of growing row counts up to the last row, out of all rows."""
    told: list[tuple[int, int | None]] = []
    report: Callable[[int, int | None], None] = lambda done, total: told.append((done, total))  # noqa: E731
    owner.encrypt(table, tmp_path / "dataset", rows_per_part=25, progress=report)
    assert told == [(25, 100), (50, 100), (75, 100), (100, 100)]
