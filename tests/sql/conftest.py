"""An owner with encoded tables, the owner's agent, and a session on the same Spark that also reads the tables in the clear."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from securemllib.crypto.identity import PrivateIdentity
from securemllib.owner import dataset, identity_file
from securemllib.owner.agent import Agent, AgentServer
from securemllib.owner.companion import open_companion
from securemllib.owner.encoding_schema import schema_from_text
from securemllib.owner.keystore import Keystore
from securemllib.owner.query_literals import LiteralEncoder
from securemllib.owner.query_results import open_query_result
from securemllib.spark import SecureSession
from tests.host import spark  # noqa: F401 - a fixture is found by its name here

NO_BROKER = "http://127.0.0.1:9"


@dataclass
class Owner:
    """Who encodes tables and opens results."""

    home: Path
    identity: PrivateIdentity
    keystore: Keystore
    groups: set = field(default_factory=set)

    def encode(self, table: pa.Table, name: str, encodings: str, *, groups=(), **options) -> str:
        """Encrypt a table with a companion and return its directory."""
        for group in set(groups) - self.groups:
            self.keystore.add_join_group(group)
            self.groups.add(group)
        directory = self.home / name
        schema = schema_from_text(f"columns: {encodings}")
        # The rows are few and made up: what their codes tell is no matter here.
        options = {"accept_leakage": table.column_names, **options}
        dataset.encrypt(table, directory, name=name, identity=self.identity, keystore=self.keystore, encodings=schema, **options)
        return str(directory)

    def open(self, result: str, *directories: str) -> pa.Table:
        """Open a result with the companions of some directories."""
        companions = [open_companion(path, owner=self.identity.public, keystore=self.keystore) for path in directories]
        return open_query_result(result, companions)

    def plain(self, reader, table: pa.Table, name: str) -> None:
        """Let plain Spark read the table in the clear."""
        path = self.home / f"{name}.parquet"
        pq.write_table(table, path)
        reader.read.parquet(str(path)).createOrReplaceTempView(name)


@pytest.fixture(scope="session")
def owner(tmp_path_factory):
    """An owner without passphrases."""
    home = tmp_path_factory.mktemp("owner") / "home"
    home.mkdir(mode=0o700)
    return Owner(home=home, identity=identity_file.create(home, "alice", None), keystore=Keystore.create(home / "keystore", None))


@pytest.fixture(scope="session")
def shown():
    """What the agent showed."""
    return []


@pytest.fixture(scope="session")
def agent_socket(owner, shown, tmp_path_factory):
    """The owner's agent, in a thread; nothing that the session does reaches its keys but through its socket."""
    folder = tmp_path_factory.mktemp("agent")
    folder.chmod(0o700)
    literals = LiteralEncoder(owner.identity.public, owner.keystore, limit=40)
    server = AgentServer(Agent(owner.identity, None, show=shown.append, literals=literals), folder / "s")
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    yield folder / "s"
    server.close()
    thread.join(5)


@pytest.fixture(scope="session")
def session(agent_socket, spark):  # noqa: F811 - the fixture
    """A session whose queries ask that agent for literals; queries over encoded columns need no broker."""
    patch = pytest.MonkeyPatch()
    patch.setenv("SECUREMLLIB_AGENT_SOCK", str(agent_socket))
    # Compiling a query costs more than its few hundred rows.
    quick = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN", "spark.sql.adaptive.enabled": "false"}
    for key, value in quick.items():
        spark.conf.set(key, value)
    session = SecureSession(spark, NO_BROKER)
    yield session
    for key in quick:
        spark.conf.unset(key)
    session.stop()
    patch.undo()
