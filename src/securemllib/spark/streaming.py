"""Structured Streaming over sealed rows: Spark plans, checkpoints and reruns micro-batches; each is a signed job over the new parts."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from securemllib.errors import FormatError, FreshnessError, SealedError, UsageError
from securemllib.spark.parts_source import PartsSource, read_manifest
from securemllib.spark.sink import SealedSink
from securemllib.wire.identity import PublicIdentity

if TYPE_CHECKING:
    from securemllib.spark.dataframe import SecureDataFrame

__all__ = ["SealedStreamWriter"]

# An owner who extends the dataset while a batch runs makes the batch's version an old one; the same parts of the next version are the same.
_VERSIONS_A_BATCH = 5

BatchFunction = Callable[["SecureDataFrame", int], None]


class SealedStreamWriter:
    """Starts a streaming query over the parts of a dataset, those that are there and those that its owner will add.

    It is named after ``pyspark.sql.streaming.DataStreamWriter`` and returns Spark's own queries.

    Args:
        frame: The dataset and what enclaves do to its rows.
    """

    def __init__(self, frame: "SecureDataFrame") -> None:
        if frame.plan.parts is not None:
            raise UsageError("A stream reads all parts of a dataset, one after the other.")
        self._frame = frame
        self._options: dict[str, str] = {}
        self._trigger: dict[str, Any] = {}
        self._recipient: PublicIdentity | None = None
        self._function: BatchFunction | None = None
        self._name = ""

    def option(self, key: str, value: str | int) -> Self:
        """Set ``checkpointLocation``, which a query needs, or ``maxPartsPerTrigger``."""
        if key not in {"checkpointLocation", "maxPartsPerTrigger"}:
            raise UsageError(f"A sealed stream has no option {key!r}.", next_step="It has checkpointLocation and maxPartsPerTrigger.")
        if key == "maxPartsPerTrigger" and not (str(value).isdecimal() and int(value) > 0):
            raise UsageError(f"maxPartsPerTrigger must be a positive integer, not {value!r}.", code="usage.param")
        self._options[key] = str(value)
        return self

    def trigger(self, **trigger: Any) -> Self:
        """Set when batches run: ``availableNow=True`` or ``processingTime="10 seconds"``, as in pyspark."""
        self._trigger = trigger
        return self

    def queryName(self, name: str) -> Self:
        """Name the query."""
        self._name = name
        return self

    def to(self, recipient: PublicIdentity) -> Self:
        """Seal the rows for somebody else than the analyst."""
        self._recipient = recipient
        return self

    def foreachBatch(self, function: BatchFunction) -> Self:
        """Call a function with the sealed rows of each batch and its number, for example to go on training a model.

        As with pyspark's, a batch that was under way when a driver died is handed over again, with the same number and the same parts.
        """
        self._function = function
        return self

    def start(self, path: str | None = None) -> StreamingQuery:
        """Start the query.

        Args:
            path: The folder that gets each part's rows, with all columns of the frame, sealed for the recipient, exactly once; read it with
                `SealedStream`. None where `foreachBatch` was set.

        Raises:
            UsageError: There is no checkpoint location, or there is not exactly one of a path and a function.
        """
        if (path is None) == (self._function is None):
            raise UsageError(
                "A sealed stream has a path or a function for each batch.", next_step="Give start(path), or foreachBatch(...)."
            )
        if "checkpointLocation" not in self._options:
            raise UsageError("A stream needs a checkpoint.", next_step='Set option("checkpointLocation", folder).')
        session = self._frame.session
        session.require_running()
        spark = session.spark
        if session.is_connect:
            raise SealedError(
                "Spark Connect runs the function of a batch on its server, where no agent of the analyst answers.",
                next_step="Start streams from a classic session; batch jobs work on both.",
                code="usage.connect",
            )
        spark.dataSource.register(PartsSource)
        source = self._frame.source
        reader = spark.readStream.format(PartsSource.name()).option("path", source.folder.root)
        reader = reader.option("dataset", source.manifest.dataset_id)
        if "maxPartsPerTrigger" in self._options:
            reader = reader.option("maxPartsPerTrigger", self._options["maxPartsPerTrigger"])
        function = self._function or SealedSink(session, path or "", self._recipient).write
        writer = reader.load().writeStream.foreachBatch(_Step(self._frame, function))
        writer = writer.option("checkpointLocation", self._options["checkpointLocation"])
        if self._name:
            writer = writer.queryName(self._name)
        return (writer.trigger(**self._trigger) if self._trigger else writer).start()


class _Step:
    """What Spark calls for each batch.

    Args:
        frame: The plan.
        function: What to do with the batch's sealed rows.
    """

    def __init__(self, frame: "SecureDataFrame", function: BatchFunction) -> None:
        self._frame, self._function = frame, function

    def __call__(self, batch: DataFrame, number: int) -> None:
        ordinals = sorted(row[0] for row in batch.collect())
        if not ordinals:
            return
        first, end = ordinals[0], ordinals[-1] + 1
        if ordinals != list(range(first, end)):
            raise FormatError(f"Batch {number} has {len(ordinals)} parts between {first} and {end - 1}.", code="integrity.stream")
        for attempt in range(_VERSIONS_A_BATCH):
            try:
                self._function(self._of_parts(first, end), number)
            except FreshnessError:
                if attempt + 1 == _VERSIONS_A_BATCH:
                    raise
            else:
                return

    def _of_parts(self, first: int, end: int) -> "SecureDataFrame":
        """Return the batch's parts of the version that lies there now."""
        from securemllib.spark.source import Source

        folder = self._frame.source.folder
        manifest, encoded = read_manifest(folder)
        return self._frame.of_parts(first, end, Source(folder=folder, manifest=manifest, encoded=encoded))
