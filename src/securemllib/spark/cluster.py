"""What a Spark session's cluster can run at once, and how its tasks reach the driver."""

import os
import sys
from functools import cached_property
from typing import Any

from py4j.protocol import Py4JError
from pyspark import SparkContext
from pyspark.errors import PySparkException, PySparkRuntimeError
from pyspark.sql import SparkSession

from securemllib.errors import UnavailableError
from securemllib.spark.settings import PREFIX

__all__ = ["Cluster", "is_spark_there", "local_spark"]

# Spark's loopback TCP to Python workers waits 40 ms for an acknowledgement, a UNIX socket does not; and a barrier stage that does not
# fit is noticed after one second instead of fifteen.
_SPARK_CONF = {"spark.python.unix.domain.socket.enabled": "true", "spark.scheduler.barrier.maxConcurrentTasksCheck.interval": "1s"}


def is_spark_there() -> bool:
    """Return whether somebody has started Spark in this process, whose session a builder would return, and did not end it."""
    return SparkContext._active_spark_context is not None or SparkSession.getActiveSession() is not None


def local_spark(conf: dict[str, str]) -> SparkSession:
    """Return a session with settings; `UnavailableError` where no Java starts.

    One that is there takes those of Spark as a builder gives them, and none of this package's: they are for one `SecureSession`.
    """
    builder = SparkSession.builder
    if is_spark_there():
        given = {key: value for key, value in conf.items() if not key.startswith(PREFIX)}
    else:
        given = {"spark.app.name": "SecureMLlib", **_SPARK_CONF, **conf}
    for key, value in given.items():
        builder = builder.config(key, value)
    try:
        return builder.getOrCreate()
    except PySparkRuntimeError as error:
        if error.getCondition() != "JAVA_GATEWAY_EXITED":
            raise
        raise UnavailableError(
            "Spark did not start: its Java did not.",
            next_step="Install Java 17 or newer, or set JAVA_HOME to it; `securemllib doctor` says which Java is found.",
            code="unavailable.java",
        ) from error


class Cluster:
    """A session's cluster.

    Args:
        spark: The session.
    """

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark

    @cached_property
    def context(self) -> SparkContext | None:
        """The session's context; None with Spark Connect."""
        try:
            return self._spark.sparkContext
        except (PySparkException, AttributeError):
            return None

    def use_this_interpreter(self) -> None:
        """Run a local session's tasks in the driver's interpreter, where nobody chose one: `python3` may be another environment's."""
        context = self.context
        if context is not None and (context.master or "").startswith("local") and "PYSPARK_PYTHON" not in os.environ:
            context.pythonExec = sys.executable

    @property
    def is_stopped(self) -> bool:
        """Whether the Spark session has ended, or its context, under whatever runs on it."""
        # A context that has ended forgets its counterpart in the virtual machine, and says so in no other way.
        return bool(self._spark.is_stopped) if self.context is None else self.context._jsc is None  # type: ignore[attr-defined]

    @property
    def slots(self) -> int:
        """How many tasks run at the same time; at least 1."""
        if self.context is None:
            return 1
        try:
            scheduler, profile = self._scheduler
            return max(1, int(scheduler.maxNumConcurrentTasks(profile)))
        except Py4JError:
            return max(1, int(self.context.defaultParallelism))

    @cached_property
    def _scheduler(self) -> tuple[Any, Any]:
        """The JVM's context and its default resource profile: each call to the JVM is a round trip of every fit."""
        java: Any = None if self.context is None else self.context._jsc
        jvm = java.sc()
        return jvm, jvm.resourceProfileManager().defaultResourceProfile()

    @cached_property
    def allows_barrier(self) -> bool:
        """Whether Spark runs barrier stages here: not with dynamic allocation."""
        return self.conf("spark.dynamicAllocation.enabled") != "true"

    @property
    def driver_address(self) -> tuple[str, str] | None:
        """The driver's address for executors, and the one to listen on; None where executors cannot reach this process."""
        host = self.conf("spark.driver.host")
        if self.context is None or host is None:
            return None
        return host, self.conf("spark.driver.bindAddress") or host

    @property
    def settings(self) -> dict[str, str]:
        """All settings of the session."""
        return dict(self._spark.conf.getAll)

    def conf(self, key: str) -> str | None:
        """Return a setting of the session, None where it is not set."""
        return self._spark.conf.get(key, None)
