"""Do other readers of Parquet's encryption open what an owner hands them, and do datasets begin from what such writers wrote?"""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest
from tests.owner.conftest import Owner

from securemllib.errors import DataError, IntegrityError, UsageError
from securemllib.owner import interop, reading
from securemllib.owner.parquet_keys import ParquetKeys
from securemllib.owner.sources import open_source

SortedRows = Callable[[pa.Table], list[dict[str, object]]]
MANY = pa.table(
    {
        "whole": pa.array([1, None, 3], pa.int32()),
        "text": ["a", "", None],
        "flag": [True, None, False],
        "vector": pa.array([[1.0, 2.0], [], None], pa.list_(pa.float64())),
        "moment": pa.array([0, 1, None], pa.timestamp("us", tz="UTC")),
        "day": pa.array([0, 1, None], pa.date32()),
        "price": pa.array([None, 1, 2], pa.int64()).cast(pa.decimal128(20, 0)).cast(pa.decimal128(22, 2)),
    }
)


@pytest.fixture
def dataset(owner: Owner, table: pa.Table, tmp_path: Path) -> Path:
    """A dataset of four parts."""
    (tmp_path / "storage").mkdir()
    owner.encrypt(table, tmp_path / "storage" / "dataset", rows_per_part=25)
    return tmp_path / "storage" / "dataset"


def hand_out(owner: Owner, dataset: Path, keys: Path, **options: Any) -> dict[str, Any]:
    """Hand out keys of parts and return the entries of the file."""
    interop.hand_out_keys(dataset, keys, owner=owner.identity.public, keystore=owner.keystore, **options)
    return {entry["file"]: entry for entry in json.loads(keys.read_text())["files"]}


def duckdb_rows(path: Path, key: str, columns: list[str]) -> pa.Table:
    """Return columns of a file as DuckDB reads them with a key in base64."""
    with duckdb.connect() as connection:
        connection.execute(f"PRAGMA add_parquet_key('key', '{key}')")
        found = connection.sql(
            f"SELECT {', '.join(columns)} FROM read_parquet('{path}', encryption_config = {{footer_key: 'key'}})"
        ).to_arrow_table()
        return found.cast(pa.schema([field.with_nullable(True) for field in found.schema]))


def write_encrypted(table: pa.Table, path: Path, keys: Path, **options: Any) -> Path:
    """Write what another program would have: an encrypted Parquet file, and a file with its key."""
    key, prefix = b"k" * 32, options.get("aad_prefix", b"")
    properties = pe.create_encryption_properties(key, **options)
    pq.write_table(table, path, encryption_properties=properties)
    entry = {"file": "*", "footer_key": base64.b64encode(key).decode(), "aad_prefix": base64.b64encode(prefix).decode()}
    keys.touch(0o600)
    keys.write_text(json.dumps({"format": "securemllib/parquet-keys/v1", "files": [entry]}))
    return keys


def test_polars_and_pyarrow_open_parts_with_their_keys(
    owner: Owner, dataset: Path, tmp_path: Path, table: pa.Table, sorted_rows: SortedRows
) -> None:
    """Every part opens with its handed out key and AAD prefix, in polars and in pyarrow, to the owner's rows."""
    entries = hand_out(owner, dataset, tmp_path / "keys.json")
    by_polars, by_pyarrow = [], []
    for name, entry in entries.items():
        key, prefix = base64.b64decode(entry["footer_key"]), base64.b64decode(entry["aad_prefix"])
        decryption = pl.ParquetDecryptionProperties(footer_key=key, aad_prefix=prefix)
        by_polars.append(pl.read_parquet(dataset / name, decryption=decryption).to_arrow())
        by_pyarrow.append(pq.read_table(dataset / name, decryption_properties=pe.create_decryption_properties(key, aad_prefix=prefix)))
    assert len(entries) == 4
    assert sorted_rows(pa.concat_tables(by_polars)) == sorted_rows(pa.concat_tables(by_pyarrow)) == sorted_rows(table)


def test_a_key_opens_its_part_only(owner: Owner, dataset: Path, tmp_path: Path) -> None:
    """The key of one part, with its own prefix or another's, opens no other part."""
    entries = hand_out(owner, dataset, tmp_path / "keys.json", parts=[1, 2])
    assert set(entries) == {"part-00001.parquet", "part-00002.parquet"}
    first, second = entries.values()
    key = base64.b64decode(first["footer_key"])
    for prefix in (first["aad_prefix"], second["aad_prefix"]):
        decryption = pl.ParquetDecryptionProperties(footer_key=key, aad_prefix=base64.b64decode(prefix))
        with pytest.raises(pl.exceptions.ComputeError, match="decrypt"):
            pl.read_parquet(dataset / second["file"], decryption=decryption)


