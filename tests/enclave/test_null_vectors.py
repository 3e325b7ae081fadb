"""Does a part whose vectors are all null stand in the way of the others?"""

import numpy as np
import pyarrow as pa
import pytest

from securemllib.errors import DataError
from securemllib.wire.encoding import decode
from securemllib.wire.job import ROWS_OPERATION, Mode, Output, OutputKind
from securemllib.wire.plan import ApplyModel, Assemble, HandleInvalid, Plan, Transform
from securemllib.wire.result import SealedModel
from securemllib.wire.task import End, Materialise
from tests.enclave.test_scoring import MODELS, STEMS, UNLABELLED
from tests.world import Dataset, Relay, World, run

ROWS = [[float(row % 7), float(row % 5)] for row in range(60)]
LABEL = [float(row % 2) for row in range(60)]


def summaries(vectors, label, *, parts, mode, operation="LogisticRegression", params=None):
    """Train on the vectors that are not null, and return the summary's content."""
    world = World(Dataset(pa.table({"v": pa.array(vectors, pa.list_(pa.float64())), "y": label}), parts=parts))
    skip = Assemble(input_columns=("v",), output_column="features", handle_invalid=HandleInvalid.SKIP)
    plan = Plan(source=world.dataset.manifest.reference, steps=(skip,))
    job = world.job(operation, params or {"maxIter": 3}, plan=plan, mode=mode)
    finished, _ = run(world, job, [Relay(world)])
    (raw,) = finished.results
    return world.open(raw).content


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("place", [0, 60], ids=["first", "last"])
def test_a_part_of_null_vectors_changes_nothing(mode, place):
    """Where rows of null vectors are skipped, a part of nothing else gives the training that the rows without that part give."""
    vectors, label = list(ROWS), list(LABEL)
    vectors[place:place] = [None] * 20
    label[place:place] = [1.0] * 20
    found, whole = (decode(summaries(*rows, parts=parts, mode=mode)) for rows, parts in (((vectors, label), 4), ((ROWS, LABEL), 3)))
    # Shares add their parts in another order: what is rounded differs in the last bits.
    np.testing.assert_allclose(found["objective_history"], whole["objective_history"], rtol=1e-9)
    assert found["num_classes"] == whole["num_classes"]


@pytest.mark.parametrize("mode", Mode)
def test_vectors_that_are_all_null_are_no_rows(mode):
    """Where every vector of every part is null, there are no rows to learn from, and the error says so."""
    with pytest.raises(DataError) as refused:
        summaries([None] * 40, [1.0] * 40, parts=4, mode=mode)
    assert refused.value.error_code == "data.no_rows"


def test_parts_of_other_widths_are_still_refused():
    """Only a part without rows has no width of its own: vectors of another length in another part are an error."""
    assert summaries(ROWS, LABEL, parts=3, mode=Mode.ENCLAVE)
    with pytest.raises(DataError) as refused:
        summaries([*ROWS[:40], *([1.0] for _ in range(20))], LABEL, parts=3, mode=Mode.ENCLAVE)
    assert refused.value.error_code == "data.length"


# Params and the output of models and transformers that read a vector column.
TRAINED = {
    **{name: (params, STEMS.get(name, "prediction")) for name, params in MODELS.items()},
    "AFTSurvivalRegression": ({}, "quantiles"),
    "FMClassifier": ({"maxIter": 2}, "probability"),
    "IDF": ({}, "output"),
    "LDA": ({"k": 2, "maxIter": 2}, "topicDistribution"),
    "LogisticRegression": ({"maxIter": 3}, "probability"),
    "MinHashLSH": ({}, "output"),
    "VectorIndexer": ({"maxCategories": 3}, "output"),
}
RAW = {"IDF", "MinHashLSH", "MinMaxScaler", "RobustScaler", "VectorIndexer"}
TRANSFORMERS = {"Normalizer": {}, "PolynomialExpansion": {"degree": 2}, "VectorSizeHint": {"size": 2, "handleInvalid": "skip"}}
SKIP = Assemble(input_columns=("v",), output_column="features", handle_invalid=HandleInvalid.SKIP)


@pytest.fixture(scope="module")
def beside():
    """Return rows of which all vectors of the second part are null."""
    vectors = [[1.0 + number for number in row] for row in ROWS]
    vectors[20:20] = [None] * 20
    columns = {"y": [*LABEL, *LABEL[:20]], "t": np.arange(80.0) + 1.0, "c": np.ones(80)}
    return World(Dataset(pa.table({"v": pa.array(vectors, pa.list_(pa.float64())), **columns}), parts=4))


def applied(world, step, models=()):
    """Return a job's rows of each part, after rows of null vectors were left out and a step was made."""
    output = Output(kind=OutputKind.ROWS, recipient=world.analyst.public, columns=("p", "y"))
    plan = Plan(source=world.dataset.manifest.reference, steps=(SKIP, step))
    job, relay = world.job(ROWS_OPERATION, inputs={}, plan=plan, outputs=(output,)), Relay(world)
    relay.install(job, models=models)
    parts = [relay.ask(Materialise(job_id=job.job_id, ordinal=ordinal, output=0))[1] for ordinal in range(4)]
    relay.ask(End(job_id=job.job_id))
    relay.close()
    return [pa.ipc.open_stream(world.open(part).content).read_all() for part in parts]


@pytest.mark.parametrize("operation", sorted(TRAINED))
def test_a_part_of_null_vectors_is_scored(beside, operation):
    """A part whose rows are all left out trains every kind of model with the others, and is scored by it: with no rows, of one schema."""
    params, stem = TRAINED[operation]
    inputs = {"input0": "features"} if operation in RAW else {"features": "features"}
    if operation == "AFTSurvivalRegression":
        inputs |= {"label": "t", "censor": "c"}
    elif operation not in UNLABELLED | RAW | {"LDA"}:
        inputs["label"] = "y"
    if operation == "MultilayerPerceptronClassifier":
        params = {**params, "layers": [2, 2, 2]}
    plan = Plan(source=beside.dataset.manifest.reference, steps=(SKIP,))
    finished, _ = run(beside, beside.job(operation, params, inputs=inputs, plan=plan), [Relay(beside)])
    model = SealedModel.from_bytes(finished.model)
    step = ApplyModel(model=model.reference, input_columns=("features",), outputs={stem: "p"}, params={})
    parts = applied(beside, step, [finished.model])
    assert [part.num_rows for part in parts] == [20, 0, 20, 20]
    assert len({str(part.schema) for part in parts}) == 1


@pytest.mark.parametrize("operation", TRANSFORMERS)
def test_a_part_of_null_vectors_is_transformed(beside, operation):
    """What nothing was trained for makes no rows of no rows, which stand beside those of other parts."""
    step = Transform(operation=operation, params=TRANSFORMERS[operation], input_columns=("features",), outputs={"output": "p"})
    parts = applied(beside, step)
    assert [part.num_rows for part in parts] == [20, 0, 20, 20]
    assert pa.concat_tables(parts, promote_options="permissive").num_rows == 60
