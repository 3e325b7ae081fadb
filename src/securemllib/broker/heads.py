"""Where a job stands: its head moves by compare-and-swap, and only for the newest aggregator."""

from securemllib.broker.custody import Transaction
from securemllib.broker.jobs import check_standing, job_key, job_row, lineage_of, specification
from securemllib.broker.schema import ACCEPTED, FINISHED, JobRow, ModelRow
from securemllib.broker.standing import check_signer, newest
from securemllib.crypto.aead import seal, unseal
from securemllib.crypto.identity import verify
from securemllib.crypto.keys import DataKey
from securemllib.errors import FreshnessError, IntegrityError, PolicyError
from securemllib.wire.attestation import Head, HeadUpdate, head_acknowledgement_context, head_context
from securemllib.wire.job import OutputKind
from securemllib.wire.notices import JobEnd
from securemllib.wire.signed import Signed

__all__ = ["finish", "head_of", "move_head"]


def head_of(row: JobRow) -> Head | None:
    """Return the last recorded head of a job."""
    return None if row.head is None else Head.from_bytes(row.head)


def move_head(transaction: Transaction, job_id: str, update: bytes) -> bytes:
    """Move a job's head and return the acknowledgement, which the aggregator waits for before it goes on.

    1. The update is sealed under the job key, so an enclave of this job made it.
    2. Its epoch was granted.
    3. The very update that is the head already is acknowledged again.
    4. No newer aggregator has moved the head: older ones are fenced.
    5. The job is not finished, and the update continues from the recorded head.
    6. A model belongs to this job, and the job has a sealed model among its outputs.

    Raises:
        UnsealError: 1 does not hold.
        IntegrityError: 2 does not hold, or the model is another job's.
        FreshnessError: 4 or 5 does not hold.
        PolicyError: The job has no sealed model among its outputs.
    """
    row = job_row(transaction, job_id)
    transaction.datasets |= {dataset.dataset_id for dataset in lineage_of(row)}
    check_standing(transaction, row)
    key = DataKey(job_key(transaction, row))
    asked = HeadUpdate.from_bytes(unseal(key, head_context(job_id), update))
    transaction.detail |= {"round": asked.head.round, "epoch": asked.head.epoch}
    if not 1 <= asked.head.epoch <= row.epoch:
        raise IntegrityError(f"Epoch {asked.head.epoch} of job {job_id} was never granted; {row.epoch} were.")
    current = head_of(row)
    if not _is_repeated(transaction, row, current, asked):
        _check_follows(row, current, asked)
        _record(transaction, row, asked)
    return seal(key, head_acknowledgement_context(job_id, update), b"")


def finish(transaction: Transaction, job_id: str, signed: Signed) -> None:
    """Give no more keys to a job whose results have come, or are not waited for any more. Doing so twice changes nothing.

    The job's analyst says so, who is in force, of this job and to this broker. A model that is recorded stays; one that is not is never.

    Raises:
        SignatureError: Somebody else says so.
        RefusedError: The analyst was revoked.
        FreshnessError: The notice is of another job, or for another broker.
        UsageError: The job is unknown.
    """
    row = job_row(transaction, job_id)
    transaction.datasets |= {dataset.dataset_id for dataset in lineage_of(row)}
    analyst = newest(transaction, specification(row).analyst)
    end = verify(signed, JobEnd, analyst)
    transaction.rates.check_identity(analyst.fingerprint)
    check_signer(transaction, analyst.fingerprint)
    if (end.job_id, end.broker) != (job_id, transaction.identity.public.fingerprint):
        raise FreshnessError(f"The notice ends another job than {job_id}, or is for another broker.", next_step="Sign a new one.")
    if row.status == ACCEPTED:
        row.status = FINISHED


def _is_repeated(transaction: Transaction, row: JobRow, current: Head | None, asked: HeadUpdate) -> bool:
    model = transaction.session.get(ModelRow, row.job_id)
    recorded = None if model is None else model.digest
    return current == asked.head and recorded == (None if asked.model is None else asked.model.digest)


def _check_follows(row: JobRow, current: Head | None, asked: HeadUpdate) -> None:
    if asked.head.epoch < row.aggregator_epoch:
        raise FreshnessError(
            f"Epoch {asked.head.epoch} of job {row.job_id} is fenced: epoch {row.aggregator_epoch} moved the head.",
            next_step="Let the newest aggregator continue.",
            code="integrity.freshness.fenced",
        )
    if row.status != ACCEPTED:
        raise FreshnessError(f"The job {row.job_id} is {row.status}.", code="integrity.freshness.finished")
    if _position(current) != _position(asked.previous) or asked.head.round < (-1 if current is None else current.round):
        raise FreshnessError(
            f"The head of job {row.job_id} is at round {'none' if current is None else current.round}, "
            f"the update continues from round {'none' if asked.previous is None else asked.previous.round}.",
            next_step="Continue from the recorded head.",
            code="integrity.freshness.head",
        )


def _position(head: Head | None) -> tuple[int, bytes] | None:
    return None if head is None else (head.round, head.state)


def _record(transaction: Transaction, row: JobRow, asked: HeadUpdate) -> None:
    row.head = asked.head.to_bytes()
    row.aggregator_epoch = asked.head.epoch
    if asked.model is None:
        return
    if asked.model.model_id != row.job_id:
        raise IntegrityError(f"The job {row.job_id} finished with the model of job {asked.model.model_id}.")
    if not specification(row).output(OutputKind.SEALED_MODEL):
        raise PolicyError(f"The job {row.job_id} has no sealed model among its outputs.", code="refused.policy.outputs")
    transaction.session.add(ModelRow(model_id=row.job_id, digest=asked.model.digest, epoch=asked.head.epoch))
    transaction.detail["model"] = asked.model.digest.hex()
    row.status = FINISHED
