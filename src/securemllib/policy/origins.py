"""Where a column of a plan's result comes from: a new name does not hide an old column."""

from dataclasses import dataclass

from securemllib.wire.plan import ApplyModel, Assemble, Call, Expression, ModelRef, Plan, Project, Reference, Step, Transform, WithColumn

__all__ = ["Origin", "origins"]


# The stem of what a fitted feature transformer makes: ``output``, or ``output0``, ``output1``...
_FEATURES = "output"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A column of the dataset, or one output of a model.

    Attributes:
        name: The dataset's column, or the stem of the model's output Param (``prediction``, ``probability``...).
        model: The model, None for a column of the dataset.
    """

    name: str
    model: ModelRef | None


def origins(plan: Plan, column: str) -> frozenset[Origin]:
    """Return what the values of one column of the result are computed from. Columns that only choose rows are not among them."""
    names = {column}
    found: set[Origin] = set()
    for step in reversed(plan.steps):
        if isinstance(step, ApplyModel):
            made = {output: stem for stem, output in step.outputs.items() if output in names}
            found |= {Origin(name=stem, model=step.model) for stem in made.values()}
            names -= made.keys()
            # A scaled or indexed column is the column in other words; a prediction is what its policy calls one.
            if any(stem.startswith(_FEATURES) for stem in made.values()):
                names |= set(step.input_columns)
        else:
            names = set().union(*(_before(step, name) for name in names))
    return frozenset(found | {Origin(name=name, model=None) for name in names})


def _before(step: Step, name: str) -> set[str]:
    if isinstance(step, Project):
        return set().union(*(_references(named.expression) for named in step.columns if named.name == name))
    if isinstance(step, WithColumn) and step.column.name == name:
        return _references(step.column.expression)
    if isinstance(step, Assemble) and step.output_column == name:
        return set(step.input_columns)
    if isinstance(step, Transform) and name in step.outputs.values():
        return set(step.input_columns)
    return {name}


def _references(expression: Expression) -> set[str]:
    if isinstance(expression, Reference):
        return {expression.column}
    if isinstance(expression, Call):
        return set().union(*(_references(argument) for argument in expression.arguments))
    return set()
