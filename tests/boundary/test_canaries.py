"""What of the owner's values can the host see, anywhere, while and after a job runs?"""

import json
import os
import socket
import sys
import threading
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from securemllib.cli.demo.processes import Processes
from securemllib.cli.demo.recording import RecordingProxy
from securemllib.cli.demo.searching import Canaries, Finding, search_bytes, search_files, search_memory, session_processes
from securemllib.cli.deployment import LocalDeployment
from securemllib.cli.enclave_process import command

ROWS, PLANTED = 1200, 30
SCRIPT = Path(__file__).with_name("analyst.py")
PAGES = (
    "/jobs/",
    "/stages/",
    "/storage/",
    "/environment/",
    "/executors/",
    "/executors/threadDump/?executorId=driver",
    "/SQL/",
    "/SQL/execution/?id=0",
    *(f"/api/v1/applications/{{id}}/{name}" for name in ("jobs", "stages?details=true", "environment", "allexecutors", "sql?details=true")),
)
HOST = ("event log", "local and temp folders", "checkpoints", "dataset", "UI", "frames", "memory of the JVM and Python", "broker", "logs")


@dataclass
class World:
    """What was searched once the job had run.

    Attributes:
        found: What each place came to.
        told: What the analyst's script told.
        frames: Bytes that passed between Spark and the enclave.
    """

    found: dict[str, Finding]
    told: dict
    frames: int


def patients(canaries):
    """Return rows of which some hold the canaries: a text, and two numbers that are neighbours as features."""
    generator = np.random.default_rng(5)
    dose, pressure = generator.normal(6.5, 1.0, ROWS), generator.normal(4.5, 1.0, ROWS)
    chosen = generator.choice(ROWS, PLANTED, replace=False)
    dose[chosen], pressure[chosen] = canaries.numbers
    names = [f"{canaries.text}-{row}" if row in chosen else f"patient-{row}" for row in range(ROWS)]
    age = generator.integers(20, 90, ROWS).astype(float)
    ill = (dose + pressure + 0.02 * age + generator.normal(0, 1, ROWS) > 12).astype(float)
    return pa.table({"patient": names, "dose": dose, "pressure": pressure, "age": age, "ill": ill})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder; a UNIX socket's path in it must stay short."""
    return tmp_path_factory.mktemp("b")


@pytest.fixture(scope="module")
def world(folder):
    """Run a job in processes of its own and search all that it left, before and without stopping anything."""
    canaries = Canaries.generate((6.0, 4.0))
    table = patients(canaries)
    (folder / "owner").mkdir()
    pq.write_table(table, folder / "owner" / "patients.parquet", compression="none", use_dictionary=False)
    host = folder / "host"
    for name in ("events", "local", "tmp", "storage", "logs", "frames"):
        (host / name).mkdir(parents=True)
    with LocalDeployment(folder / "d") as deployment, Processes() as processes:
        dataset = deployment.dataset(table, "patients", rows_per_part=300)
        arguments = command(port=0, memory=2**27, idle=300.0)
        enclave = processes.start("enclave", arguments, log=host / "logs" / "enclave.log", environment={}, folder=host)
        with RecordingProxy(int(enclave.wait_for(r"listening \S+:(\d+)\n", 60)), host / "frames") as proxy:
            driver = start(processes, deployment, dataset, host, proxy.port)
            told = answer(driver)
            broker = [deployment.directory / name for name in ("broker", "broker.log", "agent.log")]
            found = {
                "event log": search_files(canaries, [host / "events"]),
                "local and temp folders": search_files(canaries, [host / "local", host / "tmp"]),
                "checkpoints": search_files(canaries, [host / "storage"]),
                "dataset": search_files(canaries, [dataset]),
                "UI": search_pages(canaries, told),
                "frames": search_files(canaries, [host / "frames"]),
                "memory of the JVM and Python": search_memory(canaries, session_processes(driver.process.pid)),
                "broker": search_files(canaries, broker),
                "logs": search_files(canaries, [host / "logs"]),
                "enclave": search_memory(canaries, [enclave.process.pid]),
                "plaintext": search_files(canaries, [folder / "owner"]),
            }
            recorded = proxy.recorded
            driver.process.stdin.write(b"\n")
            driver.process.stdin.flush()
            answer(driver)
            found["memory with released rows"] = search_memory(canaries, session_processes(driver.process.pid))
    return World(found=found, told=told, frames=recorded)


