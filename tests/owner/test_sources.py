"""Are text files read with the right types, and are misfits told without telling values?"""

import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from securemllib.errors import DataError, SecureMLlibError, UsageError
from securemllib.owner.column_types import parse_types
from securemllib.owner.sources import open_source

# Large enough that the last line is far behind the bytes that types are inferred from.
MANY = 2_200_000


def rows_of(path: Path, **options: object) -> pa.Table:
    """Read a file whole."""
    source = open_source(path, **options)
    return pa.Table.from_batches(source.batches, source.schema)


def test_types_are_inferred_and_told(tmp_path: Path) -> None:
    """Undeclared columns get the types of their values, and the source says which it inferred."""
    path = tmp_path / "rows.csv"
    path.write_text("i,f,b,s,t,d\n1,1.5,true,x,2024-01-02 03:04:05,2024-01-02\n")
    inferred = {"i": "int64", "f": "double", "b": "bool", "s": "string", "t": "timestamp[ms]", "d": "date32[day]"}
    assert open_source(path).inferred == inferred
    assert rows_of(path).num_rows == 1
    declared = open_source(path, types=parse_types("i=float32, s=string,t=timestamp[us]"))
    assert set(declared.inferred) == {"f", "b", "d"}
    assert declared.schema.field("i").type == pa.float32()
    assert declared.schema.field("t").type == pa.timestamp("us")
    assert parse_types("a=timestamp[us, tz=UTC],b=int8") == {"a": pa.timestamp("us", tz="UTC"), "b": pa.int8()}


def test_ids_of_more_than_64_bits_are_not_rounded(tmp_path: Path) -> None:
    """An id that a double does not hold stops the reading where the type is not declared; one that it holds does not."""
    path = tmp_path / "rows.csv"
    path.write_text("id,f\n1,0.5\n18446744073709551615,2\n")
    with pytest.raises(DataError, match=r"'id' of .* has integers") as refused:
        open_source(path)
    assert refused.value.error_code == "data.type"
    assert rows_of(path, types=parse_types("id=uint64"))["id"].to_pylist() == [1, 2**64 - 1]
    assert rows_of(path, types=parse_types("id=double"))["id"].to_pylist() == [1.0, 2.0**64]
    path.write_text("id,f\n1.5,0.5\n18446744073709551616,-10000000000000000\n")
    assert rows_of(path)["id"].to_pylist() == [1.5, 2.0**64]


def test_declared_null_values(tmp_path: Path) -> None:
    """Declared texts mean null in every column; without them an empty text stays a text and an empty number is null."""
    path = tmp_path / "rows.csv"
    path.write_text("n,s\n1,x\n-,-\n")
    declared = rows_of(path, null_values=["-"])
    assert declared.to_pydict() == {"n": [1, None], "s": ["x", None]}
    path.write_text("n,s\n1,x\n,\n")
    assert rows_of(path).to_pydict() == {"n": [1, None], "s": ["x", ""]}


@pytest.mark.parametrize(
    ("name", "good", "bad", "where"),
    [
        ("rows.csv", "a,b\n" + "1,2\n" * MANY, "1,s3cret\n", f"row {MANY + 2} .*column 2"),
        ("rows.csv", "a,b\n" + "1,2\n" * MANY, "1,2,s3cret\n", f"row {MANY + 2} .*3 values where 2"),
        ("rows.csv", "a,b\n1,2\n", "1,2,s3cret\n", "row 3 .*3 values where 2"),
        ("rows.jsonl", '{"a":1}\n' * MANY, '{"a":"s3cret"}\n', f"row {MANY + 1}, column 'a'"),
        ("rows.jsonl", '{"a":1}\n' * MANY, '{"a":1,"b":"s3cret"}\n', "field that the first rows do not have"),
        ("rows.jsonl", '{"a":1}\n', '{"a":"s3cret"}\n', "row 2, column 'a'"),
        ("rows.jsonl", '{"a":1}\n', '{"s3cret\n', "row 2"),
    ],
)
def test_a_misfit_is_told_by_its_place(tmp_path: Path, name: str, good: str, bad: str, where: str) -> None:
    """A line that does not fit is refused by row and column and its value is not told, however late it comes; without it all is read."""
    path = tmp_path / name
    path.write_text(good)
    assert rows_of(path).num_rows == good.count("\n") - name.endswith("csv")
    path.write_text(good + bad)
    with pytest.raises(DataError, match=where) as caught:
        rows_of(path)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_compressed_text_is_read(tmp_path: Path) -> None:
    """A gzip-compressed CSV file gives its rows."""
    with pa.CompressedOutputStream(str(tmp_path / "rows.csv.gz"), "gzip") as stream:
        stream.write(b"a\n1\n2\n")
    assert rows_of(tmp_path / "rows.csv.gz")["a"].to_pylist() == [1, 2]


