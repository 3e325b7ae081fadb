"""The seven checks of one rule. Each returns an `Answer`: where in the rule it was decided, and what the rule would need, if anything."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from securemllib.policy.model import ANY, KEYLESS, Bound, OutputRule, Rule
from securemllib.wire.job import Mode, OutputKind
from securemllib.wire.plan import ParamValue

__all__ = ["CHECKS", "Answer", "Leaving", "Question"]

Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one check says.

    Attributes:
        place: Where it was decided: fields and positions.
        needs: What the rule would need, in words for the owner and the analyst; None where it allows.
    """

    place: Place
    needs: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """One output of a job.

    Attributes:
        kind: What leaves.
        recipient: The fingerprint of who opens it.
        columns: The columns of the result that leave, for rows.
        origins: What these are computed from, as far as this dataset is concerned: its columns, and outputs of models.
    """

    kind: OutputKind
    recipient: str
    columns: tuple[str, ...] = ()
    origins: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What one dataset's policy is asked about a job.

    Attributes:
        analyst: The fingerprint of who signed.
        operations: What a rule must allow, with Params: the job's operation, and for a release the one that trained the model.
        columns: The dataset's columns that it reads; empty where the dataset is only behind a model.
        unreadable: Why the columns cannot be told, None where they can.
        mode: Where statistics are added.
        outputs: What leaves.
        now: Seconds since 1970.
        runs: Jobs that each rule, by its name, has allowed so far; None where nobody counts.
        counted_by: The rule that has counted this job already; None for a new job.
        approvers: Fingerprints of those who approved the release of just this model to just these recipients.
    """

    analyst: str
    operations: tuple[tuple[str, Mapping[str, ParamValue]], ...]
    columns: frozenset[str]
    mode: Mode
    outputs: tuple[Leaving, ...]
    now: int
    unreadable: str | None = None
    runs: Mapping[str, int] | None = None
    counted_by: str | None = None
    approvers: frozenset[str] = frozenset()

    @property
    def time(self) -> datetime:
        """The time that it is asked at."""
        return datetime.fromtimestamp(self.now, tz=UTC)


def _analyst(rule: Rule, question: Question) -> Answer:
    if question.analyst in rule.analysts:
        return Answer(place=("analysts", rule.analysts.index(question.analyst)))
    return Answer(place=("analysts",), needs=f"the analyst {question.analyst} among its analysts")


def _operation(rule: Rule, question: Question) -> Answer:
    answers = [_one_operation(rule, operation, params) for operation, params in question.operations]
    return next((answer for answer in answers if answer.needs is not None), answers[0])


def _one_operation(rule: Rule, operation: str, params: Mapping[str, ParamValue]) -> Answer:
    fitting = [name for name in (operation, ANY) if name in rule.operations]
    if not fitting:
        return Answer(place=("operations",), needs=f"the operation {operation} among its operations")
    answers = [_within_bounds(rule, name, operation, params) for name in fitting]
    return next((answer for answer in answers if answer.needs is None), answers[0])


def _within_bounds(rule: Rule, name: str, operation: str, params: Mapping[str, ParamValue]) -> Answer:
    for param, bound in sorted(rule.operations[name].items()):
        outside = f"{param} given, because it has a bound" if param not in params else None
        if outside is None and not _is_within(bound, params[param]):
            outside = f"{param} {_describe(bound)}"
        if outside is not None:
            return Answer(place=("operations", name, param), needs=f"the operation {operation} with {outside}")
    return Answer(place=("operations", name))


def _columns(rule: Rule, question: Question) -> Answer:
    if question.unreadable is not None:
        return Answer(place=("columns",), needs=question.unreadable)
    missing = sorted(question.columns - set(rule.columns))
    refused = bool(missing) and ANY not in rule.columns
    return Answer(place=("columns",), needs=f"the columns {missing} among its columns" if refused else None)


def _mode(rule: Rule, question: Question) -> Answer:
    return Answer(place=("modes",), needs=None if question.mode in rule.modes else f"the mode {question.mode.value} among its modes")


def _outputs(rule: Rule, question: Question) -> Answer:
    for output in question.outputs:
        if output.kind in KEYLESS and output.recipient != question.analyst:
            return Answer(place=("outputs",), needs=f"an output of kind {output.kind.value} whose recipient is the analyst")
        if output.kind is OutputKind.ROWS and not output.columns:
            return Answer(place=("outputs",), needs="rows that name their columns")
        if not _allows_output(rule.outputs.get(output.kind), output):
            columns = f" of {sorted(output.origins)}" if output.kind is OutputKind.ROWS else ""
            place = ("outputs", output.kind.value) if output.kind in rule.outputs else ("outputs",)
            return Answer(place=place, needs=f"an output of kind {output.kind.value}{columns} for {output.recipient}")
    return Answer(place=("outputs", *(output.kind.value for output in question.outputs[:1])))


def _validity(rule: Rule, question: Question) -> Answer:
    if rule.not_before is not None and question.time < rule.not_before:
        return Answer(place=("not_before",), needs=f"a time from {rule.not_before:%Y-%m-%dT%H:%M:%SZ} on")
    if rule.not_after is not None and question.time > rule.not_after:
        return Answer(place=("not_after",), needs=f"a time until {rule.not_after:%Y-%m-%dT%H:%M:%SZ}")
    return Answer(place=("not_after",))


def _runs(rule: Rule, question: Question) -> Answer:
    used = 0 if question.runs is None else question.runs.get(rule.name, 0)
    over = rule.name != question.counted_by and question.runs is not None and rule.maximum_runs is not None and used >= rule.maximum_runs
    return Answer(place=("maximum_runs",), needs=f"more than {rule.maximum_runs} runs" if over else None)


CHECKS: dict[str, Callable[[Rule, Question], Answer]] = {
    "analyst": _analyst,
    "operation": _operation,
    "columns": _columns,
    "mode": _mode,
    "outputs": _outputs,
    "validity": _validity,
    "runs": _runs,
}


def _allows_output(allowed: OutputRule | None, output: Leaving) -> bool:
    if allowed is None:
        return False
    keyless = output.kind in KEYLESS and not allowed.recipients
    if not keyless and output.recipient not in allowed.recipients:
        return False
    return output.kind is not OutputKind.ROWS or ANY in allowed.columns or output.origins <= set(allowed.columns)


def _is_within(bound: Bound, value: ParamValue) -> bool:
    if isinstance(value, tuple):
        # An empty one would be within every bound, and stands for false where the enclave asks whether it is true.
        return bool(value) and all(_is_within(bound, item) for item in value)
    if bound.min is not None or bound.max is not None:
        if isinstance(value, (bool, str)) or value is None:
            return False
        if not (bound.min is None or value >= bound.min) or not (bound.max is None or value <= bound.max):
            return False
    # True == 1 in Python, but a Param that is true is not a Param that is one.
    return not bound.allowed or any(isinstance(item, bool) is isinstance(value, bool) and item == value for item in bound.allowed)


def _describe(bound: Bound) -> str:
    limits = [f"at least {bound.min}" if bound.min is not None else "", f"at most {bound.max}" if bound.max is not None else ""]
    among = f"among {list(bound.allowed)}" if bound.allowed else ""
    return " and ".join(part for part in (*limits, among) if part)
