"""Does nothing leave that is of fewer rows than the owners' policies ask for?"""

import numpy as np
import pyarrow as pa
import pytest

from securemllib.errors import PolicyError
from securemllib.wire.job import Output, OutputKind
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
    return World(Dataset(pa.table({**{f"x{i}": x[:, i] for i in range(3)}, "y": label, "score": score}), parts=4))


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