def test_lines_longer_than_a_block_are_read(tmp_path: Path) -> None:
    """A file whose lines have 2 MB is read: blocks are made for a file's longest lines."""
    (tmp_path / "rows.csv").write_text("a,b\n" + f"1,{'x' * 2_000_000}\n" * 3)
    assert rows_of(tmp_path / "rows.csv").num_rows == 3


@pytest.mark.parametrize(
    "text", ["a", "a=", "=int64", "a=decimal", "a=decimal(39, 2)", "a=decimal(2, 3)", "a=decimal(0, 0)", "a=timestamp[h]", "a=list<bool>"]
)
def test_odd_declarations_are_refused(text: str) -> None:
    """A declaration without a name or of an unknown type is refused; a good one beside it is not."""
    assert parse_types("a=int64,b=list<list<int64>>") == {"a": pa.int64(), "b": pa.list_(pa.list_(pa.int64()))}
    with pytest.raises(UsageError):
        parse_types(f"b=double,{text}")


@pytest.mark.parametrize("source", ["missing.csv", "unknown.xyz", "empty.csv", "empty-directory", "text.parquet"])
def test_what_is_no_source_is_refused(tmp_path: Path, source: str) -> None:
    """A missing, unknown, empty or mislabelled file is refused with an error of ours."""
    (tmp_path / "unknown.xyz").write_text("a\n1\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "text.parquet").write_text("a\n1\n")
    (tmp_path / "empty-directory").mkdir()
    with pytest.raises(SecureMLlibError):
        open_source(tmp_path / source)


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("rows.csv", "a;b\n1;2\n", "data.delimiter"),
        ("rows.tsv", "a,b\n1,2\n", "data.delimiter"),
        ("rows.csv", "a,b\n", "data.no_rows"),
        ("rows.csv", '"a,b"\n1\n', ""),
        ("rows.tsv", "a;\tb\n1\t2\n", ""),
    ],
)
def test_a_table_that_was_not_meant_is_refused(tmp_path: Path, name: str, text: str, code: str) -> None:
    """Other separators and a header without rows are told as such; what looks like them and is a table is read."""
    (tmp_path / name).write_text(text)
    if not code:
        assert rows_of(tmp_path / name).num_rows == 1
        return
    with pytest.raises(DataError) as raised:
        open_source(tmp_path / name)
    assert raised.value.error_code == code


def test_declarations_for_other_sources_are_refused(tmp_path: Path) -> None:
    """Types of an unknown column, and types or nulls of a source that has its own, are refused instead of ignored."""
    (tmp_path / "rows.csv").write_text("a\n1\n")
    assert rows_of(tmp_path / "rows.csv", types=parse_types("a=double"))["a"].to_pylist() == [1.0]
    with pytest.raises(UsageError, match=r"does not have: \['b'\]"):
        open_source(tmp_path / "rows.csv", types=parse_types("b=double"))
    with pytest.raises(UsageError, match="CSV and JSON files only"):
        open_source(pa.table({"a": [1]}), types=parse_types("a=double"))
    with pytest.raises(UsageError, match="no source"):
        open_source(42)


