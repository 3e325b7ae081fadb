"""What a new policy allows that the old one did not, and the other way round, in words."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from securemllib.policy.model import ANY, KEYLESS, Bound, NamedEnclave, OutputRule, Policy, Quorum, Rule

__all__ = ["Change", "Direction", "changes"]


class Direction(StrEnum):
    """Whether something is allowed that was not."""

    WIDER = "wider"
    NARROWER = "narrower"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference.

    Attributes:
        direction: Which way it goes. What replaces a value by another is two changes.
        words: What it is.
        place: Where: fields and positions, in the new policy where it is there, in the old one otherwise.
    """

    direction: Direction
    words: str
    place: tuple[str | int, ...]


def changes(old: Policy, new: Policy) -> tuple[Change, ...]:
    """Return the differences of two policies of one dataset.

    Where none of them is wider, whatever the new policy allows was allowed by the old one, with groups as small: `tests/policy` states
    it as a law. Rules belong together by their names, because runs are counted by them, and so do enclaves.
    """
    return (*_top(old, new), *_enclaves(old, new), *_rules(old, new))


def _top(old: Policy, new: Policy) -> Iterator[Change]:
    yield from _broker(old.broker, new.broker)
    yield from _switch("allow_insecure", "processes without a TEE are accepted", old.allow_insecure, new.allow_insecure)
    yield from _members("insecure_roots", "quotes under the root", old.insecure_roots, new.insecure_roots)
    yield from _switch("profile", "the profile is development", old.profile == "development", new.profile == "development")
    yield from _limit(("expires",), "the policy expires", old.expires, new.expires)
    for name in ("policy_change", "model_release"):
        yield from _quorum(name, getattr(old.approvals, name), getattr(new.approvals, name))


def _broker(old: str | None, new: str | None) -> Iterator[Change]:
    before, after = ("any broker" if broker is None else f"the broker {broker}" for broker in (old, new))
    if old != new and old is not None:
        yield _change(True, f"{after} may put the policy in force", ("broker",))
    if old != new and new is not None:
        yield _change(False, f"{before} may no longer put the policy in force", ("broker",))


def _quorum(name: str, old: Quorum | None, new: Quorum | None) -> Iterator[Change]:
    place, what = ("approvals", name), name.replace("_", " ")
    if old is None or new is None:
        if old is not None or new is not None:
            yield _change(new is None, f"a {what} needs {'no' if new is None else new.threshold} approvals", place)
        return
    if old.threshold != new.threshold:
        yield _change(
            new.threshold < old.threshold, f"a {what} needs {new.threshold} approvals, before {old.threshold}", (*place, "threshold")
        )
    yield from _members(place, f"approval of a {what} by", tuple(old.identities), tuple(new.identities))


def _enclaves(old: Policy, new: Policy) -> Iterator[Change]:
    for name in old.enclaves.keys() | new.enclaves.keys():
        place = ("enclaves", name)
        before, after = old.enclaves.get(name), new.enclaves.get(name)
        if before is None or after is None:
            yield _change(before is None, f"the enclave {name!r} is {'accepted' if before is None else 'no longer accepted'}", place)
        else:
            yield from _enclave(name, before, after)


def _enclave(name: str, old: NamedEnclave, new: NamedEnclave) -> Iterator[Change]:
    place = ("enclaves", name)
    before, after = ((enclave.measurement, enclave.signer, enclave.product_id) for enclave in (old, new))
    if before != after:
        yield _change(True, f"the enclave {name!r} is other code", place)
        yield _change(False, f"the enclave {name!r} is no longer what it was", place)
    floors = ((enclave.minimum_security_version or 0) for enclave in (old, new))
    yield from _limit((*place, "minimum_security_version"), f"the lowest security version of {name!r} is", *floors, higher_is_wider=False)
    yield from _members((*place, "tees"), f"{name!r} on", old.tees, new.tees)
    yield from _members((*place, "tcb_statuses"), f"{name!r} on platforms that are", old.tcb_statuses, new.tcb_statuses)
    yield from _members((*place, "advisories"), f"{name!r} on platforms under", old.advisories, new.advisories)


