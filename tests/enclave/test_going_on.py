"""Do the sums behind a model go on with it, and nowhere else?"""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from securemllib.crypto import models
from securemllib.crypto.keys import DataKey
from securemllib.crypto.models import open_root, statistics_key, whole_tree
from securemllib.errors import IntegrityError, PolicyError, UsageError
from securemllib.wire.dataset import KeptPart, Part
from securemllib.wire.encoding import encode
from securemllib.wire.job import Mode, Output, OutputKind
from securemllib.wire.plan import Parts, Plan
from securemllib.wire.result import SealedModel, piece_name, statistics_name
from tests.world import Dataset, Relay, World, binomial_table, run

OPERATIONS = {"LinearRegression": {"regParam": 0.1}, "NaiveBayes": {"modelType": "gaussian"}}


@pytest.fixture(scope="module")
def world():
    """Return a broker and an analyst around a table of four parts."""
    return World(Dataset(binomial_table(), parts=4))


def job(world, operation, first, end, model=None, *, carries=True, **changes):
    """Return a training on some parts, whose model carries the sums behind it or not."""
    me, plan = world.analyst.public, world.job().plan
    kinds = (OutputKind.SEALED_MODEL, OutputKind.SUMMARY) if operation == "LinearRegression" else (OutputKind.SEALED_MODEL,)
    kinds = (*kinds, OutputKind.SEALED_STATISTICS) if carries else kinds
    fields = {
        "params": OPERATIONS.get(operation, {}),
        "plan": replace(plan, steps=(Parts(first=first, end=end), *plan.steps)),
        "model": None if model is None else model.reference,
        "outputs": tuple(Output(kind=kind, recipient=me) for kind in kinds),
    }
    return world.job(operation, **{**fields, **changes})


def trained(world, asked, *before, relay=None, **changes):
    """Run a training, and return its sealed model."""
    relay = Relay(world) if relay is None else relay
    relay.install(asked, models=[model.to_bytes() for model in before], **changes)
    finished, _ = run(world, asked, [relay], install=False)
    return SealedModel.from_bytes(finished.model)


def tree_of(world, sealed):
    """Return a model's tree, as whoever it is released to reads it."""
    key = world.keys[sealed.model_id][1]
    return whole_tree(sealed, key, open_root(sealed, key), lambda index: world.blocks[sealed.model_id, piece_name(index)])


def sums_of(world, sealed):
    """Return the sums beside a model, by the key that only enclaves get."""
    key = statistics_key(world.keys[sealed.model_id][0], sealed.model_id)
    found = SealedModel.from_bytes(world.blocks[sealed.model_id, statistics_name(0)])
    pieces = {index: (sealed.model_id, statistics_name(index + 1)) for index in range(found.pieces)}
    return whole_tree(found, key, open_root(found, key), lambda index: world.blocks[pieces[index]])


def leaves(tree):
    """Yield the numbers of a tree, array by array."""
    if isinstance(tree, dict) and tree.keys() == {"dtype", "shape", "data"}:
        yield np.frombuffer(tree["data"], dtype=tree["dtype"])
    elif isinstance(tree, dict | list):
        for item in tree.values() if isinstance(tree, dict) else tree:
            yield from leaves(item)
    elif isinstance(tree, float):
        yield np.array([tree])


