"""Do shards that exchange sealed blocks train one model, whichever enclaves hold them and whatever dies?"""

import numpy as np
import pyarrow as pa
import pytest

from securemllib.algorithms.als import ALS
from securemllib.algorithms.base import Block
from securemllib.algorithms.vectors import numbers
from securemllib.wire.job import ROWS_OPERATION, Mode, Output, OutputKind
from securemllib.wire.plan import ApplyModel, Plan
from securemllib.wire.result import SealedModel
from securemllib.wire.task import Materialise
from tests.algorithms.exchanging import fit_shards
from tests.enclave.exchanges import factorisation, factors, opened, rated
from tests.world import Relay, run


@pytest.fixture(scope="module")
def world():
    """Return a world around ratings: nobody writes to them."""
    return rated()


@pytest.fixture(scope="module")
def undisturbed(world):
    """Return a job of three shards in one enclave, its result and its factors."""
    job = factorisation(world)
    finished, _ = run(world, job, [Relay(world)])
    return job, finished, factors(world, job, finished)


def blocks(world):
    """Return the world's parts as an algorithm reads them."""
    table = world.dataset.table
    extras = {role: numbers(table[name].combine_chunks(), name) for role, name in (("user", "u"), ("item", "i"), ("rating", "r"))}
    return [Block(ordinal=0, features=np.zeros((table.num_rows, 0)), offset=np.zeros(0), extras=extras)]


def test_sealed_shards_train_the_model_of_the_rows_in_the_clear(world, undisturbed):
    """Factors from sealed blocks are those of one shard in the clear that starts from the job's own random vectors."""
    relay = Relay(world)
    relay.install(undisturbed[0])
    seed = relay.enclave.session(undisturbed[0].job_id).algorithm_seed
    clear = fit_shards(ALS(rank=2, max_iter=3), blocks(world), seed)
    for side in ("user", "item"):
        np.testing.assert_array_equal(undisturbed[2].of(side)[0], clear.of(side)[0])
        np.testing.assert_allclose(undisturbed[2].of(side)[1], clear.of(side)[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("relays", [2, 3])
def test_where_the_shards_are_does_not_matter(world, undisturbed, relays):
    """Three shards in two or three enclaves give the bytes of three shards in one."""
    job = factorisation(world)
    finished, _ = run(world, job, [Relay(world) for _ in range(relays)])
    assert opened(world, job, finished) == opened(world, undisturbed[0], undisturbed[1])


@pytest.mark.parametrize("rounds", [2, 3, 4, 7, 9])
def test_a_killed_exchange_resumes_to_the_same_bytes(world, undisturbed, rounds):
    """All enclaves die after some rounds; new ones go on from the recorded checkpoint and the kept blocks to the same bytes."""
    job = factorisation(world)
    _, checkpoints = run(world, job, [Relay(world), Relay(world)], stop_after=rounds)
    finished, _ = run(world, job, [Relay(world), Relay(world)], begin=checkpoints[world.heads[job.job_id].round])
    assert opened(world, job, finished) == opened(world, undisturbed[0], undisturbed[1])


def test_an_enclave_too_small_to_keep_ratings_trains_the_same_bytes(world, undisturbed):
    """A memory bound that holds no shard's ratings asks for blocks again each round, and changes no byte."""

    class Counting(Relay):
        asked = 0

        def block(self, job_id, name):
            self.asked += name.startswith("deal")
            return super().block(job_id, name)

    ample, scarce = Counting(world), Counting(world, memory_limit=max(part.length for part in world.dataset.body.parts))
    for relay in (ample, scarce):
        job = factorisation(world)
        finished, _ = run(world, job, [relay])
        assert opened(world, job, finished) == opened(world, undisturbed[0], undisturbed[1])
    assert ample.asked < scarce.asked


def test_a_sharded_model_predicts_shard_by_shard(world, undisturbed):
    """Rows in the model's shards' keeping are predicted as from all factors together, in an enclave that asks for one shard at a time."""
    job, finished, whole = undisturbed
    model = SealedModel.from_bytes(finished.model)
    reference = model.reference
    world.models[reference] = (world.keys[job.job_id][1], None)
    me = world.analyst.public
    step = ApplyModel(model=reference, input_columns=("u", "i"), outputs={"prediction": "prediction"}, params={})
    rows = world.job(
        operation=ROWS_OPERATION,
        inputs={},
        plan=Plan(source=world.dataset.manifest.reference, steps=(step,)),
        outputs=(Output(kind=OutputKind.ROWS, recipient=me, columns=("u", "i", "prediction")),),
        shares=1,
    )
    relay = Relay(world)
    relay.install(rows, models=[finished.model])
    for ordinal in range(len(world.dataset.files)):
        _, sealed = relay.ask(Materialise(job_id=rows.job_id, ordinal=ordinal, output=0))
        table = pa.ipc.open_stream(world.open(sealed).content).read_all()
        users, items = (np.searchsorted(whole.of(side)[0], table[name].to_numpy()) for side, name in (("user", "u"), ("item", "i")))
        expected = np.einsum("ij,ij->i", whole.user_factors[users], whole.item_factors[items])
        np.testing.assert_allclose(table["prediction"].to_numpy(), expected, rtol=1e-6)


def test_partitioned_mode_exchanges_the_same_blocks(world, undisturbed):
    """Shards send no sums to the host: partitioned mode gives the factors of enclave mode to the byte."""
    job = factorisation(world, mode=Mode.PARTITIONED)
    finished, _ = run(world, job, [Relay(world)])
    found = factors(world, job, finished)
    assert found.user_factors.tobytes() == undisturbed[2].user_factors.tobytes()
    assert found.item_factors.tobytes() == undisturbed[2].item_factors.tobytes()
