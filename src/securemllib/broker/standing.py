"""Which identities are in force: a key holder rotates to another identity, or revokes one; the operator may revoke any.

A rotated identity signs nothing new, and what a policy grants to it is granted to its successor. Jobs and policies that it signed before
go on. A revoked identity counts for nothing from that moment: its jobs get no more keys and move no head, its policies allow nothing.
Enclaves that hold keys of such a job keep them until they end; what they compute is not recorded and no model of it is released.
"""

from base64 import b64encode
from collections.abc import Iterable
from dataclasses import replace

from sqlalchemy import select

from securemllib.broker.custody import Transaction
from securemllib.broker.freshness import REQUEST_SECONDS, check_created
from securemllib.broker.schema import DatasetRow, KeyRow, OwnerRow
from securemllib.crypto.identity import verify
from securemllib.errors import FreshnessError, RefusedError, UsageError
from securemllib.policy.model import FINGERPRINT, Approvals, Policy, Quorum
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.notices import KeyRevocation, KeyRotation
from securemllib.wire.signed import Signed

__all__ = [
    "check_fingerprint",
    "check_not_revoked",
    "check_signer",
    "newest",
    "revoke",
    "revoke_by_operator",
    "revoked_among",
    "rotate",
    "with_successors",
]

# Nobody rotates daily; a longer chain is an attack on the one who has to follow it.
_CHAIN_LIMIT = 100


def rotate(transaction: Transaction, signed: Signed, confirmed: Signed) -> KeyRotation:
    """Let a new identity take the place of an old one.

    1. The old identity signed it, and the new one signed the same.
    2. It is for this broker, and was signed just now.
    3. The old identity is in force, and the new one was never rotated or revoked.

    Raises:
        SignatureError: 1 does not hold.
        FreshnessError: 2 does not hold.
        RefusedError: 3 does not hold.
    """
    claimed = KeyRotation.from_bytes(signed.payload)
    rotation = verify(signed, KeyRotation, claimed.old)
    old, new = rotation.old.fingerprint, rotation.new.fingerprint
    transaction.rates.check_identity(old)
    transaction.detail |= {"old": old, "new": new}
    if verify(confirmed, KeyRotation, rotation.new) != rotation or old == new:
        raise UsageError("The new identity confirmed another rotation.")
    _check_notice(transaction, rotation)
    check_signer(transaction, old)
    check_signer(transaction, new)
    _put(transaction, KeyRow(fingerprint=old, successor=rotation.new.to_bytes(), is_revoked=False, at=transaction.now))
    _hand_over(transaction, old, rotation.new)
    return rotation


def revoke(transaction: Transaction, signed: Signed) -> str:
    """Revoke the identity that signed the notice, and return its fingerprint. Twice is no matter.

    Raises:
        SignatureError: Somebody else signed.
        FreshnessError: The notice is for another broker, or from another time.
    """
    claimed = KeyRevocation.from_bytes(signed.payload)
    revocation = verify(signed, KeyRevocation, claimed.revoked)
    transaction.rates.check_identity(revocation.revoked.fingerprint)
    _check_notice(transaction, revocation)
    revoke_by_operator(transaction, revocation.revoked.fingerprint)
    return revocation.revoked.fingerprint


def revoke_by_operator(transaction: Transaction, fingerprint: str) -> None:
    """Revoke an identity. A successor that it named stays in force: revoke that too if it is not its holder's.

    Raises:
        UsageError: It is no fingerprint: a slip would revoke nobody.
    """
    check_fingerprint(fingerprint)
    transaction.detail["revoked"] = fingerprint
    transaction.datasets |= set(_datasets_of(transaction, fingerprint))
    row = transaction.session.get(KeyRow, fingerprint)
    if row is None:
        _put(transaction, KeyRow(fingerprint=fingerprint, successor=None, is_revoked=True, at=transaction.now))
    elif not row.is_revoked:
        row.is_revoked, row.at = True, transaction.now


def check_fingerprint(text: str) -> None:
    """Refuse what cannot be a fingerprint; `UsageError`."""
    if not FINGERPRINT.fullmatch(text):
        raise UsageError(f"{text[:64]!r} is no fingerprint.", next_step="Give its 52 letters and digits.", code="usage.fingerprint")


def check_signer(transaction: Transaction, fingerprint: str) -> None:
    """Refuse a new request of an identity that is rotated or revoked; `RefusedError`."""
    check_not_revoked(transaction, [fingerprint])
    if fingerprint in _rows(transaction, [fingerprint]):
        raise RefusedError(
            f"The identity {fingerprint} was rotated.", next_step="Sign with the identity that took its place.", code="refused.key.rotated"
        )


