"""The broker's protocol without HTTP: each method is one request of `securemllib.broker.http`."""

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from securemllib.broker import datasets, heads, jobs, policy_changes, release, restored, standing
from securemllib.broker.audit_log import AuditHead, entries_about, signed_head
from securemllib.broker.collateral import CollateralStore
from securemllib.broker.custody import Custody
from securemllib.broker.dataset_secrets import kept_secret
from securemllib.broker.datasets import Enrolled
from securemllib.broker.evidence import Attester, evidence_of
from securemllib.broker.freshness import REQUEST_SECONDS, check_created
from securemllib.broker.keystore import Keystore
from securemllib.broker.rates import Rates
from securemllib.broker.rollback import RollbackGuard
from securemllib.broker.schema import ACCEPTED
from securemllib.broker.store import Store
from securemllib.crypto.identity import verify
from securemllib.crypto.keys import DataKey
from securemllib.errors import FreshnessError
from securemllib.kms.key import KeyEncryptionKey
from securemllib.policy.decision import explains
from securemllib.policy.envelope import Envelope
from securemllib.wire.attestation import Challenge, Evidence, Head
from securemllib.wire.dataset import DatasetRef
from securemllib.wire.enrolment import AuditRequest
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.signed import Signed

__all__ = ["Broker"]

# Fields of an audit entry that say something of each dataset's policy, by the dataset's id.
_BY_DATASET = frozenset({"rules", "enclaves"})


