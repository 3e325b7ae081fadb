"""The tenant's file keystore: one key-encryption key (KEK), and under it the secret of each dataset.

::

    keystore/kek              the KEK, under a passphrase or protected by permissions (0600)
    keystore/DATASET_ID       name, latest version and secret of one dataset, sealed under the KEK
    keystore/group-NAME       the key of one join group, sealed under the KEK

Deleting a dataset's file shreds the dataset: nothing else holds its secret but brokers at which it was enrolled.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from securemllib.crypto.aead import seal, unseal
from securemllib.crypto.keys import DataKey
from securemllib.crypto.locked import Locked, lock, read_private, unlock, write_private
from securemllib.errors import FreshnessError, UsageError
from securemllib.wire.dataset import Manifest
from securemllib.wire.encoding import length_prefixed
from securemllib.wire.record import Record

__all__ = ["DatasetEntry", "Keystore"]

_PURPOSE = "securemllib key-encryption key"
_ENTRY_PURPOSE = "securemllib/dataset-entry/v1"
_DATASET_ID = re.compile(r"[0-9a-f]{32}")
_GROUP_PURPOSE = "securemllib/join-group/v1"
_GROUP = re.compile(r"[a-z][a-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetEntry(Record):
    """What the owner keeps of a dataset.

    Attributes:
        dataset_id: The dataset.
        name: What people call it.
        secret: The dataset secret.
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
    """Dataset secrets, each sealed under the tenant's KEK."""

    __slots__ = ("_directory", "_kek")

    def __init__(self, directory: Path, kek: DataKey) -> None:
        self._directory = directory
        self._kek = kek

    @classmethod
    def create(cls, directory: Path, passphrase: str | None) -> "Keystore":
        """Make a keystore with a fresh KEK in a new or empty directory; None leaves the KEK to the file's permissions."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        kek = DataKey.generate()
        write_private(directory / "kek", lock(_PURPOSE, b"", kek.expose(), passphrase).to_bytes())
        return cls(directory, kek)

    @classmethod
    def open(cls, directory: Path, passphrase: str | None = None) -> "Keystore":
        """Return the keystore of a directory.

        Raises:
            UsageError: There is none, others can read it, or a passphrase is needed.
            UnsealError: The passphrase is wrong.
        """
        locked = Locked.from_bytes(read_private(directory / "kek"))
        return cls(directory, DataKey(unlock(locked, _PURPOSE, passphrase)))

    @staticmethod
    def has_passphrase(directory: Path) -> bool:
        """Return whether the keystore of a directory needs a passphrase."""
        return Locked.from_bytes(read_private(directory / "kek")).has_passphrase

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
        return DatasetEntry.from_bytes(unseal(self._entry_key(), self._context(dataset_id), read_private(path)))

    def secret(self, dataset_id: str) -> DataKey:
        """Return the secret of a dataset."""
        return DataKey(self.entry(dataset_id).secret)

    def add(self, dataset_id: str, name: str) -> DataKey:
        """Make and keep the secret of a new dataset."""
        secret = DataKey.generate()
        self._write(DatasetEntry(dataset_id=dataset_id, name=name, secret=secret.expose(), version=0, manifest_digest=b""), replace=False)
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
        self._write(latest, replace=True)

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
        return DataKey(unseal(self._kek.derive(_GROUP_PURPOSE), length_prefixed(_GROUP_PURPOSE, name), read_private(path)))

    def add_join_group(self, name: str) -> None:
        """Make and keep the key of a new join group."""
        sealed = seal(self._kek.derive(_GROUP_PURPOSE), length_prefixed(_GROUP_PURPOSE, name), DataKey.generate().expose())
        write_private(self._group_path(name), sealed)

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
        return self._directory / f"group-{name}"

    def _entry_key(self) -> DataKey:
        return self._kek.derive(_ENTRY_PURPOSE)

    def _context(self, dataset_id: str) -> bytes:
        return length_prefixed(_ENTRY_PURPOSE, dataset_id)

    def _write(self, entry: DatasetEntry, *, replace: bool) -> None:
        sealed = seal(self._entry_key(), self._context(entry.dataset_id), entry.to_bytes())
        write_private(self._path(entry.dataset_id), sealed, replace=replace)
