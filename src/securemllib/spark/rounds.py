"""The engine: one resident barrier stage a fit, or one Spark job a round where the cluster cannot give one."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from securemllib.errors import FormatError, UnavailableError, error_from_code
from securemllib.spark.broker_client import broker_client
from securemllib.spark.cluster import Cluster
from securemllib.spark.progress import Progress
from securemllib.spark.relay import BarrierRelay
from securemllib.spark.relay_job import FAILED, FINISHED, ROWS, RelayJob, TaskRow
from securemllib.spark.rendezvous import Rendezvous
from securemllib.spark.round_jobs import RowsRelay, run_round_jobs
from securemllib.spark.tasks import TaskFunction, run_tasks
from securemllib.wire.task import Finished

__all__ = ["Engine"]

_LOST = "unavailable.stage"

# As often as Spark runs a stage again (spark.stage.maxConsecutiveAttempts).
_BARRIER_ATTEMPTS = 4


class Engine:
    """Runs jobs on one Spark session.

    Args:
        spark: The session.
        cluster: What it can run at once.
    """

    def __init__(self, spark: SparkSession, cluster: Cluster) -> None:
        self._spark = spark
        self._cluster = cluster
        self._rendezvous: Rendezvous | None = None

    def close(self) -> None:
        """Stop listening for tasks."""
        if self._rendezvous is not None:
            self._rendezvous.stop()
            self._rendezvous = None

    def rendezvous(self) -> tuple[str, int] | None:
        """Return where tasks meet; None where they cannot reach the driver, as with Spark Connect."""
        if self._rendezvous is None and (address := self._cluster.driver_address) is not None:
            self._rendezvous = Rendezvous(*address)
        return None if self._rendezvous is None else self._rendezvous.address

    def fit(self, job: RelayJob, title: str, *, barrier: bool) -> Finished:
        """Return the results of a job of rounds.

        Args:
            job: The job.
            title: What the user sees of it; no value of the data.
            barrier: Whether its tasks fit into one barrier stage.

        Raises:
            SecureMLlibError: What an enclave or a task reported.
        """
        with Progress(title) as progress, self._described(f"SecureMLlib {title}, job {job.job_id[:12]}"):
            if not barrier:
                return run_round_jobs(job, self._run, progress.at_round)
            if self._rendezvous is not None:
                self._rendezvous.open(job.job_id, progress.at_round)
            try:
                rows = self._stage(job)
            finally:
                if self._rendezvous is not None:
                    self._rendezvous.close(job.job_id)
        finished = [row for row in rows if row.kind == FINISHED]
        if len(finished) != 1:
            raise FormatError(f"The stage of job {job.job_id} left {len(finished)} results.")
        return Finished.from_bytes(finished[0].payload)

    def _stage(self, job: RelayJob) -> list[TaskRow]:
        """Return what the barrier stage left: it may be lost any number of times while the head moves, a few times while it stands."""
        reached: int | None = None
        while True:
            try:
                return self._run(BarrierRelay(job), job.tasks, True)
            except UnavailableError as error:
                before, reached = reached, broker_client(job.broker).head(job.job_id) if error.error_code == _LOST else None
                if reached is None or reached == before:
                    raise

    def rows(self, job: RelayJob, outputs: int, title: str) -> list[TaskRow]:
        """Return the sealed rows of every part, for each of the job's outputs of rows."""
        with self._described(f"SecureMLlib {title}, job {job.job_id[:12]}"):
            found = self._run(RowsRelay(job, outputs), job.tasks, False)
        return [row for row in found if row.kind == ROWS]

    def _run(self, function: TaskFunction, tasks: int, barrier: bool) -> list[TaskRow]:
        # Spark runs tasks of an ordinary stage again by itself; a barrier stage that failed runs again here, from the checkpoint.
        attempts = _BARRIER_ATTEMPTS if barrier else 1
        found: list[TaskRow] | None = None
        while found is None:
            attempts -= 1
            try:
                found = run_tasks(self._spark, self._cluster.context, function, tasks, barrier=barrier)
            except (PySparkException, Py4JError) as error:
                if attempts:
                    continue
                raise UnavailableError(
                    "The job's tasks were lost again and again.",
                    next_step="See the failed stage in the Spark UI; its executors or enclaves end early.",
                    code=_LOST,
                ) from error
        for row in found:
            if row.kind == FAILED:
                raise error_from_code(*json.loads(row.payload))
        return found

    @contextmanager
    def _described(self, description: str) -> Iterator[None]:
        context = self._cluster.context
        if context is None:
            yield
            return
        before = context.getLocalProperty("spark.job.description")
        context.setJobDescription(description)
        try:
            yield
        finally:
            context.setJobDescription(before)  # type: ignore[arg-type]