def check_not_revoked(transaction: Transaction, fingerprints: Iterable[str]) -> None:
    """Refuse what rests on a revoked identity; `RefusedError`."""
    for fingerprint, row in _rows(transaction, fingerprints).items():
        if row.is_revoked:
            raise RefusedError(
                f"The identity {fingerprint} was revoked at {row.at}.",
                next_step="Ask its holder, or the broker's operator.",
                code="refused.key.revoked",
            )


def revoked_among(transaction: Transaction, fingerprints: Iterable[str]) -> frozenset[str]:
    """Return which of the identities were revoked."""
    return frozenset(fingerprint for fingerprint, row in _rows(transaction, fingerprints).items() if row.is_revoked)


def newest(transaction: Transaction, identity: PublicIdentity) -> PublicIdentity:
    """Return the identity that is in force in the place of one that may have been rotated."""
    return [identity, *_successors(transaction, identity.fingerprint)][-1]


def with_successors(transaction: Transaction, policy: Policy) -> Policy:
    """Return the policy with each identity's successors: all beside it as analyst or recipient, the newest in its place as approver.

    All and not the newest alone: a job of one that was rotated since goes on.
    """
    groups = (group for rule in policy.rules for group in (rule.analysts, *(output.recipients for output in rule.outputs.values())))
    quorums = [quorum for quorum in (policy.approvals.policy_change, policy.approvals.model_release) if quorum is not None]
    named = {name for group in groups for name in group} | {name for quorum in quorums for name in quorum.identities}
    found = {name: _successors(transaction, name) for name in _rows(transaction, named)}
    if not found:
        return policy

    def extended(names: tuple[str, ...]) -> tuple[str, ...]:
        return (*names, *(after.fingerprint for name in names for after in found.get(name, ())))

    def replaced(quorum: Quorum | None) -> Quorum | None:
        # Who rotated signs nothing new, so two approvers that rotated to one identity are one approver.
        if quorum is None:
            return None
        now = ([identity, *found.get(name, ())][-1] for name, identity in quorum.identities.items())
        return replace(quorum, approvers=tuple(b64encode(identity.to_bytes()).decode() for identity in now))

    rules = (
        replace(
            rule,
            analysts=extended(rule.analysts),
            outputs={kind: replace(output, recipients=extended(output.recipients)) for kind, output in rule.outputs.items()},
        )
        for rule in policy.rules
    )
    approvals = Approvals(policy_change=replaced(policy.approvals.policy_change), model_release=replaced(policy.approvals.model_release))
    return replace(policy, rules=tuple(rules), approvals=approvals)


def _put(transaction: Transaction, row: KeyRow) -> None:
    transaction.session.add(row)
    transaction.standing[row.fingerprint] = row


def _check_notice(transaction: Transaction, notice: KeyRotation | KeyRevocation) -> None:
    if notice.broker != transaction.identity.public.fingerprint:
        raise FreshnessError("The notice is for another broker.", next_step="Sign a new one.")
    check_created(notice.created, transaction.now, seconds=REQUEST_SECONDS)


def _hand_over(transaction: Transaction, old: str, new: PublicIdentity) -> None:
    """Make the new identity the owner of what the old one owned."""
    if transaction.session.get(OwnerRow, old) is None:
        return
    transaction.session.merge(OwnerRow(fingerprint=new.fingerprint, identity=new.to_bytes()))
    transaction.session.flush()
    for row in transaction.session.scalars(select(DatasetRow).where(DatasetRow.owner == old)):
        transaction.datasets.add(row.dataset_id)
        row.owner = new.fingerprint


def _datasets_of(transaction: Transaction, owner: str) -> Iterable[str]:
    return transaction.session.scalars(select(DatasetRow.dataset_id).where(DatasetRow.owner == owner))


def _successors(transaction: Transaction, fingerprint: str) -> list[PublicIdentity]:
    found: list[PublicIdentity] = []
    while (row := _rows(transaction, [fingerprint]).get(fingerprint)) is not None and row.successor is not None:
        found.append(PublicIdentity.from_bytes(row.successor))
        fingerprint = found[-1].fingerprint
        if len(found) > _CHAIN_LIMIT:
            raise RefusedError(f"The identity {fingerprint} was rotated too often.", code="refused.key.rotated")
    return found


def _rows(transaction: Transaction, fingerprints: Iterable[str]) -> dict[str, KeyRow]:
    wanted, known = set(fingerprints), transaction.standing
    if unknown := wanted - known.keys():
        found = transaction.session.scalars(select(KeyRow).where(KeyRow.fingerprint.in_(unknown)))
        known.update(dict.fromkeys(unknown) | {row.fingerprint: row for row in found})
    return {name: row for name in wanted if (row := known[name]) is not None}
