"""One job inside the enclave: its keys, its specification, and what both say that its rows are."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from securemllib.algorithms.base import Seed
from securemllib.algorithms.registry import ALGORITHMS, build
from securemllib.crypto.aead import unseal
from securemllib.crypto.identity import PrivateIdentity, verify
from securemllib.crypto.keys import DataKey
from securemllib.enclave.held import HeldStatistics
from securemllib.enclave.host import Host
from securemllib.enclave.models import OpenedModel, open_model
from securemllib.enclave.parts import MANIFEST_BODY_PURPOSE
from securemllib.errors import FormatError, FreshnessError, RefusedError, SignatureError, UsageError
from securemllib.wire.attestation import AttestationResult, Challenge, Grant, WrappedGrant, grant_context
from securemllib.wire.dataset import DatasetRef, Manifest, ManifestBody, Part, body_context, manifest_digest, written_in
from securemllib.wire.job import ROWS_OPERATION, JobSpecification, Output
from securemllib.wire.plan import ModelRef, Plan
from securemllib.wire.result import SealedModel
from securemllib.wire.signed import Signed
from securemllib.wire.task import Install

__all__ = ["Session", "check_unseen", "install", "open_grant", "written_before"]

_SAMPLING_PURPOSE = "securemllib/sampling/v1"
_CACHE_PURPOSE = "securemllib/cache/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What the enclave knows of one job.

    Attributes:
        job_id: The job's id.
        job: The specification that the broker authorised.
        grant: Its keys.
        attestation: The broker's signed attestation result, which goes out with results.
        claims: The same, verified.
        identity: This enclave's identity for this job.
        job_key: Seals what the job's enclaves send each other.
        plan: The job's plan.
        secret: The secret of the plan's dataset.
        body: The manifest's sealed section.
        parts: The parts that the plan reads, in order.
        algorithm: The algorithm, or None where rows are the result.
        models: The plan's unsealed models.
        lineage: The datasets that the job's result derives from.
        columns: The dataset's columns that the job reads.
        cache_key: What a block's content depends on; only a holder of the dataset secret can compute it.
        result_keys: The keys of the job's results from this enclave, each with the signed `ResultKey` that tells its recipient of it.
        held: The job's statistics that did not leave this enclave.
    """

    job_id: str
    job: JobSpecification
    grant: Grant
    attestation: Signed
    claims: AttestationResult
    identity: PrivateIdentity
    job_key: DataKey
    plan: Plan
    secret: DataKey
    body: ManifestBody
    parts: tuple[Part, ...]
    algorithm: Any
    models: Mapping[ModelRef, OpenedModel]
    lineage: tuple[DatasetRef, ...]
    columns: tuple[str, ...]
    cache_key: bytes
    result_keys: dict[Output, tuple[DataKey, Signed]] = field(default_factory=dict)
    held: HeldStatistics = field(default_factory=HeldStatistics)

    def share(self, index: int) -> tuple[Part, ...]:
        """Return the parts of one share, in order; `FormatError` where the job has no such share."""
        if not 0 <= index < self.job.shares:
            raise FormatError(f"The job has {self.job.shares} shares, none of them {index}.")
        return self.parts[index :: self.job.shares]

    @property
    def split_seed(self) -> Seed:
        """The seed of random splits: the dataset's own, so that the splits of two jobs fit together."""
        return Seed(self.secret.derive_bytes(32, _SAMPLING_PURPOSE, "splits"))

    @property
    def algorithm_seed(self) -> Seed:
        """The seed of the algorithm: the analyst's seed under a key that neither the analyst nor the host knows."""
        return Seed(self.secret.derive_bytes(32, _SAMPLING_PURPOSE, "algorithm", self.job.operation, self.job.seed))


def open_grant(wrapped: Signed, challenge: Challenge, identity: PrivateIdentity) -> Grant:
    """Return the grant that answers one challenge.

    1. It is signed by the broker that the evidence was made for.
    2. It is wrapped for this enclave's fresh key, in the context of the challenge's job.

    Raises:
        IntegrityError: One of them does not hold.
    """
    opened = verify(wrapped, WrappedGrant, challenge.broker)
    return Grant.from_bytes(identity.recipient.unwrap(opened.wrapped, grant_context(challenge.job_id, identity.public.fingerprint)))


