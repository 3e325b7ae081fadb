"""The tenant's keystore: the secret of each dataset, wrapped under one key-encryption key (KEK).

::

    keystore/kek              the KEK as a file, under a passphrase or protected by permissions (0600), unless a service holds it
    keystore/service          otherwise: how the service names the KEK, and the tenant in whose name it wraps
    keystore/DATASET_ID       the wrapped secret of one dataset; its name and latest version, sealed under that secret
    keystore/group-NAME       the wrapped key of one join group

Deleting a dataset's file shreds the dataset: nothing else holds its secret but brokers at which it was enrolled. Shredding the KEK shreds
them all. Processes that change one keystore take turns; the lock lies beside the directory, which may be put in another's place.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from securemllib.crypto.aead import seal, unseal
from securemllib.crypto.keys import DataKey
from securemllib.crypto.locked import read_private, write_private
from securemllib.errors import FreshnessError, UnavailableError, UsageError
from securemllib.kms.file import FileKey
from securemllib.kms.key import Binding, KeyEncryptionKey, WrappedSecret
from securemllib.kms.names import needs_passphrase, open_key
from securemllib.kms.turns import turn
from securemllib.owner.keystore_files import (
    DATASET_ID,
    GROUP_PREFIX,
    KeystoreService,
    StoredDataset,
    files_in,
    names_in,
    read_stored,
    service_in,
)
from securemllib.wire.dataset import Manifest
from securemllib.wire.encoding import length_prefixed
from securemllib.wire.record import Record

__all__ = ["DatasetEntry", "Keystore"]

_ENTRY_PURPOSE = "securemllib/dataset-entry/v1"
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


class Keystore:
    """Dataset secrets, each wrapped under the tenant's KEK.

    Args:
        directory: Where they lie.
        kek: The KEK.
        service: How a service names the KEK, and in whose name it wraps; None where the KEK is a file of the directory.
    """

    __slots__ = ("_directory", "_kek", "_service")

    def __init__(self, directory: Path, kek: KeyEncryptionKey, service: KeystoreService | None) -> None:
        self._directory = directory
        self._kek = kek
        self._service = service

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
            return cls(directory, FileKey.create(directory / "kek", passphrase), None)
        opened, service = open_key(kek, passphrase), KeystoreService(kek=kek, tenant=tenant)
        write_private(directory / "service", service.to_bytes())
        return cls(directory, opened, service)

    @classmethod
    def open(cls, directory: Path, passphrase: str | None = None) -> "Keystore":
        """Return the keystore of a directory.

        Raises:
            UsageError: There is none, others can read it, or a passphrase is needed.
            UnsealError: The passphrase is wrong.
            UnavailableError: The KEK was shredded, or its service does not answer.
            RefusedError: The service does not permit it.
        """
        service = service_in(directory)
        if service is None:
            return cls(directory, FileKey.open(directory / "kek", passphrase), None)
        return cls(directory, open_key(service.kek, passphrase), service)

    @staticmethod
    def exists(directory: Path) -> bool:
        """Return whether there is a keystore in a directory."""
        return (directory / "kek").exists() or (directory / "service").exists()

    @staticmethod
    def has_passphrase(directory: Path) -> bool:
        """Return whether the keystore of a directory needs a passphrase."""
        service = service_in(directory)
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
        stored = StoredDataset.from_bytes(read_private(path))
        secret = self._kek.unwrap(stored.wrapped, self._binding(dataset_id, stored.version))
        entry = DatasetEntry.from_bytes(unseal(secret.derive(_ENTRY_PURPOSE), _context(dataset_id, stored.version), stored.sealed))
        return replace(entry, secret=secret.expose())

    def secret(self, dataset_id: str) -> DataKey:
        """Return the secret of a dataset."""
        return DataKey(self.entry(dataset_id).secret)

    def add(self, dataset_id: str, name: str) -> DataKey:
        """Make and keep the secret of a new dataset."""
        secret = DataKey.generate()
        entry = DatasetEntry(dataset_id=dataset_id, name=name, secret=secret.expose(), version=0, manifest_digest=b"")
        with self._turn():
            self._write(entry, replace_file=False)
        return secret

    def record(self, manifest: Manifest) -> None:
        """Note a manifest that its owner signed as the latest version of its dataset, if it follows the one that is noted.

        Raises:
            FreshnessError: It is neither the noted version nor the one right after it.
            UnavailableError: Another process changes the keystore and does not end, or has put another one in its place.
        """
        # Whoever only reads waits for nobody.
        if not _is_noted(manifest, self.entry(manifest.dataset_id)):
            with self._turn():
                self._record(manifest)

    def _record(self, manifest: Manifest) -> None:
        entry = self.entry(manifest.dataset_id)
        if _is_noted(manifest, entry):
            return
        if (manifest.version, manifest.previous) != (entry.version + 1, entry.manifest_digest):
            raise FreshnessError(
                f"Version {manifest.version} of dataset {manifest.dataset_id} is not the latest, which is version {entry.version}.",
                next_step=f"Use version {entry.version} of the dataset.",
            )
        latest = replace(entry, name=manifest.name, version=manifest.version, manifest_digest=manifest.reference.digest)
        self._write(latest, replace_file=True)

    def forget(self, dataset_id: str) -> None:
        """Delete a dataset's secret: no key remains here that opens the dataset."""
        with turn(self._directory):
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
        with self._turn():
            wrapped = self._kek.wrap(DataKey.generate(), self._group_binding(name))
            write_private(self._group_path(name), wrapped.to_bytes())

    def rewrap(self) -> int:
        """Wrap every secret under the latest version of the KEK, in the place of its old bytes, and return how many there are."""
        count = 0
        for name in names_in(self._directory):
            # A turn for each: a service may take its time, and others have versions to note. What they changed or forgot is not undone.
            with self._turn():
                path = self._directory / name
                if path.exists():
                    write_private(path, self._rewrapped(name, read_stored(path)).to_bytes(), replace=True)
                    count += 1
        return count

    def _rewrapped(self, name: str, stored: StoredDataset | WrappedSecret) -> StoredDataset | WrappedSecret:
        if isinstance(stored, StoredDataset):
            return replace(stored, wrapped=self._kek.rewrap(stored.wrapped, self._binding(name, stored.version)))
        return self._kek.rewrap(stored, self._group_binding(name.removeprefix(GROUP_PREFIX)))

    def give_way(self, fresh: "Keystore", old: Path) -> int:
        """Put every secret into an empty keystore, wrapped under that one's KEK, and it in this one's place; return how many there are.

        Args:
            fresh: The empty keystore, beside this one.
            old: Where this one's directory goes.

        Raises:
            UnavailableError: Another process changed this keystore meanwhile. It is in its place, as that process left it.
        """
        with self._turn():
            before = files_in(self._directory)
            self._copy_to(fresh, before)
            self._directory.rename(old)
            fresh._directory.rename(self._directory)
            # Programs of earlier versions take no turns, and what they wrote until now is not in the fresh one.
            if files_in(old) != before:
                self._directory.rename(fresh._directory)
                old.rename(self._directory)
                raise UnavailableError(
                    f"Another process changed {self._directory} meanwhile, so it stays as it is.",
                    next_step=f"Let that process finish, remove {fresh._directory}, then try again.",
                    code="unavailable.kek.busy",
                )
        return len(before)

    def _copy_to(self, target: "Keystore", files: Mapping[str, StoredDataset | WrappedSecret]) -> None:
        for name, stored in files.items():
            if isinstance(stored, StoredDataset):
                target._write(self.entry(name), replace_file=False)
            else:
                group = name.removeprefix(GROUP_PREFIX)
                wrapped = target._kek.wrap(self.join_group(group), target._group_binding(group))
                write_private(target._group_path(group), wrapped.to_bytes())

    def key_versions(self) -> dict[int, int]:
        """Return how many secrets are wrapped under each version of the KEK."""
        files = files_in(self._directory).values()
        wrapped = (stored.wrapped if isinstance(stored, StoredDataset) else stored for stored in files)
        return dict(sorted(Counter(secret.key_version for secret in wrapped).items()))

    def __iter__(self) -> Iterator[DatasetEntry]:
        """Yield what is kept of each dataset."""
        for path in sorted(self._directory.iterdir()):
            if DATASET_ID.fullmatch(path.name):
                yield self.entry(path.name)

    def __repr__(self) -> str:
        return f"Keystore({str(self._directory)!r})"

    def _path(self, dataset_id: str) -> Path:
        if not DATASET_ID.fullmatch(dataset_id):
            raise UsageError("A dataset id has 32 hexadecimal digits.")
        return self._directory / dataset_id

    def _group_path(self, name: str) -> Path:
        if not _GROUP.fullmatch(name):
            raise UsageError(f"{name!r} names no join group.", next_step="Use lower-case letters, digits, - and _.")
        return self._directory / f"{GROUP_PREFIX}{name}"

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Hold the keystore while the block runs; `UnavailableError` where another one is in its place, whose key opens nothing of this."""
        with turn(self._directory):
            if service_in(self._directory) != self._service:
                raise UnavailableError(
                    f"The secrets of {self._directory} were wrapped under another key meanwhile.",
                    next_step="Run the command again.",
                    code="unavailable.kek.changed",
                )
            yield

    def _binding(self, dataset_id: str, version: int) -> Binding:
        tenant = "" if self._service is None else self._service.tenant
        return Binding(tenant=tenant, dataset_id=dataset_id, version=version)

    def _group_binding(self, name: str) -> Binding:
        return self._binding(f"{GROUP_PREFIX}{name}", 0)

    def _write(self, entry: DatasetEntry, *, replace_file: bool) -> None:
        secret = DataKey(entry.secret)
        wrapped = self._kek.wrap(secret, self._binding(entry.dataset_id, entry.version))
        # The secret that seals the rest is no part of it.
        content = replace(entry, secret=b"").to_bytes()
        sealed = seal(secret.derive(_ENTRY_PURPOSE), _context(entry.dataset_id, entry.version), content)
        stored = StoredDataset(version=entry.version, wrapped=wrapped, sealed=sealed)
        write_private(self._path(entry.dataset_id), stored.to_bytes(), replace=replace_file)


def _context(dataset_id: str, version: int) -> bytes:
    return length_prefixed(_ENTRY_PURPOSE, dataset_id, version)


def _is_noted(manifest: Manifest, entry: DatasetEntry) -> bool:
    return (manifest.version, manifest.reference.digest) == (entry.version, entry.manifest_digest)
