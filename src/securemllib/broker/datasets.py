"""Owners and their datasets."""

import re
from dataclasses import dataclass

from sqlalchemy import select

from securemllib.broker.custody import Transaction
from securemllib.broker.dataset_secrets import kept_secret, seal_secret
from securemllib.broker.policies import policy_in_force
from securemllib.broker.rollback import check_not_frozen
from securemllib.broker.schema import DatasetRow, OwnerRow, RuleRunsRow, VersionRow
from securemllib.broker.standing import check_signer
from securemllib.crypto.aead import unseal
from securemllib.crypto.identity import verify
from securemllib.crypto.keys import DataKey
from securemllib.errors import FormatError, FreshnessError, IntegrityError, PolicyError, RefusedError, UnsealError, UsageError
from securemllib.kms.key import Binding
from securemllib.policy.decision import DatasetFacts
from securemllib.wire.dataset import ClearPart, DatasetRef, Manifest, ManifestBody, body_context
from securemllib.wire.encoding import decode, encode
from securemllib.wire.enrolment import Enrolment, enrolment_context
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.signed import Signed

__all__ = ["Enrolled", "dataset_facts", "dataset_secret", "datasets_of", "enrol", "owner_identity", "trust_owner"]

_DATASET_ID = re.compile(r"[0-9a-f]{32}")
_COLUMNS = "securemllib/broker/dataset-columns/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """The version of a dataset that is enrolled, and whether it is new."""

    dataset_id: str
    version: int
    is_new: bool


def trust_owner(transaction: Transaction, owner: PublicIdentity) -> None:
    """Let an owner enrol datasets."""
    transaction.detail["owner"] = owner.fingerprint
    check_signer(transaction, owner.fingerprint)
    transaction.session.merge(OwnerRow(fingerprint=owner.fingerprint, identity=owner.to_bytes()))


def owner_identity(transaction: Transaction, fingerprint: str) -> PublicIdentity:
    """Return a trusted owner's identity; `PolicyError` for everybody else."""
    row = transaction.session.get(OwnerRow, fingerprint)
    if row is None:
        raise PolicyError(
            f"The broker does not know the owner {fingerprint}.",
            next_step="Ask the broker's operator for `securemllib broker trust-owner`.",
            code="refused.policy.owner",
        )
    return PublicIdentity.from_bytes(row.identity)


def enrol(transaction: Transaction, dataset_id: str, signed: Signed) -> Enrolled:
    """Record a new version of a dataset and its secret.

    1. A trusted owner signed the enrolment, and the manifest in it.
    2. The manifest is of this dataset and of this owner.
    3. The dataset is new, or belongs to this owner.
    4. The version is the next, and names the digest of the one before; the latest version may be enrolled again.
    5. The secret is wrapped for this broker, this version and this owner.
    6. The secret opens the manifest's body, which agrees with its clear section.
    7. Where the body names brokers, this is one of them.

    Raises:
        PolicyError: The owner is not trusted, or 3 does not hold.
        RefusedError: 7 does not hold.
        SignatureError: A signature does not fit.
        IntegrityError: 2 or 6 does not hold.
        FreshnessError: 4 does not hold.
        UnsealError: 5 does not hold.
    """
    transaction.detail["owner"] = signed.signer
    if not _DATASET_ID.fullmatch(dataset_id):
        raise UsageError("A dataset id has 32 hexadecimal digits.")
    check_signer(transaction, signed.signer)
    owner = owner_identity(transaction, signed.signer)
    enrolment = verify(signed, Enrolment, owner)
    transaction.rates.check_identity(owner.fingerprint)
    manifest = verify(enrolment.manifest, Manifest, owner)
    transaction.detail["version"] = manifest.version
    if manifest.dataset_id != dataset_id or {manifest.owner, enrolment.owner.fingerprint} != {owner.fingerprint}:
        raise IntegrityError(f"The manifest is of dataset {manifest.dataset_id} and owner {manifest.owner}.")
    row = transaction.session.get(DatasetRow, dataset_id)
    transaction.datasets.add(dataset_id)
    if row is not None and row.owner != owner.fingerprint:
        raise PolicyError(f"The dataset {dataset_id} belongs to another owner.", code="refused.policy.owner")
    if not _is_next(transaction, row, manifest):
        return Enrolled(dataset_id=dataset_id, version=manifest.version, is_new=False)
    secret = DataKey(
        transaction.identity.recipient.unwrap(enrolment.secret, enrolment_context(dataset_id, manifest.version, owner.fingerprint))
    )
    body = _open_body(manifest, secret)
    if body.brokers and transaction.identity.public.fingerprint not in body.brokers:
        raise RefusedError(f"Version {manifest.version} of dataset {dataset_id} is for other brokers.", code="refused.broker")
    _insert(transaction, manifest, secret, body)
    return Enrolled(dataset_id=dataset_id, version=manifest.version, is_new=True)