def install(grant: Grant, request: Install, *, challenge: Challenge, identity: PrivateIdentity, host: Host) -> Session:
    """Return the session of the grant that answers a challenge.

    1. Its job is the challenge's job, signed by its analyst, for that broker.
    2. The attestation result in it is the broker's, of this enclave and job.
    3. The manifest is the one that the job names, opens with the granted secret, and endorses the broker where it asks for one.
    4. Each model is the one that the job names, and opens with its granted key.
    5. The parts before those of a training that goes on from a model are the ones of the model's version.

    Raises:
        IntegrityError: One of them does not hold.
        RefusedError: The manifest endorses other brokers.
    """
    broker = challenge.broker
    job = _verified_job(grant, challenge)
    claims = verify(grant.result, AttestationResult, broker)
    if claims.job_id != challenge.job_id or claims.identity != identity.public:
        raise FreshnessError("The attestation result is another enclave's or job's.", code="integrity.grant")
    if job.plan is None:
        raise UsageError("The job has no rows to work on.", code="usage.job")
    secret, body = _open_manifest(request.manifest, job.plan.source, grant, broker.fingerprint)
    models, lineage = _open_models(request.models, job, grant, host)
    if job.model is not None:
        check_unseen(body, job.plan, models[job.model].sealed.lineage)
    return Session(
        job_id=challenge.job_id,
        job=job,
        grant=grant,
        attestation=grant.result,
        claims=claims,
        identity=identity,
        job_key=DataKey(grant.job_key),
        plan=job.plan,
        secret=secret,
        body=body,
        parts=_chosen(body, job.plan),
        algorithm=None if job.operation == ROWS_OPERATION else build(job.operation, job.params),
        models=models,
        lineage=tuple(dict.fromkeys((job.plan.source, *lineage))),
        columns=tuple(sorted(job.plan.source_columns(job.result_columns, tuple(column.name for column in body.columns)))),
        cache_key=_cache_key(secret, job),
    )


def _chosen(body: ManifestBody, plan: Plan) -> tuple[Part, ...]:
    if plan.parts is None:
        return body.parts
    if plan.parts.end > len(body.parts):
        raise UsageError(f"The plan reads parts up to {plan.parts.end - 1} of {len(body.parts)}.", code="usage.job")
    return body.parts[plan.parts.first : plan.parts.end]


def written_before(body: ManifestBody, plan: Plan) -> int:
    """Return the latest version that wrote a part before those that a plan reads, 0 where there is none."""
    first = 0 if plan.parts is None else plan.parts.first
    return max((written_in(part, plan.source.version) for part in body.parts[:first]), default=0)


def check_unseen(body: ManifestBody, plan: Plan, lineage: tuple[DatasetRef, ...]) -> None:
    """Refuse to go on from a model where a later version wrote the parts before the plan's anew: the plan's may hold rows that it saw."""
    source = plan.source
    seen = max((dataset.version for dataset in lineage if dataset.dataset_id == source.dataset_id), default=0)
    if written_before(body, plan) > seen:
        raise UsageError("The dataset was written anew since the model that the training goes on from.", code="usage.job")


def _cache_key(secret: DataKey, job: JobSpecification) -> bytes:
    plan = b"" if job.plan is None else job.plan.to_bytes()
    inputs = [name for role_and_column in sorted(job.inputs.items()) for name in role_and_column]
    sparse = "sparse" if getattr(ALGORITHMS.get(job.operation), "SPARSE", False) else "dense"
    return secret.derive_bytes(32, _CACHE_PURPOSE, plan, job.dtype, sparse, *inputs)


def _verified_job(grant: Grant, challenge: Challenge) -> JobSpecification:
    signed = Signed.from_bytes(grant.job)
    job = verify(signed, JobSpecification, JobSpecification.from_bytes(signed.payload).analyst)
    if job.job_id != challenge.job_id or job.broker != challenge.broker.fingerprint:
        raise SignatureError("The grant's job is not the one that this enclave was challenged for.", code="integrity.grant")
    return job


def _open_manifest(encoded: bytes, source: DatasetRef, grant: Grant, broker: str) -> tuple[DataKey, ManifestBody]:
    if manifest_digest(encoded) != source.digest:
        raise FreshnessError(f"The manifest is not version {source.version} of dataset {source.dataset_id}.", code="integrity.manifest")
    found = Manifest.from_bytes(encoded)
    secrets = [granted.secret for granted in grant.datasets if granted.dataset == source]
    if found.reference != source or len(secrets) != 1:
        raise FormatError("The grant does not hold the secret of the job's dataset.", code="integrity.grant")
    secret = DataKey(secrets[0])
    body = ManifestBody.from_bytes(
        unseal(secret.derive(MANIFEST_BODY_PURPOSE), body_context(source.dataset_id, source.version), found.body)
    )
    if body.brokers and broker not in body.brokers:
        raise RefusedError("The dataset's owner endorses other brokers.", code="refused.broker")
    return secret, body


def _open_models(
    encoded: tuple[bytes, ...], job: JobSpecification, grant: Grant, host: Host
) -> tuple[dict[ModelRef, OpenedModel], list[DatasetRef]]:
    keys = {granted.model: DataKey(granted.key) for granted in grant.models}
    opened: dict[ModelRef, OpenedModel] = {}
    lineage: list[DatasetRef] = []
    for raw in encoded:
        sealed = SealedModel.from_bytes(raw)
        reference = sealed.reference
        if reference not in job.models or reference not in keys:
            raise FreshnessError("A sealed model is none of those that the job names.", code="integrity.model")
        opened[reference] = open_model(sealed, keys[reference], host)
        lineage += sealed.lineage
    if opened.keys() != set(job.models):
        raise FormatError(f"The job names {len(job.models)} models, and {len(opened)} were handed over.", code="integrity.model")
    return opened, lineage
