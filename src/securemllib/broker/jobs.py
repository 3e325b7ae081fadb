"""Accepting jobs, and releasing the keys of models to the recipients that the owners' policies name."""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from sqlalchemy import select

from securemllib.broker.custody import Transaction
from securemllib.broker.datasets import dataset_facts
from securemllib.broker.freshness import JOB_SECONDS, check_created
from securemllib.broker.policies import approvals_of
from securemllib.broker.schema import ACCEPTED, RELEASED, DatasetRow, GrantRow, JobRow, JobRuleRow, ModelRow, RuleRunsRow
from securemllib.broker.standing import check_not_revoked, check_signer
from securemllib.crypto.identity import verify
from securemllib.crypto.keys import DataKey
from securemllib.crypto.wrapping import wrap
from securemllib.errors import FormatError, FreshnessError, PolicyError, UsageError
from securemllib.policy.decision import Decision, Facts, ModelFacts, authorise, involved
from securemllib.policy.roles import require_roles
from securemllib.wire.dataset import DatasetRef
from securemllib.wire.encoding import decode, encode
from securemllib.wire.job import RELEASE_OPERATION, JobSpecification, OutputKind
from securemllib.wire.plan import ModelRef
from securemllib.wire.result import WrappedModelKey, model_key_context
from securemllib.wire.signed import Signed

__all__ = [
    "authorised",
    "check_standing",
    "count",
    "counted_by",
    "job_key",
    "job_row",
    "lineage_of",
    "model_key",
    "release",
    "specification",
    "submit",
]

_JOB_KEY = "securemllib/broker/job-key/v1"
_MODEL_KEY = "securemllib/broker/model-key/v1"
# Each step of a job reads its specification; a plan is small, and decoding one takes longer than all else of a step's arithmetic.
_KEPT_JOBS = 256


def submit(transaction: Transaction, signed: Signed) -> str:
    """Accept a job and return its id. The same job sent twice is one job.

    1. The analyst whom the job names signed it.
    2. A job that is new here was signed within the last day.
    3. It names the columns without which its operation has nothing to work on (`require_roles`).
    4. Every involved owner's policy allows it (`authorise`).

    Raises:
        SignatureError: 1 does not hold.
        PolicyError: 4 does not hold.
        FreshnessError: 2 does not hold, or the job reads an older version of its dataset.
        UsageError: 3 does not hold, or it is no job that enclaves work on.
    """
    job = _verified(transaction, signed)
    if job.operation == RELEASE_OPERATION:
        raise UsageError(f"{RELEASE_OPERATION} is asked for at /v1/releases.")
    if transaction.session.get(JobRow, job.job_id) is None:
        _name_datasets(transaction, job)
        _accept(transaction, job, signed, ACCEPTED)
    return job.job_id


def release(transaction: Transaction, signed: Signed) -> tuple[tuple[Signed, ...], Signed]:
    """Return a model's key, wrapped for each recipient, and the attestation result of the enclave that trained the model.

    1. The analyst whom the job names signed it.
    2. It asks for nothing but a plain model, and was not answered before.
    3. Every owner behind the model allows it (`authorise`).

    Raises:
        SignatureError: 1 does not hold.
        UsageError: It asks for something else.
        FreshnessError: It was answered before.
        PolicyError: 3 does not hold.
    """
    job = _verified(transaction, signed)
    model = job.model
    if job.operation != RELEASE_OPERATION or model is None:
        raise UsageError(f"Only {RELEASE_OPERATION} is asked for at /v1/releases.")
    if not job.outputs or any(output.kind is not OutputKind.PLAIN_MODEL for output in job.outputs):
        raise UsageError(f"{RELEASE_OPERATION} has outputs of the kind {OutputKind.PLAIN_MODEL.value} and no other.")
    _name_datasets(transaction, job)
    if transaction.session.get(JobRow, job.job_id) is not None:
        raise FreshnessError(f"The release {job.job_id} was answered before.", next_step="Sign a new one.")
    _accept(transaction, job, signed, RELEASED)
    key = model_key(transaction, model.model_id)
    recipients = {output.recipient.fingerprint: output.recipient for output in job.outputs}
    transaction.detail["recipients"] = sorted(recipients)
    keys = tuple(
        transaction.identity.sign(
            WrappedModelKey(
                job_id=job.job_id,
                model=model,
                recipient=fingerprint,
                wrapped=wrap(recipient.recipient_key, model_key_context(job.job_id, model, fingerprint), key),
            )
        )
        for fingerprint, recipient in recipients.items()
    )
    return keys, _training_result(transaction, model)


