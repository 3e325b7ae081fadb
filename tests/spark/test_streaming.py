"""Does a stream of sealed parts give each row once, whatever restarts, and does its reader notice what a host did to it?"""

import shutil
import threading
from pathlib import Path

import pytest
from pyspark.sql.types import StructType

from securemllib.errors import CoverError, FreshnessError, IntegrityError, SecureMLlibError, UsageError
from securemllib.ml.clustering import KMeans
from securemllib.ml.feature import VectorAssembler
from securemllib.owner.dataset import Layout, append
from securemllib.spark import SealedStream
from securemllib.spark.functions import col
from securemllib.spark.parts_source import PartsSource, read_manifest
from securemllib.spark.storage import Folder
from tests.deployment import patients

COLUMNS = ["name", "age", "prediction"]


@pytest.fixture(scope="module")
def growing(deployment):
    """The path of a dataset of two parts, which grows."""
    return deployment.dataset(patients(60), "growing", rows_per_part=30)


@pytest.fixture(scope="module")
def scored(session, growing):
    """Its rows with a model's predictions."""
    rows = VectorAssembler(inputCols=["age", "dose"], outputCol="features").transform(session.read(growing))
    return KMeans(k=3, seed=1).fit(rows).transform(rows).select(*COLUMNS)


def run(frame, folder, *, parts=1, sink="sink"):
    """Score all parts that are there, in batches, and return the reader of what was written."""
    writer = frame.writeStream.option("checkpointLocation", str(folder / "checkpoint")).option("maxPartsPerTrigger", parts)
    query = writer.trigger(availableNow=True).start(str(folder / sink))
    query.awaitTermination()
    return SealedStream(frame.session, str(folder / sink))


def rows_of(table):
    """Return the rows of a table in an order of their own."""
    return sorted(table.to_pylist(), key=lambda row: row["name"])


@pytest.fixture(scope="module")
def stream(deployment, session, growing, scored, tmp_path_factory):
    """The folder of a stream of four batches: two, and after the owner's next rows two more from the checkpoint."""
    folder = tmp_path_factory.mktemp("stream")
    first = run(scored, folder).open(parts=2)
    assert rows_of(first) == rows_of(scored.release(columns=COLUMNS).open())
    deployment.extend(growing, patients(60, seed=1).set_column(5, "name", [[f"later-{row}" for row in range(60)]]), rows_per_part=30)
    run(scored, folder)
    return folder


@pytest.fixture
def copied(stream, session, tmp_path):
    """A copy of the stream's folder that a test may spoil, and its reader."""
    shutil.copytree(stream / "sink", tmp_path / "sink")
    return tmp_path / "sink", SealedStream(session, str(tmp_path / "sink"))


def test_rows_that_come_later_are_scored_once(stream, session, growing):
    """A query that starts again from its checkpoint scores the new parts only, and all rows together are those of a batch job."""
    found = SealedStream(session, str(stream / "sink")).open(parts=4)
    assert found.num_rows == session.read(growing).count() == 120
    assert len(set(found["name"].to_pylist())) == 120
    assert len(list((stream / "sink").iterdir())) == 4


def test_a_batch_that_is_repeated_writes_nothing(stream, session, scored, tmp_path):
    """A checkpoint that was rolled back hands batches over again: the folder keeps what it has, and a lost batch is made anew."""
    folder = tmp_path / "stream"
    shutil.copytree(stream, folder)
    before = {path: path.read_bytes() for path in (folder / "sink").rglob("*.sml")}
    for number in (2, 3):
        (folder / "checkpoint" / "commits" / str(number)).unlink()
        (folder / "checkpoint" / "commits" / f".{number}.crc").unlink(missing_ok=True)
    shutil.rmtree(folder / "sink" / "batch-00000003")
    found = run(scored, folder).open(parts=4)
    assert rows_of(found) == rows_of(SealedStream(session, str(stream / "sink")).open())
    kept = {path: data for path, data in before.items() if "batch-00000003" not in str(path)}
    assert kept == {path: path.read_bytes() for path in kept}


def test_a_checkpoint_of_another_place_is_noticed(stream, scored, tmp_path):
    """A new folder with an old checkpoint, and an old folder with a new checkpoint of other batches, end the query."""
    shutil.copytree(stream / "checkpoint", tmp_path / "a" / "checkpoint")
    (tmp_path / "a" / "checkpoint" / "commits" / "3").unlink()
    (tmp_path / "a" / "checkpoint" / "commits" / ".3.crc").unlink(missing_ok=True)
    shutil.copytree(stream / "sink", tmp_path / "b" / "sink")
    for folder, options in ((tmp_path / "a", {}), (tmp_path / "b", {"parts": 3})):
        with pytest.raises(Exception, match=r"integrity.stream"):
            run(scored, folder, **options)


