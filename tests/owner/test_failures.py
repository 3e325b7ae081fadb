"""What is left when encrypting fails, and what does it need to run?"""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from securemllib.errors import CapacityError, DataError, FreshnessError, UsageError
from securemllib.owner import atomic, reading
from securemllib.owner.atomic import new_file
from securemllib.owner.sources import Source

SOURCE = Path(__file__).resolve().parents[2] / "src"


def left(directory: Path) -> list[str]:
    """Return what stands in a directory, hidden files too, without the homes."""
    return sorted(path.name for path in directory.iterdir() if "home" not in path.name)


def failing_source(error: Exception) -> Source:
    """Return a source that gives some rows and then fails."""
    batch = pa.record_batch({"x": [1.0, 2.0]})

    def batches() -> Iterator[pa.RecordBatch]:
        yield batch
        raise error

    return Source(schema=batch.schema, batches=batches(), inferred={})


@pytest.mark.parametrize(
    "error", [DataError("row 3 is no number"), KeyboardInterrupt(), MemoryError()], ids=lambda error: type(error).__name__
)
def test_a_failure_leaves_nothing_behind(owner, tmp_path: Path, error: BaseException) -> None:
    """However encrypting ends early, no directory, no temporary file and no key of the dataset is left."""
    with pytest.raises(type(error)):
        owner.encrypt(failing_source(error), tmp_path / "dataset")  # type: ignore[arg-type]
    assert left(tmp_path) == []
    assert list(owner.keystore) == []


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_full_disk_leaves_nothing_behind(owner, tmp_path: Path, table: pa.Table, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """A disk that is full while a part is written, or when it is flushed, is told as that, and nothing half-written stays."""
    count = 0

    def full(*arguments: object) -> int:
        nonlocal count
        count += 1
        if count > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments)

    real = atomic._write_all if call == "write" else os.fsync
    target = "securemllib.owner.atomic._write_all" if call == "write" else "securemllib.owner.atomic.os.fsync"
    with monkeypatch.context() as patch:
        patch.setattr(target, full)
        with pytest.raises(CapacityError, match="is full") as caught:
            owner.encrypt(table, tmp_path / "dataset", rows_per_part=10)
    assert caught.value.error_code == "unavailable.capacity.disk"
    assert left(tmp_path) == []
    owner.encrypt(table, tmp_path / "dataset", rows_per_part=10)
    assert left(tmp_path) == ["dataset"]


def test_files_are_on_the_disk_when_their_writer_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is synced once, whole, before the writer ends; few of them wait at the same time."""
    real, synced, waiting = os.fsync, [], []
    monkeypatch.setattr(
        "securemllib.owner.atomic.os.fsync", lambda descriptor: (real(descriptor), synced.append(os.fstat(descriptor).st_size))
    )
    with atomic.SyncedWriter() as disk:
        for number in range(50):
            disk.write(tmp_path / str(number), memoryview(b"x" * (number + 1)))
            waiting.append(number + 1 - len(synced))
    assert sorted(synced) == list(range(1, 51))
    assert max(waiting) <= atomic._UNSYNCED_FILES + 1
    with pytest.raises(FileExistsError), atomic.SyncedWriter() as disk:
        disk.write(tmp_path / "0", memoryview(b"y"))
    assert (tmp_path / "0").read_bytes() == b"x"


def test_a_part_that_grows_in_parquet_round_trips(owner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that take more room in their file than in memory are written all the same."""
    monkeypatch.setattr("securemllib.owner.parts._room", lambda size: pa.allocate_buffer(min(size, 1000)))
    table = pa.table({"lists": pa.array([[float(row)] for row in range(5000)]), "row": pa.array(range(5000))})
    owner.encrypt(table, tmp_path / "dataset")
    back = reading.open_dataset(tmp_path / "dataset", owner=owner.identity.public, keystore=owner.keystore)
    rows = pa.concat_tables(back.tables()).sort_by("row")
    assert rows.column("lists").to_pylist() == table.column("lists").to_pylist()


def can_mount() -> bool:
    """Return whether this user may mount a file system in a namespace of its own."""
    done = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "/mnt"], capture_output=True, check=False
    )
    return done.returncode == 0


REALLY_FULL = """
import sys
from pathlib import Path
import pyarrow as pa
from securemllib.crypto.identity import PrivateIdentity
from securemllib.errors import CapacityError
from securemllib.owner import dataset
from securemllib.owner.keystore import Keystore
disk, home = map(Path, sys.argv[1:])
keys = dict(name="x", identity=PrivateIdentity.generate("x"), keystore=Keystore.create(home / "keystore", None))
dataset.encrypt(pa.table({"x": [0.0]}), disk / "small", **keys)
try:
    dataset.encrypt(pa.table({"x": [float(i) for i in range(100_000)]}), disk / "large", **keys)
except CapacityError as error:
    sys.stdout.write(error.error_code + " " + " ".join(path.name for path in disk.iterdir()))
"""


