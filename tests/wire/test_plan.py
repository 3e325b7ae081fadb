"""Which columns of the source does a plan read? The owner's policy is asked about exactly these."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securemllib.errors import FormatError
from securemllib.wire.dataset import DatasetRef
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

SOURCE = DatasetRef(dataset_id="d", version=1, digest=b"d" * 32)
AVAILABLE = ("a", "b", "c", "d")
NAMES = st.sampled_from([*AVAILABLE, "e", "f"])
SPLIT = RandomSplit(weights=(0.5, 0.5), kept=(0,), seed=1)
MODEL = ModelRef(model_id="m", digest=b"m" * 32)

EXPRESSIONS = st.recursive(
    NAMES.map(lambda name: Reference(column=name)) | st.integers(0, 3).map(lambda value: Literal(value=value)),
    lambda inner: st.lists(inner, max_size=2).map(lambda parts: Call(operator=Operator.ADD, arguments=tuple(parts))),
    max_leaves=3,
)
NAMED = st.builds(Named, name=NAMES, expression=EXPRESSIONS)
STEPS = st.lists(
    st.builds(Project, columns=st.lists(NAMED, min_size=1, max_size=4, unique_by=lambda named: named.name).map(tuple))
    | st.builds(WithColumn, column=NAMED)
    | st.builds(Filter, predicate=EXPRESSIONS)
    | st.just(SPLIT)
    | st.builds(
        Assemble,
        input_columns=st.lists(NAMES, min_size=1, max_size=2, unique=True).map(tuple),
        output_column=NAMES,
        handle_invalid=st.sampled_from(HandleInvalid),
    )
    | st.builds(
        ApplyModel,
        model=st.just(MODEL),
        input_columns=NAMES.map(lambda name: (name,)),
        outputs=st.dictionaries(st.just("prediction"), NAMES, max_size=1),
        params=st.just({}),
    ),
    max_size=5,
).map(tuple)


def plan(*steps):
    """Return a plan of these steps."""
    return Plan(source=SOURCE, steps=steps)


def names_in(expression):
    """Return the columns of an expression."""
    if isinstance(expression, Reference):
        return {expression.column}
    return {name for part in expression.arguments for name in names_in(part)} if isinstance(expression, Call) else set()


def forward(step, columns, rows):
    """Return columns and rows after one step, each by the source columns that it derives from; KeyError for an unknown column."""

    def of(names):
        return set().union(*(columns[name] for name in names))

    match step:
        case Project():
            return {named.name: of(names_in(named.expression)) for named in step.columns}, rows
        case WithColumn():
            return {**columns, step.column.name: of(names_in(step.column.expression))}, rows
        case Filter():
            return columns, rows | of(names_in(step.predicate))
        case Assemble():
            made = of(step.input_columns)
            return {**columns, step.output_column: made}, rows | (made if step.handle_invalid is not HandleInvalid.KEEP else set())
        case ApplyModel():
            return {**columns, **dict.fromkeys(step.outputs.values(), of(step.input_columns))}, rows
    return columns, rows


def origins(steps):
    """Run a plan forwards, where the code works backwards; None where a step reads a column that is not there."""
    columns, rows = {name: {name} for name in AVAILABLE}, set()
    try:
        for step in steps:
            columns, rows = forward(step, columns, rows)
    except KeyError:
        return None
    return columns, rows


@given(steps=STEPS, wanted=st.frozensets(NAMES, max_size=3))
def test_no_column_that_matters_is_missed(steps, wanted):
    """Every source column that the wanted values or the kept rows derive from is among those that the policy is asked about."""
    found = origins(steps)
    if found is None or not wanted <= found[0].keys():
        return
    columns, rows = found
    derived = rows.union(*(columns[name] for name in wanted))
    assert derived <= plan(*steps).source_columns(wanted, AVAILABLE)


@given(steps=STEPS, wanted=st.frozensets(NAMES, max_size=3))
def test_only_source_columns_come_out_or_a_format_error(steps, wanted):
    """The answer holds columns of the dataset only; a plan that reads any other is refused with FormatError and nothing else."""
    try:
        assert plan(*steps).source_columns(wanted, AVAILABLE) <= set(AVAILABLE)
    except FormatError:
        found = origins(steps)
        assert found is None or not wanted <= found[0].keys()


@given(steps=STEPS, few=st.frozensets(NAMES, max_size=2), more=st.frozensets(NAMES, max_size=2))
def test_wanting_more_never_reads_less(steps, few, more):
    """The columns read for some results are among those read for more results."""
    try:
        larger = plan(*steps).source_columns(few | more, AVAILABLE)
    except FormatError:
        return
    assert plan(*steps).source_columns(few, AVAILABLE) <= larger


@given(wanted=st.frozensets(st.sampled_from(AVAILABLE)))
def test_a_plan_without_steps_reads_what_is_wanted(wanted):
    """Without steps, and with a split alone, the wanted columns are read and no others."""
    assert plan().source_columns(wanted, AVAILABLE) == wanted
    assert plan(SPLIT).source_columns(wanted, AVAILABLE) == wanted


def test_a_replaced_column_hides_what_it_replaced():
    """After a column was computed from another, wanting it reads the other and not the old one."""
    replaced = plan(WithColumn(column=Named(name="a", expression=Reference(column="b"))))
    assert replaced.source_columns(frozenset({"a"}), AVAILABLE) == {"b"}
    assert replaced.source_columns(frozenset({"a", "b", "c"}), AVAILABLE) == {"b", "c"}


def test_a_filter_reads_although_nobody_wants_its_column():
    """Which rows stay tells about the filtered column, so it counts as read."""
    filtered = plan(Filter(predicate=Call(operator=Operator.IS_NULL, arguments=(Reference(column="d"),))))
    assert filtered.source_columns(frozenset({"a"}), AVAILABLE) == {"a", "d"}


@pytest.mark.parametrize(
    ("handling", "reads"), [(HandleInvalid.SKIP, {"a", "b"}), (HandleInvalid.ERROR, {"a", "b"}), (HandleInvalid.KEEP, {"a"})]
)
def test_an_unused_vector_counts_where_it_drops_rows(handling, reads):
    """An assembler whose output nobody wants reads its inputs where nulls decide about rows, and does not where they are kept."""
    assembled = plan(Assemble(input_columns=("b",), output_column="v", handle_invalid=handling))
    assert assembled.source_columns(frozenset({"a"}), AVAILABLE) == reads


def test_a_dropped_column_cannot_be_wanted():
    """A column that a projection dropped, or that was never there, is refused."""
    projected = plan(Project(columns=(Named(name="a", expression=Reference(column="a")),)))
    assert projected.source_columns(frozenset({"a"}), AVAILABLE) == {"a"}
    for missing in ("b", "z"):
        with pytest.raises(FormatError):
            projected.source_columns(frozenset({missing}), AVAILABLE)


def test_each_applied_model_is_named_once():
    """A plan names each model that it needs the key of once, in order."""
    other = ModelRef(model_id="n", digest=b"n" * 32)
    steps = [ApplyModel(model=model, input_columns=("a",), outputs={}, params={}) for model in (MODEL, other, MODEL)]
    assert plan(*steps).models == (MODEL, other)


@pytest.mark.parametrize(
    ("weights", "kept"),
    [
        ((), (0,)),
        ((1.0,), (1,)),
        ((1.0,), (-1,)),
        ((1.0,), ()),
        ((1.0, 1.0), (1, 0)),
        ((1.0, 1.0), (0, 0)),
        ((1.0, 0.0), (0,)),
        ((1.0, -1.0), (0,)),
        ((float("nan"),), (0,)),
        ((float("inf"),), (0,)),
    ],
)
def test_a_split_that_is_none_is_refused(weights, kept):
    """A split has positive finite weights and keeps some of them, each once and in order."""
    assert RandomSplit(weights=(1.0, 2.0, 1.0), kept=(0, 2), seed=0).kept == (0, 2)
    with pytest.raises(FormatError):
        RandomSplit(weights=weights, kept=kept, seed=0)
