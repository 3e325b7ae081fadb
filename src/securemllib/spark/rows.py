"""Rows that a policy lets out: sealed for one recipient, whose agent opens them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

from securemllib.errors import CoverError, IntegrityError
from securemllib.spark.relay_job import rows_file
from securemllib.spark.storage import Folder
from securemllib.wire.result import SealedResult

if TYPE_CHECKING:
    import pandas as pd

    from securemllib.spark.job_runner import JobRunner

__all__ = ["SealedRows", "StoredResults"]


class StoredResults:
    """The encodings of `SealedResult` that tasks wrote to a folder, one a part, each read when it is asked for.

    Args:
        folder: The folder.
        count: How many there are.
    """

    def __init__(self, folder: Folder, count: int) -> None:
        self._folder, self._count = folder, count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[bytes]:
        return (self._folder.read(rows_file(ordinal)) for ordinal in range(self._count))


class SealedRows:
    """The sealed results of one release, in the order of the dataset's parts.

    Args:
        session: The session.
        job_id: The job that was asked for them.
        results: The encodings of `SealedResult`.
    """

    def __init__(self, session: "JobRunner", job_id: str, results: tuple[bytes, ...] | StoredResults) -> None:
        self._session = session
        self.job_id = job_id
        self._results = results

    def __len__(self) -> int:
        return len(self._results)

    def __iter__(self) -> Iterator[SealedResult]:
        return (SealedResult.from_bytes(result, limit=len(result)) for result in self._results)

    def save(self, path: str) -> None:
        """Write one file a part to a new folder, for a recipient who opens them with ``securemllib result open``."""
        folder = Folder.of(path)
        folder.require_new()
        for result in self._results:
            ordinal = SealedResult.from_bytes(result, limit=len(result)).ordinal
            folder.write(rows_file(ordinal), result)

    def open(self) -> pa.Table:
        """Return the rows, opened by the analyst's agent.

        Raises:
            RefusedError: The recipient is somebody else.
            IntegrityError: A result is of another job.
            CoverError: A part's rows are missing or there twice: the enclaves say how many parts there are.
        """
        if others := sum(result.job_id != self.job_id for result in self):
            raise IntegrityError(f"{others} results are of another job than {self.job_id}.", code="integrity.result")
        opened = [self._session.agent.open_table(self.job_id, result) for result in self._results]
        ordinals = sorted(reply.ordinal for reply, _ in opened)
        if not opened or any(ordinals != list(range(reply.parts)) for reply, _ in opened):
            raise CoverError(f"The rows of {len(opened)} parts came, not those of each part once.")
        tables = [pa.ipc.open_stream(pa.py_buffer(payload)).read_all() for _, payload in opened]
        return pa.concat_tables(tables, promote_options="permissive")

    def toPandas(self) -> "pd.DataFrame":
        """Return the rows, opened by the analyst's agent, as a pandas data frame."""
        return self.open().to_pandas()