def authorised(transaction: Transaction, job: JobSpecification, *, counted: Mapping[str, str] | None = None) -> Decision:
    """Return the decision about a job from what the store knows now; `PolicyError` or `FreshnessError` where it is refused."""
    facts = _facts_of_models(transaction, job)
    names = {dataset.dataset_id for dataset in involved(job, facts)}
    datasets = {name: found for name in names if (found := dataset_facts(transaction, name)) is not None}
    approvals = () if job.model is None else approvals_of(transaction, job.model)
    return authorise(job, replace(facts, datasets=datasets, approvals=approvals), now=transaction.now, counted=counted)


def counted_by(transaction: Transaction, job_id: str) -> dict[str, str]:
    """Return the rule that counted an accepted job last, by the dataset whose policy has it."""
    rows = transaction.session.scalars(select(JobRuleRow).where(JobRuleRow.job_id == job_id))
    return {row.dataset_id: row.rule for row in rows}


def count(transaction: Transaction, job_id: str, decision: Decision, counted: Mapping[str, str]) -> None:
    """Count a job as a run of each rule that allows it and has not just counted it, so also of one that it moves, or comes back, to.

    Args:
        transaction: The decision.
        job_id: The job, whose row is in the database.
        decision: Why it is allowed.
        counted: The rule of each dataset that counted it last, as `counted_by` returns it; empty for a new job.
    """
    transaction.detail["rules"] = {permission.dataset_id: permission.rule for permission in decision.permissions}
    for permission in decision.permissions:
        if counted.get(permission.dataset_id) == permission.rule:
            continue
        row = transaction.session.get(RuleRunsRow, (permission.dataset_id, permission.rule))
        if row is None:
            transaction.session.add(RuleRunsRow(dataset_id=permission.dataset_id, rule=permission.rule, runs=1))
        else:
            row.runs += 1
        transaction.session.merge(JobRuleRow(job_id=job_id, dataset_id=permission.dataset_id, rule=permission.rule))


def job_row(transaction: Transaction, job_id: str) -> JobRow:
    """Return an accepted job; `UsageError` for an unknown one."""
    transaction.detail["job_id"] = job_id
    row = transaction.session.get(JobRow, job_id)
    if row is None:
        raise UsageError(f"The broker knows no job {job_id[:64]}.", code="usage.unknown_job", next_step="Submit the job first.")
    return row


def check_standing(transaction: Transaction, row: JobRow) -> None:
    """Refuse a job whose analyst, one of whose recipients, or one of whose datasets' owners was revoked; `RefusedError`."""
    owners = (transaction.session.get_one(DatasetRow, dataset.dataset_id).owner for dataset in lineage_of(row))
    job = specification(row)
    recipients = (output.recipient.fingerprint for output in job.outputs)
    check_not_revoked(transaction, (job.analyst.fingerprint, *recipients, *owners))


def specification(row: JobRow) -> JobSpecification:
    """Return the specification of an accepted job, whose signature was verified when it was accepted."""
    return _specification(row.signed)


def lineage_of(row: JobRow) -> tuple[DatasetRef, ...]:
    """Return the datasets behind a job."""
    tree = decode(row.lineage)
    if not isinstance(tree, list):
        raise FormatError(f"The lineage of job {row.job_id} is no list.")
    return tuple(DatasetRef.from_tree(item) for item in tree)


