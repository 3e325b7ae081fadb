"""Does every operation give the same result in both modes, whether its rounds are masked or sealed?"""

import numpy as np
import pyarrow as pa
import pytest

from securemllib.algorithms.codec import from_tree
from securemllib.algorithms.fixed_point import additive
from securemllib.algorithms.registry import ALGORITHMS, types_of
from securemllib.algorithms.trees import training
from securemllib.wire.encoding import decode, encode
from securemllib.wire.job import Mode
from securemllib.wire.plan import Plan
from securemllib.wire.task import Compute, Masked
from tests.algorithms.test_contracts import CASES, NAMES, same
from tests.enclave.exchanges import factorisation, factors, rated
from tests.enclave.test_jobs import plain_model
from tests.world import Dataset, Relay, World, run

# Masked sums are of integers with 66 bits, and optimizers stop elsewhere when a sum rounds otherwise.
TOLERANCE = 1e-6
# Statistics that are no plain sums, or, as the medians of the contract's imputer, are so for other params only.
SEALED = {name for name in ALGORITHMS if not additive(types_of(ALGORITHMS[name])[1])} | {"Imputer"}


@pytest.fixture(autouse=True)
def _in_rounds(monkeypatch):
    """Few rows grow their trees in rounds, so that there is something to mask."""
    monkeypatch.setattr(training, "_AT_ONCE", 0)


def table(rows):
    """Return rows of the contract as a table, and the columns of its roles."""
    width = rows.features.shape[1]
    columns = {"features": pa.FixedSizeListArray.from_arrays(pa.array(rows.features.ravel()), width)} if width else {}
    columns |= {role: pa.array(getattr(rows, role)) for role in ("label", "weight", "prediction") if getattr(rows, role) is not None}
    columns |= {role: pa.array(values) for role, values in rows.extras.items()} | rows.raw
    fixed = [role for role, column in columns.items() if pa.types.is_fixed_size_list(column.type)]
    columns |= {role: columns[role].cast(pa.list_(pa.float64())) for role in fixed}
    return pa.table(columns), {role: role for role in columns}


def trained(world, **asked):
    """Return a job's model as a tree, and whether any round of it was masked."""
    relay, job = _Listening(world), world.job(plan=Plan(source=world.dataset.manifest.reference, steps=()), shares=3, **asked)
    finished, _ = run(world, job, [relay])
    relay.close()
    return decode(plain_model(world, job, finished)), any(relay.masked)


class _Listening(Relay):
    def __init__(self, world):
        super().__init__(world)
        self.masked = []

    def ask(self, request, payload=b"", files=None):
        reply, data = super().ask(request, payload, files)
        if isinstance(request, Compute):
            self.masked.append(isinstance(reply, Masked))
        return reply, data


@pytest.mark.parametrize("name", [name for name in NAMES if name != "ALS"])
def test_partitioned_mode_gives_enclave_modes_result(name):
    """An operation's model is that of enclave mode: where its statistics are sums they are masked, and elsewhere to the byte."""
    case = CASES[name]
    rows, inputs = table(case.rows())
    world = World(Dataset(rows, parts=4))
    asked = {"operation": name, "params": case.params, "inputs": inputs}
    inside, _ = trained(world, **asked)
    partitioned, masked = trained(world, mode=Mode.PARTITIONED, **asked)
    assert masked is (name not in SEALED)
    if masked:
        model = types_of(ALGORITHMS[name])[2]
        same(from_tree(model, inside), from_tree(model, partitioned), TOLERANCE)
    else:
        assert encode(partitioned) == encode(inside)


def test_partitioned_mode_factorises_as_enclave_mode():
    """Shards that send each other sealed blocks do so in both modes: the factors are equal to the byte."""
    world, found = rated(), []
    for mode in Mode:
        job = factorisation(world, mode=mode)
        finished, _ = run(world, job, [Relay(world)])
        found.append(factors(world, job, finished))
    for side in ("user", "item"):
        for one, other in zip(found[0].of(side), found[1].of(side), strict=True):
            np.testing.assert_array_equal(one, other)
