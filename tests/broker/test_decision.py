"""Does a policy allow exactly what it says, and nothing else?"""

from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from broker_world import DATASET, apply_model, job_on, leaving, release_of, rule_for
from hypothesis import given
from hypothesis import strategies as st

from securemllib.crypto.identity import PrivateIdentity
from securemllib.errors import FreshnessError, PolicyError
from securemllib.policy.approval import ReleaseApproval
from securemllib.policy.decision import DatasetFacts, Facts, ModelFacts, authorise
from securemllib.policy.model import ANY, Approvals, Bound, Policy, Quorum, Rule
from securemllib.wire.dataset import DatasetRef
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.job import Mode, Output, OutputKind
from securemllib.wire.plan import (
    ApplyModel,
    Assemble,
    Call,
    Filter,
    HandleInvalid,
    Literal,
    ModelRef,
    Named,
    Operator,
    Plan,
    Project,
    RandomSplit,
    Reference,
    WithColumn,
)

ANALYST = PrivateIdentity.generate("analyst").public
OTHER = PrivateIdentity.generate("other").public
BROKER = PrivateIdentity.generate("broker").public
NOW = 1_800_000_000
SOURCE = DatasetRef(dataset_id=DATASET, version=1, digest=b"d" * 32)
BEHIND = DatasetRef(dataset_id="b" * 32, version=3, digest=b"e" * 32)
MODEL = ModelRef(model_id="m" * 64, digest=b"m" * 32)
COLUMNS = ("age", "income", "ssn")


def at(seconds: int) -> datetime:
    """Return a time."""
    return datetime.fromtimestamp(seconds, tz=UTC)


def dataset(reference: DatasetRef, *rules: Rule, runs: dict[str, int] | None = None) -> DatasetFacts:
    """Return the facts of a dataset with a policy of these rules."""
    policy = Policy(dataset_id=reference.dataset_id, owner="o", serial=1, enclaves={}, rules=rules)
    return DatasetFacts(latest=reference, columns=COLUMNS, policy=policy, runs=runs or {})


def facts(
    *rules: Rule, behind: tuple[Rule, ...] = (), runs: dict[str, int] | None = None, models: dict[str, ModelFacts] | None = None
) -> Facts:
    """Return the facts of a source with these rules, and of a model of another dataset."""
    known = {SOURCE.dataset_id: dataset(SOURCE, *rules, runs=runs), BEHIND.dataset_id: dataset(BEHIND, *behind)}
    model = ModelFacts(reference=MODEL, lineage=(BEHIND,), operation="StringIndexer", params={"stringOrderType": "frequencyDesc"})
    return Facts(broker=BROKER.fingerprint, datasets=known, models={MODEL.model_id: model} if models is None else models)


def job(*steps: Any, **changes: Any) -> Any:
    """Return a job on the source."""
    return job_on(Plan(source=SOURCE, steps=steps), ANALYST, BROKER, **changes)


def refused(job: Any, facts: Facts, code: str, **options: Any) -> PolicyError:
    """Return the refusal, which must have this code."""
    with pytest.raises(PolicyError) as caught:
        authorise(job, facts, **{"now": NOW, **options})
    assert caught.value.error_code == f"refused.policy.{code}"
    return caught.value


RULE = rule_for(ANALYST)


def test_a_job_that_a_rule_allows_is_allowed() -> None:
    """The decision names the rule and the lineage."""
    decision = authorise(job(), facts(RULE), now=NOW)
    assert [(permission.dataset_id, permission.rule) for permission in decision.permissions] == [(DATASET, "train")]
    assert decision.lineage == (SOURCE,)


def test_a_rule_of_one_mode_refuses_the_other() -> None:
    """A partitioned job needs a rule that names its mode; the same job in enclave mode does not."""
    partitioned = job(mode=Mode.PARTITIONED)
    refused(partitioned, facts(replace(RULE, modes=(Mode.ENCLAVE,))), "mode")
    assert authorise(partitioned, facts(replace(RULE, modes=tuple(Mode))), now=NOW).permissions
    assert authorise(job(), facts(replace(RULE, modes=(Mode.ENCLAVE,))), now=NOW).permissions