def start(processes, deployment, dataset, host, port):
    """Start the analyst's driver, in whose environment and configuration nothing is a secret."""
    conf = {
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.memory": "512m",
        "spark.ui.enabled": "true",
        "spark.ui.port": str(free_port()),
        "spark.local.dir": str(host / "local"),
        "spark.eventLog.enabled": "true",
        "spark.eventLog.compress": "false",
        "spark.eventLog.dir": f"file://{host / 'events'}",
        "spark.shuffle.compress": "false",
        "spark.broadcast.compress": "false",
        "spark.python.unix.domain.socket.enabled": "true",
        "spark.securemllib.storage": str(host / "storage"),
        "spark.securemllib.checkpoint.interval": "2",
        "spark.securemllib.enclave.address": f"127.0.0.1:{port}",
        # The most that Spark can be made to tell.
        "spark.log.level": "INFO",
        "spark.sql.execution.pyspark.udf.tracebackWithLocals.enabled": "true",
    }
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "JAVA_HOME", "LD_LIBRARY_PATH") if name in os.environ}
    environment = {**kept, **deployment.environment, "TMPDIR": str(host / "tmp"), "PYSPARK_PYTHON": sys.executable}
    arguments = [sys.executable, "-P", str(SCRIPT), str(dataset), json.dumps(conf)]
    return processes.start("driver", arguments, log=host / "logs" / "driver.log", environment=environment, folder=host, piped=True)


def answer(driver):
    """Return what the script tells when it is done."""
    watch = threading.Timer(200, driver.process.kill)
    watch.start()
    try:
        line = driver.process.stdout.readline()
    finally:
        watch.cancel()
    if not line:
        raise driver.failure("ended early")
    return json.loads(line)


def search_pages(canaries, told):
    """Search Spark's web pages and its REST interface."""
    found = Finding(hits={})
    for path in PAGES:
        with urllib.request.urlopen(told["ui"] + path.format(id=told["application"]), timeout=60) as response:
            found += search_bytes(canaries, response.read()) + Finding(places=1, hits={})
    return found


def free_port():
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.mark.parametrize("place", HOST)
def test_the_host_sees_none_of_the_planted_values(world, place):
    """A job that reads, fits, transforms, evaluates and releases leaves no canary where the host can look."""
    found = world.found[place]
    assert found.hits == {}
    assert found.denied == 0
    assert found.searched > 0


def test_the_search_finds_them_in_the_owners_file(world):
    """The same search finds every planted value in the plaintext that the owner keeps."""
    hits = world.found["plaintext"].hits
    assert hits["first float64"] >= PLANTED
    assert hits["second float64"] >= PLANTED
    assert hits["text"] >= PLANTED


@pytest.mark.skipif(os.geteuid() != 0, reason="only root reads the memory of a hardened process")
def test_the_search_finds_them_in_the_memory_of_the_enclave(world):
    """Without a TEE root reads the rows in the enclave's memory, so the search looks at memory rightly, and the label insecure is true."""
    assert world.found["enclave"].total > 0


def test_the_search_finds_them_in_the_memory_of_a_driver_that_was_given_them(world):
    """The same processes, after a policy let the planted columns out to the analyst, hold what they did not hold before."""
    hits = world.found["memory with released rows"].hits
    assert hits["text"] > 0
    assert hits["first float64"] > 0


def test_the_job_did_what_it_was_asked_for(world):
    """The places were searched after a real job: rows were scored, a model left, and the parts passed the wire in full."""
    assert world.told["rows"] > ROWS / 8
    assert len(world.told["coefficients"]) == 3
    assert 0.6 < world.told["area"] <= 1.0
    assert world.frames > world.found["dataset"].searched / 2