def test_text_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    """A text column in another encoding is refused with the advice to convert the file."""
    (tmp_path / "rows.csv").write_bytes("name,age\nMüller,1\n".encode("cp1252"))
    with pytest.raises(DataError) as raised:
        rows_of(tmp_path / "rows.csv")
    assert "UTF-8" in raised.value.next_step


def test_quoted_texts_of_several_lines_are_read_whole(tmp_path: Path) -> None:
    """A quoted text may have line ends, also where Arrow cuts blocks and behind the bytes that types are inferred from."""
    path = tmp_path / "notes.csv"
    path.write_text("i,s\n" + "".join(f'{row},"first line of {row}\nsecond line"\n' for row in range(300_000)))
    found = rows_of(path)
    assert found["i"].to_pylist() == list(range(300_000))
    assert found["s"][299_999].as_py() == "first line of 299999\nsecond line"


@pytest.mark.parametrize("start", ["i,s\n1,", "i,s\n" + "1,y\n" * 100 + "1,"], ids=["first", "later"])
def test_a_row_that_is_too_long_is_told_as_that(tmp_path: Path, start: str) -> None:
    """A row that is longer than what is read at once is named as such, not as a value of a wrong type; a shorter one is read."""
    path = tmp_path / "long.csv"
    path.write_text(start + "x" * 500_000 + "\n")
    assert rows_of(path)["s"].to_pylist()[-1] == "x" * 500_000
    path.write_text(start + "x" * 9_000_000 + "\n")
    with pytest.raises(DataError, match="too long") as caught:
        rows_of(path)
    assert caught.value.error_code == "data.row"


@pytest.mark.parametrize(
    ("frame", "code"),
    [(pd.DataFrame([[1, 2]], columns=["a", "a"]), "data.column_twice"), (pd.DataFrame({"a": [2**70]}), "data.type")],
    ids=["column twice", "70 bits"],
)
def test_what_a_frame_cannot_hold_in_columns_is_an_error_with_a_code(frame: pd.DataFrame, code: str) -> None:
    """Two columns of one name and integers beyond 64 bits are told like other data that does not fit, not in pandas' or Arrow's way."""
    with pytest.raises(DataError) as caught:
        open_source(frame)
    assert caught.value.error_code == code
    assert open_source(pd.DataFrame({"a": [2**62]})).rows == 1


@pytest.mark.parametrize("odd", ["9007199254740993, 0.5", "123456789012345678901234", "9" * 5000], ids=["double", "80 bits", "5000 digits"])
def test_integers_of_json_are_not_rounded_unasked(tmp_path: Path, odd: str) -> None:
    """An integer that neither 64 bits nor doubles hold is refused; those of 64 bits, and doubles without loss, are read."""
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"i": {2**63 - 1}}}\n')
    assert rows_of(path)["i"].to_pylist() == [2**63 - 1]
    path.write_text("".join(f'{{"i": {number.strip()}}}\n' for number in odd.split(",")))
    with pytest.raises(DataError) as caught:
        rows_of(path)
    assert caught.value.error_code in {"data.type", "data.value"}
    path.write_text('{"i": 18446744073709551616}\n{"i": 0.5}\n')
    assert rows_of(path)["i"].to_pylist() == [2.0**64, 0.5]


def test_a_pipe_is_refused_by_name(tmp_path: Path) -> None:
    """Rows are read more than once, which a pipe does not allow: nobody waits for it, and a file of its name is read."""
    path = tmp_path / "rows.csv"
    os.mkfifo(path)
    with pytest.raises(UsageError) as caught:
        open_source(path)
    assert caught.value.error_code == "usage.pipe"
    path.unlink()
    path.write_text("a\n1\n")
    assert rows_of(path)["a"].to_pylist() == [1]
