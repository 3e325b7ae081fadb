"""The tenant's keystore: the secret of each dataset, wrapped under one key-encryption key (KEK).

::

    keystore/kek              the KEK as a file, under a passphrase or protected by permissions (0600), unless a service holds it
    keystore/service          otherwise: how the service names the KEK, and the tenant in whose name it wraps
    keystore/DATASET_ID       the wrapped secret of one dataset; its name and latest version, sealed under that secret
    keystore/group-NAME       the wrapped key of one join group

Deleting a dataset's file shreds the dataset: nothing else holds its secret but brokers at which it was enrolled. Shredding the KEK shreds
them all.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from securemllib.crypto.aead import seal, unseal
from securemllib.crypto.keys import DataKey
from securemllib.crypto.locked import read_private, write_private
from securemllib.errors import FreshnessError, UsageError
from securemllib.kms.file import FileKey
from securemllib.kms.key import Binding, KeyEncryptionKey, WrappedSecret
from securemllib.kms.names import needs_passphrase, open_key
from securemllib.wire.dataset import Manifest
from securemllib.wire.encoding import length_prefixed
from securemllib.wire.record import Record

__all__ = ["DatasetEntry", "Keystore"]

_ENTRY_PURPOSE = "securemllib/dataset-entry/v1"
_DATASET_ID = re.compile(r"[0-9a-f]{32}")
_GROUP_PREFIX = "group-"
_GROUP = re.compile(r"[a-z][a-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetEntry(Record):
    """What the owner keeps of a dataset.

    Attributes:
        dataset_id: The dataset.
        name: What people call it.
        secret: The dataset secret; empty where the entry itself is sealed under it.
        version: The latest version that this owner wrote; 0 before the first is complete.
        manifest_digest: The digest of that version's manifest.
    """

    TYPE: ClassVar[str] = "securemllib/dataset-entry/v1"

    dataset_id: str
    name: str
    secret: bytes
    version: int
    manifest_digest: bytes

    def __repr__(self) -> str:
        return f"DatasetEntry({self.dataset_id}, version {self.version})"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Service(Record):
    TYPE: ClassVar[str] = "securemllib/keystore-service/v1"

    kek: str
    tenant: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored(Record):
    # The version is in the clear because unwrapping needs it; another one does not unwrap.
    TYPE: ClassVar[str] = "securemllib/keystore-dataset/v1"

    version: int
    wrapped: WrappedSecret
    sealed: bytes


class Keystore:
    """Dataset secrets, each wrapped under the tenant's KEK.

    Args:
        directory: Where they lie.
        kek: The KEK.
        tenant: Whose secrets they are, to the KEK.
    """

    __slots__ = ("_directory", "_kek", "_tenant")

    def __init__(self, directory: Path, kek: KeyEncryptionKey, tenant: str) -> None:
        self._directory = directory
        self._kek = kek
        self._tenant = tenant

    @classmethod
    def create(cls, directory: Path, passphrase: str | None, *, kek: str | None = None, tenant: str = "") -> "Keystore":
        """Make a keystore in a new or empty directory.

        Args:
            directory: The directory.
            passphrase: Protects a KEK that is made in it; None leaves that to the file's permissions.
            kek: The name of an existing KEK that a service holds; see `open_key`.
            tenant: In whose name that service wraps.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if kek is None:
            return cls(directory, FileKey.create(directory / "kek", passphrase), "")
        opened = open_key(kek, passphrase)
        write_private(directory / "service", _Service(kek=kek, tenant=tenant).to_bytes())
        return cls(directory, opened, tenant)

    @classmethod
    def open(cls, directory: Path, passphrase: str | None = None) -> "Keystore":
        """Return the keystore of a directory.

        Raises:
            UsageError: There is none, others can read it, or a passphrase is needed.
            UnsealError: The passphrase is wrong.
            UnavailableError: The KEK was shredded, or its service does not answer.
            RefusedError: The service does not permit it.
        """
        service = _service(directory)
        if service is None:
            return cls(directory, FileKey.open(directory / "kek", passphrase), "")
        return cls(directory, open_key(service.kek, passphrase), service.tenant)

    @staticmethod
    def exists(directory: Path) -> bool:
        """Return whether there is a keystore in a directory."""
        return (directory / "kek").exists() or (directory / "service").exists()

    @staticmethod
    def has_passphrase(directory: Path) -> bool:
        """Return whether the keystore of a directory needs a passphrase."""
        service = _service(directory)
        return FileKey.has_passphrase(directory / "kek") if service is None else needs_passphrase(service.kek)

    @property
    def kek(self) -> KeyEncryptionKey:
        """The KEK."""
        return self._kek

    def entry(self, dataset_id: str) -> DatasetEntry:
        """Return what is kept of a dataset.

        Raises:
            UsageError: The keystore does not know the dataset.
            UnsealError: The entry was changed, or belongs to another keystore or dataset.
        """
        path = self._path(dataset_id)
        if not path.exists():
            raise UsageError(
                f"The keystore has no secret of dataset {dataset_id}.",
                next_step="Use the keystore of the owner who encrypted it.",
                code="usage.no_secret",
            )
        stored = _Stored.from_bytes(read_private(path))
        secret = self._kek.unwrap(stored.wrapped, self._binding(dataset_id, stored.version))
        entry = DatasetEntry.from_bytes(unseal(secret.derive(_ENTRY_PURPOSE), _context(dataset_id, stored.version), stored.sealed))
        return replace(entry, secret=secret.expose())

    def secret(self, dataset_id: str) -> DataKey:
        """Return the secret of a dataset."""
        return DataKey(self.entry(dataset_id).secret)

    def add(self, dataset_id: str, name: str) -> DataKey:
        """Make and keep the secret of a new dataset."""
        secret = DataKey.generate()
        self._write(
            DatasetEntry(dataset_id=dataset_id, name=name, secret=secret.expose(), version=0, manifest_digest=b""), replace_file=False
        )
        return secret

    def record(self, manifest: Manifest) -> None:
        """Note a manifest that its owner signed as the latest version of its dataset, if it follows the one that is noted.

        Raises:
            FreshnessError: It is neither the noted version nor the one right after it.
        """
        entry = self.entry(manifest.dataset_id)
        digest = manifest.reference.digest
        if (manifest.version, digest) == (entry.version, entry.manifest_digest):
            return
        if (manifest.version, manifest.previous) != (entry.version + 1, entry.manifest_digest):
            raise FreshnessError(
                f"Version {manifest.version} of dataset {manifest.dataset_id} is not the latest, which is version {entry.version}.",
                next_step=f"Use version {entry.version} of the dataset.",
            )
        latest = replace(entry, name=manifest.name, version=manifest.version, manifest_digest=digest)
        self._write(latest, replace_file=True)

    def forget(self, dataset_id: str) -> None:
        """Delete a dataset's secret: no key remains here that opens the dataset."""
        self._path(dataset_id).unlink(missing_ok=True)

    def join_group(self, name: str) -> DataKey:
        """Return the key of a join group.

        Raises:
            UsageError: There is none of that name.
        """
        path = self._group_path(name)
        if not path.exists():
            raise UsageError(
                f"The keystore has no join group {name!r}.", next_step=f"Run `securemllib data join-group {name}`.", code="usage.no_group"
            )
        return self._kek.unwrap(WrappedSecret.from_bytes(read_private(path)), self._group_binding(name))

    def add_join_group(self, name: str) -> None:
        """Make and keep the key of a new join group."""
        wrapped = self._kek.wrap(DataKey.generate(), self._group_binding(name))
        write_private(self._group_path(name), wrapped.to_bytes())

    def rewrap(self) -> int:
        """Wrap every secret under the latest version of the KEK, in the place of its old bytes, and return how many there are."""
        paths = self._files()
        for path, stored in paths.items():
            if isinstance(stored, _Stored):
                fresh = self._kek.rewrap(stored.wrapped, self._binding(path.name, stored.version))
                write_private(path, replace(stored, wrapped=fresh).to_bytes(), replace=True)
            else:
                group = path.name.removeprefix(_GROUP_PREFIX)
                write_private(path, self._kek.rewrap(stored, self._group_binding(group)).to_bytes(), replace=True)
        return len(paths)

    def copy_to(self, target: "Keystore") -> int:
        """Put every secret into an empty keystore, wrapped under that one's KEK, and return how many there are."""
        paths = self._files()
        for path, stored in paths.items():
            if isinstance(stored, _Stored):
                target._write(self.entry(path.name), replace_file=False)
            else:
                group = path.name.removeprefix(_GROUP_PREFIX)
                wrapped = target._kek.wrap(self.join_group(group), target._group_binding(group))
                write_private(target._group_path(group), wrapped.to_bytes())
        return len(paths)

    def key_versions(self) -> dict[int, int]:
        """Return how many secrets are wrapped under each version of the KEK."""
        files = self._files().values()
        return dict(sorted(Counter((stored.wrapped if isinstance(stored, _Stored) else stored).key_version for stored in files).items()))

    def __iter__(self) -> Iterator[DatasetEntry]:
        """Yield what is kept of each dataset."""
        for path in sorted(self._directory.iterdir()):
            if _DATASET_ID.fullmatch(path.name):
                yield self.entry(path.name)

    def __repr__(self) -> str:
        return f"Keystore({str(self._directory)!r})"

    def _path(self, dataset_id: str) -> Path:
        if not _DATASET_ID.fullmatch(dataset_id):
            raise UsageError("A dataset id has 32 hexadecimal digits.")
        return self._directory / dataset_id

    def _group_path(self, name: str) -> Path:
        if not _GROUP.fullmatch(name):
            raise UsageError(f"{name!r} names no join group.", next_step="Use lower-case letters, digits, - and _.")
        return self._directory / f"{_GROUP_PREFIX}{name}"

    def _files(self) -> dict[Path, _Stored | WrappedSecret]:
        files: dict[Path, _Stored | WrappedSecret] = {}
        for path in sorted(self._directory.iterdir()):
            if _DATASET_ID.fullmatch(path.name):
                files[path] = _Stored.from_bytes(read_private(path))
            elif path.name.startswith(_GROUP_PREFIX):
                files[path] = WrappedSecret.from_bytes(read_private(path))
        return files

    def _binding(self, dataset_id: str, version: int) -> Binding:
        return Binding(tenant=self._tenant, dataset_id=dataset_id, version=version)

    def _group_binding(self, name: str) -> Binding:
        return self._binding(f"{_GROUP_PREFIX}{name}", 0)

    def _write(self, entry: DatasetEntry, *, replace_file: bool) -> None:
        secret = DataKey(entry.secret)
        wrapped = self._kek.wrap(secret, self._binding(entry.dataset_id, entry.version))
        # The secret that seals the rest is no part of it.
        content = replace(entry, secret=b"").to_bytes()
        sealed = seal(secret.derive(_ENTRY_PURPOSE), _context(entry.dataset_id, entry.version), content)
        stored = _Stored(version=entry.version, wrapped=wrapped, sealed=sealed)
        write_private(self._path(entry.dataset_id), stored.to_bytes(), replace=replace_file)


def _service(directory: Path) -> _Service | None:
    path = directory / "service"
    return _Service.from_bytes(read_private(path)) if path.exists() else None


def _context(dataset_id: str, version: int) -> bytes:
    return length_prefixed(_ENTRY_PURPOSE, dataset_id, version)
