"""Putting policies in force, ending them, and taking approvals of releases."""

from hashlib import sha256

from securemllib.broker.custody import Transaction
from securemllib.broker.datasets import owner_identity
from securemllib.broker.jobs import job_row, lineage_of
from securemllib.broker.policies import approvers_in_force, latest_row, latest_statement, policy_in_force, signed_by_approvers
from securemllib.broker.schema import ApprovalRow, DatasetRow, ModelRow, PolicyRow
from securemllib.broker.standing import check_signer
from securemllib.errors import FreshnessError, PolicyError
from securemllib.policy.approval import ReleaseApproval, Revocation
from securemllib.policy.changes import changes
from securemllib.policy.envelope import Envelope, open_envelope
from securemllib.policy.model import Policy
from securemllib.wire.identity import PublicIdentity

__all__ = ["approve_release", "revoke", "set_policy"]


def set_policy(transaction: Transaction, dataset_id: str, envelope: Envelope, *, profile: str) -> Policy:
    """Put a policy in force.

    1. The dataset's owner signed it, for this dataset.
    2. It is of the broker's profile: a production broker takes no policy of a development profile. It names no other broker.
    3. Its serial is higher than every one before; the one in force may be sent again.
    4. As many approvers as the policy before it asks for signed it, too, whether that one is in force or revoked.

    Raises:
        PolicyError: The dataset is not enrolled, or belongs to another owner, or 2 or 4 does not hold.
        SignatureError: The signature does not fit.
        FreshnessError: 3 does not hold.
    """
    owner = _owner(transaction, dataset_id, envelope)
    policy = open_envelope(envelope, Policy, owner)
    transaction.rates.check_identity(owner.fingerprint)
    transaction.detail["serial"] = policy.serial
    _check_subject(dataset_id, policy, owner)
    if policy.broker not in {None, transaction.identity.public.fingerprint}:
        raise PolicyError(
            f"The policy is for the broker {policy.broker}.", next_step="Sign one for this broker.", code="refused.policy.broker"
        )
    if profile == "production" and policy.profile != profile:
        raise PolicyError(
            f"The policy is of the profile {policy.profile}; this broker is of the profile {profile}.",
            next_step="Sign it with `profile: production`.",
            code="refused.policy.profile",
        )
    if _is_in_force(transaction, dataset_id, envelope):
        return policy
    _check_serial(transaction, dataset_id, policy.serial)
    before = latest_statement(transaction, dataset_id)
    if before is not None:
        _check_approved(transaction, envelope, before)
        for change in changes(before, policy):
            found = transaction.detail.setdefault(change.direction.value, [])
            if isinstance(found, list):
                found.append(change.words)
    _store(transaction, dataset_id, policy.serial, envelope, is_revocation=False)
    return policy


def revoke(transaction: Transaction, dataset_id: str, envelope: Envelope) -> Revocation:
    """End a dataset's policy: from now on nothing is allowed. The owner alone may, and the next policy needs the old one's approvers.

    1. The dataset's owner signed it, for this dataset.
    2. Its serial is higher than every one before.

    Raises:
        PolicyError: The dataset is not enrolled, or belongs to another owner.
        SignatureError: The signature does not fit.
        FreshnessError: 2 does not hold.
    """
    owner = _owner(transaction, dataset_id, envelope)
    revocation = open_envelope(envelope, Revocation, owner)
    transaction.rates.check_identity(owner.fingerprint)
    transaction.detail |= {"serial": revocation.serial, "why": revocation.reason}
    _check_subject(dataset_id, revocation, owner)
    if not _is_in_force(transaction, dataset_id, envelope):
        _check_serial(transaction, dataset_id, revocation.serial)
        _store(transaction, dataset_id, revocation.serial, envelope, is_revocation=True)
    return revocation


