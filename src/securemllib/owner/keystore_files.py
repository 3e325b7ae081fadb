"""What lies in a keystore's directory: how its key is named, and one file for each dataset and join group."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from securemllib.crypto.locked import read_private
from securemllib.kms.key import WrappedSecret
from securemllib.wire.record import Record

__all__ = ["DATASET_ID", "GROUP_PREFIX", "KeystoreService", "StoredDataset", "files_in", "names_in", "read_stored", "service_in"]

DATASET_ID = re.compile(r"[0-9a-f]{32}")
GROUP_PREFIX = "group-"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeystoreService(Record):
    """How a service names the KEK, and in whose name it wraps."""

    TYPE: ClassVar[str] = "securemllib/keystore-service/v1"

    kek: str
    tenant: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDataset(Record):
    """The wrapped secret of a dataset, and the rest of what is kept of it, sealed under that secret."""

    # The version is in the clear because unwrapping needs it; another one does not unwrap.
    TYPE: ClassVar[str] = "securemllib/keystore-dataset/v1"

    version: int
    wrapped: WrappedSecret
    sealed: bytes


def service_in(directory: Path) -> KeystoreService | None:
    """Return how a keystore's key is named; None where it is a file of the directory."""
    path = directory / "service"
    return KeystoreService.from_bytes(read_private(path)) if path.exists() else None


def files_in(directory: Path) -> dict[str, StoredDataset | WrappedSecret]:
    """Return what a directory holds of datasets and join groups, by the file's name."""
    return {name: read_stored(directory / name) for name in names_in(directory)}


def names_in(directory: Path) -> list[str]:
    """Return the names of a directory's files of datasets and join groups."""
    names = sorted(path.name for path in directory.iterdir())
    return [name for name in names if DATASET_ID.fullmatch(name) or name.startswith(GROUP_PREFIX)]


def read_stored(path: Path) -> StoredDataset | WrappedSecret:
    """Return what a file holds of a dataset, or of a join group."""
    kind = WrappedSecret if path.name.startswith(GROUP_PREFIX) else StoredDataset
    return kind.from_bytes(read_private(path))
