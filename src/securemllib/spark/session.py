"""The entry point: a Spark session, a key broker, and the analyst's agent."""

import atexit
import shutil
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, overload

from pyspark.sql import SparkSession

from securemllib.errors import FormatError, PolicyError, SecureMLlibError, UnavailableError, UsageError
from securemllib.spark.agent_client import AgentClient, agent_socket
from securemllib.spark.blocks import Blocks
from securemllib.spark.broker_client import Asked, BrokerAddress, BrokerClient, broker_client
from securemllib.spark.cluster import Cluster, is_spark_there, local_spark
from securemllib.spark.column_types import schema_of
from securemllib.spark.crossings import Crossings
from securemllib.spark.dataframe import SecureDataFrame, Source
from securemllib.spark.jobs import Outcome, Request, specification, submit
from securemllib.spark.parts_source import MANIFEST_FILE
from securemllib.spark.relay_job import RelayJob
from securemllib.spark.rounds import Engine
from securemllib.spark.rows import SealedRows, StoredResults
from securemllib.spark.settings import PREFIX, Settings, require_known
from securemllib.spark.storage import Folder
from securemllib.wire.dataset import Manifest
from securemllib.wire.encoding import Value
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.job import RELEASE_OPERATION, ROWS_OPERATION, JobSpecification, OutputKind
from securemllib.wire.result import SealedModel, SealedResult
from securemllib.wire.signed import Signed
from securemllib.wire.task import Finished

if TYPE_CHECKING:
    from securemllib.spark.enclave_query import EnclaveFrame
    from securemllib.spark.encoded import EncodedFrame, EncodedTables

__all__ = ["SecureSession", "SecureSessionBuilder"]


