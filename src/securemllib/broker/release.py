"""Releasing keys to an enclave: a challenge, its evidence appraised for every owner, and then a grant wrapped for that enclave alone."""

import os
import secrets
from hashlib import sha256

from sqlalchemy import delete, func, select

from securemllib.attestation.claims import Claims
from securemllib.attestation.verifier import appraise_named
from securemllib.broker.custody import Transaction
from securemllib.broker.datasets import dataset_facts, dataset_secret
from securemllib.broker.heads import head_of
from securemllib.broker.jobs import authorised, check_standing, count, counted_by, job_key, job_row, lineage_of, model_key, specification
from securemllib.broker.schema import ACCEPTED, GrantRow, JobRow, SessionRow
from securemllib.broker.token import TokenSubject, check_token, issue_token
from securemllib.crypto.keys import DataKey
from securemllib.crypto.models import statistics_key
from securemllib.crypto.wrapping import wrap
from securemllib.errors import AttestationError, FreshnessError, PolicyError, UnavailableError
from securemllib.wire.attestation import (
    AttestationResult,
    Challenge,
    DatasetGrant,
    Evidence,
    Grant,
    Head,
    ModelGrant,
    WrappedGrant,
    grant_context,
)
from securemllib.wire.dataset import DatasetRef
from securemllib.wire.job import JobSpecification, OutputKind
from securemllib.wire.signed import Signed

__all__ = ["CHALLENGE_SECONDS", "TOKEN_SECONDS", "admit", "attest", "challenge", "check_challenged", "consume", "grant", "sources"]

CHALLENGE_SECONDS = 60
# An enclave fetches its grant at once; minutes cover a slow relay.
TOKEN_SECONDS = 300
_FORGET_SECONDS = 600
# Far more than the enclaves of one job that attest within a minute; each one leaves a row.
_OPEN_CHALLENGES = 4096
_NONCE_BYTES = 32
_CHALLENGED, _ANSWERED, _ATTESTED, _GRANTED = "challenged", "answered", "attested", "granted"


def challenge(transaction: Transaction, job_id: str, tee: str) -> tuple[str, Challenge]:
    """Return a session and its single-use challenge for one enclave of a job.

    Raises:
        FreshnessError: The job takes no more enclaves.
        UnavailableError: As many of its challenges as may be are neither answered nor expired.
    """
    _check_open(job_row(transaction, job_id))
    _check_unanswered(transaction, job_id)
    asked = Challenge(nonce=os.urandom(_NONCE_BYTES), broker=transaction.identity.public, job_id=job_id)
    session = secrets.token_urlsafe(_NONCE_BYTES)
    transaction.session.execute(delete(SessionRow).where(SessionRow.expires < transaction.now - _FORGET_SECONDS))
    transaction.session.add(
        SessionRow(
            session=_name(session),
            job_id=job_id,
            tee=tee,
            challenge=asked.to_bytes(),
            expires=transaction.now + CHALLENGE_SECONDS,
            state=_CHALLENGED,
            evidence=None,
        )
    )
    return session, asked


def consume(transaction: Transaction, session: str) -> None:
    """Use a challenge up, whatever becomes of the evidence.

    Raises:
        FreshnessError: There is no such challenge, it has expired, or it was answered before.
    """
    _challenged(transaction, session).state = _ANSWERED


def check_challenged(transaction: Transaction, session: str) -> None:
    """Refuse, as `consume` does, a session that has no challenge to answer."""
    _challenged(transaction, session)


def sources(transaction: Transaction, session: str) -> tuple[DatasetRef, ...]:
    """Return the datasets whose secrets a grant of this session would hold; none for a session that can get no grant."""
    row = transaction.session.get(SessionRow, _name(session))
    if row is None or transaction.now >= row.expires or row.state not in {_CHALLENGED, _ATTESTED}:
        return ()
    plan = specification(job_row(transaction, row.job_id)).plan
    return () if plan is None else (plan.source,)


