"""The engine: one resident stage a fit, or one Spark job a round where the cluster cannot give one."""

import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from threading import Lock, Thread

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.util import InheritableThread

from securemllib.errors import FormatError, UnavailableError, error_from_code
from securemllib.spark.broker_client import Asked, broker_client
from securemllib.spark.cluster import Cluster
from securemllib.spark.crossings import Crossings
from securemllib.spark.gathering import Gathering, OnRound
from securemllib.spark.progress import Progress
from securemllib.spark.relay import ResidentRelay
from securemllib.spark.relay_job import CROSSED, FAILED, FINISHED, ROWS, RelayJob, TaskRow
from securemllib.spark.rendezvous import Rendezvous
from securemllib.spark.round_jobs import RowsRelay, run_round_jobs
from securemllib.spark.tasks import TaskFunction, run_tasks
from securemllib.wire.task import Finished

__all__ = ["Accepted", "Engine", "Stage"]

_LOST = "unavailable.stage"
_MISSING = re.compile(r"ModuleNotFoundError: No module named '([A-Za-z0-9_.]+)'")
_DESCRIPTION = "spark.job.description"

# As often as Spark runs a stage again (spark.stage.maxConsecutiveAttempts).
_STAGE_ATTEMPTS = 4
# A standalone master starts a lost executor anew within seconds; a machine that takes longer is done without. So long tasks that are there
# wait for those that are not, where Spark does not start them together.
_SLOTS_SECONDS = 30.0
_POLL_SECONDS = 0.5
# A task has nothing to do once it has sent what it found; one of a refused job may still wait for a slot.
_ENDING_SECONDS = 5.0
# A search over hyperparameters runs hundreds of jobs.
_COUNTED_JOBS = 1_000

Accepted = Callable[[], tuple[Asked | None, ...]]


