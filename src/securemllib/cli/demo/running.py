"""The demonstration, step by step."""

import json
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from securemllib.cli.demo.cluster import Cluster, start_cluster
from securemllib.cli.demo.health import FEATURES, HealthData, write_health_data
from securemllib.cli.demo.processes import Processes, Started, leaving_nothing_behind
from securemllib.cli.demo.roles import host_processes, roles
from securemllib.cli.demo.screen import show
from securemllib.cli.demo.searching import Finding, search_files, search_memory
from securemllib.cli.demo.story import Role, Search, Step, Story, departures, verify
from securemllib.cli.deployment import LocalDeployment
from securemllib.errors import UsageError

__all__ = ["run"]

_HERE = Path(__file__).parent
# A UNIX socket's path holds 107 bytes, so the files lie near the root and are moved to where they stay afterwards.
_SHORT = Path("/tmp")  # noqa: S108 - a folder of our own is made there
_PARTS = 4
_SCRIPT_SECONDS = 420.0


def run(keep: Path | None, rows: int) -> None:
    """Run the demonstration and print what it showed.

    Args:
        keep: The folder for its files, None to delete them.
        rows: How many rows of the data to use.

    Raises:
        UsageError: The folder exists.
        UnavailableError: A process did not start, or ended early.
        IntegrityError: The host saw a planted value, or the search did not find what must be there.
    """
    if keep is not None and keep.exists():
        raise UsageError(f"{keep} exists.", next_step="Name a new folder.", code="usage.exists")
    folder = Path(tempfile.mkdtemp(prefix="securemllib-", dir=_SHORT if _SHORT.is_dir() else None))
    try:
        with leaving_nothing_behind():
            story = _Demonstration(folder, rows).tell()
        show(story, Console(highlight=False))
        verify(story.searches)
    finally:
        if keep is not None:
            shutil.move(folder, keep)
        else:
            shutil.rmtree(folder, ignore_errors=True)


@dataclass
class _Demonstration:
    """One run.

    Attributes:
        folder: For all files.
        rows: How many rows of the data to use.
    """

    folder: Path
    rows: int
    console: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))
    steps: list[Step] = field(default_factory=list)
    searches: list[Search] = field(default_factory=list)
    roles: tuple[Role, ...] = ()

    def tell(self) -> Story:
        """Return what happened; everything that was started has ended."""
        policy = (_HERE / "policy.yaml").read_text()
        with ExitStack() as stack:
            with self._step("data: write the owner's table, plant canaries"):
                data = write_health_data(self.folder / "owner", self.rows)
            processes = stack.enter_context(Processes())
            with self._step("start the key broker and the analyst's agent"):
                deployment = stack.enter_context(LocalDeployment(self.folder / "deployment"))
            with self._step("owner: encrypt, sign the manifest, enrol, sign the policy"):
                dataset = deployment.dataset(str(data.parquet), "health", policy=policy, rows_per_part=-(-data.rows // _PARTS))
            with self._step("start Spark standalone: master, 2 workers; 2 enclaves"):
                cluster = start_cluster(self.folder / "host", processes, stack)
            sealed = self._analyst(processes, cluster, deployment, data, dataset)
            plain = self._plaintext(processes, cluster, data)
            audit = deployment.audit()
        return Story(
            rows=data.rows,
            features=len(FEATURES),
            planted=data.planted,
            forms=len(data.canaries.forms),
            roles=self.roles,
            steps=tuple(self.steps),
            departures=departures(audit, policy),
            audited=len(audit),
            searches=tuple(self.searches),
            sealed=sealed,
            plain=plain,
        )

    def _analyst(
        self, processes: Processes, cluster: Cluster, deployment: LocalDeployment, data: HealthData, dataset: Path
    ) -> dict[str, Any]:
        driver = self._script(processes, cluster, "analyst", deployment.environment, dataset)
        answer = self._follow(driver)
        self.roles = roles(cluster, driver)
        with self._step("search disk, wire and memory for the canaries"):
            self._search_host(cluster, deployment, data, driver, dataset)
        processes.end(driver)
        return answer

    def _plaintext(self, processes: Processes, cluster: Cluster, data: HealthData) -> dict[str, Any]:
        driver = self._script(processes, cluster, "plaintext", {}, data.parquet)
        with self._step("the same training with plaintext MLlib on the same cluster"):
            answer = self._follow(driver)
        with self._step("search the same memory again"):
            found = search_memory(data.canaries, host_processes(cluster, driver))
            self._searched("memory of this Spark after plaintext MLlib", found, control=True)
        processes.end(driver)
        return answer

    def _script(self, processes: Processes, cluster: Cluster, name: str, environment: Mapping[str, str], dataset: Path) -> Started:
        given = {"DEMO_MASTER": cluster.url, "DEMO_DATASET": str(dataset), "DEMO_FEATURES": ",".join(FEATURES)}
        # Safe path: the script sees the installed packages, and nothing that lies beside it.
        command = [sys.executable, "-P", str(_HERE / f"{name}.py")]
        log = cluster.folder / "logs" / f"{name}.log"
        everything = {**cluster.environment, **environment, **given}
        return processes.start(f"{name}'s script", command, log=log, environment=everything, folder=cluster.folder, piped=True)

    def _follow(self, driver: Started) -> dict[str, Any]:
        """Return a script's last line, and show those before it as steps."""
        watch = threading.Timer(_SCRIPT_SECONDS, driver.process.kill)
        # A signal may come between its start and the line that stops it; it must not keep the process then.
        watch.daemon = True
        try:
            watch.start()
            for line in driver.process.stdout or ():
                if not line.startswith(b'{"step"'):
                    continue
                told: dict[str, Any] = json.loads(line)
                if told["step"] == "done":
                    return told
                self._done(Step(name=f"analyst: {told['step']}", seconds=told["seconds"], detail=told["detail"]))
        finally:
            watch.cancel()
        raise driver.failure(f"ended with code {driver.process.wait()}")

    def _search_host(self, cluster: Cluster, deployment: LocalDeployment, data: HealthData, driver: Started, dataset: Path) -> None:
        canaries, host = data.canaries, cluster.folder
        frames, logs, events = host / "frames", host / "logs", host / "events"
        rest = [item for item in host.iterdir() if item not in {frames, logs, events}]
        self._searched("encrypted dataset", search_files(canaries, [dataset]))
        self._searched("Spark's event log", search_files(canaries, [events]))
        self._searched("work, shuffle, temp files, checkpoints", search_files(canaries, rest))
        self._searched("logs of Spark, enclaves, script", search_files(canaries, [logs]))
        self._searched("frames to and from the enclaves", search_files(canaries, [frames]))
        self._searched("memory of Spark's JVMs and Python", search_memory(canaries, host_processes(cluster, driver)))
        broker = [deployment.directory / name for name in ("broker", "broker.log", "agent.log")]
        self._searched("broker's database and logs", search_files(canaries, broker))
        self._searched("the owner's plaintext files", search_files(canaries, [data.csv, data.parquet]), control=True)
        enclaves = [enclave.process.pid for enclave in cluster.enclaves]
        self._searched("memory of the enclaves, as root: no TEE", search_memory(canaries, enclaves), control=True)

    def _searched(self, place: str, finding: Finding, *, control: bool = False) -> None:
        self.searches.append(Search(place=place, finding=finding, control=control))

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        with self.console.status(name):
            yield
        self._done(Step(name=name, seconds=time.monotonic() - start, detail=""))

    def _done(self, step: Step) -> None:
        self.steps.append(step)
        self.console.print(f"{step.seconds:7.1f} s  {step.name}", markup=False, style="dim")
