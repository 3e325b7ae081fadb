"""Do jobs that go over the rows together train what they train alone, and read the rows once?"""

import os

import pytest

from securemllib.crypto.keys import DataKey
from securemllib.enclave.session import _cache_key
from securemllib.errors import FormatError, UnsealError
from securemllib.wire.job import Mode, Output, OutputKind
from securemllib.wire.plan import ApplyModel, Plan
from securemllib.wire.result import SealedModel
from securemllib.wire.task import Advanced, Begin, Compute, ComputeTogether, Recorded, Recording
from tests.enclave.test_jobs import plain_model
from tests.world import Dataset, Relay, World, binomial_table, hand_over, run

PARTS = 6


@pytest.fixture(scope="module")
def world():
    """Return a broker and an analyst around a table of six parts."""
    return World(Dataset(binomial_table(), parts=PARTS))


class Trainings:
    """Jobs that one relay drives together, each pass being a round of all that are not done.

    Attributes:
        rounds: The number and sealed state of each round that is to be computed, by the job's index.
        finished: What each job finished with.
    """

    def __init__(self, world, jobs, relay, models):
        self.world, self.jobs, self.relay = world, jobs, relay
        self.rounds, self.finished = {}, {}
        for index, job in enumerate(jobs):
            relay.install(job, models=models.get(job.job_id, ()))
            self.follow(index, *relay.ask(Begin(job_id=job.job_id)))

    def follow(self, index, reply, payload):
        """Take the aggregator's reply, and carry what it wants recorded."""
        while isinstance(reply, Recording):
            acknowledgement = self.world.record(self.jobs[index], reply.update)
            reply, payload = self.relay.ask(Recorded(job_id=self.jobs[index].job_id, acknowledgement=acknowledgement))
        if isinstance(reply, Advanced):
            self.rounds[index] = (reply.round, bytes(payload))
        else:
            self.finished[index] = reply

    def pass_over(self):
        """Compute a round of each job."""
        rounds, self.rounds = self.rounds, {}
        found = {index: [] for index in rounds}
        for share in range(self.jobs[0].shares):
            asked = tuple(Compute(job_id=self.jobs[index].job_id, round=number, share=share) for index, (number, _) in rounds.items())
            for index, answer in zip(rounds, answered(self.relay, asked, [state for _, state in rounds.values()]), strict=True):
                found[index].append(answer)
        for index, answers in found.items():
            self.follow(index, *hand_over(self.relay, self.jobs[index], answers))


def together(world, jobs, relay, models=None):
    """Drive jobs together on one relay and return what each finished with."""
    trainings = Trainings(world, jobs, relay, models or {})
    while trainings.rounds:
        trainings.pass_over()
    return [trainings.finished[index] for index in range(len(jobs))]


def answered(relay, requests, states):
    """Return the reply and payload of each request of one pass."""
    request = ComputeTogether(requests=requests, lengths=tuple(map(len, states)))
    reply, payload = relay.ask(request, b"".join(states))
    pieces, start = [], 0
    for length in reply.lengths:
        pieces.append(bytes(payload[start : start + length]))
        start += length
    return list(zip(reply.replies, pieces, strict=True))


GRID = [
    {"operation": "LogisticRegression", "params": {"regParam": 0.0}},
    {"operation": "LogisticRegression", "params": {"regParam": 1.0, "elasticNetParam": 0.5}},
    {"operation": "LogisticRegression", "params": {"maxIter": 3}},
    {"operation": "RandomForestClassifier", "params": {"numTrees": 3, "maxDepth": 3}},
]


@pytest.mark.parametrize("mode", Mode)
def test_models_are_those_of_separate_jobs_to_the_bit(world, mode):
    """A grid whose entries take different rounds trains in shared passes the very models that each entry trains alone."""
    jobs = [world.job(mode=mode, **entry) for entry in GRID]
    alone = []
    for entry in GRID:
        job = world.job(mode=mode, **entry)
        finished, _ = run(world, job, [Relay(world)])
        alone.append((finished.round, plain_model(world, job, finished)))
    found = together(world, jobs, Relay(world))
    assert [(finished.round, plain_model(world, job, finished)) for job, finished in zip(jobs, found, strict=True)] == alone
    assert len({rounds for rounds, _ in alone}) > 1


