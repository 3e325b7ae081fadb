"""Does `policy diff` say all that became wider?"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securemllib.crypto.identity import PrivateIdentity
from securemllib.owner.identity_file import save_public
from securemllib.owner.policy import policy_from_text
from securemllib.policy.changes import Direction, changes
from securemllib.policy.model import ANY, Bound, NamedEnclave, OutputRule, Policy, Rule
from securemllib.policy.rules import Leaving, Question
from securemllib.policy.verdict import judge
from securemllib.wire.job import Mode, OutputKind

PEOPLE = ("a" * 52, "b" * 52)
NOW = datetime(2026, 6, 1, tzinfo=UTC)
TIMES = st.one_of(st.none(), st.sampled_from([NOW - timedelta(days=1), NOW + timedelta(days=1)]))
BOUNDS = st.one_of(
    st.builds(Bound, min=st.sampled_from([1.0, 3.0])),
    st.builds(Bound, max=st.sampled_from([2.0, 4.0])),
    st.builds(Bound, allowed=st.sampled_from([(1,), (True,), (1, 2), (2.0, 5)])),
)
OPERATIONS = st.dictionaries(st.sampled_from(["KMeans", "LDA", ANY]), st.dictionaries(st.just("k"), BOUNDS), max_size=2)
SOME = st.lists(st.sampled_from(PEOPLE), unique=True, max_size=2).map(tuple)
COLUMNS = st.sampled_from([(), ("x",), ("x", "y"), (ANY,)])
OUTPUTS = st.fixed_dictionaries(
    {},
    optional={
        OutputKind.SEALED_MODEL: st.builds(OutputRule, recipients=SOME),
        OutputKind.METRIC: st.builds(OutputRule, recipients=SOME),
        OutputKind.ROWS: st.builds(OutputRule, recipients=SOME, columns=st.sampled_from([("x",), ("x", "y"), (ANY,)])),
    },
)
RULES = st.builds(
    Rule,
    name=st.sampled_from(["one", "two"]),
    analysts=SOME,
    operations=OPERATIONS,
    columns=COLUMNS,
    outputs=OUTPUTS,
    modes=st.sampled_from([(Mode.ENCLAVE,), tuple(Mode)]),
    not_after=TIMES,
    maximum_runs=st.one_of(st.none(), st.integers(0, 2)),
    min_group_size=st.sampled_from([0, 5, 50]),
)
POLICIES = st.builds(
    Policy,
    dataset_id=st.just("d" * 32),
    owner=st.just(PEOPLE[0]),
    serial=st.just(1),
    enclaves=st.just({}),
    rules=st.lists(RULES, max_size=2, unique_by=lambda rule: rule.name).map(tuple),
    expires=TIMES,
)
QUESTIONS = [
    Question(
        analyst=analyst,
        operations=((operation, {"k": k}),),
        columns=frozenset(columns),
        mode=mode,
        outputs=(Leaving(kind=kind, recipient=analyst, columns=("x",), origins=frozenset({"x"})),),
        now=int(NOW.timestamp()),
        runs={"one": runs, "two": runs},
    )
    for analyst, operation, k, columns, mode, kind, runs in product(
        PEOPLE, ("KMeans", "LDA"), (1, True, 2, 5), ((), ("x",), ("y",)), (Mode.PARTITIONED,), (OutputKind.METRIC, OutputKind.ROWS), (0, 1)
    )
]
NAMES = ("one", "two", "three")
# New jobs, and jobs that one of the rules counted: these stay with it for as long as it allows them.
GRANTS = [
    replace(
        QUESTIONS[0], analyst=analyst, operations=((operation, {}),), columns=frozenset(columns), outputs=(), runs=runs, counted_by=name
    )
    for analyst, operation, columns, name, runs in product(
        PEOPLE, ("KMeans", "LDA"), ((), ("x",)), (None, *NAMES), ({"one": 1}, {"two": 1}, dict.fromkeys(NAMES, 1))
    )
]
RESTRICTIONS = st.sampled_from(
    [
        {},
        {"analysts": PEOPLE[:1]},
        {"analysts": PEOPLE[1:]},
        {"operations": {"LDA": {}}},
        {"columns": ()},
        {"modes": (Mode.ENCLAVE,)},
        {"not_after": NOW - timedelta(days=1)},
        {"maximum_runs": 1},
        {"min_group_size": 5},
        {"min_group_size": 50},
    ]
)
OPEN_RULE = Rule(name="one", analysts=PEOPLE, operations={ANY: {}}, columns=(ANY,), outputs={}, modes=tuple(Mode))


@st.composite
def cut_policies(draw: st.DrawFn) -> tuple[Policy, Policy]:
    """Return a policy of rules that allow much, and what becomes of it when rules are moved, removed and restricted."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=2, unique=True))
    rules = tuple(replace(OPEN_RULE, name=name, **draw(RESTRICTIONS)) for name in names)
    old = Policy(dataset_id="d" * 32, owner=PEOPLE[0], serial=1, enclaves={}, rules=rules)
    kept = draw(st.lists(st.sampled_from(rules), unique_by=lambda rule: rule.name))
    return old, replace(old, rules=tuple(replace(rule, **draw(RESTRICTIONS)) for rule in kept))