def test_another_datasets_checkpoint_is_noticed(growing):
    """Also where no folder tells: its offset names the dataset, and one of a release that named none goes on."""
    folder = Folder.of(growing)
    dataset = read_manifest(folder)[0].dataset_id
    reader = PartsSource({"path": folder.root, "dataset": dataset}).simpleStreamReader(StructType())
    for start in (reader.initialOffset(), {"part": 0}):
        rows, after = reader.read(start)
        assert [ordinal for (ordinal,) in rows] == list(range(after["part"]))
        assert after["dataset"] == dataset
    with pytest.raises(IntegrityError) as caught:
        reader.read({"part": 1, "dataset": "another"})
    assert caught.value.error_code == "integrity.stream"


def test_another_plan_does_not_continue_a_stream(stream, scored, tmp_path):
    """A folder that one plan filled takes no batch of another plan."""
    shutil.copytree(stream, tmp_path / "stream")
    shutil.rmtree(tmp_path / "stream" / "sink" / "batch-00000003")
    (tmp_path / "stream" / "checkpoint" / "commits" / "3").unlink()
    (tmp_path / "stream" / "checkpoint" / "commits" / ".3.crc").unlink(missing_ok=True)
    with pytest.raises(Exception, match=r"integrity.stream"):
        run(scored.filter(col("age") > 40), tmp_path / "stream")


def test_a_dropped_batch_is_noticed(copied):
    """Without its last batch the stream is read as one of fewer parts, which the owner's count gives away."""
    folder, reader = copied
    shutil.rmtree(folder / "batch-00000003")
    assert reader.open().num_rows == 90
    with pytest.raises(CoverError, match="3 parts, not of 4"):
        reader.open(parts=4)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: shutil.copytree(folder / "batch-00000001", folder / "batch-00000004"),
        lambda folder: _move(folder, 2, 1),
        lambda folder: _exchange(folder, "batch-00000000/rows-00000.sml", "batch-00000001/rows-00000.sml"),
        lambda folder: _exchange(folder, "batch-00000002/job.sml", "batch-00000003/job.sml"),
        lambda folder: (folder / "batch-00000001" / "rows-00000.sml").unlink(),
        lambda folder: _flip(folder / "batch-00000001" / "rows-00000.sml"),
    ],
    ids=["replayed batch", "batch in another's place", "exchanged rows", "exchanged jobs", "missing rows", "flipped bit"],
)
def test_what_a_host_does_to_the_folder_is_noticed(copied, spoil):
    """A replayed, moved, exchanged, missing or changed batch stops the reader, who reads the folder as it was."""
    folder, reader = copied
    assert reader.open(parts=4).num_rows == 120
    spoil(folder)
    with pytest.raises(SecureMLlibError):
        reader.open()


def test_another_stream_of_the_analyst_is_noticed_by_its_frame(stream, session, scored, growing, tmp_path):
    """Who reads a stream by its frame is handed no other one in its place: of another filter, other columns or another model."""
    pinned = SealedStream(session, str(stream / "sink"), of=scored)
    assert pinned.open(parts=4).num_rows == 120
    rows = VectorAssembler(inputCols=["age", "dose"], outputCol="features").transform(session.read(growing))
    other_model = KMeans(k=2, seed=2).fit(rows).transform(rows).select(*COLUMNS)
    for place, other in enumerate((scored.filter(col("age") > 40), scored.select(*COLUMNS[:2]), other_model)):
        reader = run(other, tmp_path / str(place), parts=4)
        assert reader.open(parts=4).num_rows > 0
        with pytest.raises(IntegrityError) as refused:
            SealedStream(session, str(tmp_path / str(place) / "sink"), of=scored).open(parts=4)
        assert refused.value.error_code == "integrity.stream"


def test_a_dataset_that_is_written_anew_does_not_go_on_a_stream(deployment, session, tmp_path):
    """Rows that were handed out, shuffled among new ones later, are not taken for what comes next; in a new stream they are."""
    path = deployment.dataset(patients(60), "compacted", rows_per_part=30)
    scored = session.read(path).select("name", "age")
    assert run(scored, tmp_path).open(parts=2).num_rows == 60
    anew, layout = deployment.folder / "compacted-2", Layout(rows_per_part=30, seed=3)
    append(patients(30, seed=1), path, anew, identity=deployment.owner, keystore=deployment.keystore, layout=layout)
    deployment.enrol(anew)
    for file in Path(path).iterdir():
        file.unlink()
    shutil.copytree(anew, path, dirs_exist_ok=True)
    with pytest.raises(FreshnessError):
        run(scored, tmp_path).open(parts=3)
    assert run(session.read(path).select("name", "age"), tmp_path / "new").open(parts=3).num_rows == 90


