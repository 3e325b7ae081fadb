"""Are rows that an enclave holds for a model those that it would read again, and no other job's?"""

import numpy as np
import pyarrow as pa
import pytest

from securemllib.algorithms.transformer import Column
from securemllib.algorithms.vectors import Vector
from securemllib.crypto.keys import DataKey
from securemllib.enclave.plan import begin, read_table
from securemllib.errors import IntegrityError
from securemllib.wire.attestation import DatasetGrant
from securemllib.wire.job import ROWS_OPERATION, Output, OutputKind
from securemllib.wire.plan import ApplyModel, Call, Filter, Literal, Operator, Plan, RandomSplit, Reference
from securemllib.wire.result import SealedModel
from securemllib.wire.task import End, Materialise
from tests.world import Dataset, Relay, World, binomial_table, replace, run

PARTS = 4
POSITIVE = Filter(predicate=Call(operator=Operator.GREATER, arguments=(Reference(column="x0"), Literal(value=4.0))))
SPLIT = RandomSplit(weights=(1.0, 1.0), kept=(0,), seed=3)


@pytest.fixture(scope="module")
def world():
    """Return a broker and an analyst around a table of four parts."""
    return World(Dataset(binomial_table(), parts=PARTS))


@pytest.fixture(scope="module")
def model(world):
    """Return a sealed model of the table."""
    finished, _ = run(world, world.job(params={"maxIter": 5}), [Relay(world)])
    return SealedModel.from_bytes(finished.model)


def scored(world, model, relay, *, before=(), after=(), columns=("p",), outputs=None, **changes):
    """Score all parts in a job of their own, end it, and return the rows, with the steps before and after the model."""
    outputs = outputs or {"probability": "c", "prediction": "p"}
    step = ApplyModel(model=model.reference, input_columns=("features",), outputs=outputs, params={})
    steps = (*before, *world.job().plan.steps, step, *after)
    job = world.job(
        ROWS_OPERATION,
        inputs={},
        plan=Plan(source=world.dataset.manifest.reference, steps=steps),
        outputs=(Output(kind=OutputKind.ROWS, recipient=world.analyst.public, columns=columns),),
    )
    relay.fetched = []
    relay.install(job, models=[model.to_bytes()], **changes)
    parts = [relay.ask(Materialise(job_id=job.job_id, ordinal=ordinal, output=0))[1] for ordinal in range(PARTS)]
    relay.ask(End(job_id=job.job_id))
    return pa.concat_tables(pa.ipc.open_stream(world.open(part).content).read_all() for part in parts)