def test_a_pass_opens_each_part_once_where_memory_holds_none(world):
    """Beyond the memory bound three jobs together read each part once a pass, alone each of them does."""
    bound = max(map(len, world.dataset.files))
    entries = [{"params": {"regParam": value, "tol": 0.0, "maxIter": 2}} for value in (0.1, 0.2, 0.3)]
    alone = Relay(world, memory_limit=bound)
    finished, _ = run(world, world.job(**entries[0]), [alone])
    shared = Relay(world, memory_limit=bound)
    passes = max(done.round for done in together(world, [world.job(**entry) for entry in entries], shared))
    assert passes == finished.round
    assert len(alone.fetched) > PARTS
    assert len(shared.fetched) <= passes * PARTS
    assert len(shared.fetched) < 1.5 * len(alone.fetched)


def test_evaluations_of_several_models_open_each_part_once(world):
    """Metrics of two models, computed together, are those computed one by one, and each part is opened once a pass."""
    metric = (Output(kind=OutputKind.METRIC, recipient=world.analyst.public),)
    sealed, jobs, alone = {}, [], []
    for entry in GRID[:2]:
        training = world.job(**entry)
        model = SealedModel.from_bytes(run(world, training, [Relay(world)])[0].model)
        world.models[model.reference] = (world.keys[training.job_id][1], None)
        apply = ApplyModel(model=model.reference, params={}, input_columns=("features",), outputs={"prediction": "p"})
        plan = Plan(source=world.dataset.manifest.reference, steps=(*training.plan.steps, apply))
        fields = {"inputs": {"prediction": "p", "label": "y"}, "plan": plan, "outputs": metric}
        one, again = (world.job("MulticlassClassificationEvaluator", **fields) for _ in range(2))
        finished, _ = run(world, one, [Relay(world)], models=[model.to_bytes()])
        alone.append(world.open(finished.results[0]).tree)
        sealed[again.job_id] = [model.to_bytes()]
        jobs.append(again)
    relay = Relay(world, memory_limit=max(map(len, world.dataset.files)))
    found = together(world, jobs, relay, sealed)
    assert [world.open(finished.results[0]).tree for finished in found] == alone
    assert alone[0] != alone[1]
    assert len(relay.fetched) <= 2 * PARTS


def test_only_rounds_of_the_same_shares_of_one_dataset_go_together(world):
    """Jobs that deal their parts otherwise, or ask for other shares, are refused together; the states of two jobs cannot be swapped."""
    relay = Relay(world)
    jobs = [world.job(), world.job(), world.job(shares=3)]
    states = []
    for job in jobs:
        relay.install(job)
        states.append(bytes(relay.ask(Begin(job_id=job.job_id))[1]))
    requests = [Compute(job_id=job.job_id, round=0, share=0) for job in jobs]
    assert len(answered(relay, tuple(requests[:2]), states[:2])) == 2
    with pytest.raises(FormatError):
        answered(relay, (requests[0], requests[2]), [states[0], states[2]])
    with pytest.raises(FormatError):
        answered(relay, (requests[0], Compute(job_id=jobs[1].job_id, round=0, share=1)), states[:2])
    with pytest.raises(FormatError):
        answered(relay, tuple(requests[:2]), [states[0] + states[1]])
    with pytest.raises(UnsealError):
        answered(relay, tuple(requests[:2]), states[1::-1])
    with pytest.raises(UnsealError):
        answered(relay, tuple(requests[:2]), [states[0], os.urandom(len(states[1]))])


def test_blocks_of_other_columns_have_another_origin(world):
    """Two jobs whose roles and columns only read the same when they are joined do not find each other's rows in the cache."""
    jobs = [world.job("Imputer", {}, inputs=inputs) for inputs in ({"a": "b=c"}, {"a=b": "c"})]
    origins = [_cache_key(DataKey(bytes(32)), job) for job in [*jobs, jobs[0]]]
    assert (origins[0] == origins[1], origins[0] == origins[2]) == (False, True)