def test_the_decision_has_the_rules_group_size() -> None:
    """The group size of the rule that allows the job goes with the decision, into the grant; without one it is 0."""
    assert authorise(job(), facts(RULE), now=NOW).min_group_size == 0
    assert authorise(job(), facts(replace(RULE, min_group_size=50)), now=NOW).min_group_size == 50


@pytest.mark.parametrize(("source", "behind"), [(5, 100), (100, 5)])
def test_the_largest_group_size_of_all_owners_counts(source: int, behind: int) -> None:
    """Where several owners' data are in a job, the strictest of their group sizes goes into the grant, whosever it is."""
    known = facts(replace(RULE, min_group_size=source), behind=(replace(RULE, min_group_size=behind),))
    assert authorise(job(apply_model(MODEL)), known, now=NOW).min_group_size == 100


def test_an_expired_policy_allows_nothing() -> None:
    """A policy allows at its last second what it allowed before; a second later it allows nothing, whatever its rules say."""
    known = dataset(SOURCE, RULE)
    assert known.policy is not None
    expiring = replace(facts(RULE), datasets={DATASET: replace(known, policy=replace(known.policy, expires=at(NOW)))})
    assert authorise(job(), expiring, now=NOW).permissions
    refused(job(), expiring, "expired", now=NOW + 1)


def test_a_release_waits_for_its_approvers() -> None:
    """A rule alone releases no model of a policy that asks for approvals; as many approvals of this very release as it asks for do."""
    people = [PrivateIdentity.generate(name).public for name in ("a", "b", "c")]
    quorum = Quorum(threshold=2, approvers=tuple(b64encode(person.to_bytes()).decode() for person in people))
    base = facts(RULE, behind=(RULE,))
    known = base.datasets[BEHIND.dataset_id]
    assert known.policy is not None
    policy = replace(known.policy, approvals=Approvals(policy_change=quorum, model_release=quorum))
    asked = release_of(MODEL, ANALYST, BROKER)
    word = ReleaseApproval(
        broker=BROKER.fingerprint,
        model_id=MODEL.model_id,
        model_digest=MODEL.digest.hex(),
        recipients=(ANALYST.fingerprint,),
        expires=NOW,
    )

    def with_approvals(*approvals: tuple[PublicIdentity, ReleaseApproval]) -> Facts:
        signed = tuple((person.fingerprint, approval) for person, approval in approvals)
        return replace(base, datasets={BEHIND.dataset_id: replace(known, policy=policy)}, approvals=signed)

    first, second, third = ((person, word) for person in people)
    assert authorise(asked, with_approvals(first, second), now=NOW).permissions
    others = [
        replace(word, broker=OTHER.fingerprint),
        replace(word, model_id="x" * 64),
        replace(word, model_digest="0" * 64),
        replace(word, recipients=(OTHER.fingerprint,)),
        replace(word, expires=NOW - 1),
    ]
    for approvals in ((), (first,), (third, third), (first, (OTHER, word)), *((first, (people[1], other)) for other in others)):
        refused(asked, with_approvals(*approvals), "approval")


def test_a_model_of_no_dataset_is_not_released() -> None:
    """Where no policy is asked none can allow: a job that involves no dataset is refused."""
    nothing = ModelFacts(reference=MODEL, lineage=(), operation="KMeans", params={})
    refused(release_of(MODEL, ANALYST, BROKER), facts(RULE, models={MODEL.model_id: nothing}), "dataset")


def test_without_a_rule_nothing_is_allowed() -> None:
    """Neither an empty policy nor a missing one allows anything, nor does an unknown dataset."""
    refused(job(), facts(), "analyst")
    missing = replace(facts(RULE), datasets={DATASET: replace(dataset(SOURCE), policy=None)})
    refused(job(), missing, "missing")
    refused(job(), replace(facts(RULE), datasets={}), "dataset")


ROWS = (Output(kind=OutputKind.ROWS, recipient=ANALYST, columns=("age",)),)
# What the rule loses, and the check that must fail then.
LOSSES: list[tuple[str, dict[str, Any]]] = [
    ("analyst", {"analysts": (OTHER.fingerprint,)}),
    ("analyst", {"analysts": (ANY,)}),
    ("operation", {"operations": {"PCA": {}}}),
    ("operation", {"operations": {}}),
    ("columns", {"columns": ("income",)}),
    ("mode", {"modes": ()}),
    ("outputs", {"outputs": {}}),
    ("outputs", {"outputs": leaving(OutputKind.METRIC, (ANALYST.fingerprint,), ())}),
    ("validity", {"not_before": at(NOW + 1)}),
    ("validity", {"not_after": at(NOW - 1)}),
    ("runs", {"maximum_runs": 0}),
]


