"""Dataset secrets at rest: wrapped under the broker's key-encryption key where it has one, and sealed for their row under the store's key.

Whoever copies database and keystore still needs the service that holds the key-encryption key, and whoever shreds that key shreds every
copy of the database. Services are asked outside of transactions wherever strangers can cause it, so that no decision waits for a network.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from sqlalchemy import func, select

from securemllib.broker.custody import Custody, Transaction
from securemllib.broker.schema import DatasetRow, KekRow, OwnerRow, VersionRow
from securemllib.broker.standing import newest
from securemllib.broker.store import Store
from securemllib.crypto.keys import KEY_BYTES, DataKey
from securemllib.errors import IntegrityError, UnavailableError, UnsealError, UsageError
from securemllib.kms.key import Binding, KeyEncryptionKey, WrappedSecret
from securemllib.wire.dataset import DatasetRef
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.record import Record

__all__ = ["KeptSecret", "kept_secret", "key_versions", "move", "rewrap_all", "rotate", "seal_secret", "shred"]

_SECRET = "securemllib/broker/dataset-secret/v1"  # noqa: S105 - a label
_KEK_ROW = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wrapped(Record):
    # The tenant is the owner who enrolled the version.
    TYPE: ClassVar[str] = "securemllib/broker-wrapped-secret/v1"

    tenant: str
    secret: WrappedSecret


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptSecret:
    """The secret of one version as it is kept: bare under the store's seal, or wrapped.

    Attributes:
        binding: What it belongs to.
        bare: The secret, where no key-encryption key wraps it.
        wrapped: The wrapped secret otherwise.
    """

    binding: Binding
    bare: DataKey | None
    wrapped: WrappedSecret | None

    def open(self, kek: KeyEncryptionKey | None) -> DataKey:
        """Return the secret. May ask the service that holds the key-encryption key."""
        if self.bare is not None:
            return self.bare
        if kek is None or self.wrapped is None:
            raise _without_key(self.binding.dataset_id)
        return kek.unwrap(self.wrapped, self.binding)

    def wrap(self, kek: KeyEncryptionKey) -> WrappedSecret:
        """Return the secret wrapped under the latest version of the key-encryption key."""
        return kek.wrap(self.open(None), self.binding) if self.wrapped is None else kek.rewrap(self.wrapped, self.binding)


def seal_secret(transaction: Transaction, secret: DataKey, binding: Binding) -> bytes:
    """Return what the database holds of a new secret. Asks the service, where there is one: only trusted owners enrol.

    Raises:
        UnavailableError: Older secrets are wrapped, and the broker was started without the key for them: it would keep this one bare. Or
            another key took the place of the one that it was started with.
    """
    store = transaction.store
    if store.kek is None:
        _require_none_wrapped(transaction)
    _check_current(transaction)
    if store.kek is None:
        return store.seal(secret.expose(), _SECRET, binding.dataset_id, binding.version)
    return _seal(store, store.kek.wrap(secret, binding), binding)


def kept_secret(transaction: Transaction, dataset: DatasetRef) -> KeptSecret:
    """Return how the secret of a version is kept, without asking any service."""
    row = transaction.session.get(VersionRow, (dataset.dataset_id, dataset.version))
    if row is None:
        raise UsageError(f"The broker holds no version {dataset.version} of dataset {dataset.dataset_id}.")
    return _kept(transaction, row, transaction.session.get_one(DatasetRow, dataset.dataset_id).owner)


def key_versions(custody: Custody) -> dict[int, int]:
    """Return how many secrets are wrapped under each version of the key-encryption key; 0 for those that none wraps."""
    counts: dict[int, int] = {}
    with custody.look() as transaction:
        for _, kept in _all(transaction):
            version = 0 if kept.wrapped is None else kept.wrapped.key_version
            counts[version] = counts.get(version, 0) + 1
    return dict(sorted(counts.items()))


def rewrap_all(custody: Custody) -> int:
    """Wrap every secret under the latest version of the key-encryption key and return how many there are."""
    kek = _kek(custody)
    return _replace(custody, "kek-rewrap", kek, lambda kept: kept.wrap(kek))


def move(custody: Custody, kek: KeyEncryptionKey, name: str) -> int:
    """Wrap every secret under another key-encryption key and return how many there are. What it wrapped already stays its own.

    From then on brokers that were started with another key take no new secret.

    Args:
        custody: The broker's means.
        kek: The key.
        name: What it is opened by.
    """

    def moved(kept: KeptSecret) -> WrappedSecret:
        try:
            return kept.wrap(kek)
        except UnsealError:
            return kek.wrap(kept.open(custody.store.kek), kept.binding)

    return _replace(custody, "kek-move", kek, moved, name)


def rotate(custody: Custody) -> int:
    """Make a new version of the key-encryption key, which the audit log tells, and return it."""
    kek = _kek(custody)
    with custody.decide("kek-rotate") as transaction:
        transaction.detail |= {"kek": kek.describe().name, "version": kek.rotate()}
        return kek.describe().version


def shred(custody: Custody) -> None:
    """Shred the key-encryption key, which the audit log tells: every wrapped secret, in every copy of the database, is lost."""
    kek = _kek(custody)
    with custody.decide("kek-shred") as transaction:
        transaction.detail["kek"] = kek.describe().name
        kek.shred()


def _replace(
    custody: Custody, event: str, kek: KeyEncryptionKey, wrap: Callable[[KeptSecret], WrappedSecret], name: str | None = None
) -> int:
    # The service is asked before the decision that replaces the old bytes; within it only about what was enrolled or replaced meanwhile.
    with custody.look() as transaction:
        prepared = {row.sealed_secret: kept for row, kept in _all(transaction)}
    wrapped = {sealed: wrap(kept) for sealed, kept in prepared.items()}
    described = kek.describe().name
    with custody.decide(event) as transaction:
        found = _all(transaction)
        transaction.detail |= {"secrets": len(found), "kek": described}
        if name is None:
            _check_current(transaction)
        else:
            transaction.session.merge(KekRow(identifier=_KEK_ROW, name=name))
        for row, kept in found:
            row.sealed_secret = _seal(custody.store, wrapped.get(row.sealed_secret) or wrap(kept), kept.binding)
    return len(found)


def _check_current(transaction: Transaction) -> None:
    # Read in the transaction that keeps a secret: a change of keys comes wholly before it, or wholly after and wraps this secret, too.
    current, mine = transaction.session.get(KekRow, _KEK_ROW), transaction.store.kek_name
    if current is None or current.name == mine or (mine is None and transaction.store.kek is not None):
        return
    raise UnavailableError(
        f"Secrets are wrapped under {current.name} by now, and this broker was started with {mine or 'no key'}.",
        next_step="Start it again; where the change was interrupted, run `securemllib keys kms use NAME --broker` once more.",
        code="unavailable.kek.changed",
    )


def _require_none_wrapped(transaction: Transaction) -> None:
    # What is wrapped is longer than what is not.
    longest = select(VersionRow).order_by(func.length(VersionRow.sealed_secret).desc()).limit(1)
    for row in transaction.session.scalars(longest):
        if len(transaction.store.unseal(row.sealed_secret, _SECRET, row.dataset_id, row.version)) != KEY_BYTES:
            raise _without_key(row.dataset_id)


def _without_key(dataset_id: str) -> UnavailableError:
    return UnavailableError(
        f"The secret of dataset {dataset_id} is wrapped, and this broker was started without the key for it.",
        next_step="Name it again with `securemllib keys kms use NAME --broker`.",
        code="unavailable.kek",
    )


def _kek(custody: Custody) -> KeyEncryptionKey:
    if custody.store.kek is None:
        raise UsageError("The broker has no key-encryption key.", next_step="Name one with `securemllib keys kms use NAME --broker`.")
    return custody.store.kek


def _all(transaction: Transaction) -> list[tuple[VersionRow, KeptSecret]]:
    query = select(VersionRow, DatasetRow.owner).join(DatasetRow, VersionRow.dataset_id == DatasetRow.dataset_id)
    return [(row, _kept(transaction, row, owner)) for row, owner in transaction.session.execute(query)]


def _kept(transaction: Transaction, row: VersionRow, owner: str) -> KeptSecret:
    content = transaction.store.unseal(row.sealed_secret, _SECRET, row.dataset_id, row.version)
    if len(content) == KEY_BYTES:
        binding = Binding(tenant=owner, dataset_id=row.dataset_id, version=row.version)
        return KeptSecret(binding=binding, bare=DataKey(content), wrapped=None)
    wrapped = _Wrapped.from_bytes(content)
    # An owner whose identity was rotated since is still the same tenant.
    enrolled_by = transaction.session.get(OwnerRow, wrapped.tenant)
    if enrolled_by is None or newest(transaction, PublicIdentity.from_bytes(enrolled_by.identity)).fingerprint != owner:
        raise IntegrityError(f"The secret of dataset {row.dataset_id} was wrapped for another owner.")
    binding = Binding(tenant=wrapped.tenant, dataset_id=row.dataset_id, version=row.version)
    return KeptSecret(binding=binding, bare=None, wrapped=wrapped.secret)


def _seal(store: Store, secret: WrappedSecret, binding: Binding) -> bytes:
    content = _Wrapped(tenant=binding.tenant, secret=secret).to_bytes()
    return store.seal(content, _SECRET, binding.dataset_id, binding.version)