def close(one, other):
    """Compare two trees' numbers: float64 sums in another order."""
    for first, second in zip(leaves(one), leaves(other), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("operation", OPERATIONS)
def test_batches_are_all_rows(world, operation, mode):
    """Three trainings, each going on from the sums behind the model before, give the model of one over all parts, in either mode."""
    whole = trained(world, job(world, operation, 0, 4, carries=False, mode=mode))
    model = None
    for first, end in pairwise((0, 1, 3, 4)):
        model = trained(world, job(world, operation, first, end, model, mode=mode), *([] if model is None else [model]))
    close(tree_of(world, model), tree_of(world, whole))
    close(tree_of(world, trained(world, job(world, operation, 0, 4))), tree_of(world, whole))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_is_released_holds_no_sums(world, operation):
    """A model that carries its sums has the bytes of one that does not, no key of its release opens them, and no block shows them."""
    plain, model = (trained(world, job(world, operation, 0, 2, carries=carries)) for carries in (False, True))
    assert encode(tree_of(world, plain)) == encode(tree_of(world, model))
    assert len(model.to_bytes()) == len(plain.to_bytes())
    assert {name for job_id, name in world.blocks if job_id == plain.model_id} == set()
    canary = {"LinearRegression": "gram", "NaiveBayes": "squares"}[operation]
    sums = sums_of(world, model)["sums"]
    canaries = [number.tobytes() for number in next(leaves(sums.get(canary) or sums["total"][canary]))]
    assert all(found in encode(sums) for found in canaries)
    kept = world.blocks[model.model_id, statistics_name(0)]
    for seen in (encode(tree_of(world, model)), model.to_bytes(), kept):
        assert not any(found in seen for found in canaries)
    with pytest.raises(IntegrityError):
        open_root(SealedModel.from_bytes(kept), world.keys[model.model_id][1])


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_rerun_and_a_resumed_training_give_the_same_bytes(world, operation):
    """An aggregator that is lost after the first round, and the same job from its start, give the same model and the same sums."""
    before = trained(world, job(world, operation, 0, 2))
    asked = job(world, operation, 2, 4, before, checkpoint_interval=1)
    expected = trained(world, asked, before)
    found = [encode(tree_of(world, expected)), encode(sums_of(world, expected))]
    for stop_after in (1, None):
        world.heads.pop(asked.job_id)
        relay, checkpoints = Relay(world), {0: b""}
        if stop_after is not None:
            _, checkpoints = run(world, asked, [relay], models=[before.to_bytes()], stop_after=stop_after)
            relay = Relay(world)
        finished, _ = run(world, asked, [relay], models=[before.to_bytes()], begin=checkpoints[max(checkpoints)])
        again = SealedModel.from_bytes(finished.model)
        assert [encode(tree_of(world, again)), encode(sums_of(world, again))] == found


class Exchanging(Relay):
    """A host that hands over other statistics than those beside the model."""

    instead = None

    def block(self, job_id, name):
        return super().block(job_id, name) if self.instead is None else self.instead(job_id, name)


@pytest.fixture
def small_pieces(monkeypatch):
    """Let statistics of some kilobytes be large."""
    monkeypatch.setattr(models, "_ROOT_BYTES", 300)
    monkeypatch.setattr(models, "PIECE_BYTES", 300)


ATTACKS = ("older model", "other model", "the model itself", "relabelled", "changed", "swapped pieces", "other model's piece")


@pytest.mark.parametrize("attack", ATTACKS)
def test_exchanged_statistics_are_refused(world, small_pieces, attack):
    """Statistics of an older model, another one or another piece, and changed ones, move no state; the honest ones do."""
    older = trained(world, job(world, "LinearRegression", 0, 1))
    model = trained(world, job(world, "LinearRegression", 1, 2, older), older)
    other = trained(world, job(world, "LinearRegression", 0, 2))
    kept, first = dict(world.blocks), statistics_name(0)
    record = SealedModel.from_bytes(kept[other.model_id, first])
    assert SealedModel.from_bytes(kept[model.model_id, first]).pieces > 1

    def instead(job_id, name):
        assert job_id == model.model_id
        taken = {"older model": older, "other model": other}.get(attack, model).model_id
        if attack == "the model itself" and name == first:
            return model.to_bytes()
        if attack == "relabelled" and name == first:
            return replace(record, model_id=job_id).to_bytes()
        if attack == "changed" and name == statistics_name(1):
            return kept[job_id, name][:-1] + bytes([kept[job_id, name][-1] ^ 1])
        if attack == "swapped pieces" and name == statistics_name(1):
            return kept[job_id, statistics_name(2)]
        if attack == "other model's piece" and name == statistics_name(1):
            return kept[other.model_id, name]
        return kept[taken, name]

    relay, asked = Exchanging(world), job(world, "LinearRegression", 2, 4, model)
    relay.instead = instead
    with pytest.raises(IntegrityError):
        trained(world, asked, model, relay=relay)
    relay.instead = None
    finished, _ = run(world, asked, [relay], install=False)
    whole = trained(world, job(world, "LinearRegression", 0, 4, carries=False))
    close(tree_of(world, SealedModel.from_bytes(finished.model)), tree_of(world, whole))


def test_an_enclave_without_the_key_goes_on_from_nothing(world):
    """A grant without the key, or with that of the model itself, opens no statistics; with theirs it does."""
    model = trained(world, job(world, "NaiveBayes", 0, 2))
    for key in (DataKey.generate().expose(), world.keys[model.model_id][1].expose(), world.keys[model.model_id][0].expose()):
        with pytest.raises(IntegrityError):
            trained(world, job(world, "NaiveBayes", 2, 4, model), model, statistics=key)
    assert trained(world, job(world, "NaiveBayes", 2, 4, model), model).operation == "NaiveBayes"


def test_sums_of_other_columns_are_not_gone_on_from(world):
    """Other columns by role, or another plan behind the parts, are refused; other Params of the search are not."""
    model = trained(world, job(world, "LinearRegression", 0, 2))
    assembled = job(world, "LinearRegression", 2, 4).plan.steps[1]
    steps = (Parts(first=2, end=4), replace(assembled, input_columns=("x1", "x0", "x2")))
    for changes in (
        {"inputs": {"features": "features", "label": "x0"}},
        {"inputs": {"features": "features", "label": "y", "weight": "x0"}},
        {"plan": Plan(source=world.dataset.manifest.reference, steps=steps)},
    ):
        with pytest.raises(UsageError):
            trained(world, job(world, "LinearRegression", 2, 4, model, **changes), model)
    asked = job(world, "LinearRegression", 2, 4, model, params={"regParam": 0.5, "elasticNetParam": 1.0})
    whole = job(world, "LinearRegression", 0, 4, carries=False, params=asked.params)
    close(tree_of(world, trained(world, asked, model)), tree_of(world, trained(world, whole)))


def test_only_what_has_sums_leaves_and_needs_them(world):
    """K-Means leaves no statistics, linear regression does not go on from coefficients; each goes on in its own way."""
    clusters = trained(world, job(world, "KMeans", 0, 2, carries=False))
    assert trained(world, job(world, "KMeans", 2, 4, clusters, carries=False), clusters).operation == "KMeans"
    with pytest.raises(UsageError):
        trained(world, job(world, "KMeans", 0, 2))
    with pytest.raises(UsageError):
        trained(world, job(world, "KMeans", 2, 4, clusters), clusters)
    model = trained(world, job(world, "LinearRegression", 0, 2))
    with pytest.raises(UsageError):
        trained(world, job(world, "LinearRegression", 2, 4, model, carries=False), model)


def test_neither_side_of_a_union_is_a_small_group(world):
    """A summary of many new rows and few behind them is refused, as one of few new rows is; without one the training goes on."""
    few = trained(world, job(world, "LinearRegression", 0, 1))
    many = job(world, "LinearRegression", 1, 4, few)
    assert trained(world, many, few, min_group_size=100).model_id == many.job_id
    for first, end in ((1, 4), (1, 2)):
        with pytest.raises(PolicyError):
            trained(world, job(world, "LinearRegression", first, end, few), few, min_group_size=101)
    silent = tuple(output for output in many.outputs if output.kind is not OutputKind.SUMMARY)
    asked = job(world, "LinearRegression", 1, 4, few, outputs=silent)
    assert trained(world, asked, few, min_group_size=101).model_id == asked.job_id


@pytest.mark.parametrize("is_kept", [True, False])
def test_an_enclave_goes_on_only_behind_the_parts_that_the_model_saw(is_kept):
    """A later version's new parts are learned behind kept ones; where the version wrote those anew, the enclave opens no session."""
    first = World(Dataset(binomial_table(), parts=4))
    dataset = first.dataset
    model = trained(first, job(first, "LinearRegression", 0, 2))
    second = Dataset(dataset.table, dataset_id=dataset.dataset_id, version=2, secret=dataset.secret)
    if is_kept:
        kept = [KeptPart(**{name: getattr(part, name) for name in Part.__slots__}, version=1) for part in dataset.body.parts[:2]]
        second.publish((*kept, *second.body.parts[2:]))
        second.files[:2] = dataset.files[:2]
    later = World(second, broker=first.broker, analyst=first.analyst)
    later.keys, later.models, later.blocks = first.keys, first.models, first.blocks
    relay, asked = Relay(later), job(later, "LinearRegression", 2, 4, model)
    if is_kept:
        assert trained(later, asked, model, relay=relay).lineage
    else:
        with pytest.raises(UsageError):
            relay.install(asked, models=[model.to_bytes()])