def _rules(old: Policy, new: Policy) -> Iterator[Change]:
    before = {rule.name: (position, rule) for position, rule in enumerate(old.rules)}
    for position, rule in enumerate(new.rules):
        if rule.name in before:
            yield from _rule(("rules", position), before.pop(rule.name)[1], rule)
        else:
            yield _change(True, f"the rule {rule.name!r} is new, its runs counted from 0", ("rules", position))
    for name, (position, _) in before.items():
        yield _change(False, f"the rule {name!r} is gone", ("rules", position))
    yield from _moves(old, new)


def _moves(old: Policy, new: Policy) -> Iterator[Change]:
    """Yield which jobs may go by another of the rules than before, and that one's groups are of another size.

    The first rule that allows a job counts it, and an accepted job stays with the rule that counted it. So jobs move from a rule to one
    that stood behind it and stands before it now; and from a rule that is gone or narrower to any, because that other may have allowed
    less when they were counted. Of several such rules the extreme ones are told.
    """
    before, after = ({rule.name: (position, rule) for position, rule in enumerate(policy.rules)} for policy in (old, new))
    for name, (position, rule) in before.items():
        place, fresh = after.get(name, (None, None))
        is_left = fresh is None or any(change.direction is Direction.NARROWER for change in _rule((), rule, fresh))
        takers = [
            (taking.min_group_size, other, there)
            for other, (there, taking) in after.items()
            if other in before
            and (
                (is_left and taking.min_group_size < rule.min_group_size)
                or (place is not None and position < before[other][0] and there < place)
            )
            and _share_jobs(rule, taking)
        ]
        for size, other, there in dict.fromkeys((min(takers), max(takers)) if takers else ()):
            if size != rule.min_group_size:
                words = f"jobs that {name!r} allowed may go by {other!r}, whose smallest group is {size}"
                yield _change(size < rule.min_group_size, words, ("rules", there, "min_group_size"))


def _share_jobs(one: Rule, other: Rule) -> bool:
    """Return whether a job may pass both rules, by what each job has: an analyst, a mode and an operation."""
    operations = one.operations.keys() & other.operations.keys()
    return (
        not set(one.analysts).isdisjoint(other.analysts)
        and not set(one.modes).isdisjoint(other.modes)
        and (bool(operations) or (ANY in one.operations and bool(other.operations)) or (ANY in other.operations and bool(one.operations)))
    )


def _rule(place: tuple[str | int, ...], old: Rule, new: Rule) -> Iterator[Change]:
    said = f"{new.name!r}:"
    yield from _members((*place, "analysts"), f"{said} jobs of", old.analysts, new.analysts)
    yield from _members((*place, "columns"), f"{said} reading", old.columns, new.columns)
    yield from _members((*place, "modes"), f"{said} the mode", old.modes, new.modes)
    yield from _operations(place, said, old.operations, new.operations)
    yield from _outputs(place, said, old.outputs, new.outputs)
    yield from _limit((*place, "not_before"), f"{said} it begins", old.not_before, new.not_before, higher_is_wider=False)
    yield from _limit((*place, "not_after"), f"{said} it ends", old.not_after, new.not_after)
    yield from _limit((*place, "maximum_runs"), f"{said} the number of runs is", old.maximum_runs, new.maximum_runs)
    groups = (old.min_group_size, new.min_group_size)
    yield from _limit((*place, "min_group_size"), f"{said} the smallest group is", *groups, higher_is_wider=False)


