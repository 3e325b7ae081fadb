"""Do the owner's own tools and the broker understand each other?"""

import time
from dataclasses import replace
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
from broker_world import World, job_on, rule_for

from securemllib.errors import FreshnessError, PolicyError
from securemllib.owner.broker_client import BrokerClient
from securemllib.owner.dataset import append, encrypt
from securemllib.owner.keystore import Keystore
from securemllib.owner.reading import open_dataset
from securemllib.wire.dataset import Manifest
from securemllib.wire.plan import Plan

TABLE = pa.table({"age": [1.0, 2.0, 3.0], "income": [1.0, 2.0, 3.0]})


@pytest.mark.parametrize("hidden", [False, True])
def test_an_encrypted_dataset_is_enrolled(world: World, client: httpx.Client, tmp_path: Path, hidden: bool) -> None:
    """The broker opens a real manifest, hidden columns or not, judges columns by it, and follows its next version."""
    # The owner's tools date their requests by the machine's clock.
    world.clock.now = time.time()
    owner = world.owner.identity
    keystore = Keystore.create(tmp_path / "keystore", None)
    layout = {"hide_columns": hidden, "hide_rows": hidden}
    encrypt(TABLE, tmp_path / "one", name="people", identity=owner, keystore=keystore, **layout)
    opened = open_dataset(tmp_path / "one", owner=owner.public, keystore=keystore)
    dataset_id = opened.manifest.dataset_id

    def submit(manifest: Manifest, column: str = "age") -> str:
        plan = Plan(source=manifest.reference, steps=())
        return world.broker.submit(
            world.analyst.sign(
                job_on(plan, world.analyst.public, world.broker.identity, inputs={"features": column}, created=int(world.clock.now))
            )
        )

    with BrokerClient(str(client.base_url), world.broker.identity.fingerprint) as broker:
        with pytest.raises(PolicyError, match="does not know the owner"):
            broker.enrol(opened, owner)
        world.broker.trust_owner(owner.public)
        assert broker.enrol(opened, owner) == 1
        policy = replace(world.owner, dataset_id=dataset_id).policy(rule_for(world.analyst.public, columns=("age", "nothing")))
        broker.submit_policy(dataset_id, policy.to_bytes())
        grant = world.granted(submit(opened.manifest)).grant
        assert grant is not None
        assert grant.datasets[0].secret == opened.secret.expose()
        for column in ("income", "nothing"):
            with pytest.raises(PolicyError, match="columns"):
                submit(opened.manifest, column)
        append(TABLE, tmp_path / "one", tmp_path / "two", identity=owner, keystore=keystore)
        newer = open_dataset(tmp_path / "two", owner=owner.public, keystore=keystore)
        assert broker.enrol(newer, owner) == 2
        with pytest.raises(FreshnessError):
            submit(opened.manifest)
        submit(newer.manifest)
        events = [entry["event"] for entry in broker.audit(owner)]
        assert events == ["enrol", "policy", "job", "attest", "grant", "job", "job", "enrol", "job", "job"]
