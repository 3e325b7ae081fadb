"""Do a resident stage and one Spark job a round give the same bytes, however tasks, parts and shares are dealt?"""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from securemllib.ml.clustering import KMeans
from securemllib.spark import rounds
from securemllib.spark.cluster import Cluster
from tests.e2e.conftest import COLUMNS, features, long_kmeans, tree

BARRIER = pytest.mark.parametrize("barrier", ["true", "false"])


@pytest.fixture(scope="module")
def small(deployment):
    """Returns the path of 400 rows in a number of parts; sorted, so that a filter empties whole parts."""
    generator = np.random.default_rng(7)
    table = pa.table({name: np.sort(generator.random(400)) for name in COLUMNS})
    return {parts: str(deployment.dataset(table, f"small-{parts}", rows_per_part=400 // parts)) for parts in (1, 2, 5)}


def fitted(session, path):
    """Return the released model of a short fit."""
    return tree(KMeans(k=3, maxIter=2, seed=1).fit(features(session, path)))


@pytest.mark.parametrize(
    ("parts", "shares"), [(5, 2), (1, 1), (5, 1), (5, 3), (2, 4)], ids=["parts", "part", "one-share", "odd-shares", "empty-shares"]
)
def test_all_engines_give_the_same_bytes(another, small, parts, shares, monkeypatch):
    """More parts than slots, fewer, one share, shares that do not divide, shares without parts: all engines give the same model."""
    found = [fitted(another(barrier=barrier, shares=str(shares)), small[parts]) for barrier in ("true", "false")]
    monkeypatch.setattr(Cluster, "allows_barrier", False)
    assert found == [fitted(another(shares=str(shares)), small[parts])] * 2


def test_more_tasks_than_slots_are_done_without(another, small, monkeypatch):
    """Tasks that wait for a third, which no executor is there for, go on without it, with the bytes that its shares give anywhere."""
    monkeypatch.setattr(rounds, "_SLOTS_SECONDS", 2.0)
    session, context = another(shares="3", tasks="3"), another().spark.sparkContext
    begun = [len(context.statusTracker().getJobIdsForGroup(None))]
    for _ in range(2):
        assert fitted(session, small[5]) == fitted(another(shares="3", tasks="2"), small[5])
        begun.append(len(context.statusTracker().getJobIdsForGroup(None)))
    # The first stage waited in vain, and the second fit does not wait again.
    assert [after - before for before, after in pairwise(begun)] == [3, 2]


@BARRIER
def test_a_part_without_rows_adds_nothing(another, small, barrier):
    """A filter that leaves no row of some parts gives the model of the remaining rows."""
    session = another(barrier=barrier)
    frame = session.read(small[5])
    model = KMeans(k=3, maxIter=2, seed=1).fit(features(session, small[5], frame.filter(frame["a"] < 0.3)))
    kept = int(np.sum(np.sort(np.random.default_rng(7).random(400)) < 0.3))
    assert kept < 160, "whole parts are empty"
    assert sum(model.summary.clusterSizes) == kept


def test_jobs_follow_one_another(another, small, points):
    """Fits on several datasets in turn through one session give what each of them gives alone, and no enclave holds keys for long."""
    session = another()
    first = fitted(session, small[5])
    other = tree(long_kmeans(maxIter=2).fit(features(session, points)))
    assert first == fitted(session, small[5])
    assert other == tree(long_kmeans(maxIter=2).fit(features(session, points)))
    assert first != other


def test_enclaves_are_asked_for_the_rows_that_they_hold(another, deployment):
    """Wherever Spark puts the tasks of a later fit, or of a later scoring, no part of the dataset crosses an enclave's border again."""
    generator = np.random.default_rng(11)
    path = deployment.dataset(pa.table({name: generator.random(40_000) for name in COLUMNS}), "dealt", rows_per_part=10_000)
    session, size = another(), 40_000 * len(COLUMNS) * 8
    for _ in range(6):
        model = KMeans(k=2, maxIter=1, seed=1).fit(features(session, str(path)))
    for _ in range(6):
        model.transform(features(session, str(path))).release(columns=["prediction"])
    first, *later = [crossed.bytes_in for crossed in session.crossings.values()]
    assert first > size
    assert len(later) == 11
    # Rows that are scored are another selection than those that trained: they are read once more.
    del later[5]
    assert max(later) < size / 4


def test_two_sessions_share_their_nodes_enclaves(another, small, cluster):
    """Two sessions whose jobs take turns on the same executors use the same enclaves and get the same bytes."""
    one, two = another(), another()
    first = fitted(one, small[5])
    enclaves = {process.pid for process in cluster.enclaves()}
    assert first == fitted(two, small[5]) == fitted(one, small[5]) == fitted(two, small[5])
    assert {process.pid for process in cluster.enclaves()} == enclaves


def test_tasks_that_cannot_reach_the_driver_meet_without_it(another, small, monkeypatch):
    """Where executors cannot connect to the driver, a barrier stage's tasks find each other through Spark, with the same bytes."""
    expected = fitted(another(), small[5])
    monkeypatch.setattr(Cluster, "driver_address", None)
    session = another()
    assert session._engine.rendezvous() is None
    assert fitted(session, small[5]) == expected
