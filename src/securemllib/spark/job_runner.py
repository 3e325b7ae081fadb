"""Runs jobs: has them signed by the analyst's agent and accepted by the key broker, and sends them over the cluster."""

import atexit
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property

from pyspark.sql import SparkSession

from securemllib.errors import PolicyError, SecureMLlibError, UnavailableError, UsageError
from securemllib.spark.agent_client import AgentClient, agent_socket
from securemllib.spark.blocks import Blocks
from securemllib.spark.broker_client import Asked, BrokerAddress, BrokerClient, broker_client
from securemllib.spark.cluster import Cluster
from securemllib.spark.crossings import Crossings
from securemllib.spark.dataframe import SecureDataFrame
from securemllib.spark.jobs import Outcome, Request, specification, submit
from securemllib.spark.relay_job import RelayJob, rows_folder
from securemllib.spark.rounds import Accepted, Engine, Stage
from securemllib.spark.rows import SealedRows, StoredResults
from securemllib.spark.settings import Settings
from securemllib.spark.storage import Folder
from securemllib.wire.encoding import Value
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.job import RELEASE_OPERATION, ROWS_OPERATION, JobSpecification, OutputKind
from securemllib.wire.result import SealedModel, SealedResult
from securemllib.wire.signed import Signed
from securemllib.wire.task import Finished

__all__ = ["JobRunner"]


