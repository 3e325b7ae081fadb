"""Does a job's head move forward only, and only for its newest aggregator?"""

import threading
from dataclasses import replace

import pytest
from broker_world import Enclave, World
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from securemllib.crypto.aead import seal
from securemllib.crypto.identity import PrivateIdentity
from securemllib.crypto.keys import DataKey
from securemllib.errors import FreshnessError, IntegrityError, PolicyError, SignatureError, UnsealError, UsageError
from securemllib.wire.attestation import Head, HeadUpdate, head_context
from securemllib.wire.job import Output, OutputKind
from securemllib.wire.notices import JobEnd
from securemllib.wire.plan import ModelRef


@pytest.fixture
def job(world: World) -> str:
    """An accepted job."""
    world.enrol()
    return world.submit()


def moved(world: World, enclave: Enclave, previous: Head | None, head: Head, model: ModelRef | None = None) -> Head:
    """Move the head, check the acknowledgement, and return the new head."""
    update = enclave.update(previous, head, model)
    enclave.check(update, world.broker.move_head(enclave.job_id, update))
    return head


def test_a_head_moves_from_the_recorded_one(world: World, job: str) -> None:
    """Each update names the head before it; one that names another round or state, or goes back, is refused."""
    enclave = world.granted(job)
    first = moved(world, enclave, None, enclave.head(1, b"a" * 32))
    for previous in (None, enclave.head(0, b"a" * 32), enclave.head(1, b"x" * 32)):
        with pytest.raises(FreshnessError, match="continues from"):
            world.broker.move_head(job, enclave.update(previous, enclave.head(2, b"b" * 32)))
    with pytest.raises(FreshnessError):
        world.broker.move_head(job, enclave.update(first, enclave.head(0, b"b" * 32)))
    second = moved(world, enclave, first, enclave.head(2, b"b" * 32))
    assert world.broker.head(job) == second


def test_the_same_update_is_acknowledged_again(world: World, job: str) -> None:
    """A lost acknowledgement can be asked for again, until the head has moved on; the same state of another epoch is no repetition."""
    enclave = world.granted(job)
    update = enclave.update(None, enclave.head(1))
    for _ in range(3):
        enclave.check(update, world.broker.move_head(job, update))
    newer = world.granted(job)
    with pytest.raises(FreshnessError):
        world.broker.move_head(job, newer.update(None, newer.head(1)))
    moved(world, enclave, enclave.head(1), enclave.head(2))
    with pytest.raises(FreshnessError):
        world.broker.move_head(job, update)


def test_an_older_aggregator_is_fenced(world: World, job: str) -> None:
    """Once a newer epoch has moved the head, the older one cannot; a mere grant to a newer enclave fences nobody."""
    older, newer = world.granted(job), world.granted(job)
    first = moved(world, older, None, older.head(1))
    second = moved(world, newer, first, newer.head(2))
    with pytest.raises(FreshnessError, match="fenced"):
        world.broker.move_head(job, older.update(second, older.head(3)))
    with pytest.raises(FreshnessError, match="fenced"):
        world.broker.move_head(job, older.update(None, older.head(1)))
    moved(world, newer, second, newer.head(3))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=8))
def test_epochs_that_move_the_head_never_fall(world: World, order: list[int]) -> None:
    """Whatever the order in which aggregators ask, one is heard exactly when no newer one was heard before."""
    world.broker.trust_owner(world.owner.identity.public)
    if not any(event["event"] == "policy" for event in world.events()):
        world.enrol()
    job = world.submit()
    enclaves = [world.granted(job) for _ in range(3)]
    newest, previous = -1, None
    for round_, index in enumerate(order):
        enclave = enclaves[index]
        if index >= newest:
            previous = moved(world, enclave, previous, enclave.head(round_))
            newest = index
        else:
            with pytest.raises(FreshnessError, match="fenced"):
                world.broker.move_head(job, enclave.update(previous, enclave.head(round_)))


def test_only_granted_epochs_are_heard(world: World, job: str) -> None:
    """An epoch that was never granted is refused, so nobody can fence the enclaves to come."""
    enclave = world.granted(job)
    for epoch in (0, 2, -1):
        with pytest.raises(IntegrityError, match="never granted"):
            world.broker.move_head(job, enclave.update(None, replace(enclave.head(1), epoch=epoch)))
    moved(world, enclave, None, enclave.head(1))


def test_only_enclaves_of_the_job_move_its_head(world: World, job: str) -> None:
    """An update under another key, or of another job, does not open; a changed one neither."""
    enclave, other = world.granted(job), world.granted(world.submit())
    update = enclave.update(None, enclave.head(1))
    record = HeadUpdate(previous=None, head=enclave.head(1), model=None).to_bytes()
    for forged in (
        seal(DataKey.generate(), head_context(job), record),
        other.update(None, other.head(1)),
        seal(enclave.job_key, head_context(other.job_id), record),
        update[:-1] + bytes([update[-1] ^ 1]),
        b"",
    ):
        with pytest.raises(UnsealError):
            world.broker.move_head(job, forged)
    enclave.check(update, world.broker.move_head(job, update))


