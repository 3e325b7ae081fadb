"""Going on from an older store: its datasets are frozen until their owners accept what was forgotten.

What was decided after the older copy is unknown: newer versions and policies, counted runs, revocations, heads of jobs. So every job ends,
no dataset is used until its owner has enrolled its latest version, sent the policy that is to be in force, and accepted the store, and the
operator states what was revoked since: in the same step, before an identity that was revoked could accept anything.
"""

from collections.abc import Iterable

from sqlalchemy import select, update

from securemllib.broker.audit_log import AuditHead, signed_head
from securemllib.broker.custody import Transaction
from securemllib.broker.datasets import owner_identity
from securemllib.broker.freshness import REQUEST_SECONDS, check_created
from securemllib.broker.schema import ACCEPTED, FINISHED, DatasetRow, JobRow, RecoveryRow
from securemllib.broker.standing import check_signer, revoke_by_operator
from securemllib.crypto.identity import verify
from securemllib.errors import FreshnessError
from securemllib.wire.notices import StoreAcceptance
from securemllib.wire.signed import Signed

__all__ = ["accept", "freeze"]

_RECOVERY_ROW = 1


def freeze(transaction: Transaction, revoked: Iterable[str]) -> AuditHead:
    """End every job, freeze every dataset, revoke again, and return the end of the log that the owners are to accept.

    Args:
        transaction: The broker's.
        revoked: The fingerprints of all identities that were revoked after the older copy; others may be among them.
    """
    signed, session = signed_head(transaction.session), transaction.session
    broker = transaction.identity.public
    head = AuditHead(broker=broker.fingerprint, sequence=0, entry=bytes(32)) if signed is None else verify(signed, AuditHead, broker)
    session.merge(RecoveryRow(identifier=_RECOVERY_ROW, sequence=head.sequence, entry=head.entry))
    session.execute(update(DatasetRow).values(is_frozen=True))
    session.execute(update(JobRow).where(JobRow.status == ACCEPTED).values(status=FINISHED))
    again = sorted(set(revoked))
    for fingerprint in again:
        revoke_by_operator(transaction, fingerprint)
    transaction.detail |= {"restored": head.sequence, "head": head.entry.hex(), "revoked": again}
    transaction.datasets |= set(session.scalars(select(DatasetRow.dataset_id)))
    return head


def accept(transaction: Transaction, signed: Signed) -> list[str]:
    """Unfreeze an owner's datasets and return their ids.

    1. A trusted owner signed it, for this broker, just now.
    2. It names the end of the log that was restored the last time.

    Raises:
        PolicyError: The owner is not trusted.
        SignatureError: The signature does not fit.
        FreshnessError: It is for another broker, time or store.
    """
    check_signer(transaction, signed.signer)
    owner = owner_identity(transaction, signed.signer)
    acceptance = verify(signed, StoreAcceptance, owner)
    transaction.rates.check_identity(owner.fingerprint)
    check_created(acceptance.created, transaction.now, seconds=REQUEST_SECONDS)
    restored = transaction.session.get(RecoveryRow, _RECOVERY_ROW)
    named = (acceptance.broker, acceptance.sequence, acceptance.entry)
    if restored is None or named != (transaction.identity.public.fingerprint, restored.sequence, restored.entry):
        raise FreshnessError(
            f"The owner accepts entry {acceptance.sequence}, which is not the end of a restored log of this broker.",
            next_step="Ask the broker's operator for the numbers that `securemllib broker recover` printed.",
            code="integrity.freshness.store",
        )
    rows = list(transaction.session.scalars(select(DatasetRow).where(DatasetRow.owner == owner.fingerprint)))
    for row in rows:
        row.is_frozen = False
    transaction.detail["owner"] = owner.fingerprint
    transaction.datasets |= {row.dataset_id for row in rows}
    return sorted(row.dataset_id for row in rows)
