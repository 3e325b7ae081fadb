"""Does nothing leave that is of fewer rows than the owners' policies ask for?"""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from securemllib.errors import PolicyError
from securemllib.wire.job import Output, OutputKind
from securemllib.wire.plan import Call, Literal, Named, Operator, Reference, WithColumn
from tests.world import Dataset, Relay, World, run

ROWS = 400


@pytest.fixture(scope="module")
def world():
    """Return a broker and an analyst around 400 rows: two clusters of 380 and 20 rows, a label, and scores of four values."""
    generator = np.random.default_rng(5)
    small = np.arange(ROWS) < 20
    x = generator.normal(size=(ROWS, 3)) + np.where(small, 100.0, 0.0)[:, None]
    label = (generator.random(ROWS) < 0.5).astype(float)
    score = np.where(np.arange(ROWS) < 30, 0.9, np.arange(ROWS) % 3 / 4)
    weights = {
        "one": np.where(np.arange(ROWS) == 7, 1.0, 1e-12),
        "light": np.full(ROWS, 0.1),
        "heavy": np.full(ROWS, 1000.0),
        "none": np.where(np.arange(ROWS) < 30, 0.0, 1.0),
    }
    return World(Dataset(pa.table({**{f"x{i}": x[:, i] for i in range(3)}, "y": label, "score": score, **weights}), parts=4))


def finished(world, least, kinds=(OutputKind.SUMMARY,), **changes):
    """Run a job whose grant asks for groups of so many rows."""
    outputs = tuple(Output(kind=kind, recipient=world.analyst.public) for kind in kinds)
    job = world.job(outputs=outputs, **changes)
    relay = Relay(world)
    relay.install(job, min_group_size=least)
    return run(world, job, [relay], install=False)[0]


@pytest.mark.parametrize("kind", [OutputKind.SUMMARY, OutputKind.METRIC])
def test_an_output_of_too_few_rows_is_refused(world, kind):
    """A summary or metric of one row less than the group size stops the job at its first round; of exactly as many rows it leaves."""
    evaluator = {"operation": "RegressionEvaluator", "params": {}, "features": (), "inputs": {"label": "y", "prediction": "score"}}
    assert finished(world, ROWS, (kind,), **evaluator).results
    with pytest.raises(PolicyError, match="group"):
        finished(world, ROWS + 1, (kind,), **evaluator)


def test_a_summary_that_shows_a_small_cluster_is_refused(world):
    """Cluster sizes leave when the smallest is large enough; else the training is refused, which without a summary succeeds."""
    kmeans = {"operation": "KMeans", "params": {"k": 2}, "label": None}
    assert finished(world, 20, **kmeans).results
    with pytest.raises(PolicyError, match="group"):
        finished(world, 21, **kmeans)
    assert finished(world, 21, (OutputKind.SEALED_MODEL,), **kmeans).model


def test_a_curve_whose_steps_are_of_few_rows_is_refused(world):
    """A curve leaves when each of its steps is of enough rows; the metric alone leaves in both cases."""
    evaluator = {
        "operation": "BinaryClassificationEvaluator",
        "params": {},
        "features": ("score",),
        "inputs": {"label": "y", "features": "features"},
    }
    assert finished(world, 30, **evaluator).results
    with pytest.raises(PolicyError, match="group"):
        finished(world, 31, **evaluator)
    assert finished(world, 31, (OutputKind.METRIC,), **evaluator).results


@pytest.mark.parametrize(("weight", "size"), [("light", ROWS), ("heavy", ROWS), ("one", 1)])
def test_a_group_is_no_larger_than_its_heaviest_rows_make_it(world, weight, size):
    """Rows of equal weights count as rows; beside one that outweighs all others they do not."""
    evaluator = {"operation": "RegressionEvaluator", "params": {}, "features": ()}
    inputs = {"label": "y", "prediction": "score", "weight": weight}
    assert finished(world, size, (OutputKind.METRIC,), inputs=inputs, **evaluator).results
    with pytest.raises(PolicyError, match="group"):
        finished(world, size + 1, (OutputKind.METRIC,), inputs=inputs, **evaluator)


@pytest.mark.parametrize("weight", ["light", "heavy"])
def test_weights_do_not_make_a_step_of_a_curve_larger(world, weight):
    """A curve of heavy rows leaves when each of its steps is of enough rows; light rows count as less."""
    evaluator = {"operation": "BinaryClassificationEvaluator", "params": {}, "features": ("score",)}
    inputs = {"label": "y", "features": "features", "weight": weight}
    allowed = 30 if weight == "heavy" else 2
    assert finished(world, allowed, inputs=inputs, **evaluator).results
    with pytest.raises(PolicyError, match="group"):
        finished(world, 31, inputs=inputs, **evaluator)


@pytest.mark.parametrize(("is_weighed", "role"), [(True, "label"), (False, "label"), (False, "prediction")])
def test_a_label_of_few_rows_is_a_small_group(world, is_weighed, role):
    """A label that 30 rows have, or a prediction that is no label, is told where so many are enough; with rows of weight 0 it never is."""
    cut = Call(operator=Operator.EQUAL, arguments=(Reference(column="score"), Literal(value=0.9)))
    shifted = Call(operator=Operator.MULTIPLY, arguments=(Call(operator=Operator.CAST_DOUBLE, arguments=(cut,)), Literal(value=5.0)))
    named = WithColumn(column=Named(name="cut", expression=shifted))
    zero = WithColumn(column=Named(name="zero", expression=Literal(value=0.0)))
    job = {"operation": "MulticlassClassificationEvaluator", "params": {}}
    job["plan"] = replace(world.job().plan, steps=(named, zero))
    roles = {"label": "zero", "prediction": "zero", role: "cut"}
    weighted = {**roles, "weight": "none"} if is_weighed else roles
    if not is_weighed:
        assert finished(world, 30, inputs=weighted, **job).results
    with pytest.raises(PolicyError, match="group"):
        finished(world, 1 if is_weighed else 31, inputs=weighted, **job)
    assert finished(world, 31, (OutputKind.METRIC,), inputs=weighted, **job).results


def test_recommendations_are_of_one_row_each(world):
    """A summary of recommendations leaves under a rule without a group size, and under no other."""
    recommender = {"operation": "Recommender", "params": {}, "label": None}
    assert finished(world, 1, **recommender).results
    with pytest.raises(PolicyError, match="group"):
        finished(world, 2, **recommender)
