"""A whole deployment on this machine: an owner's encrypted datasets, a broker on a real socket, and the analyst's agent."""

import os
import socket
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import uvicorn

from securemllib.attestation.measurement import measure_package
from securemllib.broker.http import create_app
from securemllib.broker.keystore import Keystore as BrokerKeystore
from securemllib.broker.service import Broker
from securemllib.crypto.identity import PrivateIdentity
from securemllib.crypto.keys import DataKey
from securemllib.owner.agent import Agent, AgentServer
from securemllib.owner.broker_client import BrokerClient
from securemllib.owner.dataset import Layout, encrypt, extend
from securemllib.owner.keystore import Keystore
from securemllib.owner.reading import open_dataset
from securemllib.policy.envelope import seal_statement
from securemllib.policy.model import ANY, INSECURE_RISK, NamedEnclave, OutputRule, Policy, Rule
from securemllib.wire.job import Mode, OutputKind

ALL_OUTPUTS = tuple(OutputKind)


@dataclass
class Deployment:
    """What a test needs to know of it."""

    folder: Path
    url: str
    broker: Broker
    owner: PrivateIdentity
    analyst: PrivateIdentity
    keystore: Keystore
    shown: list
    socket: Path
    serial: int = 0

    def dataset(self, table, name, *, rows_per_part=None, **layout):
        """Encrypt a table, enrol it with a policy that allows the analyst everything, and return its path."""
        path = self.folder / name
        encrypt(table, path, name=name, identity=self.owner, keystore=self.keystore, rows_per_part=rows_per_part, seed=1, **layout)
        self.allow(self.enrol(path))
        return str(path)

    def extend(self, path, table, *, rows_per_part=None):
        """Add rows to a dataset as new parts, and enrol the version that this makes."""
        layout = Layout(rows_per_part=rows_per_part, seed=1)
        extend(table, path, identity=self.owner, keystore=self.keystore, layout=layout)
        self.enrol(path)

    def enrol(self, path):
        """Enrol a dataset's latest version and return the dataset's id."""
        opened = open_dataset(Path(path), owner=self.owner.public, keystore=self.keystore)
        with BrokerClient(self.url, self.broker.identity.fingerprint) as client:
            client.enrol(opened, self.owner)
        return opened.manifest.dataset_id

    def allow(self, dataset_id, *, outputs=ALL_OUTPUTS, columns=(ANY,), rows=(ANY,), measurement=None, allow_insecure=True, **rule):
        """Put a policy in force; ``rows`` are the origins that released rows may have."""
        self.serial += 1
        me = self.analyst.public.fingerprint
        base = Rule(
            name="everything",
            analysts=(me,),
            operations={ANY: {}},
            columns=columns,
            modes=tuple(Mode),
            outputs={kind: OutputRule(recipients=(me,), columns=rows if kind is OutputKind.ROWS else ()) for kind in outputs},
        )
        policy = Policy(
            dataset_id=dataset_id,
            owner=self.owner.public.fingerprint,
            serial=self.serial,
            enclaves={"this-installation": NamedEnclave(measurement=(measurement or measure_package()).hex())},
            rules=(replace(base, **rule),),
            allow_insecure=allow_insecure,
            insecure_risk=INSECURE_RISK if allow_insecure else None,
        )
        with BrokerClient(self.url, self.broker.identity.fingerprint) as client:
            client.submit_policy(dataset_id, seal_statement(policy, self.owner).to_bytes())


def start(folder):
    """Return a deployment and what stops it."""
    owner, analyst = PrivateIdentity.generate("owner"), PrivateIdentity.generate("analyst")
    broker_keys = BrokerKeystore(identity=PrivateIdentity.generate("broker"), store_key=DataKey.generate())
    broker = Broker(broker_keys, f"sqlite:///{folder / 'broker.db'}", folder / "head.sml")
    broker.trust_owner(owner.public)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(broker), log_config=None, lifespan="off", ws="none", access_log=False))
    http = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    http.start()
    shown: list[str] = []
    # A UNIX socket's path holds 107 bytes, less than a test's folder may take.
    private = Path(tempfile.mkdtemp(prefix="sml"))
    agent = AgentServer(Agent(analyst, broker.identity, show=shown.append), private / "agent.sock")
    threading.Thread(target=agent.serve, daemon=True).start()
    _wait(lambda: server.started and (private / "agent.sock").exists())
    deployment = Deployment(
        folder=folder,
        url=f"http://127.0.0.1:{listener.getsockname()[1]}",
        broker=broker,
        owner=owner,
        analyst=analyst,
        keystore=Keystore.create(folder / "keystore", None),
        shown=shown,
        socket=private / "agent.sock",
    )
    os.environ["SECUREMLLIB_AGENT_SOCK"] = str(deployment.socket)

    def stop():
        agent.close()
        server.should_exit = True
        http.join(10)
        listener.close()
        broker.close()
        os.environ.pop("SECUREMLLIB_AGENT_SOCK", None)
        private.rmdir()

    return deployment, stop


def patients(rows=600, seed=0, nulls=0):
    """Return a table of numbers, a label of a logistic model, a group and a text."""
    generator = np.random.default_rng(seed)
    age, dose = generator.integers(20, 90, rows), generator.normal(3.0, 1.0, rows)
    pressure = 100 + 0.4 * age + generator.normal(0, 8, rows)
    odds = -6 + 0.06 * age + 0.5 * dose + 0.01 * (pressure - 120)
    ill = (generator.random(rows) < 1 / (1 + np.exp(-odds))).astype(np.float64)
    return pa.table(
        {
            "age": pa.array(age, pa.int64()),
            "dose": pa.array(dose, mask=np.arange(rows) < nulls),
            "pressure": pressure,
            "weight": generator.integers(1, 4, rows).astype(np.float64),
            "group": pa.array(generator.integers(0, 3, rows).astype(np.float64)),
            "name": [f"patient-{index}" for index in range(rows)],
            "ill": ill,
        }
    )


def _wait(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.01)
