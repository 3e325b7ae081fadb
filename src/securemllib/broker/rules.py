"""The seven checks of one rule. Each returns None, or what the rule would need in words for the owner and the analyst."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from securemllib.broker.origins import Origin
from securemllib.wire.job import JobSpecification, Output, OutputKind
from securemllib.wire.plan import ParamValue
from securemllib.wire.policy import ANY, Bound, OperationRule, OutputRule, Rule

__all__ = ["CHECKS", "Question"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What one dataset's rules are asked about a job.

    Attributes:
        job: The job.
        operations: What a rule must allow, with Params: the job's operation, and for a release the one that trained the model.
        columns: The dataset's columns that it reads; empty where the dataset is only behind a model.
        unreadable: Why the columns cannot be told, None where they can.
        origins: For each output, what its columns are computed from, as far as this dataset is concerned.
        now: Seconds since 1970.
        runs: Jobs that each rule, by its name, has allowed so far; None where this job is counted already.
    """

    job: JobSpecification
    operations: tuple[tuple[str, Mapping[str, ParamValue]], ...]
    columns: frozenset[str]
    unreadable: str | None
    origins: tuple[frozenset[Origin], ...]
    now: int
    runs: dict[str, int] | None


def _analyst(rule: Rule, question: Question) -> str | None:
    fingerprint = question.job.analyst.fingerprint
    return None if fingerprint in rule.analysts else f"the analyst {fingerprint} among its analysts"


def _operation(rule: Rule, question: Question) -> str | None:
    missing = [_missing_operation(rule, operation, params) for operation, params in question.operations]
    return " and ".join(filter(None, missing)) or None


def _missing_operation(rule: Rule, operation: str, params: Mapping[str, ParamValue]) -> str | None:
    fitting = [allowed for allowed in rule.operations if allowed.operation in {operation, ANY}]
    if not fitting:
        return f"the operation {operation} among its operations"
    missing = [_outside(allowed, params) for allowed in fitting]
    return None if None in missing else f"the operation {operation} with {' or '.join(filter(None, missing))}"


def _columns(rule: Rule, question: Question) -> str | None:
    if question.unreadable is not None:
        return question.unreadable
    missing = sorted(question.columns - set(rule.columns))
    return None if not missing or ANY in rule.columns else f"the columns {missing} among its columns"


def _mode(rule: Rule, question: Question) -> str | None:
    mode = question.job.mode
    return None if mode in rule.modes else f"the mode {mode.value} among its modes"


def _outputs(rule: Rule, question: Question) -> str | None:
    job = question.job
    for output, origins in zip(job.outputs, question.origins, strict=True):
        if output.kind is OutputKind.SEALED_MODEL and output.recipient.fingerprint != job.analyst.fingerprint:
            return "a sealed model whose recipient is the analyst"
        if output.kind is OutputKind.ROWS and not output.columns:
            return "rows that name their columns"
        if not any(_allows_output(allowed, output, origins) for allowed in rule.outputs):
            columns = f" of {sorted(origin.name for origin in origins)}" if output.kind is OutputKind.ROWS else ""
            return f"an output of kind {output.kind.value}{columns} for {output.recipient.fingerprint}"
    return None


def _validity(rule: Rule, question: Question) -> str | None:
    if rule.not_before is not None and question.now < rule.not_before:
        return f"a time from {rule.not_before} on"
    if rule.not_after is not None and question.now > rule.not_after:
        return f"a time until {rule.not_after}"
    return None


def _runs(rule: Rule, question: Question) -> str | None:
    if question.runs is None or rule.maximum_runs is None or question.runs.get(rule.name, 0) < rule.maximum_runs:
        return None
    return f"more than {rule.maximum_runs} runs"


CHECKS: dict[str, Callable[[Rule, Question], str | None]] = {
    "analyst": _analyst,
    "operation": _operation,
    "columns": _columns,
    "mode": _mode,
    "outputs": _outputs,
    "validity": _validity,
    "runs": _runs,
}


def _allows_output(allowed: OutputRule, output: Output, origins: frozenset[Origin]) -> bool:
    if allowed.kind is not output.kind:
        return False
    # Nobody opens a sealed model: the broker keeps its key, so a rule may leave the recipients out.
    keyless = output.kind is OutputKind.SEALED_MODEL and not allowed.recipients
    if not keyless and not {output.recipient.fingerprint, ANY} & set(allowed.recipients):
        return False
    return output.kind is not OutputKind.ROWS or ANY in allowed.columns or {origin.name for origin in origins} <= set(allowed.columns)


def _outside(allowed: OperationRule, params: Mapping[str, ParamValue]) -> str | None:
    for name, bound in sorted(allowed.bounds.items()):
        if name not in params:
            return f"{name} given, because it has a bound"
        if not _is_within(bound, params[name]):
            return f"{name} {_describe(bound)}"
    return None


def _is_within(bound: Bound, value: ParamValue) -> bool:
    if isinstance(value, tuple):
        return all(_is_within(bound, item) for item in value)
    if bound.minimum is not None or bound.maximum is not None:
        if isinstance(value, (bool, str)) or value is None:
            return False
        if not (bound.minimum is None or value >= bound.minimum) or not (bound.maximum is None or value <= bound.maximum):
            return False
    # True == 1 in Python, but a Param that is true is not a Param that is one.
    return not bound.allowed or any(isinstance(item, bool) is isinstance(value, bool) and item == value for item in bound.allowed)


def _describe(bound: Bound) -> str:
    limits = [
        f"at least {bound.minimum}" if bound.minimum is not None else "",
        f"at most {bound.maximum}" if bound.maximum is not None else "",
    ]
    among = f"among {list(bound.allowed)}" if bound.allowed else ""
    return " and ".join(part for part in (*limits, among) if part)
