"""A Spark standalone cluster on this machine: a master, two workers, and beside each worker an enclave behind a recording proxy."""

import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from securemllib.cli.demo.processes import Processes, Started
from securemllib.cli.demo.recording import RecordingProxy
from securemllib.cli.enclave_process import command as enclave_command
from securemllib.errors import UnavailableError

__all__ = ["WORKERS", "Cluster", "start_cluster"]

WORKERS = 2
_LOOPBACK = "127.0.0.1"
_START_SECONDS = 90.0
_ENCLAVE_BYTES = 2**28
_ENCLAVE_IDLE_SECONDS = 600.0
# Nothing is compressed, so that a search of the files sees what is in them.
_CONF = """\
spark.driver.memory                      512m
spark.driver.host                        127.0.0.1
spark.driver.bindAddress                 127.0.0.1
spark.executor.memory                    512m
spark.executor.cores                     1
spark.cores.max                          {workers}
spark.scheduler.minRegisteredResourcesRatio  1.0
spark.scheduler.barrier.maxConcurrentTasksCheck.interval  1s
spark.python.unix.domain.socket.enabled  true
spark.driver.extraJavaOptions            -Djava.io.tmpdir={temporary}
spark.executor.extraJavaOptions          -Djava.io.tmpdir={temporary}
spark.eventLog.enabled                   true
spark.eventLog.compress                  false
spark.eventLog.dir                       file://{events}
spark.shuffle.compress                   false
spark.shuffle.spill.compress             false
spark.broadcast.compress                 false
spark.rdd.compress                       false
spark.ui.port                            0
spark.ui.showConsoleProgress             false
spark.securemllib.storage                {storage}
spark.securemllib.enclave.address        ../../enclave.address
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A running cluster.

    Attributes:
        master: The master.
        url: Its address for drivers.
        workers: The workers.
        enclaves: The enclaves, one beside each worker.
        proxies: What records the frames to and from each enclave.
        folder: All files of the host.
        environment: What the host's processes have in their environment.
    """

    master: Started
    url: str
    workers: tuple[Started, ...]
    enclaves: tuple[Started, ...]
    proxies: tuple[RecordingProxy, ...]
    folder: Path
    environment: Mapping[str, str]


def start_cluster(folder: Path, processes: Processes, stack: ExitStack) -> Cluster:
    """Return a running cluster whose files are all in one new folder.

    Raises:
        UnavailableError: A process did not start.
    """
    for name in ("conf", "events", "local", "tmp", "storage", "logs", "frames"):
        (folder / name).mkdir(parents=True)
    conf = _CONF.format(workers=WORKERS, temporary=folder / "tmp", events=folder / "events", storage=folder / "storage")
    (folder / "conf" / "spark-defaults.conf").write_text(conf)
    environment = _environment(folder)
    master = _daemon(processes, folder, environment, "master", "master.Master", "--host", _LOOPBACK, "--port", "0", "--webui-port", "0")
    # The first worker's enclave starts while the master does.
    enclaves, proxies = [], []
    for number in range(1, WORKERS + 1):
        enclave, proxy = _enclave(processes, folder, number)
        enclaves.append(enclave)
        proxies.append(stack.enter_context(proxy))
    url = master.wait_for(r"Starting Spark master at (spark://\S+)", _START_SECONDS)
    workers = tuple(_worker(processes, folder, environment, url, number) for number in range(1, WORKERS + 1))
    for worker in workers:
        worker.wait_for(r"(Successfully registered) with master", _START_SECONDS)
    return Cluster(
        master=master,
        url=url,
        workers=workers,
        enclaves=tuple(enclaves),
        proxies=tuple(proxies),
        folder=folder,
        environment=environment,
    )


def _enclave(processes: Processes, folder: Path, number: int) -> tuple[Started, RecordingProxy]:
    home = folder / f"worker-{number}"
    home.mkdir()
    command = enclave_command(port=0, memory=_ENCLAVE_BYTES, idle=_ENCLAVE_IDLE_SECONDS)
    enclave = processes.start(f"enclave {number}", command, log=folder / "logs" / f"enclave-{number}.log", environment={}, folder=home)
    port = enclave.wait_for(r"listening \S+:(\d+)\n", _START_SECONDS)
    proxy = RecordingProxy(int(port), folder / "frames" / f"enclave-{number}")
    # Executors run two folders below their worker's, and so find the enclave of that worker.
    (home / "enclave.address").write_text(f"{_LOOPBACK}:{proxy.port}")
    return enclave, proxy


def _worker(processes: Processes, folder: Path, environment: Mapping[str, str], url: str, number: int) -> Started:
    places = ("--work-dir", str(folder / f"worker-{number}"), "--host", _LOOPBACK, "--port", "0", "--webui-port", "0")
    return _daemon(processes, folder, environment, f"worker-{number}", "worker.Worker", "--cores", "1", "--memory", "1g", *places, url)


def _daemon(processes: Processes, folder: Path, environment: Mapping[str, str], name: str, main: str, *arguments: str) -> Started:
    command = [str(_spark_home() / "bin" / "spark-class"), f"org.apache.spark.deploy.{main}", *arguments]
    return processes.start(f"Spark {name}", command, log=folder / "logs" / f"{name}.log", environment=environment, folder=folder)


def _environment(folder: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "JAVA_HOME", "LD_LIBRARY_PATH") if name in os.environ}
    temporary = str(folder / "tmp")
    return {
        **kept,
        "SPARK_HOME": str(_spark_home()),
        "SPARK_CONF_DIR": str(folder / "conf"),
        "SPARK_LOCAL_DIRS": str(folder / "local"),
        "SPARK_LOCAL_IP": _LOOPBACK,
        "SPARK_PUBLIC_DNS": _LOOPBACK,
        "SPARK_DAEMON_MEMORY": "192m",
        "SPARK_DAEMON_JAVA_OPTS": f"-Djava.io.tmpdir={temporary}",
        "TMPDIR": temporary,
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
    }


def _spark_home() -> Path:
    found = find_spec("pyspark")
    if found is None or found.origin is None:
        raise UnavailableError("pyspark is not installed.", next_step="pip install 'securemllib[demo]'", code="unavailable.spark")
    return Path(found.origin).parent