@pytest.mark.parametrize(("check", "loss"), LOSSES)
def test_a_rule_without_one_permission_refuses(check: str, loss: dict[str, Any]) -> None:
    """Whatever a rule loses, the job is refused, and the code names what is missing; the whole rule beside it allows the job."""
    refused(job(), facts(replace(RULE, **loss)), check)
    both = facts(replace(RULE, **loss, name="first"), RULE)
    assert authorise(job(), both, now=NOW).permissions[0].rule == "train"


@given(st.sets(st.sampled_from(range(len(LOSSES))), min_size=1))
def test_permissions_of_two_rules_do_not_add_up(lost: set[int]) -> None:
    """Rules that together allow everything, but none of which allows all of it, allow nothing."""
    rules = [replace(RULE, **LOSSES[index][1], name=str(index)) for index in sorted(lost)]
    with pytest.raises(PolicyError):
        authorise(job(), facts(*rules), now=NOW)


@given(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 30), st.floats(), st.text(max_size=2), st.lists(st.floats(), max_size=2).map(tuple))
)
def test_a_bounded_param_is_within_its_bound(value: Any) -> None:
    """A Param passes exactly when it is a number, or a tuple of some, in the range: never NaN, None, a text, a boolean or nothing."""
    rule = replace(RULE, operations={"KMeans": {"k": Bound(min=2.0, max=10.0)}})
    items = value if isinstance(value, tuple) else (value,)
    fits = bool(items) and all(isinstance(item, (int, float)) and not isinstance(item, bool) and 2.0 <= item <= 10.0 for item in items)
    if fits:
        authorise(job(params={"k": value}), facts(rule), now=NOW)
    else:
        refused(job(params={"k": value}), facts(rule), "operation")


@pytest.mark.parametrize(
    ("allowed", "value", "fits"),
    [
        ((1, 2), 1, True),
        ((1, 2), 1.0, True),
        ((1, 2), True, False),
        ((True,), True, True),
        ((True,), 1, False),
        (("l2",), "l2", True),
        (("l2",), "l1", False),
        ((None,), None, True),
        ((0,), None, False),
        ((0,), False, False),
        ((True,), (True, True), True),
        ((True,), (), False),
        ((False,), ((),), False),
        ((1, 2), ((1, 2), ()), False),
        ((1, 2), ((1, 2), (1,)), True),
    ],
)
def test_a_param_is_among_the_allowed(allowed: tuple[Any, ...], value: Any, fits: bool) -> None:
    """A boolean is not a number, None is allowed where it is named, and a vector where it has values, all of them allowed."""
    rule = replace(RULE, operations={ANY: {"p": Bound(allowed=allowed)}})
    if fits:
        authorise(job(params={"p": value}), facts(rule), now=NOW)
    else:
        refused(job(params={"p": value}), facts(rule), "operation")


def test_an_omitted_param_with_a_bound_is_refused() -> None:
    """The policy does not guess a default: the refusal says that the Param must be given."""
    rule = replace(RULE, operations={ANY: {"k": Bound(max=9.0)}})
    error = refused(job(params={}), facts(rule), "operation")
    assert "k given, because it has a bound" in error.next_step
    authorise(job(params={"k": 9}), facts(rule), now=NOW)


SSN = Reference(column="ssn")
READS_SSN = [
    (Filter(predicate=Call(operator=Operator.IS_NOT_NULL, arguments=(SSN,))),),
    (WithColumn(column=Named(name="age", expression=SSN)),),
    (Project(columns=(Named(name="age", expression=Call(operator=Operator.NEGATE, arguments=(SSN,))),)),),
    (Assemble(input_columns=("income", "ssn"), output_column="age", handle_invalid=HandleInvalid.KEEP),),
]


@pytest.mark.parametrize("steps", READS_SSN)
def test_a_column_is_found_behind_its_new_name(steps: tuple[Any, ...]) -> None:
    """A step that reads a forbidden column is refused whatever it calls the result; with the column in the rule it is allowed."""
    refused(job(*steps), facts(RULE), "columns")
    authorise(job(*steps), facts(replace(RULE, columns=("age", "income", "ssn"))), now=NOW)
    authorise(job(*steps), facts(replace(RULE, columns=(ANY,))), now=NOW)


