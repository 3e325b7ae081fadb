"""Does a dataset grow by parts without touching those that are there?"""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.owner.conftest import Owner
from tests.owner.test_command_line import home, run

from securemllib.errors import DataError, FreshnessError, IntegrityError
from securemllib.owner import dataset, reading
from securemllib.owner.dataset import Layout
from securemllib.wire.dataset import Manifest

__all__ = ["home"]

SortedRows = Callable[[pa.Table], list[dict[str, object]]]


def rows_in(owner: Owner, directory: Path) -> pa.Table:
    """Return all rows of a dataset."""
    opened = reading.open_dataset(directory, owner=owner.identity.public, keystore=owner.keystore)
    return pa.concat_tables(opened.tables(whole=True))


def extend(owner: Owner, table: object, directory: Path, **layout: int) -> Manifest:
    """Add rows with this owner's keys."""
    return dataset.extend(table, directory, identity=owner.identity, keystore=owner.keystore, layout=Layout(**layout))


def test_a_dataset_grows_by_new_parts(owner: Owner, table: pa.Table, tmp_path: Path, sorted_rows: SortedRows) -> None:
    """Twice extended, a dataset has all rows, each version follows the one before, and no byte of an earlier part has changed."""
    path = tmp_path / "dataset"
    first = owner.encrypt(table, path, rows_per_part=50)
    before = {file.name: file.read_bytes() for file in path.glob("*.parquet")}
    second = extend(owner, table.slice(0, 30), path, rows_per_part=20)
    third = extend(owner, table.slice(0, 5), path)
    assert (second.version, third.version, len(third.parts)) == (2, 3, 5)
    assert (second.previous, third.previous) == (first.reference.digest, second.reference.digest)
    assert before == {name: (path / name).read_bytes() for name in before}
    assert sorted_rows(rows_in(owner, path)) == sorted_rows(pa.concat_tables([table, table.slice(0, 30), table.slice(0, 5)]))
    assert third.rows == 135
    assert sorted(item.name for item in path.iterdir()) == ["manifest.sml", *(f"part-{number:05d}.parquet" for number in range(5))]


def test_what_is_hidden_stays_hidden(owner: Owner, table: pa.Table, tmp_path: Path) -> None:
    """An extended dataset tells of columns and rows what it told before, and no more."""
    owner.encrypt(table, tmp_path / "hidden", hide_columns=True, hide_rows=True)
    owner.encrypt(table, tmp_path / "open")
    hidden, shown = extend(owner, table, tmp_path / "hidden"), extend(owner, table, tmp_path / "open")
    assert (hidden.columns, hidden.rows, len(shown.columns), shown.rows) == ((), None, 3, 200)


def test_other_columns_and_no_rows_are_refused(owner: Owner, table: pa.Table, tmp_path: Path, sorted_rows: SortedRows) -> None:
    """What does not fit leaves the dataset as it was, also where it fails after parts were written."""
    path = tmp_path / "dataset"
    owner.encrypt(table, path)

    def broken() -> pa.RecordBatchReader:
        yield table.to_batches()[0]
        raise OSError("the source is gone")

    with pytest.raises(DataError):
        extend(owner, table.drop_columns(["name"]), path)
    with pytest.raises(DataError):
        extend(owner, table.slice(0, 0), path)
    with pytest.raises(OSError, match="gone"):
        extend(owner, pa.RecordBatchReader.from_batches(table.schema, broken()), path, rows_per_part=10)
    assert sorted_rows(rows_in(owner, path)) == sorted_rows(table)
    assert extend(owner, table, path).version == 2


def test_an_older_manifest_is_refused(owner: Owner, table: pa.Table, tmp_path: Path) -> None:
    """The manifest from before is no longer the latest version, although all of its parts are there."""
    path = tmp_path / "dataset"
    owner.encrypt(table, path)
    old = (path / "manifest.sml").read_bytes()
    extend(owner, table, path)
    assert rows_in(owner, path).num_rows == 200
    (path / "manifest.sml").write_bytes(old)
    with pytest.raises(FreshnessError):
        rows_in(owner, path)


def test_parts_of_two_versions_do_not_take_each_others_place(owner: Owner, table: pa.Table, tmp_path: Path) -> None:
    """A kept part in a new one's place, or the other way round, is refused, also where rows and lengths are the same."""
    path = tmp_path / "dataset"
    numbers = table.select(["id"])
    owner.encrypt(numbers, path)
    extend(owner, numbers, path, rows_per_part=100)
    names = [part.file for part in reading.read_manifest(path)[1].parts]
    assert rows_in(owner, path).num_rows == 200
    first, last = (path / names[0]).read_bytes(), (path / names[-1]).read_bytes()
    assert len(first) == len(last)
    (path / names[0]).write_bytes(last)
    (path / names[-1]).write_bytes(first)
    with pytest.raises(IntegrityError):
        reading.decrypt(path, tmp_path / "out.parquet", owner=owner.identity.public, keystore=owner.keystore)


@pytest.mark.usefixtures("home")
def test_extending_by_command(tmp_path: Path) -> None:
    """`data extend` adds a file's rows."""
    run("data", "encrypt", "rows.csv", "dataset")
    assert "version 2: 2 parts" in run("data", "extend", "rows.csv", "dataset").output
    run("data", "decrypt", "dataset", "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 100