def attest(transaction: Transaction, session: str, evidence: Evidence) -> str:
    """Return the token of an enclave whose evidence every involved owner accepts.

    1. The evidence is of the announced TEE.
    2. It satisfies the appraisal policy of every dataset that the job involves.
    3. The analyst accepts the measurement.

    Raises:
        AttestationError: One of them does not hold.
        FreshnessError: The session's challenge is not the one that `consume` has just used up.
    """
    row = _answered(transaction, session, evidence)
    claims = _appraised(transaction, _job_of(transaction, row), evidence, Challenge.from_bytes(row.challenge))
    row.state, row.evidence, row.expires = _ATTESTED, evidence.to_bytes(), transaction.now + TOKEN_SECONDS
    subject = TokenSubject(job_id=row.job_id, session=row.session, expires=row.expires)
    return issue_token(transaction.identity, subject, evidence.identity, claims, now=transaction.now)


def admit(transaction: Transaction, session: str, evidence: Evidence, job_id: str) -> tuple[Signed, Head | None]:
    """Return the job's keys, wrapped for an enclave whose evidence is accepted now, and the head that is among them.

    1. The evidence is of the announced TEE, and answers this job's challenge, which `consume` has just used up.
    2. The job is neither finished nor released.
    3. Every owner's policy, as it is now, allows the job and accepts the enclave; so does the analyst.

    Raises:
        AttestationError: The enclave is not accepted.
        FreshnessError: The challenge is not this job's, 2 does not hold, or the dataset has a newer version.
        PolicyError: An owner's policy does not allow the job.
    """
    row = _answered(transaction, session, evidence)
    if row.job_id != job_id:
        raise FreshnessError("The session has no challenge of this job.", next_step="Ask for a new challenge.")
    return _granted(transaction, row, evidence)


def grant(transaction: Transaction, session: str, token: str, job_id: str) -> Signed:
    """Return the job's keys, wrapped for the attested enclave. One session fetches one grant.

    1. The token is this job's and this session's, and not expired.
    2. The session is attested, and fetched no grant before.
    3. The job is neither finished nor released.
    4. Every owner's policy, as it is now, still allows the job and accepts the enclave.

    Raises:
        SignatureError: The token is not one of this broker for this session and job.
        FreshnessError: The token expired, or 2 or 3 does not hold, or the dataset has a newer version.
        PolicyError: An owner's policy does not allow the job.
        AttestationError: An owner's policy does not accept the enclave.
    """
    row = transaction.session.get(SessionRow, _name(session))
    if row is None:
        raise FreshnessError("There is no such session.", next_step="Attest again.")
    _job_of(transaction, row)
    subject = TokenSubject(job_id=job_id, session=row.session, expires=row.expires)
    check_token(transaction.identity, token, subject=subject, now=transaction.now)
    if row.state != _ATTESTED or row.evidence is None or row.job_id != job_id:
        raise FreshnessError("The session has no grant to fetch.", next_step="Attest again.")
    granted, _ = _granted(transaction, row, Evidence.from_bytes(row.evidence))
    return granted


def _challenged(transaction: Transaction, session: str) -> SessionRow:
    row = transaction.session.get(SessionRow, _name(session))
    if row is None or transaction.now >= row.expires:
        raise FreshnessError("There is no such challenge, or it has expired.", next_step="Ask for a new challenge.")
    if row.state != _CHALLENGED:
        raise FreshnessError(f"The challenge of job {row.job_id} was answered before.", next_step="Ask for a new challenge.")
    return row


def _answered(transaction: Transaction, session: str, evidence: Evidence) -> SessionRow:
    row = transaction.session.get(SessionRow, _name(session))
    if row is None or row.state != _ANSWERED or row.evidence is not None:
        raise FreshnessError("The session has no challenge to answer.", next_step="Ask for a new challenge.")
    _job_of(transaction, row)
    if evidence.tee != row.tee:
        raise AttestationError(f"Evidence of {row.tee} was announced.", code="refused.attestation.tee")
    return row


def _job_of(transaction: Transaction, row: SessionRow) -> JobRow:
    """Return a session's job, and name its datasets: their owners see what is refused, for whatever reason."""
    job = job_row(transaction, row.job_id)
    transaction.datasets |= {dataset.dataset_id for dataset in lineage_of(job)}
    return job


