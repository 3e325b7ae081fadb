"""A real Spark standalone cluster on the loopback address: a master and two workers of one core, as processes."""

import os
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pyspark
from pyspark.sql import SparkSession

from securemllib.cli.demo.processes import Processes

WORKERS = 2
_HOME = Path(pyspark.__file__).parent
_START_SECONDS = 60
CONF = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.memory": "512m",
    "spark.executor.memory": "512m",
    "spark.executor.cores": "1",
    "spark.scheduler.minRegisteredResourcesRatio": "1.0",
    "spark.scheduler.barrier.maxConcurrentTasksCheck.interval": "1s",
    "spark.python.unix.domain.socket.enabled": "true",
    "spark.sql.shuffle.partitions": "2",
    "spark.log.level": "OFF",
}


class Cluster:
    """A running cluster.

    Args:
        folder: For all its files.
        processes: Starts its processes and ends them.
    """

    def __init__(self, folder, processes):
        self.folder, self._processes = folder, processes
        self._serial = 0
        self.idle = 300 + os.getpid() / 2**23
        for name in ("conf", "logs", "local", "work", "tmp"):
            (folder / name).mkdir(parents=True)
        self._environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG", "JAVA_HOME", "LD_LIBRARY_PATH") if name in os.environ},
            "SPARK_HOME": str(_HOME),
            "SPARK_CONF_DIR": str(folder / "conf"),
            "SPARK_LOCAL_DIRS": str(folder / "local"),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_PUBLIC_DNS": "127.0.0.1",
            "SPARK_DAEMON_MEMORY": "128m",
            "TMPDIR": str(folder / "tmp"),
            "PYSPARK_PYTHON": sys.executable,
        }
        master = self._daemon("master", "master.Master", "--host", "127.0.0.1", "--port", "0", "--webui-port", "0")
        self.url = master.wait_for(r"Starting Spark master at (spark://\S+)", _START_SECONDS)
        self.workers = [self._worker() for _ in range(WORKERS)]
        for worker in self.workers:
            worker.wait_for(r"(Successfully registered) with master", _START_SECONDS)

    def spark(self):
        """Return the driver's session in this process."""
        builder = SparkSession.builder.master(self.url).appName("e2e")
        for key, value in {**CONF, "spark.local.dir": str(self.folder / "local")}.items():
            builder = builder.config(key, value)
        return builder.getOrCreate()

    def replace_worker(self, number):
        """Kill a worker as a power cut would, with all that runs below it, and start another one."""
        killed = self.workers[number].process
        below = psutil.Process(killed.pid).children(recursive=True)
        os.kill(killed.pid, signal.SIGKILL)
        for process in below:
            if process.is_running():
                process.kill()
        self.workers[number] = self._worker()

    def executors(self):
        """Return the executors' virtual machines."""
        found = []
        for worker in self.workers:
            found += [
                process for process in _children(worker.process.pid) if "CoarseGrainedExecutorBackend" in " ".join(command_of(process))
            ]
        return found

    def relays(self):
        """Return the Python tasks of the executors: what their Python daemons forked."""
        daemons = [
            process for executor in self.executors() for process in _children(executor.pid) if "pyspark.daemon" in command_of(process)
        ]
        return [process for daemon in daemons for process in _children(daemon.pid)]

    def enclaves(self):
        """Return the enclaves that tasks of this cluster started: their bound of idle seconds is this cluster's alone."""
        return [process for process in psutil.process_iter() if {"securemllib.enclave", str(self.idle)} <= set(command_of(process))]

    def _worker(self):
        self._serial += 1
        places = ("--work-dir", str(self.folder / "work"), "--host", "127.0.0.1", "--port", "0", "--webui-port", "0")
        return self._daemon(f"worker-{self._serial}", "worker.Worker", "--cores", "1", "--memory", "600m", *places, self.url)

    def _daemon(self, name, main, *arguments):
        command = [str(_HOME / "bin" / "spark-class"), f"org.apache.spark.deploy.{main}", *arguments]
        log = self.folder / "logs" / f"{name}.log"
        return self._processes.start(f"Spark {name}", command, log=log, environment=self._environment, folder=self.folder)


@contextmanager
def running_cluster(folder):
    """Give a running cluster, and end it with all that it started."""
    with Processes() as processes:
        cluster = Cluster(folder, processes)
        try:
            yield cluster
        finally:
            for enclave in cluster.enclaves():
                enclave.kill()


def wait_until(condition, seconds=60.0):
    """Return what the condition gives once that is true; `TimeoutError` otherwise."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.005)
    return found


def _children(pid):
    try:
        return psutil.Process(pid).children()
    except psutil.Error:
        return []


def command_of(process):
    """Return a process's command line, empty where it has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []
