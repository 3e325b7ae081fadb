"""A Structured Streaming source of a dataset's parts: each row is the number of a part that the owner has added, never a row of the data.

Its offset is the number of parts seen, and the dataset that they are of: with another one's checkpoint a stream would leave out parts. A
manifest that is older than the offset gives nothing new; whether a manifest is genuine and the latest is not judged here, but by the broker
and the enclaves when a batch's job names it.
"""

from collections.abc import Iterator
from typing import Any

from pyspark.sql.datasource import DataSource, SimpleDataSourceStreamReader
from pyspark.sql.streaming.datasource import SupportsTriggerAvailableNow
from pyspark.sql.types import StructType

from securemllib.errors import IntegrityError
from securemllib.spark.storage import Folder
from securemllib.wire.dataset import Manifest
from securemllib.wire.signed import Signed

__all__ = ["MANIFEST_FILE", "PartsSource", "read_manifest"]

MANIFEST_FILE = "manifest.sml"
_PART, _DATASET = "part", "dataset"


def read_manifest(folder: Folder) -> tuple[Manifest, bytes]:
    """Return a folder's manifest, which nothing here verifies, and its encoding."""
    signed = Signed.from_bytes(folder.read(MANIFEST_FILE))
    return Manifest.from_bytes(signed.payload), signed.payload


class PartsSource(DataSource):
    """The source, by the options ``path``, ``dataset`` and ``maxPartsPerTrigger``."""

    @classmethod
    def name(cls) -> str:
        """Return the format's name."""
        return "securemllib-parts"

    def schema(self) -> str:
        """Return the one column: a part's ordinal."""
        return f"{_PART} int"

    def simpleStreamReader(self, schema: StructType) -> SimpleDataSourceStreamReader:
        """Return the reader of a query, whose few rows need no task to be read."""
        del schema
        limit = int(self.options.get("maxPartsPerTrigger", 0))
        return _PartsReader(Folder.of(self.options["path"]), self.options[_DATASET], limit)


class _PartsReader(SimpleDataSourceStreamReader, SupportsTriggerAvailableNow):
    def __init__(self, folder: Folder, dataset: str, limit: int) -> None:
        self._folder, self._dataset, self._limit = folder, dataset, limit
        self._target: int | None = None

    def initialOffset(self) -> dict[str, Any]:
        return self._offset(0)

    def prepareForTriggerAvailableNow(self) -> None:
        self._target = self._parts()

    def read(self, start: dict[str, Any]) -> tuple[Iterator[tuple[int]], dict[str, Any]]:
        first = self._seen(start)
        end = self._parts() if self._target is None else self._target
        if self._limit:
            end = min(end, first + self._limit)
        after = self._offset(max(end, first))
        return self.readBetweenOffsets(start, after), after

    def readBetweenOffsets(self, start: dict[str, Any], end: dict[str, Any]) -> Iterator[tuple[int]]:
        # Spark pickles the iterator, which a generator does not allow.
        return iter([(ordinal,) for ordinal in range(self._seen(start), self._seen(end))])

    def _offset(self, part: int) -> dict[str, Any]:
        return {_PART: part, _DATASET: self._dataset}

    def _seen(self, offset: dict[str, Any]) -> int:
        """Return how many parts a checkpoint's offset has seen; `IntegrityError` where they are of another dataset."""
        # Checkpoints of releases before name no dataset.
        if offset.get(_DATASET, self._dataset) != self._dataset:
            raise IntegrityError(
                f"The checkpoint is of dataset {offset[_DATASET]}, the stream of {self._dataset}.",
                next_step="Use the checkpoint that this stream was started with, or a new one.",
                code="integrity.stream",
            )
        seen: int = offset[_PART]
        return seen

    def _parts(self) -> int:
        return len(read_manifest(self._folder)[0].parts)
