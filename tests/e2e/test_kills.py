"""Does a fit end with the same model, to the last byte, whatever process is killed on the way?"""

import os
import signal
import time

import pytest

from securemllib.errors import UnavailableError
from securemllib.spark import SecureSession
from securemllib.spark.cluster import Cluster
from securemllib.spark.rounds import Stage
from tests.e2e.cluster import wait_until
from tests.e2e.conftest import features, long_kmeans, tree
from tests.e2e.running import RunningFit

# Enough rounds to be disturbed in their middle; a Spark job a round takes longer for each.
MANY, FEW = {"maxIter": 40}, {"maxIter": 4}
ENGINES = pytest.mark.parametrize(("stage", "params"), [(Stage.BARRIER, MANY), (Stage.RESIDENT, MANY), (Stage.ROUNDS, FEW)])
STAGES = pytest.mark.parametrize("stage", [Stage.BARRIER, Stage.RESIDENT])


@pytest.fixture(scope="module")
def expected(spark, deployment, cluster, points, tmp_path_factory):
    """Returns the released model of an undisturbed fit."""
    conf = {"dtype": "float64", "shares": "2", "enclave.idle": str(cluster.idle), "storage": str(tmp_path_factory.mktemp("undisturbed"))}
    session = SecureSession(spark, deployment.broker_url, {f"spark.securemllib.{key}": value for key, value in conf.items()})
    found = {}

    def fit(**params):
        key = tuple(params.items())
        if key not in found:
            found[key] = tree(long_kmeans(**params).fit(features(session, points)))
        return found[key]

    yield fit
    session.stop()


@pytest.fixture
def fit(another, points, storage, monkeypatch):
    """Starts the fit that a test disturbs."""

    def start(params=MANY, stage=Stage.BARRIER, **changes):
        # As with dynamic allocation.
        monkeypatch.setattr(Cluster, "allows_barrier", stage is not Stage.RESIDENT)
        changes["barrier"] = str(stage is not Stage.ROUNDS).lower()
        return RunningFit(long_kmeans(**params), features(another(**changes), points), storage)

    return start


def kill(processes):
    """Kill processes as the kernel does when memory runs out."""
    assert processes
    for process in processes:
        os.kill(process.pid, signal.SIGKILL)


@ENGINES
def test_a_fit_survives_both_of_its_enclaves(fit, expected, cluster, stage, params):
    """Enclaves that are killed in the middle of a fit are started again, attested again, and go on from the recorded checkpoint."""
    running = fit(params, stage)
    running.reach(5)
    killed = cluster.enclaves()
    kill(killed)
    assert tree(running.result()) == expected(**params)
    assert {process.pid for process in cluster.enclaves()}.isdisjoint(process.pid for process in killed)


def test_a_fit_survives_one_enclave_after_the_other(fit, expected, cluster):
    """Whether the aggregator's enclave is killed or the other one, the fit goes on."""
    running = fit()
    for number, process in enumerate(cluster.enclaves()[-2:], 1):
        running.reach(6 * number)
        kill([process])
    assert tree(running.result()) == expected(**MANY)


@STAGES
def test_a_fit_survives_an_executor(fit, expected, cluster, stage):
    """An executor whose virtual machine is killed is replaced by Spark, and the fit goes on in a new enclave."""
    running = fit(stage=stage)
    running.reach(6)
    before = cluster.executors()
    kill(before[:1])
    assert tree(running.result()) == expected(**MANY)
    assert {process.pid for process in cluster.executors()} != {process.pid for process in before}


@ENGINES
def test_a_fit_survives_its_relays(fit, expected, cluster, stage, params):
    """The Python tasks that carry the sealed bytes may be killed: the enclaves keep what they hold, and the fit goes on."""
    running = fit(params, stage)
    running.reach(5)
    enclaves = cluster.enclaves()
    kill(wait_until(cluster.relays))
    assert tree(running.result()) == expected(**params)
    assert {process.pid for process in enclaves} <= {process.pid for process in cluster.enclaves()}


@STAGES
def test_a_fit_survives_more_losses_than_spark_allows_a_stage(fit, expected, cluster, stage):
    """Spark gives a stage four attempts; a long fit that goes forward between its losses outlives any number of them."""
    running = fit(stage=stage)
    for loss in range(5):
        reached = running.reach(4 * loss)
        kill(wait_until(cluster.relays))
        running.reach(reached + 1)
    assert tree(running.result()) == expected(**MANY)


@STAGES
def test_a_fit_survives_a_machine(fit, expected, cluster, stage):
    """A worker that is killed with all that runs below it is replaced by another worker, and the fit goes on there."""
    running = fit(stage=stage)
    running.reach(6)
    cluster.replace_worker(0)
    assert tree(running.result()) == expected(**MANY)


def test_a_fit_survives_its_broker(fit, expected, broker):
    """While the broker is down the relays wait; it starts again from its database, and the fit goes on."""
    running = fit()
    running.reach(6)
    broker.kill()
    time.sleep(1.0)
    assert not running.is_over
    broker.start()
    assert tree(running.result()) == expected(**MANY)


def test_a_broker_that_stays_away_is_named(fit, broker):
    """A broker that does not come back within the bound ends the fit with an error that names it, not with a hang."""
    running = fit(**{"broker.wait": "2"})
    running.reach(6)
    broker.kill()
    try:
        with pytest.raises(UnavailableError) as caught:
            running.result()
        assert caught.value.error_code == "unavailable.broker"
    finally:
        broker.start()


def test_checkpoints_that_are_gone_are_named(fit, cluster, storage):
    """A fit that lost its enclaves and its checkpoints cannot go on, and the error names the storage."""
    running = fit()
    running.reach(6)
    for process in cluster.enclaves():
        process.suspend()
    # Moved at once: a relay may be writing a checkpoint into it.
    storage.rename(storage.with_name(f"{storage.name}-gone"))
    storage.write_text("no folder")
    kill(cluster.enclaves())
    with pytest.raises(UnavailableError) as caught:
        running.result()
    assert caught.value.error_code == "unavailable.storage"


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("keeps_enclaves", [True, False])
def test_a_finished_job_whose_result_was_lost_gives_it_again(another, points, cluster, monkeypatch, stage, keeps_enclaves):
    """A stage that runs again after the broker recorded the model gets no keys any more, and returns the model that is stored."""
    monkeypatch.setattr(Cluster, "allows_barrier", stage is not Stage.RESIDENT)
    session = another(barrier=str(stage is not Stage.ROUNDS).lower())
    ran = []
    fit = session._engine.fit

    def remember(jobs, accepted, title, **how):
        ran.append((jobs, accepted()))
        return fit(jobs, lambda: ran[0][1], title, **how)

    monkeypatch.setattr(session._engine, "fit", remember)
    model = long_kmeans(maxIter=2).fit(features(session, points))
    if not keeps_enclaves:
        kill(cluster.enclaves())
    jobs, challenges = ran[0]
    (again,) = fit(jobs, lambda: challenges, "again", stage=stage)
    assert again.model == model.sealed.to_bytes()