class SecureSession:
    """Reads sealed datasets and runs jobs on them through a Spark session.

    Args:
        spark: Any Spark session whose workers have this package installed; a local one is made when not given.
        broker: The broker's URL; the setting ``spark.securemllib.broker.url`` when not given.
        conf: Settings ``spark.securemllib.*`` that go before those of the Spark session.
    """

    builder: ClassVar["_BuilderProperty"]
    _sessions: ClassVar[list["SecureSession"]] = []

    def __init__(self, spark: SparkSession | None = None, broker: str | None = None, conf: dict[str, str] | None = None) -> None:
        self._owns_spark = spark is None and not is_spark_there()
        given = dict(conf or {})
        if broker is not None:
            given[f"{PREFIX}broker.url"] = broker
        self.spark = spark if spark is not None else local_spark(given)
        self._cluster = Cluster(self.spark)
        self._cluster.use_this_interpreter()
        require_known({*given, *self._cluster.settings})
        self.settings = Settings.read(lambda key: given.get(key) or self._cluster.conf(key))
        if not self.settings.broker_url:
            raise UsageError("The session needs a key broker.", next_step=f"Set {PREFIX}broker.url, or pass broker='https://host:port'.")
        self._engine = Engine(self.spark, self._cluster)
        self._lock = threading.Lock()
        self._is_stopped = False
        SecureSession._sessions.append(self)

    @classmethod
    def active(cls) -> "SecureSession":
        """Return the session that was made last, of those that go on; `UsageError` where there is none."""
        cls._sessions[:] = [session for session in cls._sessions if not session.is_stopped]
        if not cls._sessions:
            raise UsageError("There is no SecureSession.", next_step="Make one with SecureSession.builder.getOrCreate().")
        return cls._sessions[-1]

    @property
    def is_stopped(self) -> bool:
        """Whether this session has ended, or the Spark session that it runs on."""
        return self._is_stopped or self._cluster.is_stopped

    @property
    def agent(self) -> AgentClient:
        """The analyst's agent; `UsageError` where the session has ended."""
        self.require_running()
        return self._agent

    def require_running(self) -> None:
        """Raise `UsageError` where the session has ended."""
        if self.is_stopped:
            raise UsageError(
                "This SecureSession has ended, or the Spark session that it runs on.",
                next_step="Make another one, and read datasets and load models with it.",
                code="usage.stopped",
            )

    @cached_property
    def _agent(self) -> AgentClient:
        return AgentClient(agent_socket())

    @property
    def crossings(self) -> dict[str, Crossings]:
        """Frames and bytes that went over the border of enclaves, by the ids of this session's latest jobs, in order."""
        return self._engine.crossings

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

    def read(self, path: str) -> SecureDataFrame:
        """Return the sealed rows of a dataset directory: a path, or a URI that pyarrow knows.

        Raises:
            UsageError: There is no dataset.
            UnavailableError: It cannot be read.
        """
        folder = Folder.of(path)
        try:
            signed = Signed.from_bytes(folder.read(MANIFEST_FILE))
        except UnavailableError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            raise UsageError(
                f"There is no dataset at {folder.root}: no {MANIFEST_FILE} lies there.",
                next_step="Check the path, and that this machine reaches it; `securemllib data encrypt` writes a dataset.",
                code="usage.no_dataset",
            ) from None
        if signed.payload_type != Manifest.TYPE:
            raise FormatError(f"{MANIFEST_FILE} of {folder.root} holds a {signed.payload_type}.")
        manifest = Manifest.from_bytes(signed.payload)
        source = Source(folder=folder, manifest=manifest, encoded=signed.payload)
        return SecureDataFrame(self, source, schema_of(manifest.columns) if manifest.columns else None)

    @cached_property
    def _tables(self) -> "EncodedTables":
        # The parser of SQL is an extra's: a session without queries does not need it.
        try:
            from securemllib.spark.encoded import EncodedTables
        except ModuleNotFoundError as error:
            raise UsageError(
                f"Queries over encoded columns need {error.name}.", next_step="Install securemllib[sql].", code="usage.missing_package"
            ) from None
        return EncodedTables(self)

    def readEncoded(self, path: str) -> "EncodedFrame":
        """Return the encoded columns of a dataset directory, on which plain Spark computes."""
        return self._tables.read(path)

    @overload
    def sql(self, query: str, route: Literal["encoded"] = "encoded") -> "EncodedFrame": ...

    @overload
    def sql(self, query: str, route: Literal["enclave"]) -> "EnclaveFrame": ...

    @overload
    def sql(self, query: str, route: str) -> "EncodedFrame | EnclaveFrame": ...

    def sql(self, query: str, route: str = "encoded") -> "EncodedFrame | EnclaveFrame":
        """Return a query over tables that `EncodedFrame.createOrReplaceTempView` named; nothing runs yet.

        Args:
            query: Spark SQL.
            route: Who computes: plain Spark on ``encoded`` columns; an ``enclave`` on the sealed rows, as jobs that the owner's policy
                counts; or ``auto``: plain Spark where the encodings answer the query, else enclaves. What runs is what `explain` says:
                a query that fails on one route is never tried on the other.

        Raises:
            UsageError: The route cannot answer the query.
        """
        return self._tables.query(query).withRoute(route)

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

    def _run_together(self, wanted: Sequence[tuple[SecureDataFrame, Request]]) -> list[Outcome]:
        first = wanted[0][0]
        if any((frame.source.encoded, frame.reads) != (first.source.encoded, first.reads) for frame, _ in wanted):
            raise UsageError("Jobs that run together read the same parts of one dataset.")
        parts = first.part_count
        if parts == 0:
            raise UsageError("The dataset has no parts.", code="data.no_rows")
        tasks, barrier = self._placement(parts)
        prepared = [self._prepare(frame, request, self.settings.shares or tasks, tasks, barrier) for frame, request in wanted]
        jobs, relays = tuple(job for job, _ in prepared), tuple(relay for _, relay in prepared)
        title = ", ".join(dict.fromkeys(request.operation for _, request in wanted))
        finished = self._engine.fit(relays, partial(self._accepted, jobs), title, barrier=barrier, rows=first.known_rows)
        return [self._outcome(job, done) for job, done in zip(jobs, finished, strict=True)]

    def _accepted(self, jobs: tuple[JobSpecification, ...]) -> tuple[Asked | None, ...]:
        """Have jobs signed and accepted, and return their challenges; one that is refused holds back all: those before it do not run."""
        asked: list[Asked | None] = []
        try:
            for job in jobs:
                with self._lock:
                    asked.append(submit(job, self.agent, self.broker, self.settings.enclave.announced))
        except SecureMLlibError:
            for job in jobs[: len(asked)]:
                self._give_up(job)
            raise
        return tuple(asked)

    def _outcome(self, job: JobSpecification, finished: Finished) -> Outcome:
        self._give_up(job)
        trees: dict[OutputKind, Value] = {}
        mine = job.analyst.fingerprint
        for encoded in finished.results:
            result = SealedResult.from_bytes(encoded)
            if result.recipient == mine:
                trees[result.kind] = self.agent.open_tree(job.job_id, encoded)
        return Outcome(job_id=job.job_id, rounds=finished.round, model=finished.model, trees=trees, sealed=finished.results)

    def release_rows(
        self, frame: SecureDataFrame, to: PublicIdentity | None, columns: tuple[str, ...], path: str | None = None
    ) -> SealedRows:
        """Run a job that hands out rows; see `SecureDataFrame.release`."""
        out = None if path is None else Folder.of(path)
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
        job, relay = self._prepare(frame, request, tasks, tasks, False)
        # Clusters that are told not to use barrier stages may not let tasks reach the driver either.
        meeting = self._engine.rendezvous() if self.settings.barrier else None
        found = self._engine.rows(replace(relay, rendezvous=meeting, out=out), partial(self._accepted, (job,)), 1, "rows")
        rows = sorted(found, key=lambda row: row.number)
        self._give_up(job)
        return job, tuple(row.payload for row in rows)

    def release_model(self, model: SealedModel, to: PublicIdentity | None) -> tuple[Signed, ...]:
        """Return the keys of a model, wrapped for its recipient (the analyst when not given), if every owner's policy allows it."""
        request = Request(
            operation=RELEASE_OPERATION, params={}, inputs={}, plan=None, model=model.reference, outputs=((OutputKind.PLAIN_MODEL, to, ()),)
        )
        job = specification(request, self.settings, self.agent, self._broker_fingerprint, 1)
        with self._lock:
            return self.broker.release(self.agent.sign(job))

    def stop(self) -> None:
        """End the session, and the Spark session where this one made it."""
        self._is_stopped = True
        self._engine.close()
        if "_agent" in self.__dict__:
            self._agent.close()
        if self._owns_spark:
            self.spark.stop()

    def __repr__(self) -> str:
        return f"SecureSession[broker: {self.settings.broker_url}{', stopped' if self.is_stopped else ''}]"

    def __reduce__(self) -> NoReturn:
        raise UsageError(
            "A SecureSession is not pickled or copied, nor are the frames and models that hold one.",
            next_step="Use them in the driver: the functions of Spark's tasks get no sealed rows.",
            code="usage.pickled",
        )

    def _give_up(self, job: JobSpecification) -> None:
        """Let a job get no more keys; one with a model ends when that is recorded."""
        if not job.output(OutputKind.SEALED_MODEL):
            # The results are here: a broker that went away meanwhile does not take them back.
            with self._lock, suppress(UnavailableError):
                self.broker.finish(job.job_id, self.agent.sign_end(job.job_id, job.broker))

    def _placement(self, parts: int) -> tuple[int, bool]:
        """Return how many tasks a round has, and whether they fit into one barrier stage."""
        self.require_running()
        slots = self._cluster.slots
        wanted = min(parts, self.settings.tasks or slots)
        barrier = self.settings.barrier and self._cluster.allows_barrier and wanted <= slots
        return wanted, barrier

    def _prepare(
        self, frame: SecureDataFrame, request: Request, shares: int, tasks: int, barrier: bool
    ) -> tuple[JobSpecification, RelayJob]:
        with self._lock:
            # A job whose aggregator may move between executors resumes from the head each round.
            settings = self.settings if barrier else self.settings.every_round()
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
            rendezvous=self._engine.rendezvous() if barrier else None,
        )
        return job, relay


