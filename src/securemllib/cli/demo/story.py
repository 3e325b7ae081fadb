"""What the demonstration found out, as values."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from securemllib.cli.demo.searching import Finding
from securemllib.errors import IntegrityError

__all__ = ["Departure", "Role", "Search", "Step", "Story", "departures", "verify"]

# What a job of each operation lets out: the outputs of a policy's rule.
_OUTPUTS = {
    "StandardScaler": ("sealed_model",),
    "LogisticRegression": ("sealed_model", "summary"),
    "BinaryClassificationEvaluator": ("metric",),
    "Rows": ("rows",),
    "ReleaseModel": ("plain_model",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something that was done."""

    name: str
    seconds: float
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """Processes of one kind, and what they see."""

    name: str
    processes: tuple[int, ...]
    sees: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A place that was searched; a control is one where the values must be found."""

    place: str
    finding: Finding
    control: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """What left enclaves, or was refused, according to the broker's audit log.

    Attributes:
        operation: The jobs' operation.
        jobs: How many jobs.
        rule: The rule that allowed them; empty where they were refused.
        lines: Each output that the rule lets out, with its line in the policy.
        reason: Why it was refused.
    """

    operation: str
    jobs: int
    rule: str
    lines: tuple[tuple[str, int], ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """All that the screen shows.

    Attributes:
        rows: Rows of the data.
        features: Its features.
        planted: Rows with planted values.
        forms: In how many forms they were searched for.
        roles: Who ran.
        steps: What was done.
        departures: What left the enclaves.
        audited: Entries of the owner's audit log.
        searches: What the host saw.
        sealed: What the analyst's script told at its end.
        plain: What the plaintext script told at its end.
    """

    rows: int
    features: int
    planted: int
    forms: int
    roles: tuple[Role, ...]
    steps: tuple[Step, ...]
    departures: tuple[Departure, ...]
    audited: int
    searches: tuple[Search, ...]
    sealed: Mapping[str, Any]
    plain: Mapping[str, Any]


def departures(audit: Iterable[Mapping[str, Any]], policy: str) -> tuple[Departure, ...]:
    """Return what the jobs of an audit log let out, by the lines of the policy.

    Args:
        audit: The entries of one dataset's owner.
        policy: The policy's text.
    """
    jobs = [entry for entry in audit if entry["event"] in {"job", "release"}]
    allowed = Counter((entry["operation"], *entry["rules"].values()) for entry in jobs if entry["decision"] == "accepted")
    left = [
        Departure(operation=name, jobs=count, rule=rule, lines=tuple((output, _line(policy, rule, output)) for output in _OUTPUTS[name]))
        for (name, rule), count in allowed.items()
    ]
    refused = [
        Departure(operation=entry["operation"], jobs=1, rule="", reason=f"{entry['code']}: {_closest(entry)}")
        for entry in jobs
        if entry["decision"] == "refused"
    ]
    return (*left, *refused)


def verify(searches: Iterable[Search]) -> None:
    """Refuse what the host must not have seen.

    Raises:
        IntegrityError: Planted values were found where the host can read, or a control that could be read holds none.
    """
    listed = tuple(searches)
    if seen := [search.place for search in listed if not search.control and search.finding.total]:
        raise IntegrityError(f"Planted values were found where the host can read: {', '.join(seen)}.", code="integrity.leak")
    if blind := [search.place for search in listed if search.control and not search.finding.total and not search.finding.denied]:
        raise IntegrityError(f"The search found nothing where the values are: {', '.join(blind)}.", code="integrity.blind_search")


def _line(policy: str, rule: str, output: str) -> int:
    """Return the number of the line of one output in one rule."""
    inside, outputs = False, False
    for number, line in enumerate(policy.splitlines(), start=1):
        words = line.strip()
        if words.startswith("- name:"):
            inside, outputs = words == f"- name: {rule}", False
        outputs = outputs or (inside and words == "outputs:")
        if outputs and words.startswith(f"{output}:"):
            return number
    raise LookupError(f"the rule {rule} has no output {output}")


def _closest(entry: Mapping[str, Any]) -> str:
    # The explanation is for the owner's log; its shortest line about a rule is the rule that failed by least.
    rules = [line for line in entry.get("explanation", []) if line.startswith("rule ")]
    return min(rules, key=len, default=str(entry["reason"]))