def test_a_job_finishes_once_with_its_own_model(world: World, job: str) -> None:
    """The finishing update is acknowledged again; another job's model, and a second model, are refused."""
    enclave = world.granted(job)
    model = ModelRef(model_id=job, digest=b"m" * 32)
    with pytest.raises(IntegrityError, match="model of job"):
        world.broker.move_head(job, enclave.update(None, enclave.head(1), replace(model, model_id="x")))
    head = moved(world, enclave, None, enclave.head(1), model)
    moved(world, enclave, None, head, model)
    with pytest.raises(FreshnessError, match="finished"):
        world.broker.move_head(job, enclave.update(head, enclave.head(2), replace(model, digest=b"n" * 32)))
    with pytest.raises(FreshnessError, match="finished"):
        world.broker.move_head(job, enclave.update(None, head, replace(model, digest=b"n" * 32)))


def test_a_job_without_a_sealed_model_records_none(world: World, job: str) -> None:
    """A job whose outputs name no sealed model cannot finish with one; it moves its head all the same."""
    summary = world.submit(outputs=(Output(kind=OutputKind.SUMMARY, recipient=world.analyst.public),))
    enclave = world.granted(summary)
    with pytest.raises(PolicyError, match="no sealed model"):
        world.broker.move_head(summary, enclave.update(None, enclave.head(1), ModelRef(model_id=summary, digest=b"m" * 32)))
    moved(world, enclave, None, enclave.head(1))


def test_one_of_many_concurrent_updates_wins(world: World, job: str) -> None:
    """Of eight different updates from the same head at the same time, one is recorded and seven are refused."""
    enclave = world.granted(job)
    updates = [enclave.update(None, enclave.head(1, bytes([index]) * 32)) for index in range(8)]
    outcomes: list[str] = []
    start = threading.Barrier(len(updates))

    def move(update: bytes) -> None:
        start.wait()
        try:
            enclave.check(update, world.broker.move_head(job, update))
            outcomes.append("recorded")
        except FreshnessError:
            outcomes.append("refused")

    threads = [threading.Thread(target=move, args=(update,)) for update in updates]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["recorded"] + ["refused"] * 7


@pytest.mark.parametrize("kind", [OutputKind.METRIC, OutputKind.ROWS])
def test_a_job_without_a_model_is_finished_by_its_analyst(world: World, kind: OutputKind) -> None:
    """Once its results have come it gets no more keys; saying so again changes nothing, and each time is in the log."""
    world.enrol()
    job_id = world.submit(outputs=(Output(kind=kind, recipient=world.analyst.public, columns=("age",) if kind is OutputKind.ROWS else ()),))
    world.granted(job_id)
    world.broker.finish(job_id, world.end(job_id))
    world.broker.finish(job_id, world.end(job_id))
    assert [event["event"] for event in world.events()][-2:] == ["finish", "finish"]
    with pytest.raises(FreshnessError, match="finished"):
        world.granted(job_id)


def test_only_its_analyst_ends_a_job(world: World) -> None:
    """A stranger, an owner, and a notice of another job or for another broker end nothing; the analyst's own notice does."""
    world.enrol()
    outputs = (Output(kind=OutputKind.METRIC, recipient=world.analyst.public),)
    job_id, other = world.submit(outputs=outputs), world.submit(outputs=outputs)
    for signer in (PrivateIdentity.generate("stranger"), world.owner.identity):
        with pytest.raises(SignatureError):
            world.broker.finish(job_id, signer.sign(JobEnd(job_id=job_id, broker=world.broker.identity.fingerprint)))
    elsewhere = world.analyst.sign(JobEnd(job_id=job_id, broker=world.owner.identity.public.fingerprint))
    for notice in (world.end(other), elsewhere):
        with pytest.raises(FreshnessError):
            world.broker.finish(job_id, notice)
    world.granted(job_id)
    world.broker.finish(job_id, world.end(job_id))
    with pytest.raises(FreshnessError, match="finished"):
        world.granted(job_id)


def test_a_job_that_trains_is_ended_by_its_analyst(world: World, job: str) -> None:
    """One that was given up gets no keys and leaves no model; a notice takes back none that is recorded, and ends no unknown job."""
    enclave = world.granted(job)
    first, model = moved(world, enclave, None, enclave.head(1)), ModelRef(model_id=job, digest=b"m" * 32)
    world.broker.finish(job, world.end(job))
    with pytest.raises(FreshnessError, match="finished"):
        world.broker.move_head(job, enclave.update(first, enclave.head(2), model))
    with pytest.raises(FreshnessError, match="finished"):
        world.granted(job)
    trained = world.submit()
    last = world.granted(trained)
    head = moved(world, last, None, last.head(1), ModelRef(model_id=trained, digest=b"m" * 32))
    world.broker.finish(trained, world.end(trained))
    assert world.broker.head(trained) == head
    with pytest.raises(UsageError, match="knows no job"):
        world.broker.finish("0" * 64, world.end("0" * 64))
