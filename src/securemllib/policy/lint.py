"""What a valid policy may say without its owner meaning it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from securemllib.policy.model import ANY, Policy, Quorum, Rule
from securemllib.wire.job import RELEASE_OPERATION, ROWS_OPERATION, OutputKind

__all__ = ["Remark", "remarks_of"]

_STALE = ("OutOfDate", "OutOfDateConfigurationNeeded")


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """One of them.

    Attributes:
        place: Where: fields and positions.
        words: What it means.
    """

    place: tuple[str | int, ...]
    words: str


def remarks_of(policy: Policy, *, now: datetime) -> tuple[Remark, ...]:
    """Return what should be looked at again: what allows more than it seems to, and what allows nothing."""
    rules = (found for position, rule in enumerate(policy.rules) for found in _rule(policy, rule, position, now))
    return (*_enclaves(policy), *_approvals(policy), *_top(policy, now), *rules)


def _top(policy: Policy, now: datetime) -> Iterator[Remark]:
    if policy.broker is None:
        words = "no broker is named: unless it is signed for one, whoever has it can put it in force at any broker that has the dataset"
        yield Remark(place=(), words=words)
    if policy.expires is not None and policy.expires < now:
        yield Remark(place=("expires",), words="the policy has expired: it allows nothing")
    if policy.allow_insecure:
        yield Remark(place=("allow_insecure",), words="processes without a TEE are accepted: the cluster's operator can read everything")
    if policy.insecure_roots and not policy.allow_insecure:
        yield Remark(place=("insecure_roots",), words="these roots are accepted with allow_insecure only")


def _enclaves(policy: Policy) -> Iterator[Remark]:
    if not policy.enclaves:
        yield Remark(place=("enclaves",), words="no enclave is named: nothing can run")
    for name, enclave in policy.enclaves.items():
        if not enclave.tees and not policy.allow_insecure:
            yield Remark(place=("enclaves", name), words="no TEE is accepted: add `tees: [sgx]`")
        if enclave.measurement is not None and not enclave.measurement.strip("0"):
            yield Remark(
                place=("enclaves", name, "measurement"), words="no code has this measurement: `securemllib enclave measure` prints one"
            )
        if stale := sorted(set(_STALE) & set(enclave.tcb_statuses)):
            yield Remark(place=("enclaves", name, "tcb_statuses"), words=f"{', '.join(stale)}: such platforms have known weaknesses")


def _approvals(policy: Policy) -> Iterator[Remark]:
    for name in ("policy_change", "model_release"):
        quorum: Quorum | None = getattr(policy.approvals, name)
        if quorum is not None and quorum.threshold == 1 and policy.owner in quorum.identities:
            yield Remark(place=("approvals", name), words="the owner's own approval is enough")


def _rule(policy: Policy, rule: Rule, position: int, now: datetime) -> Iterator[Remark]:
    place = ("rules", position)
    if not rule.analysts:
        yield Remark(place=(*place, "analysts"), words="nobody is named: the rule allows nothing")
    if not rule.operations:
        yield Remark(place=(*place, "operations"), words="no operation is named: the rule allows nothing")
    if ANY in rule.operations:
        yield Remark(place=(*place, "operations"), words="every operation is allowed, without a bound, those of later versions too")
    if rule.not_after is not None and rule.not_after < now:
        yield Remark(place=(*place, "not_after"), words="the rule has ended: it allows nothing")
    if rule.not_after is None and policy.expires is None:
        yield Remark(place=place, words="the rule never ends")
    if rule.maximum_runs == 0:
        yield Remark(place=(*place, "maximum_runs"), words="the rule allows no run")
    yield from _outputs(policy, rule, place)


def _outputs(policy: Policy, rule: Rule, place: tuple[str | int, ...]) -> Iterator[Remark]:
    names = rule.operations.keys()
    any_operation = ANY in names
    values = [kind for kind in (OutputKind.METRIC, OutputKind.SUMMARY) if kind in rule.outputs]
    if values and rule.min_group_size == 0:
        yield Remark(place=(*place, "outputs", values[0].value), words="without min_group_size a value may be of a single row")
    rows = rule.outputs.get(OutputKind.ROWS)
    if rows is not None and ANY in rows.columns:
        yield Remark(place=(*place, "outputs", "rows"), words="every column may leave, in the clear for its recipients")
    if rows is not None and not any_operation and ROWS_OPERATION not in names:
        yield Remark(place=(*place, "outputs", "rows"), words=f"rows leave by the operation {ROWS_OPERATION}, which the rule does not name")
    if OutputKind.PLAIN_MODEL not in rule.outputs:
        return
    if not any_operation and RELEASE_OPERATION not in names:
        words = f"models leave by the operation {RELEASE_OPERATION}, which the rule does not name"
        yield Remark(place=(*place, "outputs", "plain_model"), words=words)
    if policy.approvals.model_release is None:
        yield Remark(place=(*place, "outputs", "plain_model"), words="models are released without anybody's approval")