def dataset_facts(transaction: Transaction, dataset_id: str) -> DatasetFacts | None:
    """Return what the release decision needs of a dataset, None for one that is not enrolled."""
    if dataset_id not in transaction.known:
        transaction.known[dataset_id] = _read_facts(transaction, dataset_id)
    return transaction.known[dataset_id]


def _read_facts(transaction: Transaction, dataset_id: str) -> DatasetFacts | None:
    row = transaction.session.get(DatasetRow, dataset_id)
    if row is None:
        return None
    check_not_frozen(row)
    version = _version(transaction, dataset_id, row.version)
    columns = decode(transaction.store.unseal(version.sealed_columns, _COLUMNS, dataset_id, row.version))
    if not isinstance(columns, list):
        raise FormatError(f"The columns of dataset {dataset_id} are no list.")
    runs = transaction.session.scalars(select(RuleRunsRow).where(RuleRunsRow.dataset_id == dataset_id))
    return DatasetFacts(
        latest=DatasetRef(dataset_id=dataset_id, version=row.version, digest=version.digest),
        columns=tuple(str(column) for column in columns),
        policy=policy_in_force(transaction, row),
        runs={counted.rule: counted.runs for counted in runs},
    )


def dataset_secret(transaction: Transaction, dataset: DatasetRef) -> bytes:
    """Return the secret of one version, to be wrapped at once."""
    unwrapped = transaction.secrets.get(dataset)
    return (kept_secret(transaction, dataset).open(None) if unwrapped is None else unwrapped).expose()


def datasets_of(transaction: Transaction, owner: str) -> list[str]:
    """Return the ids of an owner's datasets."""
    return list(transaction.session.scalars(select(DatasetRow.dataset_id).where(DatasetRow.owner == owner)))


def _is_next(transaction: Transaction, row: DatasetRow | None, manifest: Manifest) -> bool:
    digest = manifest.reference.digest
    latest = 0 if row is None else row.version
    latest_digest = b"" if row is None else _version(transaction, row.dataset_id, row.version).digest
    if row is not None and (manifest.version, digest) == (latest, latest_digest):
        return False
    # Versions that nobody enrolled may lie between: the owner, who alone signs enrolments, extended twice or comes to a new broker.
    if manifest.version <= latest or (manifest.version == latest + 1 and manifest.previous != latest_digest):
        raise FreshnessError(
            f"Version {manifest.version} of dataset {manifest.dataset_id} does not follow version {latest}, the latest here.",
            next_step="Enrol the version that `securemllib data extend` or `append` wrote last.",
        )
    return True


def _open_body(manifest: Manifest, secret: DataKey) -> ManifestBody:
    try:
        body = ManifestBody.from_bytes(
            unseal(secret.derive(ManifestBody.TYPE), body_context(manifest.dataset_id, manifest.version), manifest.body)
        )
    except UnsealError:
        raise UnsealError(f"The enrolled secret does not open the manifest of dataset {manifest.dataset_id}.") from None
    clear = tuple(ClearPart(file=part.file, length=part.length) for part in body.parts)
    if clear != manifest.parts or manifest.columns not in {(), body.columns} or manifest.rows not in {None, body.rows}:
        raise IntegrityError(f"The sealed and the clear section of the manifest of dataset {manifest.dataset_id} disagree.")
    return body


def _insert(transaction: Transaction, manifest: Manifest, secret: DataKey, body: ManifestBody) -> None:
    dataset_id, version = manifest.dataset_id, manifest.version
    columns = encode([column.name for column in body.columns])
    row = transaction.session.get(DatasetRow, dataset_id)
    if row is None:
        row = DatasetRow(dataset_id=dataset_id, owner=manifest.owner, version=version, is_frozen=False)
        transaction.session.add(row)
    row.version = version
    binding = Binding(tenant=manifest.owner, dataset_id=dataset_id, version=version)
    transaction.session.flush()
    transaction.session.add(
        VersionRow(
            dataset_id=dataset_id,
            version=version,
            digest=manifest.reference.digest,
            sealed_secret=seal_secret(transaction, secret, binding),
            sealed_columns=transaction.store.seal(columns, _COLUMNS, dataset_id, version),
        )
    )


def _version(transaction: Transaction, dataset_id: str, version: int) -> VersionRow:
    row = transaction.session.get(VersionRow, (dataset_id, version))
    if row is None:
        raise UsageError(f"The broker holds no version {version} of dataset {dataset_id}.")
    return row
