"""The policies that owners sent: which one is in force, and whose signatures another one needs."""

from functools import lru_cache

from sqlalchemy import select

from securemllib.broker.custody import Transaction
from securemllib.broker.schema import ApprovalRow, DatasetRow, OwnerRow, PolicyRow
from securemllib.broker.standing import check_not_revoked, newest, revoked_among, with_successors
from securemllib.errors import FormatError, PolicyError
from securemllib.policy.approval import ReleaseApproval
from securemllib.policy.envelope import Envelope, open_envelope, signers_among
from securemllib.policy.model import Policy, Quorum
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.plan import ModelRef

__all__ = ["approvals_of", "approvers_in_force", "latest_row", "latest_statement", "policy_in_force", "signed_by_approvers"]

# A policy is verified at each decision; what was verified once, by the same key, is kept.
_KEPT_POLICIES = 256


def policy_in_force(transaction: Transaction, dataset: DatasetRow) -> Policy | None:
    """Return a dataset's policy, with the successors of those whom it names; None where its owner sent none or ended it.

    Raises:
        RefusedError: The owner, or the identity of theirs that signed the policy, was revoked.
        PolicyError: The signer is neither the owner nor an identity that rotated to the owner.
    """
    row = latest_row(transaction, dataset.dataset_id)
    if row is None or row.is_revocation:
        return None
    policy, signer = _verified(transaction, row)
    check_not_revoked(transaction, [signer.fingerprint, dataset.owner])
    if newest(transaction, signer).fingerprint != dataset.owner:
        raise PolicyError(f"The policy of dataset {dataset.dataset_id} is not its owner's.", code="refused.policy.owner")
    return with_successors(transaction, policy)


def latest_statement(transaction: Transaction, dataset_id: str) -> Policy | None:
    """Return a dataset's last policy, one that was ended or whose signer was revoked, too: it says who approves the next."""
    query = select(PolicyRow).where(PolicyRow.dataset_id == dataset_id, PolicyRow.is_revocation.is_(False))
    row = transaction.session.scalars(query.order_by(PolicyRow.serial.desc()).limit(1)).first()
    return None if row is None else with_successors(transaction, _verified(transaction, row)[0])


def latest_row(transaction: Transaction, dataset_id: str) -> PolicyRow | None:
    """Return what the owner of a dataset said last."""
    query = select(PolicyRow).where(PolicyRow.dataset_id == dataset_id).order_by(PolicyRow.serial.desc()).limit(1)
    return transaction.session.scalars(query).first()


def approvers_in_force(transaction: Transaction, quorum: Quorum | None) -> dict[str, PublicIdentity]:
    """Return a quorum's approvers by fingerprint, without those who were revoked."""
    known = {} if quorum is None else quorum.identities
    gone = revoked_among(transaction, known)
    return {fingerprint: identity for fingerprint, identity in known.items() if fingerprint not in gone}


def signed_by_approvers(transaction: Transaction, envelope: Envelope, quorum: Quorum) -> frozenset[str]:
    """Return which of a quorum's approvers signed an envelope."""
    return signers_among(envelope, approvers_in_force(transaction, quorum))


def approvals_of(transaction: Transaction, model: ModelRef) -> tuple[tuple[str, ReleaseApproval], ...]:
    """Return the approvals of a model's release and who signed each; their signatures were verified when they came."""
    rows = list(transaction.session.scalars(select(ApprovalRow).where(ApprovalRow.model_id == model.model_id)))
    gone = revoked_among(transaction, [row.approver for row in rows])
    kept = (row for row in rows if row.approver not in gone)
    return tuple((row.approver, ReleaseApproval.from_json(Envelope.from_bytes(row.signed).payload)) for row in kept)


def _verified(transaction: Transaction, row: PolicyRow) -> tuple[Policy, PublicIdentity]:
    # Whose it is stands in the policy itself: the dataset may have been handed over since.
    owner = transaction.session.get(OwnerRow, _claimed_owner(row.signed))
    if owner is None:
        raise FormatError(f"The policy of dataset {row.dataset_id} is of an owner that the broker does not know.")
    signer = PublicIdentity.from_bytes(owner.identity)
    return _opened(row.signed, signer), signer


@lru_cache(maxsize=_KEPT_POLICIES)
def _claimed_owner(signed: bytes) -> str:
    return Policy.from_json(Envelope.from_bytes(signed).payload).owner


@lru_cache(maxsize=_KEPT_POLICIES)
def _opened(signed: bytes, owner: PublicIdentity) -> Policy:
    return open_envelope(Envelope.from_bytes(signed), Policy, owner)