def groups(policy: Policy, questions: list[Question]) -> list[int | None]:
    """Return the group size that a policy asks for at each question, None where it refuses."""
    found = (judge(policy, question).rule for question in questions)
    return [None if rule is None else rule.min_group_size for rule in found]


def wider(old: Policy, new: Policy, questions: list[Question]) -> list[Question]:
    """Return the questions at which the new policy allows what the old one refused, or smaller groups."""
    asked = zip(questions, groups(old, questions), groups(new, questions), strict=True)
    return [question for question, before, after in asked if after is not None and (before is None or after < before)]


@settings(max_examples=60, deadline=None)
@given(POLICIES, POLICIES, st.booleans())
def test_whatever_is_newly_allowed_is_said(old: Policy, new: Policy, same: bool) -> None:
    """Where no change is wider, the new policy allows nothing that the old one refused, nor smaller groups; none differs from itself."""
    if same and new.rules:
        # Two unrelated policies nearly always differ in something wider: also take a policy and its own change.
        old = replace(new, rules=(replace(new.rules[0], not_after=old.expires), *new.rules[1:]), expires=old.expires)
    found = changes(old, new)
    if not any(change.direction is Direction.WIDER for change in found):
        assert not wider(old, new, QUESTIONS)
    if not any(change.direction is Direction.NARROWER for change in found):
        before, after = groups(old, QUESTIONS), groups(new, QUESTIONS)
        assert not [
            question for question, *sizes in zip(QUESTIONS, before, after, strict=True) if sizes[0] is not None and sizes[1] is None
        ]
    assert changes(new, new) == ()


@settings(max_examples=400, deadline=None)
@given(cut_policies())
def test_whatever_has_smaller_groups_is_said(policies: tuple[Policy, Policy]) -> None:
    """Where no change is wider, no job, new or counted by any rule, is allowed with smaller groups: however rules move, end or shrink."""
    old, new = policies
    if not any(change.direction is Direction.WIDER for change in changes(old, new)):
        assert not wider(old, new, GRANTS)


BASE = f"""\
enclaves: {{one: {{signer: "{"1f" * 32}", product_id: 1, minimum_security_version: 3, tees: [sgx]}}}}
rules:
  - name: train
    analysts: [{PEOPLE[0]}]
    operations: {{KMeans: {{k: {{min: 2, max: 10}}}}, PCA: }}
    columns: [age, income]
    outputs: {{metric: [{PEOPLE[0]}], sealed_model: [{PEOPLE[0]}]}}
    not_after: 2027-01-01
    maximum_runs: 10
    min_group_size: 5
expires: 2028-01-01
"""


def read(text: str, folder=None) -> Policy:
    """Read a policy."""
    return policy_from_text(text, dataset_id="d" * 32, owner=PEOPLE[0], serial=1, directory=folder)