def test_duckdb_opens_no_part_and_says_so(owner: Owner, dataset: Path, tmp_path: Path) -> None:
    """DuckDB has no way to supply an AAD prefix, so it refuses a part although it has the key: the documentation says to export."""
    entry = hand_out(owner, dataset, tmp_path / "keys.json")["part-00000.parquet"]
    with pytest.raises(duckdb.InvalidInputException, match="AES tag"):
        duckdb_rows(dataset / entry["file"], entry["footer_key"], ["id"])


def test_duckdb_polars_and_pyarrow_open_an_export(owner: Owner, tmp_path: Path, sorted_rows: SortedRows) -> None:
    """An export opens with its key alone in all three, but for lists in DuckDB, as documented; its key is none of the dataset's."""
    owner.encrypt(MANY, tmp_path / "dataset", rows_per_part=2)
    (tmp_path / "mine").mkdir()
    parts = hand_out(owner, tmp_path / "dataset", tmp_path / "mine" / "parts.json")
    keys, target = tmp_path / "mine" / "export.json", tmp_path / "out" / "rows.parquet"
    target.parent.mkdir()
    assert interop.export(tmp_path / "dataset", target, keys, owner=owner.identity.public, keystore=owner.keystore) == 3
    (entry,) = json.loads(keys.read_text())["files"]
    key = base64.b64decode(entry["footer_key"])
    expected = sorted_rows(MANY)
    assert sorted_rows(pq.read_table(target, decryption_properties=pe.create_decryption_properties(key))) == expected
    by_polars = pl.read_parquet(target, decryption=pl.ParquetDecryptionProperties(footer_key=key)).to_arrow()
    assert sorted_rows(by_polars) == expected
    flat = [name for name in MANY.column_names if name != "vector"]
    assert sorted_rows(duckdb_rows(target, entry["footer_key"], flat)) == sorted_rows(MANY.select(flat))
    with pytest.raises(duckdb.InvalidInputException, match="AES tag"):
        duckdb_rows(target, entry["footer_key"], ["vector"])
    assert entry["footer_key"] not in {part["footer_key"] for part in parts.values()}
    assert entry["aad_prefix"] == ""


def test_duckdb_opens_long_columns_of_an_export(owner: Owner, tmp_path: Path) -> None:
    """A column of more rows and bytes than a page usually takes opens whole."""
    rows = 60_000
    owner.encrypt(pa.table({"text": [f"{row:032d}" for row in range(rows)]}), tmp_path / "dataset", rows_per_part=rows)
    (tmp_path / "mine").mkdir()
    target, keys = tmp_path / "rows.parquet", tmp_path / "mine" / "keys.json"
    interop.export(tmp_path / "dataset", target, keys, owner=owner.identity.public, keystore=owner.keystore)
    (entry,) = json.loads(keys.read_text())["files"]
    assert len(set(duckdb_rows(target, entry["footer_key"], ["text"])["text"].to_pylist())) == rows


def test_files_of_keys_are_private_and_lie_apart(owner: Owner, dataset: Path, tmp_path: Path) -> None:
    """A file of keys has mode 0600, is never overwritten, never lies beside what it opens, and is not read where others can read it."""
    keys = tmp_path / "keys.json"
    hand_out(owner, dataset, keys)
    assert keys.stat().st_mode & 0o777 == 0o600
    ParquetKeys.read(keys)
    with pytest.raises(UsageError, match="exists"):
        hand_out(owner, dataset, keys)
    with pytest.raises(UsageError, match="lies beside"):
        hand_out(owner, dataset, dataset / "keys.json")
    with pytest.raises(UsageError, match="lies beside"):
        interop.export(dataset, tmp_path / "rows.parquet", tmp_path / "rows.keys", owner=owner.identity.public, keystore=owner.keystore)
    keys.chmod(0o640)
    with pytest.raises(UsageError, match="read by others"):
        ParquetKeys.read(keys)


def test_only_the_owner_hands_out_keys_of_parts_that_exist(owner: Owner, other_owner: Owner, dataset: Path, tmp_path: Path) -> None:
    """Another owner's keystore has nothing to hand out, and a part that does not exist is named."""
    with pytest.raises(UsageError, match="no secret"):
        interop.hand_out_keys(dataset, tmp_path / "k", owner=owner.identity.public, keystore=other_owner.keystore)
    with pytest.raises(UsageError, match="from 0 to 3"):
        hand_out(owner, dataset, tmp_path / "k", parts=[4])
    assert not (tmp_path / "k").exists()


