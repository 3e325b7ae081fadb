"""Our `fit` on a standalone cluster of two workers beside the same on one, and what this machine's cores can gain at most.

Each worker is a process with one core and an enclave of its own. A driver has one cluster at a time, so the two sides take turns: the rows
lie in the enclaves' memory once a side's first fits, which do not count, are over.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyspark
from generators import Data
from measure import Cost, Samples, measure
from pyspark.sql import SparkSession
from training import Trainer
from workload import Workload, secure_api

from securemllib.cli.demo.processes import Processes, Started
from securemllib.cli.deployment import LocalDeployment

__all__ = ["WALL_TARGET", "compare_workers", "two_cores_gain"]

# Two workers are to train 1.7 times as fast as one.
WALL_TARGET = 1.0 / 1.7
_HOME = Path(pyspark.__file__).parent
_LOOPBACK = "127.0.0.1"
_WORKERS = 2
_START_SECONDS = 90.0
_TURNS, _WARM_UP_SECONDS = 2, 12.0
_CONF = {
    "spark.driver.memory": "6g",
    "spark.driver.host": _LOOPBACK,
    "spark.driver.bindAddress": _LOOPBACK,
    "spark.executor.memory": "2g",
    "spark.executor.cores": "1",
    "spark.scheduler.minRegisteredResourcesRatio": "1.0",
    "spark.scheduler.barrier.maxConcurrentTasksCheck.interval": "1s",
    "spark.python.unix.domain.socket.enabled": "true",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}
# Passes over a matrix larger than the caches, as a linear model's rounds are.
_PASSES = """
import time
import numpy as np
rows = np.random.default_rng(0).random((300_000, 50), dtype=np.float32)
weights = np.zeros(50, dtype=np.float32)
print("ready", flush=True)
input()
started = time.perf_counter()
for _ in range(60):
    weights = weights - 1e-9 * (1.0 / (1.0 + np.exp(-(rows @ weights))) @ rows)
print(time.perf_counter() - started, flush=True)
"""


def compare_workers(workload: Workload, data: Data, deployment: LocalDeployment, mode: str, runs: int) -> tuple[Samples, Samples]:
    """Return the costs of cached fits on two workers and on one; a side's fits come in turns of some each."""
    sides = {workers: Samples() for workers in (_WORKERS, 1)}
    sealed = deployment.dataset(data.table, f"{workload.name}-workers")
    with Processes() as processes, tempfile.TemporaryDirectory(prefix="securemllib-cluster-", dir=deployment.directory) as folder:
        url = _start_cluster(Path(folder), processes)
        for turn in range(_TURNS):
            share = runs // _TURNS + (turn < runs % _TURNS)
            for workers, samples in sides.items():
                if share:
                    samples.costs += _fits(workload, data, deployment, mode, sealed, _spark(url, workers, Path(folder)), share)
    return sides[_WORKERS], sides[1]


def two_cores_gain() -> float:
    """Return how much faster two processes at once do twice the passes over rows than one after the other, 2 at best."""
    return 2.0 * _passes(1) / _passes(2)


def _fits(
    workload: Workload, data: Data, deployment: LocalDeployment, mode: str, sealed: Path, spark: SparkSession, count: int
) -> list[Cost]:
    trainer = Trainer(workload=workload, data=data, spark=spark, deployment=deployment, mode=mode)
    session = deployment.session(spark, {"spark.securemllib.mode": mode})
    try:
        rows = trainer.assembled(secure_api(), session.read(str(sealed)))
        started = time.perf_counter()
        while time.perf_counter() - started < min(_WARM_UP_SECONDS, 4.0 * count):
            workload.estimator(secure_api(), 0).fit(rows)
        return [measure(lambda number=number: workload.estimator(secure_api(), number).fit(rows)) for number in range(count)]
    finally:
        session.stop()
        trainer.close()


def _spark(url: str, workers: int, folder: Path) -> SparkSession:
    os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.master(url).appName("bench").config("spark.cores.max", str(workers))
    for key, value in {**_CONF, "spark.local.dir": str(folder / "local"), "spark.securemllib.storage": str(folder / "storage")}.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def _start_cluster(folder: Path, processes: Processes) -> str:
    for name in ("conf", "local", "logs", "storage", "work"):
        (folder / name).mkdir()
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME", "LANG", "JAVA_HOME", "LD_LIBRARY_PATH") if name in os.environ},
        "SPARK_HOME": str(_HOME),
        "SPARK_CONF_DIR": str(folder / "conf"),
        "SPARK_LOCAL_DIRS": str(folder / "local"),
        "SPARK_LOCAL_IP": _LOOPBACK,
        "SPARK_PUBLIC_DNS": _LOOPBACK,
        "SPARK_DAEMON_MEMORY": "192m",
        "PYSPARK_PYTHON": sys.executable,
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }

    def daemon(name: str, main: str, *arguments: str) -> Started:
        command = [str(_HOME / "bin" / "spark-class"), f"org.apache.spark.deploy.{main}", "--host", _LOOPBACK, *arguments]
        return processes.start(f"Spark {name}", command, log=folder / "logs" / f"{name}.log", environment=environment, folder=folder)

    ports = ("--port", "0", "--webui-port", "0")
    url = daemon("master", "master.Master", *ports).wait_for(r"Starting Spark master at (spark://\S+)", _START_SECONDS)
    places = ("--work-dir", str(folder / "work"), "--cores", "1", "--memory", "3g", *ports, url)
    for worker in [daemon(f"worker-{number}", "worker.Worker", *places) for number in range(_WORKERS)]:
        worker.wait_for(r"(Successfully registered) with master", _START_SECONDS)
    return url


def _passes(processes: int) -> float:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen([sys.executable, "-c", _PASSES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(processes)
    ]
    try:
        for process in started:
            process.stdout.readline()
        for process in started:
            process.stdin.write("\n")
            process.stdin.flush()
        return max(float(process.communicate()[0]) for process in started)
    finally:
        for process in started:
            process.kill()
            process.wait()
