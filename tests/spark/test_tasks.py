"""Does each job's tasks run the job's own function, whichever way it came to them?"""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from pyspark import TaskContext

from securemllib.errors import FormatError
from securemllib.spark import tasks
from securemllib.spark.relay_job import TaskRow
from securemllib.spark.tasks import run_tasks


@dataclass(frozen=True)
class Told:
    """A function that tells its task's number, what it was made with, and how it came."""

    what: bytes

    def __call__(self) -> Iterator[TaskRow]:
        context = TaskContext.get()
        assert context is not None
        came = "closure" if context.getLocalProperty("securemllib.function") is None else "property"
        yield TaskRow(kind=came, number=context.partitionId(), payload=self.what)


def told(spark: Any, what: bytes, count: int = 2, *, barrier: bool = False) -> list[tuple[str, int, bytes]]:
    """Return what the tasks of one job told."""
    rows = run_tasks(spark, spark.sparkContext, Told(what), count, barrier=barrier)
    return sorted((row.kind, row.number, row.payload) for row in rows)


@pytest.mark.parametrize("barrier", [False, True])
def test_each_job_runs_its_own_function(spark: Any, barrier: bool) -> None:
    """Jobs of the same shape share an RDD and not their functions; one that is large comes the other way."""
    assert told(spark, b"one", barrier=barrier) == [("property", 0, b"one"), ("property", 1, b"one")]
    assert told(spark, b"two", barrier=barrier) == [("property", 0, b"two"), ("property", 1, b"two")]
    large = bytes(tasks._FUNCTION_LIMIT)
    assert told(spark, large, barrier=barrier) == [("closure", 0, large), ("closure", 1, large)]
    assert told(spark, b"three", 1, barrier=barrier) == [("property", 0, b"three")]


def test_jobs_of_several_threads_do_not_mix(spark: Any) -> None:
    """Threads that run jobs at once each get the rows of their own."""
    together = threading.Barrier(4)

    def each(number: int) -> bool:
        what = b"%d" % number
        together.wait(30.0)
        return all(told(spark, what) == [("property", 0, what), ("property", 1, what)] for _ in range(10))

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(each, range(4)))


def test_without_threads_of_the_jvm_functions_are_no_properties(spark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all threads of the driver share one of the JVM's, and with it the properties, a function comes in the job itself."""
    monkeypatch.setattr(tasks, "ClientServer", type("Other", (), {}))
    assert told(spark, b"one") == [("closure", 0, b"one"), ("closure", 1, b"one")]


def test_the_property_is_taken_away(spark: Any) -> None:
    """Jobs after one of ours do not carry its function, and of one that fails neither; a task without it says so."""
    told(spark, b"one")
    assert spark.sparkContext.getLocalProperty("securemllib.function") is None
    with pytest.raises(Exception, match="division"):
        run_tasks(spark, spark.sparkContext, lambda: iter([1 / 0]), 1, barrier=False)
    assert spark.sparkContext.getLocalProperty("securemllib.function") is None
    with pytest.raises(FormatError, match="no function"):
        tasks._of_job()
