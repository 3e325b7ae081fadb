"""What does an enclave compute, and is it the same however the host runs it?"""

import numpy as np
import pyarrow as pa
import pytest

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.registry import build
from securemllib.algorithms.summary import Summary
from securemllib.crypto.aead import unseal
from securemllib.enclave import aggregator, worker
from securemllib.errors import UnavailableError
from securemllib.wire.encoding import decode
from securemllib.wire.job import Output, OutputKind
from securemllib.wire.result import SealedModel, model_context
from securemllib.wire.task import Begin, End
from tests.world import Dataset, Relay, World, binomial_table, computed, hand_over, run


def plain_model(world, job, finished):
    """Return the plaintext of the job's sealed model."""
    sealed = SealedModel.from_bytes(finished.model)
    context = model_context(sealed.model_id, sealed.operation, sealed.tee, sealed.lineage)
    return unseal(world.keys[job.job_id][1], context, sealed.envelope)


@pytest.fixture
def world():
    """Return a broker and an analyst around a table of four parts."""
    return World(Dataset(binomial_table(), parts=4))


def fit_in_the_clear(world, operation, params):
    """Return the model that one block of all rows gives."""
    table = world.dataset.table
    x = np.column_stack([table[f"x{i}"].to_numpy() for i in range(3)])
    block = Block(ordinal=0, features=x - x.mean(0), offset=x.mean(0), label=table["y"].to_numpy())
    algorithm = build(operation, params)
    state = algorithm.initial(Summary.of(block), Seed(bytes(32)))
    while not algorithm.is_done(state):
        state = algorithm.update(state, algorithm.statistics(state, block))
    return algorithm.to_model(state)


def test_a_job_trains_the_model_that_its_rows_give(world):
    """Training through sealed messages gives the coefficients that the same rows give in the clear."""
    params = {"regParam": 0.01, "tol": 1e-10, "maxIter": 100}
    job = world.job(params=params)
    relays = [Relay(world), Relay(world)]
    finished, _ = run(world, job, relays)
    tree = decode(plain_model(world, job, finished))
    got = np.frombuffer(tree["coefficient_matrix"]["data"]) if "coefficient_matrix" in tree else np.frombuffer(tree["coefficients"]["data"])
    expected = fit_in_the_clear(world, "LogisticRegression", params)
    want = getattr(expected, "coefficient_matrix", None)
    want = expected.coefficients if want is None else want
    np.testing.assert_allclose(got, np.ravel(want), atol=1e-7)
    kinds = [world.open(raw).kind for raw in finished.results]
    assert kinds == [OutputKind.SUMMARY]


def test_a_killed_job_resumes_to_the_same_bytes(world):
    """An aggregator and a worker that start anew from the recorded checkpoint finish with the same model bytes."""
    job = world.job(params={"tol": 1e-10})
    undisturbed, _ = run(world, job, [Relay(world), Relay(world)])
    expected = plain_model(world, job, undisturbed)
    again = World(world.dataset, broker=world.broker, analyst=world.analyst)
    again.keys = world.keys
    _, checkpoints = run(again, job, [Relay(again), Relay(again)], stop_after=5)
    head = again.heads[job.job_id]
    assert head.round == 3
    finished, _ = run(again, job, [Relay(again)], begin=checkpoints[head.round])
    assert plain_model(again, job, finished) == expected


@pytest.mark.parametrize(("operation", "params"), [("LogisticRegression", {"maxIter": 5}), ("KMeans", {"k": 40}), ("PCA", {"k": 2})])
@pytest.mark.parametrize("enclaves", [1, 2])
def test_statistics_that_stay_give_the_bytes_of_those_that_are_sent(operation, params, enclaves):
    """Where the aggregator's own enclave holds its shares' statistics, the model is the same to the byte."""
    values = np.random.default_rng(0).normal(size=(400, 60))
    table = pa.table({**{f"x{i}": values[:, i] for i in range(60)}, "y": (values[:, 0] > 0).astype(float)})
    world = World(Dataset(table, parts=4))
    me = world.analyst.public
    models = []
    for stays in (False, True):
        job = world.job(
            operation,
            params,
            features=tuple(f"x{i}" for i in range(60)),
            label="y" if operation == "LogisticRegression" else None,
            outputs=(Output(kind=OutputKind.SEALED_MODEL, recipient=me),),
            nonce=bytes(16),
        )
        finished, _ = run(world, job, [Relay(world) for _ in range(enclaves)], stays=stays)
        models.append(plain_model(world, job, finished))
        world.heads.clear()
    assert models[0] == models[1]