class SecureSessionBuilder:
    """Builds a session step by step, as ``SparkSession.builder`` does."""

    def __init__(self) -> None:
        self._spark: SparkSession | None = None
        self._broker: str | None = None
        self._conf: dict[str, str] = {}

    def spark(self, session: SparkSession) -> "SecureSessionBuilder":
        """Use an existing Spark session."""
        self._spark = session
        return self

    def broker(self, url: str) -> "SecureSessionBuilder":
        """Use the broker at a URL."""
        self._broker = url
        return self

    def config(self, key: str, value: Any) -> "SecureSessionBuilder":
        """Set ``spark.securemllib.*`` for this session, or any setting of the Spark session that it makes."""
        self._conf[key] = str(value).lower() if isinstance(value, bool) else str(value)
        return self

    def getOrCreate(self) -> SecureSession:
        """Return the active session where nothing else was asked for, else a new one."""
        if self._spark is None and self._broker is None and not self._conf:
            with suppress(UsageError):
                return SecureSession.active()
        return SecureSession(self._spark, self._broker, self._conf)


class _BuilderProperty:
    """A fresh builder at each access."""

    def __get__(self, instance: object, owner: type) -> SecureSessionBuilder:
        return SecureSessionBuilder()


SecureSession.builder = _BuilderProperty()
