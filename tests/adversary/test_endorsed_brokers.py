"""Can a host, an analyst or another broker steer enclaves of an owner's data to a broker that the owner did not endorse?

All of these brokers hold the dataset's secret: without it there is nothing to steer to. Each attack stands beside the endorsed broker.
"""

from dataclasses import replace

import pytest

from securemllib.crypto.aead import seal
from securemllib.crypto.identity import PrivateIdentity
from securemllib.enclave.parts import MANIFEST_BODY_PURPOSE
from securemllib.errors import IntegrityError, RefusedError, UnavailableError
from securemllib.wire.dataset import body_context
from securemllib.wire.task import Begin
from tests.world import Dataset, Relay, World, binomial_table, run

BROKER = PrivateIdentity.generate("broker")
TABLE = binomial_table()


@pytest.fixture(scope="module")
def dataset():
    """Share a table that is for one broker; nobody writes to it."""
    return Dataset(TABLE, parts=2, brokers=(BROKER.public.fingerprint,))


@pytest.fixture
def world(dataset):
    """Return the endorsed broker, and an analyst."""
    return World(dataset, broker=BROKER)


def refused(world, job, **changes):
    """Return the code with which an enclave refuses a job's keys, having read no part and kept no session."""
    relay = Relay(world)
    with pytest.raises((RefusedError, IntegrityError)) as error:
        relay.install(job, **changes)
    with pytest.raises(UnavailableError):
        relay.ask(Begin(job_id=job.job_id))
    assert relay.fetched == []
    return error.value.error_code


def test_the_endorsed_broker_has_its_jobs_done(world):
    """An enclave takes keys of the broker that the manifest names, and the job ends with a result."""
    finished, _ = run(world, world.job(), [Relay(world)])
    assert finished is not None


def test_a_broker_that_is_not_endorsed_gives_no_keys(world):
    """An analyst's own job at another broker that has the dataset, such as one for tests, gets nothing out of an enclave."""
    staging = World(world.dataset, analyst=world.analyst)
    assert refused(staging, staging.job()) == "refused.broker"
    assert Relay(world).install(world.job())


def test_a_broker_that_starts_again_with_other_keys_gives_none(world):
    """The same broker under another key is another one, whatever secrets, jobs and heads it took along."""
    restarted = World(world.dataset, analyst=world.analyst)
    restarted.keys, restarted.heads = world.keys, world.heads
    assert refused(restarted, restarted.job()) == "refused.broker"


def test_a_manifest_that_endorses_nobody_lets_any_broker_give_keys():
    """Where the owner endorsed nobody each broker that has the secret serves, so the refusals above are due to the endorsement."""
    free = World(Dataset(TABLE, parts=2))
    assert Relay(free).install(free.job())
    two = World(Dataset(TABLE, parts=2, brokers=("a" * 52, BROKER.public.fingerprint)), broker=BROKER)
    assert Relay(two).install(two.job())


def test_the_demand_cannot_be_stripped_from_a_signed_job(world):
    """A body without the demand, sealed by somebody who has the secret, is not the manifest whose digest the analyst signed."""
    dataset = world.dataset
    context = body_context(dataset.dataset_id, dataset.version)
    free = seal(dataset.secret.derive(MANIFEST_BODY_PURPOSE), context, replace(dataset.body, brokers=()).to_bytes())
    staging = World(dataset, analyst=world.analyst)
    job = staging.job()
    assert refused(staging, job, manifest=replace(dataset.manifest, body=free).to_bytes()) == "integrity.manifest"
    assert Relay(world).install(world.job())


def test_an_earlier_version_without_the_demand_is_another_manifest(world):
    """The version from before the endorsement does not stand in for the one that the job names."""
    before = Dataset(TABLE, parts=2, dataset_id=world.dataset.dataset_id, secret=world.dataset.secret)
    staging = World(world.dataset, analyst=world.analyst)
    assert refused(staging, staging.job(), manifest=before.manifest.to_bytes()) == "integrity.manifest"
    assert Relay(world).install(world.job())
