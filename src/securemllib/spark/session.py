"""The entry point: a Spark session, a key broker, and the analyst's agent."""

from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, overload

from pyspark.sql import SparkSession

from securemllib.errors import FormatError, UnavailableError, UsageError
from securemllib.spark.cluster import Cluster, is_spark_there, local_spark
from securemllib.spark.column_types import schema_of
from securemllib.spark.dataframe import SecureDataFrame
from securemllib.spark.job_runner import JobRunner
from securemllib.spark.parts_source import MANIFEST_FILE
from securemllib.spark.settings import PREFIX, Settings, require_known
from securemllib.spark.source import Source
from securemllib.spark.storage import Folder
from securemllib.wire.dataset import Manifest
from securemllib.wire.signed import Signed

if TYPE_CHECKING:
    from securemllib.spark.enclave_query import EnclaveFrame
    from securemllib.spark.encoded import EncodedFrame, EncodedTables

__all__ = ["SecureSession", "SecureSessionBuilder"]


class SecureSession(JobRunner):
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
        spark = spark if spark is not None else local_spark(given)
        cluster = Cluster(spark)
        cluster.use_this_interpreter()
        require_known({*given, *cluster.settings})
        settings = Settings.read(lambda key: given.get(key) or cluster.conf(key))
        if not settings.broker_url:
            raise UsageError("The session needs a key broker.", next_step=f"Set {PREFIX}broker.url, or pass broker='https://host:port'.")
        super().__init__(spark, cluster, settings)
        SecureSession._sessions.append(self)

    @classmethod
    def active(cls) -> "SecureSession":
        """Return the session that was made last, of those that go on; `UsageError` where there is none."""
        cls._sessions[:] = [session for session in cls._sessions if not session.is_stopped]
        if not cls._sessions:
            raise UsageError("There is no SecureSession.", next_step="Make one with SecureSession.builder.getOrCreate().")
        return cls._sessions[-1]

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

    def stop(self) -> None:
        """End the session, and the Spark session where this one made it."""
        super().stop()
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
