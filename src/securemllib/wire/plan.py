"""The transformation plan: what an enclave does to the rows of a dataset before an algorithm reads them."""

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import reduce
from typing import ClassVar

from securemllib.errors import FormatError
from securemllib.wire.dataset import DatasetRef
from securemllib.wire.record import Record

__all__ = [
    "ApplyModel",
    "Assemble",
    "Call",
    "Expression",
    "Filter",
    "HandleInvalid",
    "Literal",
    "ModelRef",
    "Named",
    "Operator",
    "ParamValue",
    "Parts",
    "Plan",
    "Project",
    "RandomSplit",
    "Reference",
    "Step",
    "Transform",
    "WithColumn",
]


# Numbers, texts, vectors and matrices (a tuple of rows).
Vector = tuple[float, ...] | tuple[int, ...] | tuple[str, ...]
ParamValue = bool | int | float | str | Vector | tuple[tuple[float, ...], ...] | tuple[tuple[str, ...], ...] | None


class Operator(StrEnum):
    """The operators of expressions, with SQL's meaning of null."""

    ADD = "add"
    SUBTRACT = "subtract"
    MULTIPLY = "multiply"
    DIVIDE = "divide"
    TRY_DIVIDE = "try_divide"
    NEGATE = "negate"
    EQUAL = "equal"
    NOT_EQUAL = "not_equal"
    LESS = "less"
    LESS_EQUAL = "less_equal"
    GREATER = "greater"
    GREATER_EQUAL = "greater_equal"
    AND = "and"
    OR = "or"
    NOT = "not"
    IS_NULL = "is_null"
    IS_NOT_NULL = "is_not_null"
    CAST_DOUBLE = "cast_double"
    DECIMAL = "decimal"
    DATE = "date"
    TIMESTAMP = "timestamp"
    TIMESTAMP_NTZ = "timestamp_ntz"
    LOG = "log"
    LOG1P = "log1p"
    EXP = "exp"
    SQRT = "sqrt"
    ABS = "abs"
    RAND = "rand"


class HandleInvalid(StrEnum):
    """What happens to rows with a null or NaN (pyspark.ml's ``handleInvalid``)."""

    ERROR = "error"
    SKIP = "skip"
    KEEP = "keep"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference(Record):
    """A column of the rows."""

    TYPE: ClassVar[str] = "reference"

    column: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Literal(Record):
    """A constant. The host sees it: a plan is part of the job specification."""

    TYPE: ClassVar[str] = "literal"

    value: bool | int | float | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Record):
    """An operator and its arguments."""

    TYPE: ClassVar[str] = "call"

    operator: Operator
    arguments: "tuple[Reference | Literal | Call, ...]"


Expression = Reference | Literal | Call


@dataclass(frozen=True, slots=True, kw_only=True)
class Named(Record):
    """An expression and the name of its column."""

    TYPE: ClassVar[str] = "named"

    name: str
    expression: Reference | Literal | Call


