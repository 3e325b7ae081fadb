"""`securemllib policy explain`, `test` and `diff`: what a policy would say, and what a new one says otherwise."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.text import Text

from securemllib.cli.shared import console
from securemllib.errors import PolicyError, UsageError
from securemllib.owner.policy import Written, read_policy
from securemllib.owner.policy_cases import Case, question_of, read_cases
from securemllib.policy.changes import Change, Direction, changes
from securemllib.policy.envelope import Envelope
from securemllib.policy.model import Policy
from securemllib.policy.verdict import Verdict, judge
from securemllib.wire.job import Mode, OutputKind

__all__ = ["print_changes", "register"]

# Who stands for the owner of a policy that is not signed yet: a fingerprint that nobody has.
_NOBODY = "a" * 52


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("explain")(explain)
    app.command("test")(run_cases)
    app.command("diff")(diff)


def explain(
    policies: Annotated[list[Path], typer.Argument(help="Policies as YAML: that of the data, then those of data behind models.")],
    analyst: Annotated[str, typer.Option("--as", help="Who asks: a name from `people`, a .pub file, or a fingerprint.")],
    operation: Annotated[str, typer.Option("--operation", help="A pyspark.ml class name, Rows or ReleaseModel.")],
    dataset: Annotated[
        list[str] | None, typer.Option("--dataset", help="Only the policies of these: the `dataset` of a file, or its name without .yaml.")
    ] = None,
    param: Annotated[list[str] | None, typer.Option("--param", help="A Param, as NAME=VALUE; the others have their defaults.")] = None,
    column: Annotated[
        list[str] | None, typer.Option("--column", help="A column that is read, and of rows leaves; may be repeated.")
    ] = None,
    output: Annotated[list[str] | None, typer.Option("--output", help="KIND or KIND=RECIPIENT; the usual one for the analyst.")] = None,
    mode: Annotated[Mode, typer.Option("--mode", help="Where statistics are added.")] = Mode.ENCLAVE,
    at: Annotated[str | None, typer.Option("--at", help="A time, ISO 8601 in UTC; now when not given.")] = None,
    runs: Annotated[int, typer.Option("--runs", min=0, help="How many jobs the rules have allowed so far.")] = 0,
) -> None:
    """Say whether a job would be allowed, and which line of which policy decides. Exits with 1 where it would be refused.

    The code that decides is the broker's.
    """
    chosen = _chosen([read_policy(path) for path in policies], dataset or [])
    case = Case(
        analyst=analyst,
        operation=operation,
        params=dict(_pair(text) for text in param or []),
        columns=tuple(column or ()),
        outputs=_outputs(output or [], analyst),
        mode=mode,
        at=_time(at),
        runs=runs,
    )
    refusals = 0
    for written, verdict in _asked(case, chosen):
        refusals += verdict.rule is None
        _print_verdict(written, verdict)
    if refusals:
        raise PolicyError(
            f"The job would be refused by {refusals} of {len(chosen)} policies.",
            next_step="The lines above say what the closest rule would need.",
        )


def run_cases(
    cases: Annotated[Path, typer.Argument(help="YAML: `policies`, their paths, and `jobs`, each with what is expected.")],
) -> None:
    """Ask policies about jobs and compare with what is expected. Exits with 1 where an answer is another one."""
    found, lines = read_cases(cases)
    policies = [read_policy(cases.parent / path) for path in found.policies]
    wrong = 0
    for position, case in enumerate(found.jobs):
        answers = list(_asked(case, policies))
        refusing = next(((written, verdict) for written, verdict in answers if verdict.rule is None), None)
        problem = _unexpected(case, answers[0][1], None if refusing is None else refusing[1])
        wrong += problem is not None
        told = "ok" if problem is None else "not as expected"
        name = case.name or f"{case.analyst}, {case.operation}"
        console.print(
            Text.assemble((f"{told}  ", "green" if problem is None else "bold red"), f"line {lines.get(('jobs', position), 1)}: {name}")
        )
        if problem is not None:
            console.print(Text(f"    {problem}"))
            for written, verdict in answers:
                _print_verdict(written, verdict)
    console.print(f"{len(found.jobs)} jobs, {wrong} not as expected")
    if wrong:
        raise PolicyError(
            f"{wrong} of {len(found.jobs)} jobs are decided otherwise than expected.", next_step="Change the policy, or the file."
        )


def diff(
    old: Annotated[Path, typer.Argument(help="A policy, as YAML or signed.")],
    new: Annotated[Path, typer.Argument(help="Another one.")],
) -> None:
    """Say in words what a new policy allows that the old one did not, and the other way round."""
    print_changes(changes(_either(old), _either(new)))


def print_changes(found: Iterable[Change]) -> None:
    """Print changes, the wider ones first."""
    listed = sorted(found, key=lambda change: change.direction is not Direction.WIDER)
    for change in listed:
        style = "bold red" if change.direction is Direction.WIDER else "green"
        console.print(Text.assemble((f"{change.direction.value:<9}", style), change.words))
    if not listed:
        console.print("nothing is wider, and nothing narrower")


def _asked(case: Case, policies: list[Written]) -> Iterable[tuple[Written, Verdict]]:
    names = {name: fingerprint for written in reversed(policies) for name, fingerprint in written.people().items()}
    for position, written in enumerate(policies):
        policy = written.resolve(dataset_id=written.dataset or "0" * 32, owner=_NOBODY, serial=1)
        yield written, judge(policy, question_of(case, written, is_source=position == 0, names=names))


def _unexpected(case: Case, first: Verdict, refusing: Verdict | None) -> str | None:
    if (refusing is None) != (case.expect == "allow"):
        return f"expected: {case.expect}"
    if refusing is not None and case.because not in {None, refusing.code}:
        return f"expected a refusal because of {case.because}, not of {refusing.code}"
    if refusing is None and first.rule is not None and case.rule not in {None, first.rule.name}:
        return f"expected the rule {case.rule!r}, not {first.rule.name!r}"
    return None


def _print_verdict(written: Written, verdict: Verdict) -> None:
    decided = verdict.deciding
    line = written.line(decided.place)
    head = "allow" if verdict.rule is not None else "refuse"
    about = f"the rule {verdict.rule.name!r}" if verdict.rule is not None else f"[{verdict.code}] it would need {decided.needs}"
    console.print(Text.assemble((f"{head:<7}", "green" if head == "allow" else "bold red"), f"{written.name}, line {line}: {about}"))
    position = next((index for index, (rule, _) in enumerate(verdict.rules) if rule is verdict.rule), None)
    if position is not None:
        for name, answer in verdict.rules[position][1].items():
            console.print(Text(f"         line {written.line(('rules', position, *answer.place))}: {name}"))


def _chosen(policies: list[Written], datasets: list[str]) -> list[Written]:
    known = {name for written in policies for name in _names(written)}
    for dataset in datasets:
        if dataset not in known:
            raise UsageError(f"None of the policies is of dataset {dataset!r}.", next_step=f"There are {', '.join(sorted(known))}.")
    return [written for written in policies if not datasets or _names(written) & set(datasets)]


def _names(written: Written) -> set[str]:
    return {Path(written.name).stem, *([written.dataset] if written.dataset is not None else [])}


def _pair(text: str) -> tuple[str, Any]:
    name, found, value = text.partition("=")
    if not found:
        raise UsageError(f"{text!r} is no Param: write NAME=VALUE.")
    read = yaml.safe_load(value)
    return name, tuple(read) if isinstance(read, list) else read


def _outputs(texts: list[str], analyst: str) -> dict[OutputKind, tuple[str, ...]]:
    found: dict[OutputKind, tuple[str, ...]] = {}
    for text in texts:
        kind, _, recipient = text.partition("=")
        if kind not in OutputKind._value2member_map_:
            raise UsageError(f"There is no output {kind!r}.", next_step=f"There are {', '.join(OutputKind)}.")
        found[OutputKind(kind)] = (*found.get(OutputKind(kind), ()), recipient or analyst)
    return found


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no ISO 8601 time.") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _either(path: Path) -> Policy:
    if path.is_file() and path.read_bytes()[:1] == b"{":
        return replace(Policy.from_json(Envelope.from_bytes(path.read_bytes()).payload), serial=1)
    written = read_policy(path)
    return written.resolve(dataset_id=written.dataset or "0" * 32, owner=_NOBODY, serial=1)
