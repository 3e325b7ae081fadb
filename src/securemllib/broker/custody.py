"""What every part of the protocol works with: the broker's identity and store, one transaction, and the audit entry of its decision."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog
from sqlalchemy.orm import Session

from securemllib.attestation.dcap import Endorsements
from securemllib.broker.audit_log import append, last_time
from securemllib.broker.collateral import CollateralStore
from securemllib.broker.freshness import CLOCK_SKEW_SECONDS
from securemllib.broker.rates import Rates
from securemllib.broker.rollback import RollbackGuard
from securemllib.broker.schema import KeyRow
from securemllib.broker.store import Store
from securemllib.crypto.identity import PrivateIdentity
from securemllib.crypto.keys import DataKey
from securemllib.errors import RateLimitError, SecureMLlibError, UnavailableError
from securemllib.policy.decision import DatasetFacts
from securemllib.wire.dataset import DatasetRef

__all__ = ["Custody", "Transaction"]

_log = structlog.get_logger("securemllib.broker")

# Requests come from anybody; an entry stays readable and small whatever they hold.
_TEXT_LIMIT = 1000
_LIST_LIMIT = 200


@dataclass(slots=True, kw_only=True)
class Transaction:
    """One decision: the session that it is made in, and what the audit log will say of it.

    Attributes:
        session: Commits when the decision is accepted, and only then.
        store: Seals and unseals secrets.
        identity: The broker's.
        now: Seconds since 1970.
        endorsements: What quotes are verified with.
        rates: Counts what each identity asks for.
        datasets: Ids of the datasets that the decision is about.
        detail: Further fields of the entry: ids, numbers and names, never keys.
        secrets: Secrets of dataset versions that were unwrapped before the decision, because services answer when they please.
        known: What was read of datasets so far, by id: nobody else changes it before the decision is made.
        standing: The same of identities, by fingerprint: None for one that is in force.
    """

    session: Session
    store: Store
    identity: PrivateIdentity
    now: int
    endorsements: Endorsements
    rates: Rates
    datasets: set[str] = field(default_factory=set)
    detail: dict[str, object] = field(default_factory=dict)
    secrets: dict[DatasetRef, DataKey] = field(default_factory=dict)
    known: dict[str, DatasetFacts | None] = field(default_factory=dict)
    standing: dict[str, KeyRow | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Custody:
    """The broker's means.

    Attributes:
        identity: The broker's identity.
        store: The database.
        guard: Remembers the audit head outside of the database.
        clock: Returns seconds since 1970.
        collateral: Intel's, of the kinds of platforms met so far.
        rates: How many requests anybody may make.
    """

    identity: PrivateIdentity
    store: Store
    guard: RollbackGuard
    clock: Callable[[], float]
    collateral: CollateralStore
    rates: Rates

    @contextmanager
    def decide(self, event: str, *, first: Callable[[Transaction], None] | None = None, any_time: bool = False) -> Iterator[Transaction]:
        """Yield the transaction of one decision. It is recorded before this returns, so before anybody is answered.

        An accepted decision and its entry commit together. A refused one changes nothing but the audit log, and a request over its
        rate not even that: what floods the broker must not fill its log.

        Args:
            event: What the audit log calls it.
            first: What is done even where the decision is a refusal. Where it raises, nothing is done and nothing was decided.
            any_time: Whether the clock may be behind the log's.
        """
        with self.store.transaction() as session:
            transaction = self._transaction(session, any_time=any_time)
            if first is not None:
                first(transaction)
                session.flush()
            try:
                with session.begin_nested():
                    yield transaction
            except RateLimitError:
                raise
            except SecureMLlibError as error:
                refusal: SecureMLlibError | None = error
                outcome: dict[str, object] = {
                    "decision": "refused",
                    "code": error.error_code,
                    "reason": error.reason,
                    "explanation": list(getattr(error, "__notes__", [])),
                }
            else:
                refusal = None
                outcome = {"decision": "accepted"}
            outcome = {name: _bounded(value) for name, value in {**outcome, **transaction.detail}.items()}
            before, head = append(session, self.identity, {**outcome, "event": event}, transaction.datasets, at=transaction.now)
            self.guard.check_next(session, before, head)
        self.guard.advance(head)
        _log.info(event, **outcome, sequence=head.sequence)
        if refusal is not None:
            raise refusal

    @contextmanager
    def look(self) -> Iterator[Transaction]:
        """Yield a transaction that decides nothing and is not recorded."""
        with self.store.transaction() as session:
            yield self._transaction(session)

    def _transaction(self, session: Session, *, any_time: bool = False) -> Transaction:
        now = int(self.clock())
        # Policies expire by this clock: one that was set back, or is another broker's and wrong, would let them live on.
        if not any_time and now < last_time(session) - CLOCK_SKEW_SECONDS:
            raise UnavailableError(
                f"The broker's clock says {now}, and its log has an entry of {last_time(session)}.",
                next_step="Set the clocks right. If an entry was made by a clock that was ahead, run `securemllib broker accept-clock`.",
                code="unavailable.clock",
            )
        endorsements = Endorsements(collateral=self.collateral.find, now=now)
        return Transaction(session=session, store=self.store, identity=self.identity, now=now, endorsements=endorsements, rates=self.rates)


def _bounded(value: object) -> object:
    if isinstance(value, str):
        return value if len(value) <= _TEXT_LIMIT else f"{value[:_TEXT_LIMIT]}... ({len(value)} characters)"
    if isinstance(value, list):
        return [_bounded(item) for item in value[:_LIST_LIMIT]]
    return value
