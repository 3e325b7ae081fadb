"""Running one function in every task of a Spark job, and bringing its rows to the driver as bytes that only our decoder reads.

A classic session runs it on an RDD, which costs Spark half the time of a DataFrame's job; a Spark Connect session, which has no RDDs, on a
DataFrame. Neither way unpickles anything that a task returned: the driver may be the analyst's own machine, and tasks run on the host's.

An RDD of a new function takes the driver a pickle and thirteen calls to the JVM, one after the other, before Spark hears of the job. So
RDDs are kept, and the function of a job is a property of it, which Spark sends to the job's tasks.
"""

import gc
import pickle
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

import pyarrow as pa
from py4j.clientserver import ClientServer
from pyspark import RDD, SparkContext, TaskContext, cloudpickle
from pyspark.serializers import NoOpSerializer
from pyspark.sql import SparkSession

from securemllib.errors import FormatError
from securemllib.spark.relay_job import TaskRow

__all__ = ["TaskFunction", "run_tasks"]

TaskFunction = Callable[[], Iterator[TaskRow]]

_SCHEMA = "row binary"
# Rows carry states and statistics, which may be larger than any message that is decoded elsewhere.
_ROW_LIMIT = 2**31
# The property that holds a job's function, and how long it may be: Spark writes properties to its log, and what is larger it broadcasts.
_FUNCTION = "securemllib.function"
_FUNCTION_LIMIT = 128 * 2**10
# Whether this process did: asking the collector, which counts its frozen objects one by one, takes 5 ms a task.
_SETTLED: list[bool] = []


def run_tasks(spark: SparkSession, context: SparkContext | None, function: TaskFunction, tasks: int, *, barrier: bool) -> list[TaskRow]:
    """Return the rows of a function that runs once in each of so many tasks.

    A barrier stage runs once: a task that is lost fails it as a whole, and whoever called runs it again.

    Args:
        spark: The session.
        context: Its context, None with Spark Connect.
        function: Called without arguments in each task.
        tasks: How many.
        barrier: Whether all tasks must run at the same time.
    """
    found = _run_dataframe(spark, function, tasks, barrier) if context is None else _run_rdd(context, function, tasks, barrier)
    return [TaskRow.from_bytes(row, limit=_ROW_LIMIT) for row in found]


def _run_dataframe(spark: SparkSession, function: TaskFunction, tasks: int, barrier: bool) -> list[bytes]:
    results = spark.range(0, tasks, 1, tasks).mapInArrow(_OverArrow(function), _SCHEMA, barrier=barrier)
    return [bytes(row[0]) for row in results.collect()]


def _run_rdd(context: SparkContext, function: TaskFunction, tasks: int, barrier: bool) -> list[bytes]:
    encoded = b64encode(cloudpickle.dumps(function)).decode()
    # Without a thread of the JVM for each of Python's, jobs of several threads would share their properties.
    if len(encoded) > _FUNCTION_LIMIT or not isinstance(context._gateway, ClientServer):
        return _collected(_mapped(context, _OverRows(function), tasks, barrier))
    context.setLocalProperty(_FUNCTION, encoded)
    try:
        return _collected(_kept(context, tasks, barrier))
    finally:
        context.setLocalProperty(_FUNCTION, None)  # type: ignore[arg-type]


def _collected(rows: RDD[bytes]) -> list[bytes]:
    return [bytes(row) for row in rows.collect()]


@lru_cache(maxsize=16)
def _kept(context: SparkContext, tasks: int, barrier: bool) -> RDD[bytes]:
    """Return so many partitions of the rows of whichever function a job has."""
    return _mapped(context, _OverRows(_of_job), tasks, barrier)


def _mapped(context: SparkContext, function: "_OverRows", tasks: int, barrier: bool) -> RDD[bytes]:
    index = _index(context, tasks)
    mapped = index.barrier().mapPartitions(function) if barrier else index.mapPartitions(function)
    # Bytes in, bytes out: the serializer that Spark would choose is pickle.
    plain: RDD[bytes] = mapped._reserialize(NoOpSerializer())
    return plain


@lru_cache(maxsize=8)
def _index(context: SparkContext, tasks: int) -> RDD[int]:
    """Return so many empty partitions; making them takes Spark a temporary file and two jobs' worth of calls, so they are kept."""
    return context.parallelize([], tasks)


def _of_job() -> Iterator[TaskRow]:
    """Return the rows of the function of the task's job."""
    context = TaskContext.get()
    encoded = None if context is None else context.getLocalProperty(_FUNCTION)
    if encoded is None:
        raise FormatError("The task's job has no function.")
    # It came from the driver as Spark's own functions do, which are pickles too.
    function: TaskFunction = pickle.loads(b64decode(encoded))  # noqa: S301
    return function()


def _settle() -> None:
    """Take what a worker has imported out of the garbage collector's sight, once: Spark collects after each task, for 50 ms of CPU."""
    if not _SETTLED:
        _SETTLED.append(True)
        gc.collect()
        gc.freeze()


class _OverArrow:
    """The function as ``mapInArrow`` calls it."""

    def __init__(self, function: TaskFunction) -> None:
        self._function = function

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for _ in batches:
            pass
        _settle()
        for row in self._function():
            yield pa.RecordBatch.from_pydict({"row": pa.array([row.to_bytes()], pa.binary())})


class _OverRows:
    """The function as ``mapPartitions`` calls it."""

    def __init__(self, function: TaskFunction) -> None:
        self._function = function

    def __call__(self, rows: Iterable[int]) -> Iterator[bytes]:
        for _ in rows:
            pass
        _settle()
        for row in self._function():
            yield row.to_bytes()