@pytest.mark.skipif(not can_mount(), reason="needs the right to mount a file system of 512 KiB")
def test_a_really_full_disk(tmp_path: Path) -> None:
    """On a file system of 512 KiB a small dataset is written, a larger one is refused as too large, and the small one stays alone."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = f'mount -t tmpfs -o size=512k tmpfs "{disk}" && "{sys.executable}" -c "$CODE" "{disk}" "{tmp_path}"'
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "CODE": REALLY_FULL}
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", command], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "unavailable.capacity.disk small", done.stderr


def test_a_version_that_the_keystore_missed_is_noted(owner, tmp_path: Path, table: pa.Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that was complete when the machine stopped is noted when it is next opened; from then on the one before it is old."""
    owner.encrypt(table, tmp_path / "v1")
    with monkeypatch.context() as patch:
        patch.setattr(type(owner.keystore), "record", lambda *_: None)
        owner.encrypt(table, tmp_path / "v2", previous=tmp_path / "v1")
    public = owner.identity.public
    assert reading.verify(tmp_path / "v1", owner=public, keystore=owner.keystore).version == 1
    assert reading.verify(tmp_path / "v2", owner=public, keystore=owner.keystore).version == 2
    with pytest.raises(FreshnessError):
        reading.verify(tmp_path / "v1", owner=public, keystore=owner.keystore)


def test_a_keystore_that_cannot_be_written_keeps_no_dataset(
    owner, tmp_path: Path, table: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the keystore cannot note the finished dataset, neither the dataset nor its key is left."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(type(owner.keystore), "record", fail)
        with pytest.raises(OSError, match="No space"):
            owner.encrypt(table, tmp_path / "dataset")
    assert left(tmp_path) == []
    assert list(owner.keystore) == []


def test_an_existing_directory_is_left_alone(owner, tmp_path: Path, table: pa.Table) -> None:
    """Encrypting over an existing directory is refused, and the dataset in it stays readable."""
    owner.encrypt(table, tmp_path / "dataset")
    with pytest.raises(UsageError, match="exists"):
        owner.encrypt(table, tmp_path / "dataset")
    reading.verify(tmp_path / "dataset", owner=owner.identity.public, keystore=owner.keystore)
    assert len(list(owner.keystore)) == 1


@pytest.mark.parametrize("rows", [pa.table({"x": pa.array([], pa.float64())}), pa.table({})], ids=["no rows", "no columns"])
def test_an_empty_source_is_refused(owner, tmp_path: Path, rows: pa.Table) -> None:
    """A source without rows or without columns makes no dataset; one row does."""
    with pytest.raises(DataError, match=r"no rows|no column"):
        owner.encrypt(rows, tmp_path / "dataset")
    assert left(tmp_path) == []
    owner.encrypt(pa.table({"x": [1.0]}), tmp_path / "dataset")


def test_a_new_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    """A file under construction is not at its place, and is gone when its block fails."""
    target = tmp_path / "result"

    def fail() -> None:
        with new_file(target) as temporary:
            temporary.write_bytes(b"half")
            assert not target.exists()
            raise DataError("the other half is missing")

    with pytest.raises(DataError):
        fail()
    assert left(tmp_path) == []
    with new_file(target) as temporary:
        temporary.write_bytes(b"whole")
    assert target.read_bytes() == b"whole"


WITHOUT_SPARK = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"pyspark", "py4j"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Refuse())
from pathlib import Path
import pyarrow as pa
from securemllib.cli import app
from securemllib.owner import agent, broker_client, dataset, identity_file, opening, policy, reading
from securemllib.owner.keystore import Keystore
home = Path(sys.argv[1])
identity, keystore = identity_file.create(home, "alice", None), Keystore.create(home / "keystore", None)
dataset.encrypt(pa.table({"x": [1.0, 2.0]}), home / "dataset", name="x", identity=identity, keystore=keystore)
sys.stdout.write(str(reading.verify(home / "dataset", owner=identity.public, keystore=keystore).rows))
try:
    import pyspark
except ModuleNotFoundError:
    sys.stdout.write(" without pyspark")
"""


def test_owners_need_no_spark(tmp_path: Path) -> None:
    """An owner encrypts and verifies, with every module of theirs imported, where pyspark cannot be."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_SPARK, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "2 without pyspark", done.stderr


BOUNDED = """
import resource, sys
from pathlib import Path
from securemllib.crypto.identity import PrivateIdentity
from securemllib.owner import dataset, writing
from securemllib.owner.keystore import Keystore
from securemllib.owner.sources import open_source
writing._WINDOW_BYTES = 8 * 2**20
csv, home = map(Path, sys.argv[1:])
keys = dict(name="x", identity=PrivateIdentity.generate("x"), keystore=Keystore.create(home / "keystore", None))
dataset.encrypt(csv.with_name("small.csv"), home / "small", **keys)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
manifest = dataset.encrypt(csv, home / "large", part_bytes=2**21, **keys)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
sys.stdout.write(f"{manifest.rows} {len(manifest.parts)} {(after - before) * 1024}")
"""


def test_memory_does_not_grow_with_the_source(tmp_path: Path) -> None:
    """A CSV file of 150 MB is encrypted with hardly more memory than one of 50 MB: Arrow reads 32 MB ahead, and windows have 8 MiB."""
    line = b",".join(b"%.14f" % (index / 7) for index in range(8)) + b"\n"
    header = b",".join(b"c%d" % index for index in range(8)) + b"\n"
    rows = 150_000_000 // len(line)
    (tmp_path / "small.csv").write_bytes(header + line * (rows // 3))
    with (tmp_path / "large.csv").open("wb") as file:
        file.write(header)
        for _ in range(rows // 10_000):
            file.write(line * 10_000)
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(
        [sys.executable, "-c", BOUNDED, str(tmp_path / "large.csv"), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    written, parts, growth = map(int, done.stdout.split())
    assert written == rows // 10_000 * 10_000
    assert parts > 20
    # A third of what holding the other 100 MB as text would take; the allocator keeps some freed pages.
    assert growth < 35 * 2**20