def _operations(
    place: tuple[str | int, ...], said: str, old: Mapping[str, Mapping[str, Bound]], new: Mapping[str, Mapping[str, Bound]]
) -> Iterator[Change]:
    yield from _members((*place, "operations"), f"{said} the operation", tuple(old), tuple(new))
    # Every operation under a bound, which no YAML says: an operation beside it may have another bound, or none.
    if old.get(ANY) or new.get(ANY):
        yield from (
            _change(True, f"{said} the operation {name} is allowed", (*place, "operations", name)) for name in new.keys() - old.keys()
        )
        yield from (_change(False, f"{said} the operation {name} is no longer allowed", place) for name in old.keys() - new.keys())
    for operation in old.keys() & new.keys():
        for param in sorted(old[operation].keys() | new[operation].keys()):
            where = (*place, "operations", operation, param)
            what = f"{said} {param} of {_named(operation)}"
            yield from _bound(where, what, old[operation].get(param), new[operation].get(param))


def _bound(place: tuple[str | int, ...], what: str, old: Bound | None, new: Bound | None) -> Iterator[Change]:
    if old is None or new is None:
        if old != new:
            yield _change(new is None, f"{what} {'is free' if new is None else 'is bounded'}", place)
        return
    yield from _limit((*place, "min"), f"{what} is at least", old.min, new.min, higher_is_wider=False)
    yield from _limit((*place, "max"), f"{what} is at most", old.max, new.max)
    if bool(old.allowed) != bool(new.allowed):
        yield _change(not new.allowed, f"{what} is {'no longer one' if not new.allowed else 'one'} of a list", (*place, "allowed"))
    elif old.allowed or new.allowed:
        # True and 1 are equal in Python, and two values of a Param.
        before, after = (tuple(repr(value) for value in bound.allowed) for bound in (old, new))
        yield from _members((*place, "allowed"), f"{what} may be", before, after)


def _outputs(place: tuple[str | int, ...], said: str, old: Mapping[Any, OutputRule], new: Mapping[Any, OutputRule]) -> Iterator[Change]:
    for kind in sorted(old.keys() | new.keys()):
        where, what = (*place, "outputs", str(kind)), f"{said} {str(kind).replace('_', ' ')}"
        before, after = old.get(kind), new.get(kind)
        if before is None or after is None:
            yield _change(before is None, f"{what} {'may leave' if before is None else 'stays'}", where)
            continue
        if kind in KEYLESS and bool(before.recipients) != bool(after.recipients):
            # Without recipients every analyst of the rule may keep one: nobody opens it.
            yield _change(not after.recipients, f"{what} {'of any analyst' if not after.recipients else 'for those named only'}", where)
        else:
            yield from _members(where, f"{what} for", before.recipients, after.recipients)
        yield from _members(where, f"{what} of the column", before.columns, after.columns)


def _members(place: str | tuple[str | int, ...], what: str, old: Collection[str], new: Collection[str]) -> Iterator[Change]:
    where = (place,) if isinstance(place, str) else place
    for item in dict.fromkeys(new):
        if item not in old and ANY not in old:
            yield _change(True, f"{what} {_named(str(item))} is allowed", where)
    for item in dict.fromkeys(old):
        if item not in new and ANY not in new:
            yield _change(False, f"{what} {_named(str(item))} is no longer allowed", where)


def _limit(place: tuple[str | int, ...], what: str, old: Any, new: Any, *, higher_is_wider: bool = True) -> Iterator[Change]:
    """Yield how a limit moved; None is no limit, which is the widest."""
    if old == new:
        return
    wider = new is None or (old is not None and (new > old) is higher_is_wider)
    yield _change(wider, f"{what} {_value(new)}, before {_value(old)}", place)


def _switch(field: str, words: str, old: bool, new: bool) -> Iterator[Change]:
    if old != new:
        yield _change(new, words if new else f"no longer: {words}", (field,))


def _change(wider: bool, words: str, place: tuple[str | int, ...]) -> Change:
    return Change(direction=Direction.WIDER if wider else Direction.NARROWER, words=words, place=place)


def _value(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%SZ}"
    return "without a limit" if value is None else str(value)


def _named(name: str) -> str:
    return "everything" if name == ANY else name
