"""Trainings through Spark and a real enclave process, counted from outside of it."""

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Self

from securemllib.cli.deployment import LocalDeployment
from securemllib.cli.enclave_process import started
from securemllib.cli.sgx.access import SHARES
from securemllib.cli.sgx.model import Counts
from securemllib.cli.sgx.workloads import Workload

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["Counted", "count_all"]

# <linux/posix-timers.h>: the scheduler's clock of a process; a thread that ended is counted.
_CPUCLOCK_SCHED = 2
_VOLUNTARY = re.compile(r"^voluntary_ctxt_switches:\s+(\d+)", re.MULTILINE)
_PEAK, _RESIDENT = re.compile(r"^VmHWM:\s+(\d+)", re.MULTILINE), re.compile(r"^VmRSS:\s+(\d+)", re.MULTILINE)
_IDLE_SECONDS = 600.0
# A first training of a few rows loads libraries and starts threads, which is not the next one's cost.
_WARM_UP_ROWS = 400
# A thread's last waits before it ends are missed: at most those of so long.
_LOOK_SECONDS = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """One training, counted.

    Attributes:
        operation: The estimator's name.
        rows: Of its data.
        columns: Feature columns.
        data: ``files`` where the enclave had not seen the rows, ``held`` where it still held them.
        wall: Seconds by the clock.
        counts: What its enclave did.
    """

    operation: str
    rows: int
    columns: int
    data: str
    wall: float
    counts: Counts


def count_all(workloads: Sequence[Workload], *, scale: float, memory: int, cores: int) -> Iterator[Counted]:
    """Give each workload's counts, of a training whose rows the enclave has not seen, and of the same once it holds them.

    Args:
        workloads: What to train.
        scale: Factor on their rows.
        memory: Bytes for the enclave's blocks.
        cores: Spark's task slots.
    """
    with tempfile.TemporaryDirectory(prefix="securemllib-sgx-") as folder, LocalDeployment(Path(folder) / "deployment") as deployment:
        spark = _spark(cores)
        try:
            for workload in workloads:
                yield from _count(workload, scale, memory, deployment, spark)
        finally:
            spark.stop()


def _count(workload: Workload, scale: float, memory: int, deployment: LocalDeployment, spark: "SparkSession") -> Iterator[Counted]:
    table, name = workload.table(scale), workload.operation.lower()
    path, small = deployment.dataset(table, name), deployment.dataset(table.slice(0, _WARM_UP_ROWS), f"{name}-few")
    with started(memory=memory, idle=_IDLE_SECONDS) as (process, port):
        session = deployment.session(spark, {"spark.securemllib.enclave.address": f"127.0.0.1:{port}"})
        workload.fit(session.read(str(small)))
        resident = _status(process, _RESIDENT)
        for rows_are in ("files", "held"):
            earlier, before, begun = session.crossings, _cpu(process), time.perf_counter()
            with _Waits(process) as waits:
                workload.fit(session.read(str(path)))
            wall, seconds = time.perf_counter() - begun, _cpu(process) - before
            crossed = reduce(add, (each for job, each in session.crossings.items() if job not in earlier))
            counts = Counts(
                seconds=seconds,
                frames_in=crossed.frames_in,
                frames_out=crossed.frames_out,
                bytes_in=crossed.bytes_in,
                bytes_out=crossed.bytes_out,
                waits=waits.number,
                working_set=max(0, _status(process, _PEAK) - resident),
                table=workload.table_bytes(table.num_rows),
                random_share=SHARES[workload.operation].share,
            )
            shape = (table.num_rows, workload.columns)
            yield Counted(operation=workload.operation, rows=shape[0], columns=shape[1], data=rows_are, wall=wall, counts=counts)
        session.stop()


class _Waits:
    """Counts how often a process's threads wait while the block runs, by looking at them often: a thread that ends takes its count along.

    Attributes:
        number: How often.
    """

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._tasks = Path(f"/proc/{process.pid}/task")
        self._first, self._last = self._look(), dict[str, int]()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.number = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.number = sum(count - self._first.get(name, 0) for name, count in self._last.items())

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            self._last.update(self._look())
        self._last.update(self._look())

    def _look(self) -> dict[str, int]:
        found = {}
        for task in self._tasks.iterdir():
            with suppress(OSError):
                if match := _VOLUNTARY.search((task / "status").read_text()):
                    found[task.name] = int(match.group(1))
        return found


def _cpu(process: "subprocess.Popen[bytes]") -> float:
    return time.clock_gettime((~process.pid << 3) | _CPUCLOCK_SCHED)


def _status(process: "subprocess.Popen[bytes]", field: re.Pattern[str]) -> int:
    """Return a size of a process's memory in bytes."""
    match = field.search(Path(f"/proc/{process.pid}/status").read_text())
    return 0 if match is None else 1024 * int(match.group(1))


def _spark(cores: int) -> "SparkSession":
    from pyspark.sql import SparkSession

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.master(f"local[{cores}]").appName("SecureMLlib SGX model")
    for key, value in {
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.python.unix.domain.socket.enabled": "true",
        "spark.scheduler.barrier.maxConcurrentTasksCheck.interval": "1s",
    }.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    return session
