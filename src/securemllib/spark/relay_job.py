"""What a Spark task needs to know of a job, and what it returns: nothing of it is secret, because Spark writes both to many places."""

import re
from dataclasses import dataclass
from typing import ClassVar

from securemllib.spark.blocks import Blocks
from securemllib.spark.broker_client import Asked, BrokerAddress
from securemllib.spark.crossings import Crossings
from securemllib.spark.settings import EnclaveSettings
from securemllib.spark.storage import Folder
from securemllib.wire.record import Record

__all__ = [
    "CROSSED", "FAILED", "FINISHED", "MASKED", "ROWS", "STATE", "STATISTICS", "RelayJob", "TaskRow", "crossed", "rows_file", "rows_folder",
]  # fmt: skip

FINISHED, FAILED, ROWS, STATE, STATISTICS, MASKED = "finished", "failed", "rows", "state", "statistics", "masked"
CROSSED = "crossed"
_ROWS_FILE = re.compile(r"rows-\d{5,}\.sml")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow(Record):
    """One row that a task returns.

    Attributes:
        kind: What it is.
        number: The round, share or part that it belongs to.
        payload: Sealed bytes; for a failure the error's code, reason and next step.
    """

    TYPE: ClassVar[str] = "task-row"

    kind: str
    number: int
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayJob:
    """A job as its relays see it.

    Attributes:
        job_id: The job.
        manifest: The encoding of the plan's manifest.
        models: The encodings of the plan's sealed models.
        parts: The file name and length of each of the dataset's parts, by ordinal.
        dataset: Where they are.
        reads: The ordinals of the first of them that the plan reads, and of the first behind those.
        blocks: Where sealed blocks go, of the job and of the models that it uses.
        shares: Into how many shares the parts are dealt.
        tasks: How many tasks share them.
        broker: Where to get keys.
        enclave: How an executor finds its enclave.
        ports: First and last port to listen on.
        rendezvous: Host and port of the driver's rendezvous; None where tasks cannot reach the driver.
        asked: A challenge for the job's first enclave; None where it was not given.
        out: Where tasks write sealed rows; None where they return them to the driver.
    """

    job_id: str
    manifest: bytes
    models: tuple[bytes, ...]
    parts: tuple[tuple[str, int], ...]
    dataset: Folder
    reads: tuple[int, int]
    blocks: Blocks
    shares: int
    tasks: int
    broker: BrokerAddress
    enclave: EnclaveSettings
    ports: tuple[int, int]
    rendezvous: tuple[str, int] | None
    asked: Asked | None = None
    out: Folder | None = None

    @property
    def checkpoints(self) -> Folder:
        """Where the job's sealed checkpoints go."""
        return self.blocks.folder

    def shares_of(self, task: int) -> tuple[int, ...]:
        """Return the shares that one task computes."""
        return tuple(range(task, self.shares, self.tasks))


def rows_file(ordinal: int) -> str:
    """Return the name of the file of a part's sealed rows."""
    return f"rows-{ordinal:05d}.sml"


def rows_folder(path: str, *, overwrite: bool) -> Folder:
    """Return the folder for sealed rows, of which it holds none.

    Args:
        path: The folder.
        overwrite: Whether those of an earlier release are deleted.

    Raises:
        UsageError: It holds something already.
    """
    folder = Folder.of(path)
    names = folder.names()
    if not overwrite or not all(map(_ROWS_FILE.fullmatch, names)):
        # Before anything is deleted: beside other files, old rows stay.
        folder.require_new()
    for name in names:
        folder.remove(name)
    return folder


def crossed(crossings: Crossings) -> TaskRow:
    """Return the row of what a task counted at its enclave's border."""
    return TaskRow(kind=CROSSED, number=0, payload=crossings.to_bytes())
