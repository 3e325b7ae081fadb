"""Jobs that somebody thinks of, and what a policy would say of them: `policy explain` asks one, `policy test` many.

The answer is `securemllib.policy.verdict.judge`'s, which is the broker's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from securemllib.algorithms.registry import ALGORITHMS, param_name
from securemllib.errors import UsageError
from securemllib.owner.policy import Written
from securemllib.owner.policy_problems import nearest
from securemllib.owner.strict_yaml import Document, read_yaml_lines
from securemllib.policy.model import FINGERPRINT, OPERATIONS
from securemllib.policy.rules import Leaving, Question
from securemllib.wire.job import RELEASE_OPERATION, Mode, OutputKind
from securemllib.wire.plan import ParamValue

__all__ = ["Case", "CaseFile", "question_of", "read_cases"]

_STRICT = ConfigDict(extra="forbid", strict=True)
_DOCUMENT = Document(name="file of expected decisions", code="usage.policy_cases", advice="See the page on policies for an example.")
Text = Annotated[str, Field(min_length=1)]
Scalar = bool | int | float | str | None
# What somebody who names no output means.
_USUAL = {"Evaluator": OutputKind.METRIC, RELEASE_OPERATION: OutputKind.PLAIN_MODEL, "Rows": OutputKind.ROWS}


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Training:
    """The operation with its Params that trained a model that is to be released."""

    operation: Text
    params: dict[str, Scalar | tuple[Scalar, ...]] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Case:
    """A job and what is expected of it.

    Attributes:
        analyst: Who signs: a fingerprint, a ``.pub`` file, or a name of the policy's ``people``.
        operation: A pyspark.ml class name, ``Rows`` or ``ReleaseModel``.
        expect: What the policies say together.
        name: What `policy test` calls it.
        params: The operation's Params; those that are left out have their defaults.
        columns: The columns of the first policy's dataset that are read, and for rows those that leave.
        outputs: Who receives what; left out, it is what the operation usually gives, for the analyst.
        mode: Where statistics are added.
        at: The time; now when left out.
        runs: How many jobs the rules have allowed so far.
        trained: What trained the model, for a release.
        approved_by: Who approved the release.
        because: The check that decides a refusal: analyst, operation, columns, mode, outputs, validity, runs, expired, approval.
        rule: The rule that allows it.
    """

    analyst: Text
    operation: Text
    expect: Literal["allow", "refuse"] = "allow"
    name: str = ""
    params: dict[str, Scalar | tuple[Scalar, ...]] = Field(default_factory=dict)
    columns: tuple[Text, ...] = ()
    outputs: dict[OutputKind, tuple[Text, ...]] = Field(default_factory=dict)
    mode: Mode = Mode.ENCLAVE
    at: AwareDatetime | None = None
    runs: Annotated[int, Field(ge=0)] = 0
    trained: Training | None = None
    approved_by: tuple[Text, ...] = ()
    because: str | None = None
    rule: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class CaseFile:
    """Policies, by path, and what is expected of them: the first is that of the data, the others those of data behind models."""

    policies: Annotated[tuple[Text, ...], Field(min_length=1)]
    jobs: Annotated[tuple[Case, ...], Field(min_length=1)]


def read_cases(path: Path) -> tuple[CaseFile, Mapping[tuple[str | int, ...], int]]:
    """Return the cases of a YAML file and its lines; `UsageError` where it holds none."""
    try:
        tree, lines = read_yaml_lines(path.read_text(encoding="utf-8"), _DOCUMENT)
    except (OSError, UnicodeDecodeError):
        raise UsageError(f"{path} cannot be read.", code="usage.missing_file") from None
    try:
        return _ADAPTER.validate_json(_ADAPTER_ANY.dump_json(tree, fallback=str)), lines
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        place = tuple(part for part in found["loc"] if not isinstance(part, str) or part.isidentifier())
        while place and place not in lines:
            place = place[:-1]
        raise UsageError(
            f"In {path.name}, line {lines.get(place, 1)}: {'.'.join(map(str, found['loc']))}: {found['msg']}.", code=_DOCUMENT.code
        ) from None


def question_of(case: Case, written: Written, *, is_source: bool, names: Mapping[str, str] | None = None) -> Question:
    """Return what one policy is asked about a case.

    Args:
        case: The job.
        written: The policy.
        is_source: Whether the job reads the policy's dataset; the dataset is behind a model otherwise.
        names: Fingerprints of people by the names that other policies give them.

    Raises:
        UsageError: Nobody has such a name, or there is no such operation or Param.
    """

    def who(person: str) -> str:
        known = {**(names or {}), **written.people()}
        if person in known or person.endswith(".pub") or FINGERPRINT.fullmatch(person):
            return known.get(person) or written.fingerprint(person)
        raise UsageError(f"Nobody is called {person!r} in {written.name}.", next_step=nearest(person, sorted(known)), code="usage.person")

    analyst = who(case.analyst)
    outputs = case.outputs or {_usual_output(case.operation): (case.analyst,)}
    operations = [(case.operation, _params(case.operation, case.params))]
    if case.trained is not None:
        operations.append((case.trained.operation, _params(case.trained.operation, case.trained.params)))
    return Question(
        analyst=analyst,
        operations=tuple(operations),
        columns=frozenset(case.columns) if is_source else frozenset(),
        mode=case.mode,
        outputs=tuple(_leaving(kind, who(person), case) for kind, people in outputs.items() for person in people),
        now=int((case.at or datetime.now(tz=UTC)).timestamp()),
        runs=_Runs(case.runs),
        approvers=frozenset(who(person) for person in case.approved_by),
    )


class _Runs(dict[str, int]):
    """The same number of runs of every rule."""

    def __init__(self, runs: int) -> None:
        super().__init__()
        self._runs = runs

    def get(self, key: str, default: Any = None) -> int:  # noqa: ARG002 - every rule has run as often
        return self._runs


def _leaving(kind: OutputKind, recipient: str, case: Case) -> Leaving:
    columns = case.columns if kind is OutputKind.ROWS else ()
    return Leaving(kind=kind, recipient=recipient, columns=columns, origins=frozenset(columns))


def _usual_output(operation: str) -> OutputKind:
    return next((kind for end, kind in _USUAL.items() if operation.endswith(end)), OutputKind.SEALED_MODEL)


def _params(operation: str, given: Mapping[str, Any]) -> dict[str, ParamValue]:
    if operation not in OPERATIONS:
        raise UsageError(f"There is no operation {operation!r}.", next_step=nearest(operation, OPERATIONS), code="usage.operation")
    defaults = _defaults(operation)
    known = [param_name(field.name) for field in fields(ALGORITHMS[operation]) if field.init] if operation in ALGORITHMS else []
    for param in given:
        if param not in known:
            raise UsageError(f"{operation} has no Param {param!r}.", next_step=nearest(param, known), code="usage.param")
    return {**defaults, **given}


def _defaults(operation: str) -> dict[str, ParamValue]:
    found: Sequence[Any] = fields(ALGORITHMS[operation]) if operation in ALGORITHMS else ()
    return {param_name(field.name): field.default for field in found if field.init and field.default is not MISSING}


_ADAPTER: TypeAdapter[CaseFile] = TypeAdapter(CaseFile)
_ADAPTER_ANY: TypeAdapter[Any] = TypeAdapter(Any)