def approve_release(transaction: Transaction, envelope: Envelope) -> tuple[str, ...]:
    """Keep an approval of a model's release and return the datasets whose policies count it.

    1. It is for this broker, has not expired, and is of a model that is finished here, by its digest.
    2. The policy in force of a dataset behind the model names its signer among the approvers of releases.
    3. The signature is that approver's.

    Raises:
        PolicyError: 1 or 2 does not hold.
        SignatureError: 3 does not hold.
    """
    approval = ReleaseApproval.from_json(envelope.payload)
    transaction.detail |= {"model": approval.model_id, "recipients": list(approval.recipients), "signers": list(envelope.signers)}
    model = transaction.session.get(ModelRow, approval.model_id)
    if approval.broker != transaction.identity.public.fingerprint or transaction.now > approval.expires:
        raise PolicyError("The approval is for another broker, or has expired.", code="refused.policy.approval")
    if model is None or model.digest.hex() != approval.model_digest:
        raise PolicyError("The approval is of no model that is finished here.", code="refused.policy.model")
    named: dict[str, tuple[PublicIdentity, list[str]]] = {}
    for dataset in lineage_of(job_row(transaction, approval.model_id)):
        for fingerprint, identity in _release_approvers(transaction, dataset.dataset_id).items():
            named.setdefault(fingerprint, (identity, []))[1].append(dataset.dataset_id)
    signers = [signer for signer in envelope.signers if signer in named]
    if len(envelope.signers) != 1 or not signers:
        raise PolicyError("No policy behind the model names the signer among its approvers.", code="refused.policy.approval")
    approver, datasets = named[signers[0]]
    open_envelope(envelope, ReleaseApproval, approver)
    transaction.rates.check_identity(approver.fingerprint)
    transaction.datasets |= set(datasets)
    transaction.session.merge(
        ApprovalRow(
            model_id=approval.model_id,
            approver=approver.fingerprint,
            digest=sha256(envelope.payload).hexdigest(),
            signed=envelope.to_bytes(),
        )
    )
    return tuple(datasets)


def _release_approvers(transaction: Transaction, dataset_id: str) -> dict[str, PublicIdentity]:
    policy = policy_in_force(transaction, transaction.session.get_one(DatasetRow, dataset_id))
    return {} if policy is None else approvers_in_force(transaction, policy.approvals.model_release)


def _owner(transaction: Transaction, dataset_id: str, envelope: Envelope) -> PublicIdentity:
    """Return the dataset's owner, who must be among the signers; the refusals say no more to strangers than they know."""
    row = transaction.session.get(DatasetRow, dataset_id)
    transaction.detail["signers"] = list(envelope.signers)
    if row is None:
        raise PolicyError(f"The dataset {dataset_id} is not enrolled here.", next_step="Enrol it first.", code="refused.policy.dataset")
    transaction.datasets.add(dataset_id)
    if row.owner not in envelope.signers:
        for signer in envelope.signers:
            check_signer(transaction, signer)
        raise PolicyError(f"The policy is not signed by the owner of dataset {dataset_id}.", code="refused.policy.owner")
    transaction.detail["owner"] = row.owner
    check_signer(transaction, row.owner)
    return owner_identity(transaction, row.owner)


def _check_subject(dataset_id: str, statement: Policy | Revocation, owner: PublicIdentity) -> None:
    if statement.owner != owner.fingerprint or statement.dataset_id != dataset_id:
        raise PolicyError(f"The policy is not its owner's, or not of dataset {dataset_id}.", code="refused.policy.owner")


def _is_in_force(transaction: Transaction, dataset_id: str, envelope: Envelope) -> bool:
    latest = latest_row(transaction, dataset_id)
    return latest is not None and Envelope.from_bytes(latest.signed).payload == envelope.payload


def _check_serial(transaction: Transaction, dataset_id: str, serial: int) -> None:
    latest = latest_row(transaction, dataset_id)
    if latest is not None and serial <= latest.serial:
        raise FreshnessError(
            f"The policy's serial is {serial}; {latest.serial} is in force.", next_step=f"Sign it with a serial over {latest.serial}."
        )


def _check_approved(transaction: Transaction, envelope: Envelope, before: Policy) -> None:
    quorum = before.approvals.policy_change
    if quorum is None:
        return
    approvers = signed_by_approvers(transaction, envelope, quorum)
    transaction.detail["approvers"] = sorted(approvers)
    if (missing := quorum.threshold - len(approvers)) > 0:
        raise PolicyError(
            f"The policy in force, serial {before.serial}, asks for {quorum.threshold} approvals of a change; {missing} are missing.",
            next_step="Let the approvers sign it: `securemllib policy approve`.",
            code="refused.policy.approval",
        )


def _store(transaction: Transaction, dataset_id: str, serial: int, envelope: Envelope, *, is_revocation: bool) -> None:
    transaction.session.add(PolicyRow(dataset_id=dataset_id, serial=serial, signed=envelope.to_bytes(), is_revocation=is_revocation))
    transaction.known.pop(dataset_id, None)