@pytest.mark.parametrize(
    ("found", "written", "words"),
    [
        (f"analysts: [{PEOPLE[0]}]", f"analysts: [{PEOPLE[0]}, {PEOPLE[1]}]", f"jobs of {PEOPLE[1]}"),
        ("min: 2,", "min: 1,", "k of KMeans is at least 1.0, before 2.0"),
        ("max: 10", "max: 11", "k of KMeans is at most 11.0, before 10.0"),
        ("{k: {min: 2, max: 10}}", "", "k of KMeans is free"),
        (", PCA: ", ", PCA: , LDA: ", "the operation LDA"),
        ("[age, income]", "[age, income, ssn]", "reading ssn"),
        ("[age, income]", "all", "reading everything"),
        ("{metric:", "{plain_model: ['" + PEOPLE[0] + "'], metric:", "plain model may leave"),
        (f"sealed_model: [{PEOPLE[0]}]", "sealed_model: []", "sealed model of any analyst"),
        ("not_after: 2027-01-01", "not_after: 2028-01-01", "it ends 2028"),
        ("maximum_runs: 10", "maximum_runs: 11", "runs is 11, before 10"),
        ("    maximum_runs: 10\n", "", "runs is without a limit"),
        ("min_group_size: 5", "min_group_size: 4", "smallest group is 4"),
        ("expires: 2028-01-01", "expires: 2029-01-01", "expires 2029"),
        ("minimum_security_version: 3", "minimum_security_version: 2", "lowest security version of 'one' is 2"),
        ("tees: [sgx]", "tees: [sgx, tdx]", "'one' on tdx"),
        ("tees: [sgx]", "tees: [sgx], tcb_statuses: [UpToDate, OutOfDate]", "platforms that are OutOfDate"),
        ("tees: [sgx]", "tees: [sgx], advisories: [INTEL-SA-00615]", "under INTEL-SA-00615"),
        ("rules:", "allow_insecure: true\ninsecure_risk: the-operator-can-read-everything\nrules:", "without a TEE are accepted"),
        ("rules:", "profile: development\nrules:", "the profile is development"),
        ("rules:", f"insecure_roots: ['{'2f' * 32}']\nrules:", "quotes under the root"),
        ("name: train", "name: other", "the rule 'other' is new"),
        ("enclaves: {one:", "enclaves: {two:", "the enclave 'two' is accepted"),
        ("product_id: 1", "product_id: 2", "other code"),
    ],
)
def test_each_way_to_widen_is_told_in_words(found: str, written: str, words: str) -> None:
    """A change that allows more is wider in its own words, and undoing it is narrower and not wider, unless it replaced something."""
    assert found in BASE
    old, new = read(BASE), read(BASE.replace(found, written, 1))
    wider = [change.words for change in changes(old, new) if change.direction is Direction.WIDER]
    assert [said for said in wider if words in said], wider
    back = changes(new, old)
    assert [change for change in back if change.direction is Direction.NARROWER]
    replaced = any(word in words for word in ("new", "'two'", "other code"))
    assert replaced or not [change for change in back if change.direction is Direction.WIDER]


CAREFUL, LOOSE = replace(OPEN_RULE, name="careful", min_group_size=50), replace(OPEN_RULE, name="loose")


