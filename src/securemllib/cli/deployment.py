"""Owner, key broker and analyst's agent on one machine, each with a home of its own and the last two as processes.

The demonstration, the benchmark and the end-to-end tests stand on it; a real deployment runs the same commands on three machines.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from securemllib.attestation.measurement import measure_package
from securemllib.crypto.identity import PrivateIdentity
from securemllib.errors import UnavailableError
from securemllib.owner import dataset, identity_file
from securemllib.owner.broker_client import BrokerClient
from securemllib.owner.home import Home
from securemllib.owner.keystore import Keystore
from securemllib.owner.policy import for_broker, policy_from_text
from securemllib.owner.reading import open_dataset
from securemllib.policy.envelope import seal_statement

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from securemllib.spark.session import SecureSession

__all__ = ["LocalDeployment"]

_STOP_SECONDS = 10.0
# The line with which a broker and an agent say that they listen.
_READY = (b"listening ", b"SECUREMLLIB_AGENT_SOCK=")

# What the benchmark and most tests need: the analyst may do everything; the enclaves are this installation's, without a TEE.
_OPEN_POLICY = """\
allow_insecure: true
insecure_risk: the-operator-can-read-everything
enclaves:
  this-installation: {{measurement: "{measurement}"}}
rules:
  - name: everything-for-the-analyst
    analysts: [{analyst}]
    operations: all
    columns: all
    modes: [enclave, partitioned]
    outputs:
      sealed_model: [{analyst}]
      sealed_statistics: [{analyst}]
      plain_model: [{analyst}]
      summary: [{analyst}]
      metric: [{analyst}]
      rows: {{recipients: [{analyst}], columns: all}}
"""


class LocalDeployment:
    """A running broker and agent, and the owner's keys.

    Args:
        directory: Where homes, databases and datasets go; it must not hold an earlier deployment.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.broker_url = ""
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.owner_home, self.analyst_home = Home(self.directory / "owner"), Home(self.directory / "analyst")
        for home in (self.owner_home, self.analyst_home):
            home.make()
        self.owner = identity_file.create(self.owner_home.path, "owner", None)
        self.analyst = identity_file.create(self.analyst_home.path, "analyst", None)
        self.keystore = Keystore.create(self.owner_home.keystore, None)
        try:
            self._start_broker()
            self._start_agent()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    @property
    def environment(self) -> dict[str, str]:
        """What a Spark driver of the analyst needs in its environment: addresses, no secret."""
        return {
            "SECUREMLLIB_HOME": str(self.analyst_home.path),
            "SECUREMLLIB_AGENT_SOCK": str(self.agent_socket),
            "SECUREMLLIB_BROKER": self.broker_url,
        }

    def dataset(self, source: object, name: str, *, policy: str | None = None, **options: Any) -> Path:
        """Encrypt a source, enrol it, and put a policy in force.

        Args:
            source: What `securemllib.owner.sources.open_source` takes.
            name: Of the dataset and of its directory.
            policy: YAML; what the analyst needs for everything when not given. ``{analyst}`` and ``{measurement}`` are filled in.
            **options: Of `securemllib.owner.dataset.encrypt`.

        Returns:
            The dataset's directory.
        """
        directory = self.directory / "datasets" / name
        directory.parent.mkdir(exist_ok=True)
        manifest = dataset.encrypt(source, directory, name=name, identity=self.owner, keystore=self.keystore, **options)
        text = (policy or _OPEN_POLICY).format(analyst=self.analyst.public.fingerprint, measurement=measure_package().hex())
        parsed = policy_from_text(text, dataset_id=manifest.dataset_id, owner=self.owner.public.fingerprint)
        parsed = for_broker(parsed, self.broker.fingerprint)
        self._enrol(directory)
        with BrokerClient(self.broker_url, self.broker.fingerprint) as client:
            client.submit_policy(manifest.dataset_id, seal_statement(parsed, self.owner).to_bytes())
        return directory

    def extend(self, directory: Path, source: object, **layout: Any) -> None:
        """Add a source's rows to a dataset as new parts, and enrol the version that this makes.

        Args:
            directory: The dataset's directory.
            source: What `securemllib.owner.sources.open_source` takes.
            **layout: Of `securemllib.owner.dataset.Layout`.
        """
        dataset.extend(source, directory, identity=self.owner, keystore=self.keystore, layout=dataset.Layout(**layout))
        self._enrol(directory)

    def _enrol(self, directory: Path) -> None:
        with BrokerClient(self.broker_url, self.broker.fingerprint) as client:
            client.enrol(open_dataset(directory, owner=self.owner.public, keystore=self.keystore), self.owner)

    def audit(self) -> list[Any]:
        """Return the audit entries of the owner's datasets."""
        with BrokerClient(self.broker_url, self.broker.fingerprint) as client:
            return client.audit(self.owner)

    def session(self, spark: "SparkSession", conf: Mapping[str, str] | None = None) -> "SecureSession":
        """Return the analyst's session on a Spark session of this process."""
        from securemllib.spark.session import SecureSession

        os.environ.update(self.environment)
        return SecureSession(spark=spark, broker=self.broker_url, conf=dict(conf or {}))

    @property
    def identities(self) -> Mapping[str, PrivateIdentity]:
        """The owner's and the analyst's identities."""
        return {"owner": self.owner, "analyst": self.analyst}

    def _start_broker(self) -> None:
        home = self.directory / "broker"
        _run("broker", "init", "--home", str(home), "--no-passphrase")
        owner = self.owner_home.path / "owner.pub"
        self.broker_url = self._start("broker", "serve", "--home", str(home), "--port", "0", "--owner", str(owner)).rpartition(" ")[2]
        self.broker = identity_file.load_public(home / "broker.pub")
        for mine in (self.owner_home, self.analyst_home):
            identity_file.save_public(self.broker, mine.broker)

    def _start_agent(self) -> None:
        # A socket's path may have 107 characters; a directory of tests or of a build is often longer.
        folder = Path(self._stack.enter_context(TemporaryDirectory(prefix="sml-")))
        self.agent_socket = folder / "agent.sock"
        self._start("agent", "--socket", str(self.agent_socket), home=self.analyst_home)

    def _start(self, *arguments: str, home: Home | None = None) -> str:
        environment = {**os.environ, **({"SECUREMLLIB_HOME": str(home.path)} if home else {})}
        log = self._stack.enter_context((self.directory / f"{arguments[0]}.log").open("wb"))
        process = subprocess.Popen(_command(*arguments), stdout=subprocess.PIPE, stderr=log, env=environment)
        self._stack.callback(_stop, process)
        for line in process.stdout or ():
            if line.startswith(_READY):
                return line.decode().strip()
        raise UnavailableError(f"`securemllib {' '.join(arguments[:2])}` did not start.", next_step=f"See {log.name}.")


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from securemllib.cli import main; main()", *arguments]


def _run(*arguments: str) -> None:
    done = subprocess.run(_command(*arguments), capture_output=True, text=True, check=False)
    if done.returncode:
        raise UnavailableError(f"`securemllib {' '.join(arguments[:2])}` failed: {done.stderr.strip()}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout:
        process.stdout.close()