def job_key(transaction: Transaction, row: JobRow) -> bytes:
    """Return a job's key."""
    return transaction.store.unseal(row.sealed_job_key, _JOB_KEY, row.job_id)


def model_key(transaction: Transaction, job_id: str) -> bytes:
    """Return the key of the model that a job trains, to be wrapped at once."""
    row = transaction.session.get_one(JobRow, job_id)
    return transaction.store.unseal(row.sealed_model_key, _MODEL_KEY, job_id)


@lru_cache(maxsize=_KEPT_JOBS)
def _specification(signed: bytes) -> JobSpecification:
    return JobSpecification.from_bytes(Signed.from_bytes(signed).payload)


def _verified(transaction: Transaction, signed: Signed) -> JobSpecification:
    claimed = JobSpecification.from_bytes(signed.payload)
    job = verify(signed, JobSpecification, claimed.analyst)
    transaction.rates.check_identity(job.analyst.fingerprint)
    transaction.detail |= {"job_id": job.job_id, "analyst": job.analyst.fingerprint, "operation": job.operation}
    return job


def _name_datasets(transaction: Transaction, job: JobSpecification) -> None:
    """Name the datasets of a new job before anything else is asked: their owners see what is refused, for whatever reason."""
    names = {dataset.dataset_id for dataset in involved(job, _facts_of_models(transaction, job))}
    transaction.datasets |= {name for name in names if transaction.session.get(DatasetRow, name) is not None}


def _accept(transaction: Transaction, job: JobSpecification, signed: Signed, status: str) -> None:
    check_created(job.created, transaction.now, seconds=JOB_SECONDS)
    check_signer(transaction, job.analyst.fingerprint)
    check_not_revoked(transaction, (output.recipient.fingerprint for output in job.outputs))
    require_roles(job)
    decision = authorised(transaction, job)
    store = transaction.store
    transaction.session.add(
        JobRow(
            job_id=job.job_id,
            signed=signed.to_bytes(),
            sealed_job_key=store.seal(DataKey.generate().expose(), _JOB_KEY, job.job_id),
            sealed_model_key=store.seal(DataKey.generate().expose(), _MODEL_KEY, job.job_id),
            lineage=encode([dataset.to_tree() for dataset in decision.lineage]),
            epoch=0,
            aggregator_epoch=0,
            head=None,
            status=status,
        )
    )
    transaction.session.flush()
    count(transaction, job.job_id, decision, {})


def _facts_of_models(transaction: Transaction, job: JobSpecification) -> Facts:
    models = {model.model_id: known for model in job.models if (known := _model_facts(transaction, model.model_id)) is not None}
    return Facts(broker=transaction.identity.public.fingerprint, datasets={}, models=models)


def _model_facts(transaction: Transaction, model_id: str) -> ModelFacts | None:
    model = transaction.session.get(ModelRow, model_id)
    if model is None:
        return None
    row = transaction.session.get_one(JobRow, model_id)
    trained, reference = specification(row), ModelRef(model_id=model_id, digest=model.digest)
    earlier, before = [], trained.model
    while before is not None:
        job = specification(transaction.session.get_one(JobRow, before.model_id))
        earlier.append(job.params)
        before = job.model
    return ModelFacts(
        reference=reference,
        lineage=lineage_of(row),
        operation=trained.operation,
        params=trained.params,
        inputs=trained.inputs,
        plan=trained.plan,
        earlier=tuple(earlier),
    )


def _training_result(transaction: Transaction, model: ModelRef) -> Signed:
    epoch = transaction.session.get_one(ModelRow, model.model_id).epoch
    grant = transaction.session.get(GrantRow, (model.model_id, epoch))
    if grant is None:
        raise PolicyError(f"No grant of the model {model.model_id} is recorded.", code="refused.policy.model")
    return Signed.from_bytes(grant.result)
