"""The release decision: may this job have its keys? Pure: facts in, a decision or a `PolicyError` out. What no rule allows is refused.

The error's reason and next step are for the requester. Its notes (``__notes__``) hold every rule with all that it would need: they are for
the owner's log, and never leave the broker otherwise.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from securemllib.errors import FormatError, FreshnessError, PolicyError
from securemllib.policy.approval import ReleaseApproval
from securemllib.policy.model import Policy
from securemllib.policy.origins import Origin, origins
from securemllib.policy.rules import Leaving, Question
from securemllib.policy.verdict import Verdict, judge
from securemllib.wire.dataset import DatasetRef
from securemllib.wire.job import RELEASE_OPERATION, JobSpecification
from securemllib.wire.plan import Filter, ModelRef, ParamValue, Parts, Plan, RandomSplit

__all__ = ["DatasetFacts", "Decision", "Facts", "ModelFacts", "Permission", "authorise", "explains", "involved"]

# The operation whose summary holds its rows, and the only output of a model that it reads.
_RECOMMENDER, _RECOMMENDATIONS = "Recommender", "recommendations"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetFacts:
    """What the broker knows of a dataset.

    Attributes:
        latest: Its latest version.
        columns: All columns of that version.
        policy: The policy in force, None where the owner sent none.
        runs: Jobs that each rule, by its name, has allowed so far.
    """

    latest: DatasetRef
    columns: tuple[str, ...]
    policy: Policy | None
    runs: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """A finished model, all datasets behind it, and the operation with its Params, inputs and plan that trained it.

    ``earlier`` has the Params of the trainings that it goes on from, which shaped it, too.
    """

    reference: ModelRef
    lineage: tuple[DatasetRef, ...]
    operation: str
    params: Mapping[str, ParamValue]
    inputs: Mapping[str, str] = field(default_factory=dict)
    plan: Plan | None = None
    earlier: tuple[Mapping[str, ParamValue], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that a decision rests on.

    Attributes:
        broker: The deciding broker's fingerprint.
        datasets: Known datasets by id; those that the job involves suffice.
        models: Finished models by id; likewise.
        approvals: Approvals of releases by fingerprint of who signed them, their signatures verified.
    """

    broker: str
    datasets: Mapping[str, DatasetFacts]
    models: Mapping[str, ModelFacts]
    approvals: tuple[tuple[str, ReleaseApproval], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """The rule by which one dataset's policy allows a job, and the group size that it asks for."""

    dataset_id: str
    rule: str
    min_group_size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A job that is allowed: one permission for each involved dataset, and the lineage of what it computes."""

    permissions: tuple[Permission, ...]
    lineage: tuple[DatasetRef, ...]

    @property
    def min_group_size(self) -> int:
        """The largest of the group sizes that the rules ask for."""
        return max(permission.min_group_size for permission in self.permissions)


def authorise(job: JobSpecification, facts: Facts, *, now: int, counted: Mapping[str, str] | None = None) -> Decision:
    """Return why a job is allowed.

    1. The job names this broker.
    2. Every model that it uses is finished, and is the one that it names.
    3. Its source is the latest version of a known dataset.
    4. What collects recommendations reads those of a model and nothing else: otherwise its summary would be rows of any columns.
    5. A training that goes on from a model has its operation, and reads the parts right behind the model's: no row counts twice.
       It reads them by the model's columns, made by the same steps; which rows it leaves out is its own matter.
    6. For every involved dataset (the source and all datasets behind the models), its policy has not expired, and one rule of it
       allows all of: analyst, operation with its Params, columns (of the source), mode, outputs, time and number of runs. A rule that
       allows a model's release allows the operation that trained it, too, and each training that it goes on from: fitted transformers hold
       values of rows.
    7. As many people as each of these policies asks for approved a model's release.

    A Param with a bound must be given: an omitted one is refused, because the policy cannot judge a default that it does not see.

    Args:
        job: The job, its signature verified.
        facts: The broker's facts.
        now: Seconds since 1970.
        counted: Of an accepted job the rule of each dataset that has counted it, as when keys are granted; None for a new job.

    Raises:
        PolicyError: 1, 2, 4, 5, 6 or 7 does not hold, or the source is not known.
        FreshnessError: The source is not the latest version.
    """
    if job.broker != facts.broker:
        raise PolicyError(f"The job is for the broker {job.broker}, this is {facts.broker}.", code="refused.policy.broker")
    for model in job.models:
        _check_model(model, facts)
    if job.plan is not None:
        _check_latest(job.plan.source, facts)
    _check_recommendations(job)
    _check_continues(job, facts)
    lineage = involved(job, facts)
    datasets = dict.fromkeys(dataset.dataset_id for dataset in lineage)
    permissions = tuple(_permission(job, dataset_id, facts, now, (counted or {}).get(dataset_id)) for dataset_id in datasets)
    if not permissions:
        raise PolicyError("The job involves no dataset, so no policy can allow it.", code="refused.policy.dataset")
    return Decision(permissions=permissions, lineage=lineage)


def involved(job: JobSpecification, facts: Facts) -> tuple[DatasetRef, ...]:
    """Return the dataset versions that a job involves, each once: its source first, then those behind its models."""
    sources = [job.plan.source] if job.plan is not None else []
    behind = [dataset for model in job.models if model.model_id in facts.models for dataset in facts.models[model.model_id].lineage]
    return tuple({dataset.digest: dataset for dataset in [*sources, *behind]}.values())


def explains(explanation: list[str], datasets: Collection[str]) -> bool:
    """Return whether the notes of a refusal are about the policy of one of these datasets."""
    return bool(explanation) and explanation[0].startswith(tuple(_explanation_of(dataset_id) for dataset_id in datasets))


def _explanation_of(dataset_id: str) -> str:
    return f"policy of dataset {dataset_id},"


def _check_model(model: ModelRef, facts: Facts) -> None:
    known = facts.models.get(model.model_id)
    if known is None:
        raise PolicyError(f"The model {model.model_id} is not finished, or not known.", code="refused.policy.model")
    if known.reference.digest != model.digest:
        raise PolicyError(f"The model {model.model_id} has another digest.", code="refused.policy.model")


def _check_latest(source: DatasetRef, facts: Facts) -> None:
    known = facts.datasets.get(source.dataset_id)
    if known is None:
        raise PolicyError(f"The dataset {source.dataset_id} is not enrolled here.", code="refused.policy.dataset")
    if known.latest != source:
        raise FreshnessError(
            f"The job reads version {source.version} of dataset {source.dataset_id}; the latest is {known.latest.version}"
            f"{', with another digest' if known.latest.version == source.version else ''}.",
            next_step="Open the dataset again and use its latest version.",
        )


def _check_recommendations(job: JobSpecification) -> None:
    if job.operation != _RECOMMENDER or job.plan is None:
        return
    read = {origin for column in job.inputs.values() for origin in origins(job.plan, column)}
    if not read or any(origin.model is None or origin.name != _RECOMMENDATIONS for origin in read):
        raise PolicyError(f"{_RECOMMENDER} reads the {_RECOMMENDATIONS} of a model and nothing else.", code="refused.policy.columns")


def _check_continues(job: JobSpecification, facts: Facts) -> None:
    if job.model is None or job.plan is None:
        return
    known = facts.models[job.model.model_id]
    before, chosen = known.plan, job.plan.parts
    seen = before.parts if before is not None and before.source.dataset_id == job.plan.source.dataset_id else None
    if known.operation != job.operation or seen is None or chosen is None or chosen.first != seen.end:
        raise PolicyError(
            f"The training does not go on where the model {job.model.model_id} ended.",
            next_step=f"Go on from a {job.operation} model of the same dataset, with the parts right behind its own.",
            code="refused.policy.continuation",
        )
    if dict(job.inputs) != dict(known.inputs) or _makers(job.plan) != _makers(before):
        raise PolicyError(
            f"The training does not read the columns of the model {job.model.model_id}, or makes them by other steps.",
            next_step="Give the estimator the same columns and transform the batch as the rows before; only filters of rows may differ.",
            code="refused.policy.continuation_columns",
        )


def _makers(plan: Plan | None) -> list[object]:
    """Return the steps of a plan that make columns: the others choose rows."""
    return [] if plan is None else [step for step in plan.steps if not isinstance(step, Parts | Filter | RandomSplit)]


def _permission(job: JobSpecification, dataset_id: str, facts: Facts, now: int, counted_by: str | None) -> Permission:
    known = facts.datasets.get(dataset_id)
    policy = known.policy if known is not None else None
    if known is None or policy is None:
        raise PolicyError(f"The dataset {dataset_id} has no policy.", code="refused.policy.missing")
    verdict = judge(policy, _question(job, dataset_id, facts, now, counted_by))
    if verdict.rule is None:
        raise _refusal(job, dataset_id, policy, verdict)
    return Permission(dataset_id=dataset_id, rule=verdict.rule.name, min_group_size=verdict.rule.min_group_size)


def _question(job: JobSpecification, dataset_id: str, facts: Facts, now: int, counted_by: str | None) -> Question:
    known = facts.datasets[dataset_id]
    columns: frozenset[str] = frozenset()
    unreadable = None
    if job.plan is not None and job.plan.source.dataset_id == dataset_id:
        try:
            columns = job.plan.source_columns(job.result_columns, known.columns)
        except FormatError as error:
            unreadable = f"a plan that can be followed: {error.reason}"
    return Question(
        analyst=job.analyst.fingerprint,
        operations=_operations(job, facts),
        columns=columns,
        unreadable=unreadable,
        mode=job.mode,
        outputs=tuple(
            Leaving(
                kind=output.kind,
                recipient=output.recipient.fingerprint,
                columns=output.columns,
                origins=frozenset(origin.name for origin in _origins_of(job, dataset_id, facts, output.columns)),
            )
            for output in job.outputs
        ),
        now=now,
        runs=dict(known.runs),
        counted_by=counted_by,
        approvers=frozenset(approver for approver, approval in facts.approvals if approval.is_of(job, now)),
    )


def _operations(job: JobSpecification, facts: Facts) -> tuple[tuple[str, Mapping[str, ParamValue]], ...]:
    released = [facts.models[model.model_id] for model in job.models] if job.operation == RELEASE_OPERATION else []
    return (job.operation, job.params), *((model.operation, params) for model in released for params in (model.params, *model.earlier))


def _origins_of(job: JobSpecification, dataset_id: str, facts: Facts, columns: tuple[str, ...]) -> frozenset[Origin]:
    plan = job.plan
    if plan is None:
        return frozenset()
    found = frozenset(origin for column in columns for origin in origins(plan, column))
    if plan.source.dataset_id == dataset_id:
        return found
    behind = {model for model in job.models if dataset_id in {dataset.dataset_id for dataset in facts.models[model.model_id].lineage}}
    return frozenset(origin for origin in found if origin.model in behind)


def _refusal(job: JobSpecification, dataset_id: str, policy: Policy, verdict: Verdict) -> PolicyError:
    # An analyst whom no rule names learns nothing of what the policy says.
    if verdict.closest is None:
        error = PolicyError(
            f"No rule of the policy of dataset {dataset_id} names the analyst {job.analyst.fingerprint}.", code="refused.policy.analyst"
        )
    elif verdict.code in verdict.conditions:
        error = PolicyError(
            f"The policy of dataset {dataset_id} would need {verdict.deciding.needs}.",
            next_step=_next_step(job, verdict.code),
            code=f"refused.policy.{verdict.code}",
        )
    else:
        rule, needs = verdict.closest
        error = PolicyError(
            f"No rule of the policy of dataset {dataset_id} allows this job; the closest, {rule.name!r}, fails at: {', '.join(needs)}.",
            next_step=f"The rule would need {'; '.join(needs.values())}: change the job, or ask the data owner.",
            code=f"refused.policy.{next(iter(needs))}",
        )
    error.add_note(f"{_explanation_of(dataset_id)} serial {policy.serial}, {len(policy.rules)} rules")
    for rule, answers in verdict.rules:
        wanted = "; ".join(answer.needs for answer in answers.values() if answer.needs is not None)
        error.add_note(f"rule {rule.name!r} would need {wanted or 'nothing more'}")
    return error


def _next_step(job: JobSpecification, code: str) -> str:
    if code != "approval" or job.model is None:
        return "Ask the data owner."
    recipients = " ".join(f"--recipient {output.recipient.fingerprint}" for output in job.outputs)
    return (
        f"Ask the approvers for `securemllib policy approve --model {job.model.model_id} --digest {job.model.digest.hex()} {recipients}`, "
        "then ask for the release again."
    )
