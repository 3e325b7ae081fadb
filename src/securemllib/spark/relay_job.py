"""What a Spark task needs to know of a job: nothing in it is secret, because Spark writes closures to many places."""

from dataclasses import dataclass

from securemllib.spark.broker_client import BrokerAddress
from securemllib.spark.settings import EnclaveSettings
from securemllib.spark.storage import Folder

__all__ = ["FAILED", "FINISHED", "OUTPUT_SCHEMA", "ROWS", "STATE", "STATISTICS", "RelayJob"]

# The rows that tasks return: what it is, its number, and sealed bytes (for a failure the error's code and place).
OUTPUT_SCHEMA = "kind string, number long, payload binary"
FINISHED, FAILED, ROWS, STATE, STATISTICS = "finished", "failed", "rows", "state", "statistics"


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayJob:
    """A job as its relays see it.

    Attributes:
        job_id: The job.
        manifest: The encoding of the plan's manifest.
        models: The encodings of the plan's sealed models.
        parts: The file name and length of each of the dataset's parts, by ordinal.
        dataset: Where they are.
        checkpoints: Where the job's sealed checkpoints go.
        shares: Into how many shares the parts are dealt.
        tasks: How many tasks share them.
        broker: Where to get keys.
        enclave: How an executor finds its enclave.
        ports: First and last port to listen on.
        rendezvous: Host and port of the driver's rendezvous; None where tasks cannot reach the driver.
    """

    job_id: str
    manifest: bytes
    models: tuple[bytes, ...]
    parts: tuple[tuple[str, int], ...]
    dataset: Folder
    checkpoints: Folder
    shares: int
    tasks: int
    broker: BrokerAddress
    enclave: EnclaveSettings
    ports: tuple[int, int]
    rendezvous: tuple[str, int] | None

    def shares_of(self, task: int) -> tuple[int, ...]:
        """Return the shares that one task computes."""
        return tuple(range(task, self.shares, self.tasks))