class Broker:
    """The key broker.

    Args:
        keystore: The broker's open keystore.
        database: The store's SQLAlchemy URL.
        head_file: Where the last audit head is kept outside of the database.
        clock: Returns seconds since 1970.
        collateral: Where Intel's collateral for quotes comes from; nowhere when not given, which refuses every quote.
        rates: How many requests anybody may make; the defaults of `Rates` when not given.
        kek: Wraps the secrets of datasets; only the store's key seals them when not given.
        attester: Shows owners what code this broker runs, where there is one.
        may_be_older: Whether a database that is older than the head file is opened, to recover from it.
        profile: ``production`` takes no policy of another profile; ``development`` takes both.
        kek_name: The name that ``kek`` was opened by.

    Raises:
        FreshnessError: The database is older than the head file.
    """

    def __init__(
        self,
        keystore: Keystore,
        database: str,
        head_file: Path,
        *,
        clock: Callable[[], float] = time.time,
        collateral: CollateralStore | None = None,
        rates: Rates | None = None,
        kek: KeyEncryptionKey | None = None,
        may_be_older: bool = False,
        attester: Attester | None = None,
        profile: str = "production",
        kek_name: str | None = None,
    ) -> None:
        guard = RollbackGuard(head_file, keystore.identity)
        self._profile = profile
        store = Store(database, keystore.store_key, kek, kek_name)
        self._collateral = collateral or CollateralStore()
        self.rates = rates or Rates()
        self._attester = attester
        self._custody = Custody(
            identity=keystore.identity, store=store, guard=guard, clock=clock, collateral=self._collateral, rates=self.rates
        )
        if not may_be_older:
            with store.transaction() as session:
                guard.check(session)

    @property
    def identity(self) -> PublicIdentity:
        """Who this broker is."""
        return self._custody.identity.public

    def evidence(self, nonce: bytes) -> Evidence:
        """Return this broker's own evidence for a nonce; see `evidence.evidence_of`."""
        return evidence_of(self.identity, self._attester, nonce)

    def trust_owner(self, owner: PublicIdentity) -> None:
        """Let an owner enrol datasets: for the broker's operator, not reachable over the network."""
        with self._custody.decide("trust-owner") as transaction:
            datasets.trust_owner(transaction, owner)

    def accept_clock(self) -> None:
        """Go on from the clock as it is though the log has a later entry: for the broker's operator, not reachable over the network."""
        with self._custody.decide("accept-clock", any_time=True):
            pass

    def recover(self, revoked: Iterable[str]) -> AuditHead:
        """Go on from an older store and return the end of its log, for the owners to accept: for the broker's operator; see `restored`."""
        with self._custody.decide("recover", any_time=True) as transaction:
            return restored.freeze(transaction, revoked)

    def accept_store(self, signed: Signed) -> list[str]:
        """Unfreeze the datasets of the owner that signed, and return their ids; see `restored.accept`."""
        with self._custody.decide("accept-store") as transaction:
            return restored.accept(transaction, signed)

    def enrol(self, dataset_id: str, signed: Signed) -> Enrolled:
        """Record a dataset version and its secret; see `datasets.enrol`."""
        with self._custody.decide("enrol") as transaction:
            return datasets.enrol(transaction, dataset_id, signed)

    def rotate(self, signed: Signed, confirmed: Signed) -> str:
        """Let an identity take another's place and return its fingerprint; see `standing.rotate`."""
        with self._custody.decide("rotate-key") as transaction:
            return standing.rotate(transaction, signed, confirmed).new.fingerprint

    def revoke(self, signed: Signed) -> str:
        """Revoke the identity that signed and return its fingerprint; see `standing.revoke`."""
        with self._custody.decide("revoke-key") as transaction:
            return standing.revoke(transaction, signed)

    def revoke_by_operator(self, fingerprint: str) -> None:
        """Revoke any identity: for the broker's operator, not reachable over the network."""
        with self._custody.decide("revoke-key") as transaction:
            standing.revoke_by_operator(transaction, fingerprint)

    def set_policy(self, dataset_id: str, envelope: Envelope) -> int:
        """Put a policy in force and return its serial; see `policy_changes.set_policy`."""
        with self._custody.decide("policy") as transaction:
            return policy_changes.set_policy(transaction, dataset_id, envelope, profile=self._profile).serial

    def revoke_policy(self, dataset_id: str, envelope: Envelope) -> int:
        """End a dataset's policy and return the serial of its revocation; see `policy_changes.revoke`."""
        with self._custody.decide("revoke") as transaction:
            return policy_changes.revoke(transaction, dataset_id, envelope).serial

    def approve_release(self, envelope: Envelope) -> tuple[str, ...]:
        """Keep an approval and return the datasets whose policies count it; see `policy_changes.approve_release`."""
        with self._custody.decide("approve") as transaction:
            return policy_changes.approve_release(transaction, envelope)

    def submit(self, signed: Signed) -> str:
        """Accept a job and return its id; see `jobs.submit`."""
        with self._custody.decide("job") as transaction:
            return jobs.submit(transaction, signed)

    def submit_and_challenge(self, signed: Signed, tee: str) -> tuple[str, tuple[str, Challenge] | None]:
        """Accept a job and return its id, and the session and challenge for its first enclave; None where it takes no more enclaves."""
        with self._custody.decide("job") as transaction:
            job_id = jobs.submit(transaction, signed)
            is_open = jobs.job_row(transaction, job_id).status == ACCEPTED
            return job_id, release.challenge(transaction, job_id, tee) if is_open else None

    def challenge(self, job_id: str, tee: str) -> tuple[str, Challenge]:
        """Return a session and its challenge; see `release.challenge`."""
        with self._custody.look() as transaction:
            return release.challenge(transaction, job_id, tee)

    def attest(self, session: str, evidence: Evidence) -> str:
        """Return the token of accepted evidence; the challenge is used up even where the evidence is refused."""
        self._fetch_collateral(session, evidence)
        with self._custody.decide("attest", first=lambda transaction: release.consume(transaction, session)) as transaction:
            return release.attest(transaction, session, evidence)

    def admit(self, session: str, evidence: Evidence, job_id: str) -> tuple[Signed, Head | None]:
        """Return the signed `WrappedGrant` and the head in it, as `attest` and `grant` do, in one decision."""
        self._fetch_collateral(session, evidence)
        secrets = self._unwrap_secrets(session)
        with self._custody.decide("grant", first=lambda transaction: release.consume(transaction, session)) as transaction:
            transaction.secrets.update(secrets)
            return release.admit(transaction, session, evidence, job_id)

    def grant(self, session: str, token: str, job_id: str) -> Signed:
        """Return the signed `WrappedGrant`; see `release.grant`."""
        secrets = self._unwrap_secrets(session)
        with self._custody.decide("grant") as transaction:
            transaction.secrets.update(secrets)
            return release.grant(transaction, session, token, job_id)

    def _unwrap_secrets(self, session: str) -> dict[DatasetRef, DataKey]:
        """Return the secrets that a session's grant would hold, unwrapped before the decision for the reason that follows."""
        if self._custody.store.kek is None:
            return {}
        with self._custody.look() as transaction:
            kept = {dataset: kept_secret(transaction, dataset) for dataset in release.sources(transaction, session)}
        return {dataset: secret.open(self._custody.store.kek) for dataset, secret in kept.items()}

    def _fetch_collateral(self, session: str, evidence: Evidence) -> None:
        """Fetch collateral where it is due, before the decision: no transaction waits for a network, and no stranger makes us fetch."""
        now = int(self._custody.clock())
        if not self._collateral.is_due(evidence, now):
            return
        with self._custody.look() as transaction:
            release.check_challenged(transaction, session)
        self._collateral.refresh(evidence, now)

    def head(self, job_id: str) -> Head | None:
        """Return a job's recorded head."""
        with self._custody.look() as transaction:
            return heads.head_of(jobs.job_row(transaction, job_id))

    def move_head(self, job_id: str, update: bytes) -> bytes:
        """Move a job's head and return the acknowledgement; see `heads.move_head`."""
        with self._custody.decide("head") as transaction:
            return heads.move_head(transaction, job_id, update)

    def finish(self, job_id: str, signed: Signed) -> None:
        """Give no more keys to a job; see `heads.finish`."""
        with self._custody.decide("finish") as transaction:
            heads.finish(transaction, job_id, signed)

    def release(self, signed: Signed) -> tuple[tuple[Signed, ...], Signed]:
        """Return a model's wrapped keys and its enclave's attestation result; see `jobs.release`."""
        with self._custody.decide("release") as transaction:
            return jobs.release(transaction, signed)

    def audit(self, signed: Signed) -> tuple[list[dict[str, object]], Signed | None]:
        """Return the audit entries of an owner's datasets and the log's signed head, without what other owners' policies say.

        1. A trusted owner signed the request, for this broker.
        2. It was made within the last minutes.

        Raises:
            PolicyError: The owner is not trusted.
            SignatureError: The signature does not fit.
            FreshnessError: The request is for another broker, or 2 does not hold.
        """
        with self._custody.look() as transaction:
            standing.check_signer(transaction, signed.signer)
            owner = datasets.owner_identity(transaction, signed.signer)
            request = verify(signed, AuditRequest, owner)
            transaction.rates.check_identity(owner.fingerprint)
            if request.broker != self.identity.fingerprint:
                raise FreshnessError("The request is for another broker.", next_step="Sign a new request.")
            check_created(request.created, transaction.now, seconds=REQUEST_SECONDS)
            own = frozenset(datasets.datasets_of(transaction, owner.fingerprint))
            found = entries_about(transaction.session, own)
            told = [{**_told_to(own, json.loads(entry.payload)), "digest": entry.digest.hex()} for entry in found]
            return told, signed_head(transaction.session)

    def custody(self) -> Custody:
        """Return the broker's means, for the operator's commands on the same machine."""
        return self._custody

    def close(self) -> None:
        """Close the database."""
        self._custody.store.close()


def _told_to(own: frozenset[str], entry: dict[str, Any]) -> dict[str, Any]:
    """Return an entry as the owner of these datasets may see it: other owners of what it is about have rules and enclaves of their own."""
    told = {name: {key: value[key] for key in value.keys() & own} if name in _BY_DATASET else value for name, value in entry.items()}
    explanation = entry.get("explanation")
    if explanation and not explains(explanation, own):
        # The reason names the rule that came closest.
        del told["explanation"], told["reason"]
    return told