PLANS = {
    "rows as they are": {},
    "with a column of the dataset": {"columns": ("p", "c", "y")},
    "rows that a filter leaves": {"before": (POSITIVE,)},
    "a split of the rows before the model": {"before": (SPLIT,)},
    "a split of what a filter leaves, after the model": {"before": (POSITIVE,), "after": (SPLIT,)},
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
def test_a_later_scoring_reads_nothing_and_gives_the_same_rows(world, model, plan):
    """The second job over the same rows asks for no part, and its rows are those of an enclave that read them all."""
    relay = Relay(world)
    first = scored(world, model, relay, **plan)
    assert relay.fetched == list(range(PARTS))
    again = scored(world, model, relay, **plan)
    assert relay.fetched == []
    fresh = scored(world, model, Relay(world), **plan)
    assert first.num_rows > 50
    assert first.equals(again)
    assert first.equals(fresh)


MODELS = {
    "BisectingKMeans": {"k": 3},
    "DecisionTreeClassifier": {},
    "FMRegressor": {"maxIter": 2},
    "GaussianMixture": {"k": 2, "maxIter": 2},
    "GBTRegressor": {"maxIter": 2},
    "GeneralizedLinearRegression": {},
    "KMeans": {"k": 2},
    "LinearRegression": {},
    "LinearSVC": {"maxIter": 3},
    "MinMaxScaler": {},
    "MultilayerPerceptronClassifier": {"layers": [3, 2, 2], "maxIter": 2},
    "NaiveBayes": {"modelType": "gaussian"},
    "PCA": {"k": 2},
    "RandomForestClassifier": {"numTrees": 2},
    "RobustScaler": {},
    "StandardScaler": {"withMean": True},
}
UNLABELLED = {"BisectingKMeans", "GaussianMixture", "KMeans", "MinMaxScaler", "PCA", "RobustScaler", "StandardScaler"}
STEMS = dict.fromkeys(("MinMaxScaler", "PCA", "RobustScaler", "StandardScaler"), "output")


@pytest.mark.parametrize("operation", MODELS)
def test_every_kind_of_model_scores_held_rows(world, operation):
    """A model leaves the rows that it scores as they are, so a scoring of held rows gives what one of rows that were read gives."""
    job = world.job(operation, MODELS[operation], label=None if operation in UNLABELLED else "y")
    if operation in {"MinMaxScaler", "RobustScaler"}:
        job = replace(job, inputs={"input0": "features"})
    finished, _ = run(world, job, [Relay(world)])
    relay, model = Relay(world), SealedModel.from_bytes(finished.model)
    outputs = {STEMS.get(operation, "prediction"): "p"}
    first, again = (scored(world, model, relay, outputs=outputs) for _ in range(2))
    assert relay.fetched == []
    assert first.num_rows == again.num_rows == world.dataset.table.num_rows
    assert first.equals(again)


def test_another_plan_finds_no_held_rows(world, model):
    """Rows are held for what was asked: a job of other rows or of further columns reads the parts itself; the same job does not."""
    relay = Relay(world)
    scored(world, model, relay)
    for other in ({"before": (POSITIVE,)}, {"columns": ("p", "y")}, {"before": (SPLIT,)}):
        scored(world, model, relay, **other)
        assert relay.fetched == list(range(PARTS))
    scored(world, model, relay)
    assert relay.fetched == []


def test_a_grant_of_another_secret_finds_no_held_rows(world, model):
    """Whoever makes a dataset with the id, version, columns and plan of another's is given the rows of theirs, not those that are held."""
    relay = Relay(world)
    theirs = scored(world, model, relay, columns=("p", "x0"))
    table = binomial_table(seed=9)
    attacker = World(Dataset(table, parts=PARTS, dataset_id=world.dataset.dataset_id), broker=world.broker, analyst=world.analyst)
    attacker.models = world.models
    relay.world = attacker
    found = scored(attacker, model, relay, columns=("p", "x0"))
    assert relay.fetched == list(range(PARTS))
    assert found["x0"].combine_chunks().equals(table["x0"].combine_chunks())
    assert not found["x0"].equals(theirs["x0"])


def test_the_name_of_a_dataset_without_its_secret_opens_no_session(world, model):
    """A grant that names the dataset of held rows with another secret is refused, however often they were scored; the true one is not."""
    relay = Relay(world)
    scored(world, model, relay)
    forged = DatasetGrant(dataset=world.dataset.manifest.reference, secret=DataKey.generate().expose())
    with pytest.raises(IntegrityError):
        scored(world, model, relay, datasets=(forged,))
    scored(world, model, relay)
    assert relay.fetched == []


def test_rows_that_do_not_fit_are_read_again(world, model):
    """An enclave whose bound is smaller than a part's rows as they would be held scores all the same, and reads the part each time."""
    larger = World(Dataset(pa.concat_tables([world.dataset.table] * 20), parts=PARTS), world.broker, world.analyst, world.models)
    columns = ("p", "x0", "x1", "y")
    relay = Relay(larger, memory_limit=max(map(len, larger.dataset.files)))
    for _ in range(2):
        rows = scored(larger, model, relay, columns=columns)
        assert relay.fetched == list(range(PARTS))
    assert rows.equals(scored(larger, model, Relay(larger), columns=columns))


def test_held_rows_hold_nothing_that_a_key_makes():
    """What stays when a job's keys are dropped draws no random numbers, and has its vectors in one piece that nobody can write to."""
    rows = begin(read_table(pa.table({"a": [1.0, 2.0], "b": [3.0, 4.0]})), ordinal=0, seed=None, stored=2)
    columns = tuple(rows.scalar(name).to_numpy() for name in ("a", "b"))
    held = rows.with_columns({"v": Column(Vector(columns))}).together(frozenset({"v", "b"}))
    assert held.draw is None
    assert held.columns.keys() == {"v", "b"}
    matrix = held.vector("v").matrix()
    assert matrix is held.vector("v").matrix()
    np.testing.assert_array_equal(matrix, [[1.0, 3.0], [2.0, 4.0]])
    with pytest.raises(ValueError, match="read-only"):
        matrix[0, 0] = 5.0
    assert held.nbytes == 2 * 8 + 16 + 32