def test_a_split_and_an_unused_column_cost_no_permission() -> None:
    """Splitting rows reads no column, and a column that nobody reads needs no permission."""
    unused = WithColumn(column=Named(name="unused", expression=SSN))
    authorise(job(RandomSplit(weights=(0.8, 0.2), kept=(0,), seed=1), unused), facts(RULE), now=NOW)


def test_a_plan_that_cannot_be_followed_is_refused() -> None:
    """A column that does not exist is refused, and its reason is for analysts whom a rule names only."""
    error = refused(job(inputs={"features": "nothing"}), facts(RULE), "columns")
    assert "nothing" in error.next_step
    error = refused(job(inputs={"features": "nothing"}), facts(rule_for(OTHER)), "analyst")
    assert "nothing" not in f"{error.reason}{error.next_step}"


RENAMED = (
    (WithColumn(column=Named(name="prediction", expression=Reference(column="income"))),),
    (Project(columns=(Named(name="prediction", expression=Reference(column="income")),)),),
    (Assemble(input_columns=("age", "income"), output_column="prediction", handle_invalid=HandleInvalid.KEEP),),
)


@pytest.mark.parametrize("steps", RENAMED)
def test_rows_that_leave_are_judged_by_where_they_come_from(steps: tuple[Any, ...]) -> None:
    """A readable column that may not leave does not leave under the name of one that may."""
    rows = (Output(kind=OutputKind.ROWS, recipient=ANALYST, columns=("prediction",)),)
    asked = job(*steps, operation="Rows", inputs={}, outputs=rows)
    error = refused(asked, facts(RULE), "outputs")
    assert "income" in error.next_step
    outputs = leaving(OutputKind.ROWS, (ANALYST.fingerprint,), ("age", "income"))
    authorise(asked, facts(replace(RULE, outputs=outputs)), now=NOW)


def test_outputs_go_to_named_recipients() -> None:
    """Rows leave for the named recipient; for another recipient, without columns, or with a literal's neighbour they do not."""
    allowed = job(operation="Rows", inputs={}, outputs=ROWS)
    authorise(allowed, facts(RULE), now=NOW)
    for output in (replace(ROWS[0], recipient=OTHER), replace(ROWS[0], columns=()), replace(ROWS[0], columns=("age", "income"))):
        refused(job(operation="Rows", inputs={}, outputs=(output,)), facts(RULE), "outputs")
    refused(job(operation="Rows", inputs={}, outputs=(*ROWS, replace(ROWS[0], recipient=OTHER))), facts(RULE), "outputs")
    constant = WithColumn(column=Named(name="one", expression=Literal(value=1)))
    authorise(job(constant, operation="Rows", inputs={}, outputs=(replace(ROWS[0], columns=("age", "one")),)), facts(RULE), now=NOW)


def test_sealed_statistics_leave_only_where_a_rule_says_so() -> None:
    """A rule that lets a sealed model leave lets no sums lie beside it until it names them, for the analyst and for nobody else."""
    asked = tuple(Output(kind=kind, recipient=ANALYST) for kind in (OutputKind.SEALED_MODEL, OutputKind.SEALED_STATISTICS))
    refused(job(outputs=asked), facts(RULE), "outputs")
    rule = replace(RULE, outputs={**RULE.outputs, **leaving(OutputKind.SEALED_STATISTICS, (), ())})
    authorise(job(outputs=asked), facts(rule), now=NOW)
    refused(job(outputs=(asked[0], replace(asked[1], recipient=OTHER))), facts(rule), "outputs")


def test_a_sealed_model_is_the_analysts() -> None:
    """Nobody opens a sealed model, so a rule needs no recipients for it; a job that names another recipient is refused."""
    rule = replace(RULE, outputs=leaving(OutputKind.SEALED_MODEL, (), ()))
    authorise(job(), facts(rule), now=NOW)
    refused(job(outputs=(Output(kind=OutputKind.SEALED_MODEL, recipient=OTHER),)), facts(rule), "outputs")
    plain = (Output(kind=OutputKind.PLAIN_MODEL, recipient=ANALYST),)
    unnamed = replace(RULE, outputs=leaving(OutputKind.PLAIN_MODEL, (), ()))
    refused(job(outputs=plain), facts(unnamed), "outputs")
    authorise(job(outputs=plain), facts(RULE), now=NOW)