@pytest.mark.parametrize(
    "options", [{}, {"aad_prefix": b"p" * 8, "store_aad_prefix": True}, {"aad_prefix": b"p" * 8, "store_aad_prefix": False}]
)
def test_encrypted_parquet_becomes_a_dataset(
    owner: Owner, tmp_path: Path, table: pa.Table, sorted_rows: SortedRows, options: dict[str, Any]
) -> None:
    """A Parquet file under its own key, without a prefix, with a stored and with a supplied one, is encrypted anew as a dataset."""
    keys = write_encrypted(table, tmp_path / "source.parquet", tmp_path / "keys.json", **options)
    source = open_source(tmp_path / "source.parquet", keys=ParquetKeys.read(keys))
    owner.encrypt(source, tmp_path / "dataset")
    reading.decrypt(tmp_path / "dataset", tmp_path / "out.parquet", owner=owner.identity.public, keystore=owner.keystore)
    assert sorted_rows(pq.read_table(tmp_path / "out.parquet")) == sorted_rows(table)


def test_a_file_that_polars_encrypted_is_read(tmp_path: Path, table: pa.Table) -> None:
    """What polars writes under a key and a prefix that it does not store is a source, too."""
    keys = write_encrypted(table, tmp_path / "ignored.parquet", tmp_path / "keys.json", aad_prefix=b"prefix")
    encryption = pl.ParquetEncryptionProperties(footer_key=b"k" * 32, aad_prefix=b"prefix")
    pl.DataFrame(table).write_parquet(tmp_path / "polars.parquet", encryption=encryption)
    source = open_source(tmp_path / "polars.parquet", keys=ParquetKeys.read(keys))
    assert pa.Table.from_batches(source.batches).to_pydict() == table.to_pydict()


def test_a_changed_source_is_refused(tmp_path: Path, table: pa.Table) -> None:
    """A source with another key or prefix, or with a flipped bit in a page, is refused; the same source as it was is read."""
    path = tmp_path / "source.parquet"
    keys = ParquetKeys.read(write_encrypted(table, path, tmp_path / "keys.json", aad_prefix=b"one", store_aad_prefix=False))
    other = ParquetKeys.read(write_encrypted(table, tmp_path / "other.parquet", tmp_path / "other.json", aad_prefix=b"two"))
    with pytest.raises(IntegrityError, match="does not open"):
        open_source(path, keys=other)
    assert sum(batch.num_rows for batch in open_source(path, keys=keys).batches) == table.num_rows
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match="was changed"):
        list(open_source(path, keys=keys).batches)


def test_weaker_forms_of_encryption_are_refused(tmp_path: Path, table: pa.Table) -> None:
    """Pages without tags (GCM_CTR), a footer in the clear, and no encryption at all are refused where keys are given; GCM is read."""
    weak, clear, plain = tmp_path / "weak.parquet", tmp_path / "clear.parquet", tmp_path / "plain.parquet"
    keys = ParquetKeys.read(write_encrypted(table, weak, tmp_path / "keys.json", encryption_algorithm="AES_GCM_CTR_V1"))
    write_encrypted(table, clear, tmp_path / "clear.json", plaintext_footer=True)
    pq.write_table(table, plain)
    for path, reason in ((weak, "AES_GCM_V1"), (clear, "encrypted footer"), (plain, "encrypted footer")):
        with pytest.raises(DataError, match=reason):
            open_source(path, keys=keys)
    write_encrypted(table, tmp_path / "strong.parquet", tmp_path / "strong.json")
    assert open_source(tmp_path / "strong.parquet", keys=keys).rows == table.num_rows
    with pytest.raises(DataError, match="without keys"):
        open_source(tmp_path / "strong.parquet")


@pytest.mark.parametrize(
    "text",
    ["no json", "[]", '{"format": "other", "files": []}', '{"format": "securemllib/parquet-keys/v1", "files": []}', '{"files": [{}]}']
    + [
        json.dumps({"format": "securemllib/parquet-keys/v1", "files": [entry]})
        for entry in ({}, {"file": "a", "footer_key": "AAAA"}, {"file": "a", "footer_key": "?"})
    ],
)
def test_a_malformed_file_of_keys_is_refused(tmp_path: Path, text: str) -> None:
    """What is no file of keys is refused, and the error repeats nothing of it."""
    path = tmp_path / "keys.json"
    path.touch(0o600)
    path.write_text(text)
    with pytest.raises(UsageError, match="no file of Parquet keys"):
        ParquetKeys.read(path)