@pytest.mark.parametrize("stays", [True, False])
def test_statistics_that_stay_do_not_leave(world, stays):
    """Of statistics that stay no byte goes to the host."""
    relay, job = Relay(world), world.job()
    relay.install(job)
    reply, state = relay.ask(Begin(job_id=job.job_id))
    assert any(payload for _, payload in computed(job, [relay], reply.round, state, stays=stays)) is not stays


def test_statistics_that_are_too_large_do_not_stay(monkeypatch):
    """What would not fit a message is sealed for the host to keep, whoever asks for it to stay."""
    values = np.random.default_rng(0).normal(size=(400, 60))
    world = World(Dataset(pa.table({f"x{i}": values[:, i] for i in range(60)}), parts=4))
    me = world.analyst.public
    relay = Relay(world)
    job = world.job(
        "PCA",
        {"k": 2},
        features=tuple(f"x{i}" for i in range(60)),
        label=None,
        outputs=(Output(kind=OutputKind.SEALED_MODEL, recipient=me),),
    )
    relay.install(job)
    reply, state = relay.ask(Begin(job_id=job.job_id))
    reply, state = hand_over(relay, job, computed(job, [relay], reply.round, state, stays=True))
    assert [payload for _, payload in computed(job, [relay], reply.round, state, stays=True)] == [b"", b""]
    monkeypatch.setattr(worker, "MESSAGE_BYTES", 60 * 60 * 8 - 1)
    assert all(payload for _, payload in computed(job, [relay], reply.round, state, stays=True))


def test_rounds_do_not_decrypt_again_within_the_bound(world):
    """A relay is asked for each part once when the blocks fit the bound, and each round when they do not."""
    relay = Relay(world)
    run(world, world.job(), [relay])
    assert sorted(relay.fetched) == [0, 1, 2, 3]
    largest = max(part.length for part in world.dataset.body.parts)
    small = Relay(world, memory_limit=largest)
    run(world, world.job(), [small])
    assert len(small.fetched) > 4


def test_a_computation_that_outlives_its_job_leaves_nothing(world):
    """What a share keeps once its job has ended is forgotten as soon as it is computed; of a job that goes on it stays."""
    relay, job = Relay(world), world.job()
    relay.install(job)
    enclave, origin = relay.enclave, b"origin"
    for ends in (False, True):
        if ends:
            relay.ask(End(job_id=job.job_id))
        scratch = enclave.cache.scratch(job.job_id, origin, 0)
        scratch.get("bins", 0, lambda: np.zeros(8))
        enclave.settle(job.job_id)
        assert (enclave.cache.scratch(job.job_id, origin, 0).held("bins", 0) is None) is ends


@pytest.mark.parametrize("step", [1, 2])
def test_statistics_move_a_state_once_though_memory_runs_out_in_between(world, monkeypatch, step):
    """A host that lets a step fail half-way and hands the same statistics over again is refused; from the recorded head all goes well."""
    relay, job = Relay(world), world.job(params={"maxIter": 3})
    relay.install(job)
    reply, state = relay.ask(Begin(job_id=job.job_id))
    for _ in range(step):
        found = computed(job, [relay], reply.round, state)
        reply, state = hand_over(relay, job, found)
    found = computed(job, [relay], reply.round, state)

    def exhausted(value):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(aggregator, "pack", exhausted)
        with pytest.raises(UnavailableError):
            hand_over(relay, job, found)
    with pytest.raises(UnavailableError) as raised:
        hand_over(relay, job, found)
    assert raised.value.error_code == "unavailable.session"
    assert run(world, job, [relay], install=False)[0].model