class JobRunner:
    """What a session runs its jobs with: the cluster, the broker, the analyst's agent and the engine of rounds.

    Args:
        spark: The Spark session.
        cluster: What is known of it.
        settings: The session's.
    """

    def __init__(self, spark: SparkSession, cluster: Cluster, settings: Settings) -> None:
        self.spark = spark
        self.settings = settings
        self._cluster = cluster
        self._engine = Engine(spark, cluster)
        self._lock = threading.Lock()
        self._is_stopped = False

    @property
    def is_stopped(self) -> bool:
        """Whether this session has ended, or the Spark session that it runs on."""
        return self._is_stopped or self._cluster.is_stopped

    def stop(self) -> None:
        """End what runs, and the connection to the agent."""
        self._is_stopped = True
        self._engine.close()
        if "_agent" in self.__dict__:
            self._agent.close()

    def require_running(self) -> None:
        """Raise `UsageError` where the session has ended."""
        if self.is_stopped:
            raise UsageError(
                "This SecureSession has ended, or the Spark session that it runs on.",
                next_step="Make another one, and read datasets and load models with it.",
                code="usage.stopped",
            )

    @property
    def agent(self) -> AgentClient:
        """The analyst's agent; `UsageError` where the session has ended."""
        self.require_running()
        return self._agent

    @cached_property
    def _agent(self) -> AgentClient:
        return AgentClient(agent_socket())

    @property
    def broker(self) -> BrokerClient:
        """The key broker."""
        return broker_client(self._broker_address)

    @property
    def _broker_address(self) -> BrokerAddress:
        return BrokerAddress(url=self.settings.broker_url, ca=self.settings.broker_ca, wait=self.settings.wait)

    @cached_property
    def _broker_fingerprint(self) -> str:
        # The agent's word goes first: it was told by the analyst, the URL's server says so itself.
        trusted = self.agent.identify().broker
        answered = self.broker.identity()
        if trusted is not None and trusted.fingerprint != answered.fingerprint:
            raise PolicyError(
                f"The broker at {self.settings.broker_url} is {answered.fingerprint}, the agent trusts {trusted.fingerprint}.",
                next_step="Check the URL, or start the agent with the broker that you trust.",
                code="refused.broker",
            )
        return answered.fingerprint

    @property
    def is_connect(self) -> bool:
        """Whether the Spark session is one of Spark Connect."""
        return self._cluster.context is None

    @property
    def crossings(self) -> dict[str, Crossings]:
        """Frames and bytes that went over the border of enclaves, by the ids of this session's latest jobs, in order."""
        return self._engine.crossings

    @cached_property
    def storage(self) -> Folder:
        """The folder for checkpoints."""
        if self.settings.storage:
            return Folder.of(self.settings.storage)
        path = tempfile.mkdtemp(prefix="securemllib-")
        atexit.register(shutil.rmtree, path, ignore_errors=True)
        return Folder.of(path)

    def folder_of(self, job_id: str) -> Folder:
        """Return the folder of a job's checkpoints and blocks."""
        return self.storage.child("checkpoints").child(job_id)

    def run(self, frame: SecureDataFrame, request: Request) -> Outcome:
        """Run a job of rounds over a frame's rows and return what it left, opened where it is for the analyst."""
        return self.run_together([(frame, request)])[0]

    def run_together(self, wanted: Sequence[tuple[SecureDataFrame, Request]]) -> list[Outcome]:
        """Run jobs of rounds over frames of one dataset, whose parts are read once for all of them, and return what each left.

        Each is a job of its own: signed, judged by policies and counted as a run like any other, with its own keys and the same result.
        At most ``spark.securemllib.together`` go over the rows at once.
        """
        together = self.settings.together if all(request.together for _, request in wanted) else 1
        passes = (self._run_together(wanted[start : start + together]) for start in range(0, len(wanted), together))
        return [outcome for outcomes in passes for outcome in outcomes]

    def release_rows(
        self,
        frame: SecureDataFrame,
        to: PublicIdentity | None,
        columns: tuple[str, ...],
        path: str | None = None,
        *,
        overwrite: bool = False,
    ) -> SealedRows:
        """Run a job that hands out rows; see `SecureDataFrame.release`."""
        out = None if path is None else rows_folder(path, overwrite=overwrite)
        job, results = self.sealed_rows(frame, to, columns, out)
        return SealedRows(self, job.job_id, results if out is None else StoredResults(out, len(results)))

    def sealed_rows(
        self, frame: SecureDataFrame, to: PublicIdentity | None, columns: tuple[str, ...], out: Folder | None = None
    ) -> tuple[JobSpecification, tuple[bytes, ...]]:
        """Run a job that hands out rows, and return it with an encoded `SealedResult` for each part that the plan reads, in order.

        They are empty where the tasks write them to a folder.
        """
        if not columns:
            raise UsageError("Name the columns that leave.")
        parts = frame.part_count
        tasks, _ = self._placement(parts)
        request = Request(
            operation=ROWS_OPERATION, params={}, inputs={}, plan=frame.plan, outputs=((OutputKind.ROWS, to, columns),), dtype="float64"
        )
        job, relay = self._prepare(frame, request, tasks, tasks, Stage.ROUNDS)
        # Clusters that are told not to use barrier stages may not let tasks reach the driver either.
        meeting = self._engine.rendezvous() if self.settings.barrier else None
        with self._accepting((job,)) as accepted:
            found = self._engine.rows(replace(relay, rendezvous=meeting, out=out), accepted, 1, "rows")
        rows = sorted(found, key=lambda row: row.number)
        self._end(job, self.broker)
        return job, tuple(row.payload for row in rows)

    def release_model(self, model: SealedModel, to: PublicIdentity | None) -> tuple[Signed, ...]:
        """Return the keys of a model, wrapped for its recipient (the analyst when not given), if every owner's policy allows it."""
        request = Request(
            operation=RELEASE_OPERATION, params={}, inputs={}, plan=None, model=model.reference, outputs=((OutputKind.PLAIN_MODEL, to, ()),)
        )
        job = specification(request, self.settings, self.agent, self._broker_fingerprint, 1)
        with self._lock:
            return self.broker.release(self.agent.sign(job))

    def _run_together(self, wanted: Sequence[tuple[SecureDataFrame, Request]]) -> list[Outcome]:
        first = wanted[0][0]
        if any((frame.source.encoded, frame.reads) != (first.source.encoded, first.reads) for frame, _ in wanted):
            raise UsageError("Jobs that run together read the same parts of one dataset.")
        parts = first.part_count
        if parts == 0:
            raise UsageError("The dataset has no parts.", code="data.no_rows")
        tasks, stage = self._placement(parts)
        prepared = [self._prepare(frame, request, self.settings.shares or tasks, tasks, stage) for frame, request in wanted]
        jobs, relays = tuple(job for job, _ in prepared), tuple(relay for _, relay in prepared)
        title = ", ".join(dict.fromkeys(request.operation for _, request in wanted))
        with self._accepting(jobs) as accepted:
            finished = self._engine.fit(relays, accepted, title, stage=stage, rows=first.known_rows)
        return [self._outcome(job, done) for job, done in zip(jobs, finished, strict=True)]

    @contextmanager
    def _accepting(self, jobs: tuple[JobSpecification, ...]) -> Iterator[Accepted]:
        """Give what has jobs signed and accepted and returns their challenges; one that is refused holds back all.

        Where the block fails or is interrupted nobody waits for their results any more, and those that were accepted get no more keys.
        """
        asked: list[Asked | None] = []

        def accepted() -> tuple[Asked | None, ...]:
            for job in jobs:
                with self._lock:
                    asked.append(submit(job, self.agent, self.broker, self.settings.enclave.announced))
            return tuple(asked)

        try:
            yield accepted
        except BaseException:
            # A broker that went away is not waited for again.
            with suppress(SecureMLlibError):
                for job in jobs[: len(asked)]:
                    self._end(job, broker_client(replace(self._broker_address, wait=0.0)))
            raise

    def _outcome(self, job: JobSpecification, finished: Finished) -> Outcome:
        if not job.output(OutputKind.SEALED_MODEL):
            self._end(job, self.broker)
        trees: dict[OutputKind, Value] = {}
        mine = job.analyst.fingerprint
        for encoded in finished.results:
            result = SealedResult.from_bytes(encoded)
            if result.recipient == mine:
                trees[result.kind] = self.agent.open_tree(job.job_id, encoded)
        return Outcome(job_id=job.job_id, rounds=finished.round, model=finished.model, trees=trees, sealed=finished.results)

    def _end(self, job: JobSpecification, broker: BrokerClient) -> None:
        """Let a job get no more keys; one with a model ends by itself when that is recorded."""
        # The results are here: a broker that went away meanwhile does not take them back.
        with self._lock, suppress(UnavailableError):
            broker.finish(job.job_id, self.agent.sign_end(job.job_id, job.broker))

    def _placement(self, parts: int) -> tuple[int, Stage]:
        """Return how many tasks a round has, and in which stage they run."""
        self.require_running()
        slots = self._cluster.slots
        wanted = min(parts, self.settings.tasks or slots)
        if self.settings.barrier and self._cluster.allows_barrier and wanted <= slots:
            return wanted, Stage.BARRIER
        # Executors may still be on their way, and with dynamic allocation Spark asks for them as long as tasks wait for a slot.
        return wanted, Stage.RESIDENT if self.settings.barrier and self._engine.rendezvous() is not None else Stage.ROUNDS

    def _prepare(
        self, frame: SecureDataFrame, request: Request, shares: int, tasks: int, stage: Stage
    ) -> tuple[JobSpecification, RelayJob]:
        with self._lock:
            # A job whose aggregator may move between executors resumes from the head each round.
            settings = self.settings.every_round() if stage is Stage.ROUNDS else self.settings
            job = specification(request, settings, self.agent, self._broker_fingerprint, shares)
        job_id = job.job_id
        relay = RelayJob(
            job_id=job_id,
            manifest=frame.source.encoded,
            models=tuple(model.to_bytes() for model in frame.models if model.reference in job.models),
            parts=tuple((part.file, part.length) for part in frame.source.manifest.parts),
            dataset=frame.source.folder,
            reads=frame.reads,
            blocks=Blocks(job_id=job_id, folder=self.folder_of(job_id), models=tuple(frame.pieces.items())),
            shares=shares,
            tasks=min(tasks, shares) if request.operation != ROWS_OPERATION else tasks,
            broker=self._broker_address,
            enclave=self.settings.enclave,
            ports=self.settings.ports,
            rendezvous=None if stage is Stage.ROUNDS else self._engine.rendezvous(),
        )
        return job, relay
