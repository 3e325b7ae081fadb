"""Does a training that goes on from a model read each row once?"""

from dataclasses import replace

import pytest
from tests.broker.broker_world import job_on
from tests.broker.test_decision import ANALYST, BROKER, MODEL, NOW, RULE, SOURCE, facts, job

from securemllib.errors import FormatError, PolicyError
from securemllib.policy.decision import ModelFacts, authorise
from securemllib.wire.dataset import DatasetRef
from securemllib.wire.job import Output, OutputKind
from securemllib.wire.plan import Parts, Plan

SEEN = (Parts(first=0, end=4),)
EARLIER = Plan(source=replace(SOURCE, digest=b"0" * 32), steps=SEEN)
OTHERS = Plan(source=DatasetRef(dataset_id="f" * 32, version=1, digest=b"d" * 32), steps=SEEN)


def known(*, operation="KMeans", plan=EARLIER):
    """Return the facts of a model that was trained on the first four parts."""
    model = ModelFacts(reference=MODEL, lineage=(SOURCE,), operation=operation, params={}, plan=plan)
    return facts(RULE, models={MODEL.model_id: model})


def test_the_parts_right_behind_the_models_are_allowed():
    """A training on parts 4 and 5 goes on from a model of parts 0 to 3, of an earlier version of the dataset, too."""
    assert authorise(job(Parts(first=4, end=6), model=MODEL), known(), now=NOW).lineage == (SOURCE,)


@pytest.mark.parametrize(
    ("parts", "model"),
    [
        (Parts(first=3, end=6), {}),
        (Parts(first=5, end=6), {}),
        (Parts(first=0, end=4), {}),
        (Parts(first=4, end=6), {"operation": "LogisticRegression"}),
        (Parts(first=4, end=6), {"plan": replace(EARLIER, steps=())}),
        (
            Parts(first=4, end=6),
            {"plan": Plan(source=DatasetRef(dataset_id="f" * 32, version=1, digest=b"d" * 32), steps=(Parts(first=0, end=4),))},
        ),
        (Parts(first=4, end=6), {"plan": None}),
    ],
    ids=["overlap", "gap", "replay", "another operation", "a model of all parts", "another dataset", "an unknown plan"],
)
def test_everything_else_is_refused(parts, model):
    """Parts that overlap, leave a gap or come again, another operation and another dataset are refused."""
    with pytest.raises(PolicyError) as caught:
        authorise(job(parts, model=MODEL), known(**model), now=NOW)
    assert caught.value.error_code == "refused.policy.continuation"


def test_a_training_that_goes_on_names_its_parts():
    """A job with a model to go on from and a plan over all parts is no job."""
    with pytest.raises(FormatError):
        job_on(Plan(source=SOURCE, steps=()), ANALYST, BROKER, model=MODEL)


def test_statistics_lie_beside_a_model():
    """A job that leaves sealed statistics leaves a sealed model, too; without it, it is no job."""
    model, sums = (Output(kind=kind, recipient=ANALYST) for kind in (OutputKind.SEALED_MODEL, OutputKind.SEALED_STATISTICS))
    assert job(outputs=(model, sums)).output(OutputKind.SEALED_STATISTICS) == (sums,)
    with pytest.raises(FormatError):
        job(outputs=(sums,))
