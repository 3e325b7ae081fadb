"""What does the engine do when a worker is lost for good, and what does it show meanwhile?"""

import time
from dataclasses import dataclass, replace

import pytest

from securemllib.errors import UnavailableError
from securemllib.spark import rounds
from securemllib.spark.blocks import Blocks
from securemllib.spark.broker_client import BrokerAddress
from securemllib.spark.progress import Progress
from securemllib.spark.relay_job import RelayJob
from securemllib.spark.settings import EnclaveSettings
from securemllib.spark.storage import Folder

JOB = RelayJob(
    job_id="j" * 64,
    manifest=b"",
    models=(),
    parts=(),
    dataset=Folder("/nowhere"),
    reads=(0, 0),
    blocks=Blocks(job_id="j" * 64, folder=Folder("/nowhere")),
    shares=4,
    tasks=4,
    broker=BrokerAddress(url="http://127.0.0.1:1", wait=0.0),
    enclave=EnclaveSettings(),
    ports=(0, 0),
    rendezvous=None,
)


@dataclass
class ShrunkCluster:
    """A cluster that lost workers, some of which may come back after a while."""

    now: int
    later: int
    returns: float = 1e9
    context: None = None

    def __post_init__(self):
        self.returns += time.monotonic()

    @property
    def slots(self):
        return self.later if time.monotonic() > self.returns else self.now


class LosingEngine(rounds.Engine):
    """Loses its first stages."""

    def __init__(self, cluster, lost):
        super().__init__(None, cluster)
        self.lost, self.tasks = lost, []

    def _run(self, function, tasks, barrier):
        self.tasks.append(tasks)
        covered = sorted(share for task in range(tasks) for share in replace(JOB, tasks=tasks).shares_of(task))
        assert covered == list(range(JOB.shares))
        if len(self.tasks) <= self.lost:
            raise UnavailableError("lost", code="unavailable.stage")
        return []


@pytest.mark.parametrize(("later", "returns", "expected"), [(3, 1e9, [4, 2]), (4, 0.05, [4, 4]), (3, 0.05, [4, 3])])
def test_a_stage_runs_again_with_the_tasks_that_have_slots(monkeypatch, later, returns, expected):
    """A lost worker has a bounded time to come back; then fewer tasks compute all of the shares."""
    monkeypatch.setattr(rounds, "_SLOTS_SECONDS", 0.3)
    monkeypatch.setattr(rounds, "_POLL_SECONDS", 0.01)
    engine = LosingEngine(ShrunkCluster(now=2, later=later, returns=returns), 1)
    assert engine._stage((JOB,)) == []
    assert engine.tasks == expected


def test_what_was_not_lost_is_not_run_again():
    """Another failure than a lost stage ends the job at once."""

    class Failing(LosingEngine):
        def _run(self, function, tasks, barrier):
            self.tasks.append(tasks)
            raise UnavailableError("full", code="unavailable.capacity.memory")

    engine = Failing(ShrunkCluster(now=4, later=4), 0)
    with pytest.raises(UnavailableError, match="full"):
        engine._stage((JOB,))
    assert engine.tasks == [4]


def test_the_line_tells_rounds_and_rows_a_second():
    """The first round has no speed yet; without the number of rows there is none at all."""
    with Progress("KMeans", 1_000_000) as known, Progress("KMeans") as hidden:
        for progress in (known, hidden):
            progress.at_round(0)
            assert progress.text == "KMeans: round 0"
        time.sleep(0.01)
        for progress in (known, hidden):
            progress.at_round(1)
    assert known.text.startswith("KMeans: round 1, ")
    assert known.text.endswith(" rows/s")
    assert 0 < int(known.text.split()[-2].replace(",", "")) <= 100_000_000
    assert hidden.text == "KMeans: round 1"