class Stage(StrEnum):
    """How a fit runs on Spark: in one stage that Spark starts as a whole, in one whose tasks wait for each other, or in jobs a round."""

    BARRIER = "barrier"
    RESIDENT = "resident"
    ROUNDS = "rounds"


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
        self._crossings: dict[str, Crossings] = {}
        self._lock = Lock()
        self._stages: list[Thread] = []
        self._came: int | None = None

    @property
    def crossings(self) -> dict[str, Crossings]:
        """What went over the border of enclaves, by the ids of the latest jobs, in order; attempts that were lost are not counted."""
        with self._lock:
            return dict(self._crossings)

    def close(self) -> None:
        """Stop listening for tasks, once those whose results are here have ended."""
        deadline = time.monotonic() + _ENDING_SECONDS
        for stage in self._stages:
            stage.join(max(0.0, deadline - time.monotonic()))
        if self._rendezvous is not None:
            self._rendezvous.stop()
            self._rendezvous = None

    def rendezvous(self) -> tuple[str, int] | None:
        """Return where tasks meet; None where they cannot reach the driver, as with Spark Connect."""
        if self._rendezvous is None and (address := self._cluster.driver_address) is not None:
            self._rendezvous = Rendezvous(*address)
        return None if self._rendezvous is None else self._rendezvous.address

    def fit(self, jobs: tuple[RelayJob, ...], accepted: Accepted, title: str, *, stage: Stage, rows: int | None = None) -> list[Finished]:
        """Return the results of jobs of rounds over the same rows, in order.

        In one stage each pass over the rows is a round of all jobs; without one they run one after the other. Where the driver has a
        rendezvous Spark starts the stage while the broker judges the jobs, and its tasks begin once all are accepted.

        Args:
            jobs: The jobs.
            accepted: Has them accepted by the broker, and returns each one's challenge for its first enclave.
            title: What the user sees of them; no value of the data.
            stage: How they run; `RESIDENT` takes the jobs' rendezvous.
            rows: Rows of the dataset, None where its owner hides them.

        Raises:
            SecureMLlibError: What the broker, an enclave or a task reported.
        """
        first, others = jobs[0].job_id, len(jobs) - 1
        description = f"SecureMLlib {title}, job {first[:12]}{f' and {others} more' if others else ''}"
        with Progress(title, rows) as progress:
            if stage is not Stage.ROUNDS and self._rendezvous is not None:
                met = self._meeting(self._rendezvous, jobs, accepted, description, progress.at_round, barrier=stage is Stage.BARRIER)
                left = self._left(met)
            elif stage is Stage.BARRIER:
                with self._described(description):
                    left = self._stage(_asked(jobs, accepted()))
            else:
                with self._described(description):

                    def at_round(number: int) -> None:
                        progress.at_round(number)
                        self._describe(f"{description}, round {number}")

                    return [run_round_jobs(job, self._run, at_round) for job in _asked(jobs, accepted())]
        finished = [row for row in left if row.kind == FINISHED]
        if len(finished) != len(jobs):
            raise FormatError(f"The stage of job {first} left {len(finished)} results of {len(jobs)}.")
        return [Finished.from_bytes(row.payload) for row in finished]

    def _meeting(
        self, rendezvous: Rendezvous, jobs: tuple[RelayJob, ...], accepted: Accepted, description: str, on_round: OnRound, *, barrier: bool
    ) -> list[TaskRow]:
        """Return the rows of a stage that Spark runs in another thread, as soon as they are here."""
        gathering = rendezvous.open(jobs[0].job_id, on_round, None if barrier else _SLOTS_SECONDS)

        def run() -> None:
            with gathering.ending():
                # Spark takes a job's description when it is submitted, so the one stage of all rounds keeps its first.
                self._describe(description)
                self._stage(jobs, gathering, barrier=barrier)

        stage = InheritableThread(target=run, name="securemllib-stage", daemon=True)
        try:
            stage.start()
            with self._lock:
                self._stages = [*(running for running in self._stages if running.is_alive()), stage]
            gathering.accept(accepted())
            return gathering.rows()
        finally:
            # Also where Ctrl-C ends the wait: a notebook's does not end Spark's jobs.
            rendezvous.close(jobs[0].job_id)

    def _stage(self, jobs: tuple[RelayJob, ...], gathering: Gathering | None = None, *, barrier: bool = True) -> list[TaskRow]:
        """Return what the stage left: it may be lost any number of times while a head moves, a few times while they stand."""
        reached: list[int | None] = [None] * len(jobs)
        attempts = _STAGE_ATTEMPTS
        while True:
            try:
                return self._attempt(jobs, gathering, barrier)
            except UnavailableError as error:
                if error.error_code != _LOST or (gathering is not None and gathering.is_dismissed):
                    raise
                attempts -= 1
                if attempts == 0:
                    before, reached = reached, [broker_client(job.broker).head(job.job_id) for job in jobs]
                    if reached == before:
                        raise
                    attempts = _STAGE_ATTEMPTS
            jobs = self._fitted(jobs) if barrier else jobs

    def _attempt(self, jobs: tuple[RelayJob, ...], gathering: Gathering | None, barrier: bool) -> list[TaskRow]:
        """Return what the stage left, whose tasks are as many as came where Spark did not start all of them in time."""
        if not barrier and self._came is not None:
            # What did not come once is not waited for in each fit.
            jobs = _dealt(jobs, max(self._came, self._cluster.slots))
        while True:
            if gathering is not None:
                gathering.begin(jobs[0].tasks)
            found = self._run(ResidentRelay(jobs), jobs[0].tasks, barrier)
            if gathering is None or not gathering.came:
                return found
            self._came = gathering.came
            jobs = _dealt(jobs, self._came)

    def _fitted(self, jobs: tuple[RelayJob, ...]) -> tuple[RelayJob, ...]:
        """Return the jobs with as many tasks as have slots, once a lost worker had its time to come back."""
        deadline, tasks = time.monotonic() + _SLOTS_SECONDS, jobs[0].tasks
        while (slots := self._cluster.slots) < tasks and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        return _dealt(jobs, slots)

    def rows(self, job: RelayJob, accepted: Accepted, outputs: int, title: str) -> list[TaskRow]:
        """Return the sealed rows of every part, for each of the job's outputs of rows; see `fit` for what else there is to know.

        The job's tasks need not run at once; where it names the rendezvous, Spark starts them while the broker judges the job.
        """
        with self._described(f"SecureMLlib {title}, job {job.job_id[:12]}"):
            if job.rendezvous is None or self._rendezvous is None:
                (asked,) = _asked((job,), accepted())
                found = self._run(RowsRelay(asked, outputs), job.tasks, False)
            else:
                found = self._run_judged(self._rendezvous, job, accepted, outputs)
        return [row for row in found if row.kind == ROWS]

    def _run_judged(self, rendezvous: Rendezvous, job: RelayJob, accepted: Accepted, outputs: int) -> list[TaskRow]:
        admission = rendezvous.admit(job.job_id, job.tasks)

        def judge() -> None:
            try:
                admission.accept(*accepted())
            except BaseException:
                admission.dismiss()
                raise

        try:
            with ThreadPoolExecutor(1, "securemllib-judged") as thread:
                judged = thread.submit(judge)
                found = self._run(RowsRelay(job, outputs), job.tasks, False)
        finally:
            rendezvous.close(job.job_id)
        # A refused job's tasks have found nothing.
        judged.result()
        return found

    def _run(self, function: TaskFunction, tasks: int, barrier: bool) -> list[TaskRow]:
        # Spark runs tasks of an ordinary stage again by itself; a barrier stage that failed is run again by `_stage`, from the checkpoint.
        try:
            found = run_tasks(self._spark, self._cluster.context, function, tasks, barrier=barrier)
        except (PySparkException, Py4JError) as error:
            if missing := _MISSING.search(str(error)):
                raise UnavailableError(
                    f"The Python of Spark's tasks has no {missing[1]}.",
                    next_step="Install this package with the extra `spark` on every worker, and name its Python in PYSPARK_PYTHON.",
                    code="unavailable.package",
                ) from error
            raise UnavailableError(
                "The job's tasks were lost again and again.",
                next_step="See the failed stage in the Spark UI; its executors or enclaves end early.",
                code=_LOST,
            ) from error
        return self._left(found)

    def _left(self, found: list[TaskRow]) -> list[TaskRow]:
        """Raise what failed among a stage's rows, count what crossed an enclave's border, and return the others."""
        for row in found:
            if row.kind == FAILED:
                raise error_from_code(*json.loads(row.payload))
            if row.kind == CROSSED:
                self._count(Crossings.from_bytes(row.payload))
        return [row for row in found if row.kind != CROSSED]

    def _count(self, crossings: Crossings) -> None:
        with self._lock:
            before = self._crossings.get(crossings.job_id)
            self._crossings[crossings.job_id] = crossings if before is None else before + crossings
            while len(self._crossings) > _COUNTED_JOBS:
                self._crossings.pop(next(iter(self._crossings)))

    @contextmanager
    def _described(self, description: str) -> Iterator[None]:
        context = self._cluster.context
        if context is None:
            yield
            return
        before = context.getLocalProperty(_DESCRIPTION)
        context.setJobDescription(description)
        try:
            yield
        finally:
            context.setJobDescription(before)  # type: ignore[arg-type]

    def _describe(self, description: str) -> None:
        if self._cluster.context is not None:
            self._cluster.context.setJobDescription(description)


def _asked(jobs: tuple[RelayJob, ...], challenges: tuple[Asked | None, ...]) -> tuple[RelayJob, ...]:
    return tuple(replace(job, asked=asked) for job, asked in zip(jobs, challenges, strict=True))


def _dealt(jobs: tuple[RelayJob, ...], most: int) -> tuple[RelayJob, ...]:
    """Return the jobs with at most so many tasks; their shares stay as signed."""
    return tuple(replace(job, tasks=min(job.tasks, most)) for job in jobs)