def policy_of(*rules: Rule) -> Policy:
    """Return a policy of these rules."""
    return Policy(dataset_id="d" * 32, owner=PEOPLE[0], serial=1, enclaves={}, rules=rules)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ((CAREFUL, LOOSE), (LOOSE, CAREFUL)),
        ((CAREFUL, LOOSE), (LOOSE,)),
        ((CAREFUL, LOOSE), (replace(CAREFUL, maximum_runs=0), LOOSE)),
        # Jobs that the careful rule counted when the loose one did not allow them stay with it, for as long as it is there.
        ((LOOSE, CAREFUL), (LOOSE,)),
        ((LOOSE, CAREFUL), (LOOSE, replace(CAREFUL, columns=("x",)))),
    ],
    ids=["reordered", "removed", "restricted", "removed behind", "restricted behind"],
)
def test_jobs_that_may_go_by_a_rule_with_smaller_groups_are_told(old: tuple[Rule, ...], new: tuple[Rule, ...]) -> None:
    """A rule with large groups that moves back, ends or shrinks is wider where a rule with smaller ones may take its jobs, else not."""
    told = [change.words for change in changes(policy_of(*old), policy_of(*new)) if change.direction is Direction.WIDER]
    assert told == ["jobs that 'careful' allowed may go by 'loose', whose smallest group is 0"]

    def without_common_jobs(rules: tuple[Rule, ...], **changes: object) -> Policy:
        return policy_of(*(replace(rule, **changes) if rule.name == "loose" else replace(rule, analysts=PEOPLE[:1]) for rule in rules))

    for apart in ({"analysts": PEOPLE[1:]}, {"operations": {}}, {"modes": ()}, {"min_group_size": 50}):
        before, after = without_common_jobs(old, **apart), without_common_jobs(new, **apart)
        assert not [change for change in changes(before, after) if change.direction is Direction.WIDER]


def test_an_order_that_makes_groups_larger_is_narrower() -> None:
    """Putting the rule with the larger groups first again is narrower, and says so; an order of rules with equal groups is no change."""
    found = changes(policy_of(LOOSE, CAREFUL), policy_of(CAREFUL, LOOSE))
    words = "jobs that 'loose' allowed may go by 'careful', whose smallest group is 50"
    assert [(change.direction, change.words) for change in found] == [(Direction.NARROWER, words)]
    equal = replace(CAREFUL, min_group_size=0)
    assert changes(policy_of(LOOSE, equal), policy_of(equal, LOOSE)) == ()


def test_another_broker_is_wider_and_naming_one_is_not() -> None:
    """Naming a broker is narrower, naming none again is wider, and another one is both; each says which."""
    free, one, two = read(BASE), read(f"{BASE}broker: {PEOPLE[0]}\n"), read(f"{BASE}broker: {PEOPLE[1]}\n")
    assert [(change.direction, change.words) for change in changes(free, one)] == [
        (Direction.NARROWER, "any broker may no longer put the policy in force")
    ]
    assert [(change.direction, change.words) for change in changes(one, free)] == [
        (Direction.WIDER, "any broker may put the policy in force")
    ]
    assert [change.direction for change in changes(one, two)] == [Direction.WIDER, Direction.NARROWER]


def test_fewer_approvals_are_wider(tmp_path) -> None:
    """A lower threshold, another approver and no approval at all are wider; the way back is narrower."""
    for name in ("bob", "carol"):
        save_public(PrivateIdentity.generate(name).public, tmp_path / f"{name}.pub")

    def quorum(threshold: int, approvers: str) -> Policy:
        return read(f"{BASE}approvals: {{policy_change: {{threshold: {threshold}, approvers: [{approvers}]}}}}\n", tmp_path)

    both = quorum(2, "bob.pub, carol.pub")
    for old, new in ((both, quorum(1, "bob.pub, carol.pub")), (both, read(BASE)), (quorum(1, "bob.pub"), quorum(1, "bob.pub, carol.pub"))):
        assert {change.direction for change in changes(old, new)} == {Direction.WIDER}
        assert {change.direction for change in changes(new, old)} == {Direction.NARROWER}


def test_an_enclave_is_named_by_one_thing() -> None:
    """A measurement or a signer with its product and floor names enclaves; both, neither and half a signer do not."""
    assert NamedEnclave(measurement="11" * 32).signer is None
    assert NamedEnclave(signer="11" * 32, product_id=1, minimum_security_version=0).measurement is None
    for wrong in (
        {},
        {"measurement": "11" * 32, "signer": "11" * 32, "product_id": 1, "minimum_security_version": 0},
        {"signer": "11" * 32, "product_id": 1},
        {"signer": "11" * 32, "minimum_security_version": 1},
        {"measurement": "11" * 32, "product_id": 1},
    ):
        with pytest.raises(ValueError, match=r"names|needs|has"):
            NamedEnclave(**wrong)