def test_a_source_that_is_rolled_back_is_refused(deployment, session, tmp_path):
    """An older manifest in the dataset's folder gets no keys: the query ends. With the latest one the same query goes on."""
    path = deployment.dataset(patients(30), "rolled-back")
    old = (deployment.folder / "rolled-back" / "manifest.sml").read_bytes()
    deployment.extend(path, patients(30, seed=1))
    new = (deployment.folder / "rolled-back" / "manifest.sml").read_bytes()
    frame = session.read(path).select("name")
    (deployment.folder / "rolled-back" / "manifest.sml").write_bytes(old)
    with pytest.raises(Exception, match=r"integrity.freshness"):
        run(frame, tmp_path)
    (deployment.folder / "rolled-back" / "manifest.sml").write_bytes(new)
    assert run(frame, tmp_path).open(parts=2).num_rows == 60


def test_an_owner_may_extend_while_a_batch_runs(deployment, session, tmp_path):
    """A batch whose version became an old one meanwhile runs again on the same parts of the next version."""
    path = deployment.dataset(patients(30), "overtaken")
    frame = session.read(path)
    seen = []

    def batch(rows, number):
        if not seen:
            deployment.extend(path, patients(30, seed=1))
        seen.append((number, rows.reads, rows.source.manifest.version))
        rows.release(columns=["name"])

    writer = frame.writeStream.foreachBatch(batch).option("checkpointLocation", str(tmp_path / "checkpoint"))
    writer.trigger(availableNow=True).start().awaitTermination()
    assert seen == [(0, (0, 1), 1), (0, (0, 1), 2)]


def test_a_rate_source_feeds_a_sealed_stream(spark, deployment, session, tmp_path):
    """Rows that the owner's own Spark makes, batch by batch, become parts of a dataset, and a sealed stream gives each of them once."""
    batches, enough = [], threading.Event()

    def add(batch, number):
        table = batch.select("value").toArrow()
        if number == 0:
            deployment.dataset(table, "from-a-rate-source")
        elif number < 3:
            deployment.extend(str(deployment.folder / "from-a-rate-source"), table)
        if number < 3:
            batches.append(table.num_rows)
        else:
            enough.set()

    source = spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 40).load()
    query = source.writeStream.foreachBatch(add).option("checkpointLocation", str(tmp_path / "clear")).start()
    assert enough.wait(60)
    query.stop()
    rows = session.read(str(deployment.folder / "from-a-rate-source")).withColumn("half", col("value") * 0.5).select("value", "half")
    found = run(rows, tmp_path).open(parts=3)
    assert batches == [40, 40, 40]
    assert sorted(found["value"].to_pylist()) == list(range(120))
    assert found["half"].to_pylist() == [value / 2 for value in found["value"].to_pylist()]


def test_a_stream_says_what_it_needs(frame, tmp_path):
    """A stream without a checkpoint, without a place to go, or with both a path and a function is refused."""
    with pytest.raises(UsageError, match="checkpoint"):
        frame.writeStream.start(str(tmp_path))
    with pytest.raises(UsageError, match="path or a function"):
        frame.writeStream.option("checkpointLocation", str(tmp_path)).start()
    with pytest.raises(UsageError, match="path or a function"):
        frame.writeStream.foreachBatch(print).option("checkpointLocation", str(tmp_path)).start(str(tmp_path))
    with pytest.raises(UsageError, match="no option"):
        frame.writeStream.option("path", "x")
    for parts in (0, -1, "1.5", "x"):
        with pytest.raises(UsageError, match="positive integer"):
            frame.writeStream.option("maxPartsPerTrigger", parts)
    assert frame.writeStream.option("maxPartsPerTrigger", "2")


def _move(folder, source, target):
    shutil.rmtree(folder / f"batch-{target:08d}")
    shutil.move(folder / f"batch-{source:08d}", folder / f"batch-{target:08d}")


def _exchange(folder, one, other):
    first, second = (folder / one).read_bytes(), (folder / other).read_bytes()
    (folder / one).write_bytes(second)
    (folder / other).write_bytes(first)


def _flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