def _granted(transaction: Transaction, row: SessionRow, evidence: Evidence) -> tuple[Signed, Head | None]:
    job = _job_of(transaction, row)
    _check_open(job)
    check_standing(transaction, job)
    counted = counted_by(transaction, job.job_id)
    decision = authorised(transaction, specification(job), counted=counted)
    claims = _appraised(transaction, job, evidence, Challenge.from_bytes(row.challenge))
    count(transaction, job.job_id, decision, counted)
    row.state = _GRANTED
    job.epoch += 1
    transaction.detail |= {"epoch": job.epoch, "enclave": evidence.identity.fingerprint, "tee": claims.tee}
    result = _result(transaction, job.job_id, evidence, claims)
    transaction.session.add(GrantRow(job_id=job.job_id, epoch=job.epoch, result=result.to_bytes()))
    given = _grant(transaction, job, result, decision.min_group_size)
    wrapped = wrap(evidence.identity.recipient_key, grant_context(job.job_id, evidence.identity.fingerprint), given.to_bytes())
    return transaction.identity.sign(WrappedGrant(wrapped=wrapped)), given.head


def _name(session: str) -> str:
    # The database holds only the digest: a copy of it does not let anybody continue a session.
    return sha256(session.encode()).hexdigest()


def _check_open(row: JobRow) -> None:
    if row.status != ACCEPTED:
        raise FreshnessError(f"The job {row.job_id} is {row.status}: it gets no more grants.", code="integrity.freshness.finished")


def _check_unanswered(transaction: Transaction, job_id: str) -> None:
    unanswered = SessionRow.job_id == job_id, SessionRow.state == _CHALLENGED, SessionRow.expires > transaction.now
    if (transaction.session.scalar(select(func.count()).where(*unanswered)) or 0) >= _OPEN_CHALLENGES:
        raise UnavailableError(f"{_OPEN_CHALLENGES} challenges of job {job_id} are open.", code="unavailable.challenges")


def _appraised(transaction: Transaction, row: JobRow, evidence: Evidence, asked: Challenge) -> Claims:
    found: list[Claims] = []
    named: dict[str, str] = {}
    for dataset_id in dict.fromkeys(dataset.dataset_id for dataset in lineage_of(row)):
        facts = dataset_facts(transaction, dataset_id)
        if facts is None or facts.policy is None:
            raise PolicyError(f"The dataset {dataset_id} has no policy.", code="refused.policy.missing")
        policies = facts.policy.appraisals()
        name, claims = appraise_named(evidence, challenge=asked, policies=policies, endorsements=transaction.endorsements)
        found.append(claims)
        named[dataset_id] = name
    claims = found[0]
    measurements = specification(row).measurements
    if measurements and claims.measurement not in measurements:
        raise AttestationError("The job does not name this enclave's measurement.", code="refused.attestation.measurement")
    transaction.detail |= {"measurement": claims.measurement.hex(), "tee": claims.tee, "enclaves": named}
    if claims.platform is not None:
        transaction.detail |= {"tcb_status": list(claims.platform.tcb_statuses), "advisories": list(claims.platform.advisories)}
    return claims


def _result(transaction: Transaction, job_id: str, evidence: Evidence, claims: Claims) -> Signed:
    return transaction.identity.sign(
        AttestationResult(
            job_id=job_id,
            identity=evidence.identity,
            tee=claims.tee,
            measurement=claims.measurement,
            protections=claims.protections,
            issued=transaction.now,
        )
    )


def _grant(transaction: Transaction, row: JobRow, result: Signed, min_group_size: int) -> Grant:
    job = specification(row)
    sources = () if job.plan is None else (job.plan.source,)
    return Grant(
        job=row.signed,
        epoch=row.epoch,
        job_key=job_key(transaction, row),
        model_key=model_key(transaction, row.job_id),
        datasets=tuple(DatasetGrant(dataset=dataset, secret=dataset_secret(transaction, dataset)) for dataset in sources),
        models=tuple(ModelGrant(model=model, key=model_key(transaction, model.model_id)) for model in job.models),
        head=head_of(row),
        result=result,
        min_group_size=min_group_size,
        statistics=_statistics_behind(transaction, job),
    )


def _statistics_behind(transaction: Transaction, job: JobSpecification) -> bytes:
    # Whoever may leave such statistics may go on from them: the policies were asked for that output of this job.
    if job.model is None or not job.output(OutputKind.SEALED_STATISTICS):
        return b""
    trained = transaction.session.get_one(JobRow, job.model.model_id)
    return statistics_key(DataKey(job_key(transaction, trained)), trained.job_id).expose()