@given(st.integers(0, 5), st.integers(0, 5))
def test_runs_are_bounded(used: int, maximum: int) -> None:
    """A rule allows exactly its maximum of runs; a job that is counted already is not counted twice."""
    known = facts(replace(RULE, maximum_runs=maximum), runs={"train": used})
    authorise(job(), known, now=NOW, counted={DATASET: "train"})
    if used < maximum:
        authorise(job(), known, now=NOW)
    else:
        refused(job(), known, "runs")


def test_another_version_is_refused() -> None:
    """Only the latest version, by number and digest, is allowed."""
    for source in (replace(SOURCE, version=2), replace(SOURCE, digest=b"x" * 32)):
        with pytest.raises(FreshnessError, match="latest"):
            authorise(job_on(Plan(source=source, steps=()), ANALYST, BROKER), facts(RULE), now=NOW)


def test_another_brokers_job_is_refused() -> None:
    """A job names the broker that may grant its keys."""
    refused(replace(job(), broker=OTHER.fingerprint), facts(RULE), "broker")


def test_owners_behind_a_model_decide_too() -> None:
    """Using a model needs the permission of every dataset behind it, but not for columns that are not theirs."""
    asked = job(
        apply_model(MODEL), operation="Rows", inputs={}, outputs=(Output(kind=OutputKind.ROWS, recipient=ANALYST, columns=("p", "age")),)
    )
    behind = replace(RULE, columns=(), outputs=leaving(OutputKind.ROWS, (ANALYST.fingerprint,), ("prediction",)))
    decision = authorise(asked, facts(RULE, behind=(behind,)), now=NOW)
    assert decision.lineage == (SOURCE, BEHIND)
    assert [permission.dataset_id for permission in decision.permissions] == [DATASET, BEHIND.dataset_id]
    for check, loss in LOSSES:
        if check not in {"columns", "outputs"}:
            refused(asked, facts(RULE, behind=(replace(behind, **loss),)), check)
    hidden = replace(behind, outputs=leaving(OutputKind.ROWS, (ANALYST.fingerprint,), ("age",)))
    refused(asked, facts(RULE, behind=(hidden,)), "outputs")
    refused(asked, facts(RULE), "analyst")
    refused(asked, facts(replace(RULE, analysts=()), behind=(behind,)), "analyst")


@pytest.mark.parametrize("stem", ["output", "output1"])
def test_a_fitted_transformers_output_is_its_input_in_other_words(stem: str) -> None:
    """Rows of a scaled column leave only where the column itself may; those of a prediction where predictions may."""
    step = ApplyModel(model=MODEL, input_columns=("age",), outputs={stem: "p"}, params={})
    leaves = (Output(kind=OutputKind.ROWS, recipient=ANALYST, columns=("p",)),)
    asked = job(step, operation="Rows", inputs={}, outputs=leaves)

    def granting(*columns: str) -> Facts:
        granted = leaving(OutputKind.ROWS, (ANALYST.fingerprint,), columns)
        return facts(replace(RULE, outputs=granted), behind=(replace(RULE, columns=(), outputs=granted),))

    authorise(asked, granting(stem, "age"), now=NOW)
    refused(asked, granting(stem), "outputs")
    authorise(job(apply_model(MODEL), operation="Rows", inputs={}, outputs=leaves), granting("prediction"), now=NOW)


def test_a_release_is_of_models_that_the_rule_lets_train() -> None:
    """A rule that allows a release of some operation's models releases no other's: those of indexers hold values of rows."""
    asked = release_of(MODEL, ANALYST, BROKER)

    def releasing(**operations: dict[str, Bound]) -> Facts:
        return facts(behind=(replace(RULE, operations={"ReleaseModel": {}, **operations}),))

    authorise(asked, releasing(StringIndexer={}), now=NOW)
    refused(asked, releasing(), "operation")
    refused(asked, releasing(LinearRegression={}), "operation")
    bound = Bound(allowed=("alphabetAsc",))
    refused(asked, releasing(StringIndexer={"stringOrderType": bound}), "operation")


