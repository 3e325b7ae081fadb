"""The broker's world, on a fresh SQLite file, and the broker on a real socket."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import structlog
import uvicorn
from sqlalchemy import create_engine, text

sys.path.insert(0, str(Path(__file__).parent))

from broker_world import World, make_world, wait_until

from securemllib.broker.http import create_app
from securemllib.broker.keystore import Keystore
from securemllib.broker.server import KEEP_ALIVE_SECONDS
from securemllib.crypto.identity import PrivateIdentity
from securemllib.crypto.keys import DataKey

_BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


@pytest.fixture(autouse=True)
def logs() -> Iterator[None]:
    """Undo what a command configured: its standard error is gone after it."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def keystore() -> Keystore:
    """Fresh keys of a broker."""
    return Keystore(identity=PrivateIdentity.generate("broker"), store_key=DataKey.generate())


@pytest.fixture
def world(tmp_path: Path, keystore: Keystore) -> Iterator[World]:
    """A world without any enrolled dataset, on SQLite."""
    world = make_world(tmp_path, keystore, f"sqlite:///{tmp_path / 'broker.db'}")
    yield world
    world.broker.close()


@pytest.fixture
def client(world: World) -> Iterator[httpx.Client]:
    """A client of the world's broker, over loopback TCP."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(create_app(world.broker), log_config=None, lifespan="off", ws="none", timeout_keep_alive=KEEP_ALIVE_SECONDS)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    wait_until(lambda: server.started)
    with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", trust_env=False) as client:
        yield client
    server.should_exit = True
    thread.join()
    listener.close()


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """The URL of a fresh PostgreSQL server on a free loopback port; it refuses to run as root, so it runs as `postgres` then."""
    if not _BINARIES:
        pytest.skip("no PostgreSQL server under /usr/lib/postgresql; install the distribution's `postgresql` to run this")
    pytest.importorskip("psycopg")
    binaries = _BINARIES[-1].parent
    as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="securemllib-postgresql-"))
    if as_user:
        shutil.chown(folder, "postgres", "postgres")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    data = folder / "data"

    def run(*command: str) -> None:
        subprocess.run([*as_user, *command], check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=120)

    run(str(binaries / "initdb"), "-D", str(data), "-U", "broker", "--auth=trust", "--no-sync")
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder} -c fsync=off"
    run(str(binaries / "pg_ctl"), "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield f"postgresql+psycopg://broker@127.0.0.1:{port}/postgres"
    finally:
        run(str(binaries / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Each of the databases, without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    url: str = request.getfixturevalue("postgresql")
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return url


@pytest.fixture
def stored(empty_database: str, tmp_path: Path, keystore: Keystore) -> Iterator[World]:
    """A world whose broker keeps its data in each of the databases."""
    world = make_world(tmp_path, keystore, empty_database)
    yield world
    world.broker.close()
