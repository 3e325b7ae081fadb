"""Can an active host that carries and keeps the blocks of an exchange, or a model's pieces, make an enclave use others than it was sent?

Each attack stands beside the accepted twin: the same request with the honest block, which must succeed.
"""

import os

import pytest

from securemllib.errors import CoverError, IntegrityError
from securemllib.wire.job import ROWS_OPERATION, Output, OutputKind
from securemllib.wire.plan import ApplyModel, Plan
from securemllib.wire.result import SealedModel
from securemllib.wire.task import Begin, Compute, Materialise
from tests.enclave.exchanges import factorisation, opened, rated
from tests.world import Relay, computed, hand_over, run


class Tampering(Relay):
    """A host that hands out another block than the one that was asked for, if it likes."""

    change = None

    def block(self, job_id, name):
        block = super().block(job_id, name)
        return block if self.change is None else self.change(name, block)


@pytest.fixture(scope="module")
def world():
    """Return a world around ratings: nobody writes to them."""
    return rated()


@pytest.fixture(scope="module")
def elsewhere(world):
    """Return the blocks of a finished job of the same params on the same rows."""
    job = factorisation(world)
    run(world, job, [Relay(world)])
    return {name: block for (job_id, name), block in world.blocks.items() if job_id == job.job_id}


def reached(world, stage, iteration):
    """Return a job, its relay, and the round and state of a stage's round; the rounds before it went well."""
    job, relay = factorisation(world, checkpoint_interval=100), Tampering(world)
    relay.install(job)
    rounds = {"match": 2, "item": 3 + 2 * iteration, "user": 4 + 2 * iteration, "publish": 9}
    reply, state = relay.ask(Begin(job_id=job.job_id))
    while reply.round < rounds[stage]:
        reply, state = hand_over(relay, job, computed(job, [relay], reply.round, state))
    return job, relay, reply.round, bytes(state)


def renamed(world, job, name, **parts):
    """Return the honest block of a name of which some parts are others."""
    fields = dict(zip(("stage", "round", "sender", "receiver", "piece"), name.split("-"), strict=True))
    return world.blocks.get((job.job_id, "-".join(str(value) for value in {**fields, **parts}.values())))


ATTACKS = {
    "drop": lambda world, job, elsewhere, name, block: b"",
    "garbage": lambda world, job, elsewhere, name, block: os.urandom(len(block)),
    "flip": lambda world, job, elsewhere, name, block: block[:-20] + bytes([block[-20] ^ 1]) + block[-19:],
    "duplicate": lambda world, job, elsewhere, name, block: renamed(world, job, name, sender=0 if name.split("-")[2] != "0" else 1),
    "swap": lambda world, job, elsewhere, name, block: renamed(world, job, name, receiver=0 if name.split("-")[3] != "0" else 2),
    "other_job": lambda world, job, elsewhere, name, block: elsewhere[name],
}


@pytest.mark.parametrize("stage", ["match", "item", "user", "publish"])
@pytest.mark.parametrize("attack", sorted(ATTACKS))
def test_a_block_that_is_not_the_senders_is_refused(world, elsewhere, attack, stage):
    """A dropped, invented, changed, duplicated, exchanged or foreign block stops the shard that asked; the honest one is taken."""
    job, relay, number, state = reached(world, stage, 1 if stage in {"item", "user"} else 0)
    request, changed = Compute(job_id=job.job_id, round=number, share=1), []

    def change(name, block):
        other = ATTACKS[attack](world, job, elsewhere, name, block)
        changed.append(other != block)
        return other

    relay.change = change
    with pytest.raises(CoverError):
        relay.ask(request, state)
    assert any(changed)
    relay.change = None
    assert relay.ask(request, state)


@pytest.mark.parametrize("stage", ["item", "user"])
def test_a_block_of_an_earlier_round_is_refused(world, stage):
    """Factors of the iteration before, kept by the host and handed out again, are not taken for this iteration's."""
    job, relay, number, state = reached(world, stage, 2)
    request, replayed = Compute(job_id=job.job_id, round=number, share=2), []

    def change(name, block):
        older = renamed(world, job, name, round=int(name.split("-")[1]) - 2)
        if name.split("-")[0] not in {"item", "user"}:
            return block
        replayed.append(name)
        return older

    relay.change = change
    with pytest.raises(CoverError):
        relay.ask(request, state)
    assert replayed
    relay.change = None
    assert relay.ask(request, state)


def test_a_shard_rerun_with_a_state_of_an_earlier_round_sends_nothing_new(world):
    """Blocks that a host makes a shard compute again from an earlier state serve that round only, and the job goes on undisturbed."""
    job, relay, number, state = reached(world, "item", 1)
    before = dict(world.blocks)
    relay.ask(Compute(job_id=job.job_id, round=number, share=0), state)
    reply, later = hand_over(relay, job, computed(job, [relay], number, state))
    relay.ask(Compute(job_id=job.job_id, round=number, share=0), state)
    assert relay.ask(Compute(job_id=job.job_id, round=reply.round, share=1), bytes(later))
    assert {name for key, name in world.blocks.keys() - before.keys() if key == job.job_id} == {
        f"{stage}-{round_number}-{sender}-{receiver}-0"
        for stage, round_number, senders in (("item", number, (0, 1, 2)), ("user", reply.round, (1,)))
        for sender in senders
        for receiver in (0, 1, 2)
    }


# Pieces of models -------------------------------------------------------------------------------------------------------------------


def predicting(world, finished):
    """Return a job that applies a model to the rows, and a relay that holds its grant."""
    step = ApplyModel(
        model=SealedModel.from_bytes(finished.model).reference, input_columns=("u", "i"), outputs={"prediction": "p"}, params={}
    )
    job = world.job(
        operation=ROWS_OPERATION,
        inputs={},
        plan=Plan(source=world.dataset.manifest.reference, steps=(step,)),
        outputs=(Output(kind=OutputKind.ROWS, recipient=world.analyst.public, columns=("p",)),),
        shares=1,
    )
    relay = Tampering(world)
    relay.install(job, models=[finished.model])
    return job, relay


@pytest.mark.parametrize("attack", ["drop", "garbage", "swap", "other_model"])
def test_a_piece_that_is_not_the_models_is_refused(world, elsewhere, attack):
    """A dropped, invented, exchanged or foreign piece of a model stops whoever asked for it; the honest one is taken."""
    trained = factorisation(world, params={"regParam": 0.5})
    finished, _ = run(world, trained, [Relay(world)])
    job, relay = predicting(world, finished)
    changes = {
        "drop": lambda name, block: b"",
        "garbage": lambda name, block: os.urandom(len(block)),
        "swap": lambda name, block: world.blocks[trained.job_id, "model-0" if name != "model-0" else "model-1"],
        "other_model": lambda name, block: elsewhere[name],
    }
    relay.change = changes[attack]
    with pytest.raises(IntegrityError) as refused:
        relay.ask(Materialise(job_id=job.job_id, ordinal=0, output=0))
    assert refused.value.error_code == "integrity.model"
    relay.change = None
    assert relay.ask(Materialise(job_id=job.job_id, ordinal=0, output=0))
    assert opened(world, trained, finished)