@dataclass(frozen=True, slots=True, kw_only=True)
class Project(Record):
    """Keeps just these columns."""

    TYPE: ClassVar[str] = "project"

    columns: tuple[Named, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WithColumn(Record):
    """Adds or replaces a column."""

    TYPE: ClassVar[str] = "with-column"

    column: Named


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter(Record):
    """Keeps the rows whose predicate is true."""

    TYPE: ClassVar[str] = "filter"

    predicate: Reference | Literal | Call


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts(Record):
    """Reads some consecutive parts of the source and no others: always a plan's first step.

    Attributes:
        first: The ordinal of the first part.
        end: That of the last one, plus one.
    """

    TYPE: ClassVar[str] = "parts"

    first: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.first < self.end:
            raise FormatError("A plan reads at least one part.")


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomSplit(Record):
    """Keeps one or some of the splits of the source rows, drawn by a keyed hash of the row's position.

    Attributes:
        weights: Of all splits; they are normalised.
        kept: The splits to keep: one, or all but one fold of a cross-validation.
        seed: The analyst's seed; the same seed and weights give disjoint splits.
    """

    TYPE: ClassVar[str] = "random-split"

    weights: tuple[float, ...]
    kept: tuple[int, ...]
    seed: int

    def __post_init__(self) -> None:
        if not all(0.0 < weight < math.inf for weight in self.weights):
            raise FormatError("The weights of a split are positive and finite.")
        if not self.kept or tuple(sorted(set(self.kept))) != self.kept or not 0 <= self.kept[0] <= self.kept[-1] < len(self.weights):
            raise FormatError("A split keeps some of its weights' indices, in order.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Assemble(Record):
    """Puts columns side by side into one vector column (pyspark.ml's VectorAssembler)."""

    TYPE: ClassVar[str] = "assemble"

    input_columns: tuple[str, ...]
    output_column: str
    handle_invalid: HandleInvalid


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef(Record):
    """One sealed model.

    Attributes:
        model_id: The hexadecimal id of the job that trained it.
        digest: The digest of its sealed bytes.
    """

    TYPE: ClassVar[str] = "model-ref"

    model_id: str
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Adds(Record):
    """What both steps have that add columns: a model's and a transformer's.

    Attributes:
        params: Params by their pyspark.ml names, column Params excepted; of a model those that may change after training.
        input_columns: The columns that are read, in their order.
        outputs: The stem of each output (``prediction``, ``output``, ``output0``...) and the column it goes to.
    """

    params: dict[str, ParamValue]
    input_columns: tuple[str, ...]
    outputs: dict[str, str]

    @property
    def keeps_rows(self) -> bool:
        """Whether no row is dropped or refused for its values."""
        return self.params.get("handleInvalid") in {None, "keep"} and self.params.get("coldStartStrategy") in {None, "nan"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyModel(Adds):
    """Adds the output columns of a sealed model."""

    TYPE: ClassVar[str] = "apply-model"

    model: ModelRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Transform(Adds):
    """Adds the output columns of a transformer, by its pyspark.ml class name, that nothing was trained for (Bucketizer, HashingTF...)."""

    TYPE: ClassVar[str] = "transform"

    operation: str


Step = Parts | Project | WithColumn | Filter | RandomSplit | Assemble | ApplyModel | Transform


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(Record):
    """A dataset version and the steps that its rows go through."""

    TYPE: ClassVar[str] = "securemllib/plan/v1"

    source: DatasetRef
    steps: tuple[Parts | Project | WithColumn | Filter | RandomSplit | Assemble | ApplyModel | Transform, ...]

    def __post_init__(self) -> None:
        if any(isinstance(step, Parts) for step in self.steps[1:]):
            raise FormatError("A plan chooses parts in its first step or not at all.")

    @property
    def parts(self) -> Parts | None:
        """The parts that it reads; None for all."""
        return next((step for step in self.steps if isinstance(step, Parts)), None)

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """The sealed models that the plan applies, in order, each once."""
        return tuple(dict.fromkeys(step.model for step in self.steps if isinstance(step, ApplyModel)))

    def source_columns(self, wanted: frozenset[str], available: tuple[str, ...]) -> frozenset[str]:
        """Return the dataset's columns that are read when ``wanted`` columns of the result are.

        Args:
            wanted: Columns of the plan's result.
            available: All columns of the dataset.

        Raises:
            FormatError: The plan reads a column that neither the dataset nor a step before provides.
        """
        needed = _needed(self.steps, wanted)
        if unknown := needed - set(available):
            raise FormatError(f"The plan reads {len(unknown)} columns that its source does not have: {sorted(unknown)}.")
        return needed

    def pruned(self, wanted: frozenset[str]) -> "Plan":
        """Return the plan without what only unwanted columns of its result need: it reads no more than `source_columns`."""
        steps: list[Step] = []
        needed = set(wanted)
        for step in reversed(self.steps):
            if (kept := _used(step, needed)) is not None:
                steps.append(kept)
            needed = _needed_before(step, needed)
        return replace(self, steps=tuple(reversed(steps)))

    def around_model(self, wanted: frozenset[str]) -> "tuple[Plan, frozenset[str], tuple[Step, ...]]":
        """Return what goes before the last model that the plan applies, the columns that the rest reads, and the rest.

        Args:
            wanted: Columns of the plan's result.
        """
        last = max((index for index, step in enumerate(self.steps) if isinstance(step, ApplyModel)), default=0)
        return replace(self, steps=self.steps[:last]), _needed(self.steps[last:], wanted), self.steps[last:]


def _used(step: Step, needed: set[str]) -> Step | None:
    if isinstance(step, Project):
        return replace(step, columns=tuple(named for named in step.columns if named.name in needed))
    if isinstance(step, WithColumn):
        return step if step.column.name in needed else None
    if isinstance(step, Adds) and step.keeps_rows:
        return step if needed & set(step.outputs.values()) else None
    if isinstance(step, Assemble) and step.handle_invalid is HandleInvalid.KEEP:
        return step if step.output_column in needed else None
    return step


def _needed(steps: tuple[Step, ...], wanted: frozenset[str]) -> frozenset[str]:
    return frozenset(reduce(lambda needed, step: _needed_before(step, set(needed)), reversed(steps), set(wanted)))


def _needed_before(step: Step, needed: set[str]) -> set[str]:
    if isinstance(step, Project):
        provided = {named.name: named.expression for named in step.columns}
        if unknown := needed - provided.keys():
            raise FormatError(f"The plan reads columns that a projection dropped: {sorted(unknown)}.")
        return set().union(*(_references(provided[name]) for name in needed)) if needed else set()
    if isinstance(step, WithColumn):
        return needed - {step.column.name} | (_references(step.column.expression) if step.column.name in needed else set())
    if isinstance(step, Filter):
        return needed | _references(step.predicate)
    if isinstance(step, Assemble):
        # With handle_invalid="skip" the step drops rows, so it reads its inputs even where nobody reads its output.
        used = step.output_column in needed or step.handle_invalid is not HandleInvalid.KEEP
        return needed - {step.output_column} | (set(step.input_columns) if used else set())
    if isinstance(step, Adds):
        outputs = set(step.outputs.values())
        return needed - outputs | (set(step.input_columns) if needed & outputs or not step.keeps_rows else set())
    return needed


def _references(expression: Expression) -> set[str]:
    if isinstance(expression, Reference):
        return {expression.column}
    return set().union(*map(_references, expression.arguments)) if isinstance(expression, Call) else set()
