"""Does a job that names some parts read those, all of those, and no others?"""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from securemllib.crypto.identity import PrivateIdentity
from securemllib.enclave.session import check_unseen
from securemllib.errors import FormatError, IntegrityError, UsageError
from securemllib.wire.dataset import KeptPart, Part
from securemllib.wire.job import ROWS_OPERATION, Output, OutputKind
from securemllib.wire.plan import Filter, Literal, Parts, Plan, Project
from securemllib.wire.result import ResultKey, SealedResult
from securemllib.wire.task import Materialise
from tests.world import Dataset, Relay, World


@pytest.fixture
def world():
    """Four parts of ten numbers."""
    return World(Dataset(pa.table({"x": np.arange(40.0)})))


def job(world, *steps):
    """Return a job that hands out the numbers."""
    me = world.analyst.public
    rows = Output(kind=OutputKind.ROWS, recipient=me, columns=("x",))
    plan = Plan(source=world.dataset.manifest.reference, steps=steps)
    return world.job(ROWS_OPERATION, plan=plan, inputs={}, outputs=(rows,), shares=1)


def numbers(world, relay, asked, ordinal):
    """Return the numbers of a part, and how many parts the result says that there are."""
    _, raw = relay.ask(Materialise(job_id=asked.job_id, ordinal=ordinal, output=0))
    opened = world.open(bytes(raw))
    return pa.ipc.open_stream(opened.content).read_all()["x"].to_pylist(), opened.parts


def test_only_the_named_parts_are_read(world):
    """Parts 1 and 2 come as the job's first and second, and a third is refused without being fetched."""
    relay, asked = Relay(world), job(world, Parts(first=1, end=3))
    relay.install(asked)
    assert numbers(world, relay, asked, 0) == ([float(x) for x in range(10, 20)], 2)
    assert numbers(world, relay, asked, 1) == ([float(x) for x in range(20, 30)], 2)
    with pytest.raises(FormatError):
        numbers(world, relay, asked, 2)
    assert relay.fetched == [1, 2]


def test_each_enclave_output_and_job_has_a_key_of_its_own(world):
    """Parts of one output and enclave share a key; another recipient's, another enclave's and another job's have others."""
    me, bob = world.analyst.public, PrivateIdentity.generate("bob").public
    first = job(world)
    both = replace(first, outputs=(*first.outputs, replace(first.outputs[0], recipient=bob)))
    wrapped = []
    for asked, relay in ((both, Relay(world)), (both, Relay(world)), (job(world), Relay(world))):
        relay.install(asked)
        for output in range(len(asked.outputs)):
            raw = [relay.ask(Materialise(job_id=asked.job_id, ordinal=ordinal, output=output))[1] for ordinal in (0, 1)]
            one, two = (SealedResult.from_bytes(bytes(each)) for each in raw)
            assert one.key == two.key
            assert one.recipient == (bob if output else me).fingerprint
            wrapped.append(ResultKey.from_bytes(one.key.payload).wrapped)
    assert len(set(wrapped)) == 5


def test_a_named_part_has_no_substitute(world):
    """Another part's bytes in the place of a named one are refused, its own are read."""
    relay, asked = Relay(world), job(world, Parts(first=1, end=2))
    relay.install(asked)
    swapped = [world.dataset.files[index] for index in (0, 2, 1, 3)]
    with pytest.raises(IntegrityError):
        relay.ask(Materialise(job_id=asked.job_id, ordinal=0, output=0), files=swapped)
    assert numbers(world, relay, asked, 0)[0][0] == 10.0


def test_parts_that_are_not_there_are_refused(world):
    """A job over more parts than the manifest has gets no session; over all of them it does."""
    with pytest.raises(UsageError):
        Relay(world).install(job(world, Parts(first=2, end=5)))
    Relay(world).install(job(world, Parts(first=0, end=4)))


def test_parts_are_chosen_first_and_once():
    """A plan that chooses parts later, or nothing at all, is no plan."""
    source = World(Dataset(pa.table({"x": [1.0]}), parts=1)).dataset.manifest.reference
    keep = Filter(predicate=Literal(value=True))
    assert Plan(source=source, steps=(Parts(first=0, end=1), keep)).parts == Parts(first=0, end=1)
    for steps in ((keep, Parts(first=0, end=1)), (Parts(first=0, end=1), Parts(first=0, end=1))):
        with pytest.raises(FormatError):
            Plan(source=source, steps=steps)
    for first, end in ((1, 1), (-1, 1), (2, 1)):
        with pytest.raises(FormatError):
            Parts(first=first, end=end)
    assert Plan(source=source, steps=(Project(columns=()),)).parts is None


def test_a_kept_part_is_opened_as_its_own_versions(world):
    """A part of version 1 in version 2's manifest opens when it is marked as kept, and is refused when it is passed off as new."""
    dataset = world.dataset
    fields = [{name: getattr(part, name) for name in Part.__slots__} for part in dataset.body.parts[:2]]
    for kept, works in ((tuple(KeptPart(**found, version=1) for found in fields), True), (dataset.body.parts[:2], False)):
        second = Dataset(dataset.table, dataset_id=dataset.dataset_id, version=2, secret=dataset.secret)
        second.publish((*kept, *second.body.parts[2:]))
        second.files[:2] = dataset.files[:2]
        later = World(second, broker=world.broker, analyst=world.analyst)
        relay, asked = Relay(later), job(later)
        relay.install(asked)
        assert numbers(later, relay, asked, 2)[0][0] == 20.0
        if works:
            assert numbers(later, relay, asked, 0)[0][0] == 0.0
        else:
            with pytest.raises(IntegrityError):
                numbers(later, relay, asked, 0)


def test_a_training_does_not_go_on_where_the_parts_behind_it_are_others(world):
    """New parts behind kept ones are read; behind parts that the new version wrote anew, which may hold rows of theirs, they are not."""
    dataset = world.dataset
    fields = [{name: getattr(part, name) for name in Part.__slots__} for part in dataset.body.parts[:2]]
    kept = tuple(KeptPart(**found, version=1) for found in fields)
    second = Dataset(dataset.table, dataset_id=dataset.dataset_id, version=2, secret=dataset.secret)
    plan = Plan(source=second.manifest.reference, steps=(Parts(first=2, end=4),))
    lineage = (dataset.manifest.reference,)
    with pytest.raises(UsageError):
        check_unseen(second.body, plan, lineage)
    second.publish((*kept, *second.body.parts[2:]))
    check_unseen(second.body, plan, lineage)
    check_unseen(second.body, plan, (second.manifest.reference, *lineage))
    with pytest.raises(UsageError):
        check_unseen(second.body, plan, ())
