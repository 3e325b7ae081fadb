"""The broker's world, on a fresh SQLite file, and the broker on a real socket."""

import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import structlog
import uvicorn

sys.path.insert(0, str(Path(__file__).parent))

from broker_world import World, make_world, wait_until

from securemllib.broker.http import create_app
from securemllib.broker.keystore import Keystore
from securemllib.crypto.identity import PrivateIdentity
from securemllib.crypto.keys import DataKey


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
    server = uvicorn.Server(uvicorn.Config(create_app(world.broker), log_config=None, lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    wait_until(lambda: server.started)
    with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", trust_env=False) as client:
        yield client
    server.should_exit = True
    thread.join()
    listener.close()
