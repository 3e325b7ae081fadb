"""Does a training that goes on from a model read each row once?"""

from dataclasses import replace

import pytest
from tests.broker.broker_world import job_on
from tests.broker.test_decision import ANALYST, BROKER, MODEL, NOW, RULE, SOURCE, facts, job

from securemllib.errors import FormatError, PolicyError
from securemllib.policy.decision import ModelFacts, authorise
from securemllib.wire.dataset import DatasetRef
from securemllib.wire.job import Output, OutputKind
from securemllib.wire.plan import Assemble, Call, Filter, HandleInvalid, Literal, Operator, Parts, Plan, RandomSplit, Reference

SEEN = (Parts(first=0, end=4),)
EARLIER = Plan(source=replace(SOURCE, digest=b"0" * 32), steps=SEEN)
OTHERS = Plan(source=DatasetRef(dataset_id="f" * 32, version=1, digest=b"d" * 32), steps=SEEN)


def known(*, operation="KMeans", plan=EARLIER, inputs=None):
    """Return the facts of a model that was trained on the first four parts."""
    inputs = {"features": "age"} if inputs is None else inputs
    model = ModelFacts(reference=MODEL, lineage=(SOURCE,), operation=operation, params={}, inputs=inputs, plan=plan)
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


ASSEMBLE = Assemble(input_columns=("age", "income"), output_column="x", handle_invalid=HandleInvalid.ERROR)
OLDER = Filter(predicate=Call(operator=Operator.GREATER, arguments=(Reference(column="age"), Literal(value=50.0))))


def test_a_batch_is_read_by_the_models_columns():
    """Another column, another step that makes it and columns in another order are refused; another choice of rows is not."""
    behind, inputs = Parts(first=4, end=6), {"features": "x"}
    model = known(plan=replace(EARLIER, steps=(*SEEN, ASSEMBLE)), inputs=inputs)
    for steps in ((behind, ASSEMBLE), (behind, OLDER, ASSEMBLE), (behind, ASSEMBLE, RandomSplit(weights=(0.5, 0.5), kept=(0,), seed=1))):
        authorise(job(*steps, inputs=inputs, model=MODEL), model, now=NOW)
    swapped = replace(ASSEMBLE, input_columns=("income", "age"))
    for steps, read in (((behind, ASSEMBLE), {"features": "age"}), ((behind, swapped), inputs), ((behind, ASSEMBLE, swapped), inputs)):
        with pytest.raises(PolicyError) as caught:
            authorise(job(*steps, inputs=read, model=MODEL), model, now=NOW)
        assert caught.value.error_code == "refused.policy.continuation_columns"


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