def test_a_release_is_of_models_whose_earlier_trainings_the_rule_lets_train() -> None:
    """A model that goes on from one with Params out of bounds is not released for the last training's Params, which are within."""
    rule = replace(RULE, operations={"ReleaseModel": {}, "KMeans": {"k": Bound(max=10)}})

    def going_on(*earlier: int) -> Facts:
        model = ModelFacts(
            reference=MODEL, lineage=(BEHIND,), operation="KMeans", params={"k": 2}, earlier=tuple({"k": number} for number in earlier)
        )
        return facts(behind=(rule,), models={MODEL.model_id: model})

    authorise(release_of(MODEL, ANALYST, BROKER), going_on(10, 2), now=NOW)
    refused(release_of(MODEL, ANALYST, BROKER), going_on(2, 11), "operation")


RECOMMEND = ApplyModel(model=MODEL, input_columns=("age",), outputs={"recommendations": "r"}, params={"recommend": "user"})


@pytest.mark.parametrize(
    ("steps", "column"),
    [
        ((), "age"),
        ((Assemble(input_columns=("age", "income"), output_column="r", handle_invalid=HandleInvalid.KEEP),), "r"),
        ((RECOMMEND, Assemble(input_columns=("r", "income"), output_column="v", handle_invalid=HandleInvalid.KEEP)), "v"),
        ((apply_model(MODEL, "r"),), "r"),
        ((Project(columns=(Named(name="r", expression=Literal(value=1.0)),)),), "r"),
    ],
)
def test_only_recommendations_are_collected(steps: tuple[Any, ...], column: str) -> None:
    """What puts rows into a summary takes recommendations of a model; other columns, alone or beside them, are refused."""
    options: dict[str, Any] = {"operation": "Recommender", "params": {}}
    options["outputs"] = (Output(kind=OutputKind.SUMMARY, recipient=ANALYST),)
    known = facts(RULE, behind=(RULE,))
    authorise(job(RECOMMEND, inputs={"features": "r"}, **options), known, now=NOW)
    refused(job(*steps, inputs={"features": column}, **options), known, "columns")


def test_losses_of_trees_leave_as_a_metric() -> None:
    """What ``evaluateEachIteration`` asks for takes the output ``metric`` of the rows' policy; without it, it is refused."""
    step = ApplyModel(model=MODEL, input_columns=("age",), outputs={"iterations": "i"}, params={"iterations": True})
    metric = (Output(kind=OutputKind.METRIC, recipient=ANALYST),)
    asked = job(
        step, operation="BoostingEvaluator", params={"lossType": "logistic"}, inputs={"features": "i", "label": "income"}, outputs=metric
    )
    authorise(asked, facts(RULE, behind=(RULE,)), now=NOW)
    silent = replace(RULE, outputs={kind: output for kind, output in RULE.outputs.items() if kind is not OutputKind.METRIC})
    refused(asked, facts(silent, behind=(RULE,)), "outputs")


def test_models_are_finished_and_exact() -> None:
    """A model that is not finished, or another digest of one that is, is refused, in a plan and in a release."""
    known = facts(RULE, behind=(RULE,))
    authorise(job(apply_model(MODEL)), known, now=NOW)
    authorise(release_of(MODEL, ANALYST, BROKER), known, now=NOW)
    for asked in (job(apply_model(MODEL)), release_of(MODEL, ANALYST, BROKER)):
        refused(asked, replace(known, models={}), "model")
    other = replace(MODEL, digest=b"x" * 32)
    for asked in (job(apply_model(other)), release_of(other, ANALYST, BROKER)):
        refused(asked, known, "model")


def test_a_refusal_explains_itself_to_the_owner() -> None:
    """The notes name every rule and all that it would need; a stranger's reason names no rule."""
    rules = (replace(RULE, name="secret-study", analysts=(OTHER.fingerprint,)), replace(RULE, name="public", not_after=at(1), modes=()))
    error = refused(job(), facts(*rules), "mode")
    notes = "\n".join(error.__notes__)
    assert "secret-study" in notes
    assert "a time until 1970-01-01T00:00:01Z" in notes
    assert f"the mode {Mode.ENCLAVE.value}" in notes
    assert "secret-study" not in f"{error.reason}{error.next_step}"
    assert "'public'" in error.reason
    stranger = refused(job(), facts(rules[0]), "analyst")
    assert "secret-study" not in f"{stranger.reason}{stranger.next_step}"
