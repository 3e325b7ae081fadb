"""An owner with an identity and a keystore, neither with a passphrase: scrypt's half second is paid only where a test is about it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from securemllib.crypto.identity import PrivateIdentity
from securemllib.owner import dataset, identity_file
from securemllib.owner.keystore import Keystore
from securemllib.wire.dataset import Manifest


@dataclass(frozen=True)
class Owner:
    """Who encrypts in these tests."""

    identity: PrivateIdentity
    keystore: Keystore

    def encrypt(self, source: object, directory: Path, **options: object) -> Manifest:
        """Encrypt with this owner's keys."""
        return dataset.encrypt(source, directory, **{"name": "patients", "identity": self.identity, "keystore": self.keystore, **options})


def owner_in(directory: Path) -> Owner:
    """Return an owner whose files lie in a directory."""
    directory.mkdir(mode=0o700)
    return Owner(identity=identity_file.create(directory, "alice", None), keystore=Keystore.create(directory / "keystore", None))


@pytest.fixture
def owner(tmp_path: Path) -> Owner:
    """An owner."""
    return owner_in(tmp_path / "home")


@pytest.fixture
def other_owner(tmp_path: Path) -> Owner:
    """Somebody else."""
    return owner_in(tmp_path / "other-home")


@pytest.fixture
def table() -> pa.Table:
    """A hundred rows that can be told apart."""
    return pa.table({"id": list(range(100)), "weight": [row / 7 for row in range(100)], "name": [f"patient {row}" for row in range(100)]})


@pytest.fixture
def sorted_rows() -> Callable[[pa.Table], list[dict[str, object]]]:
    """Rows in the order of their text, for comparing what was shuffled."""
    return lambda rows: sorted(rows.to_pylist(), key=repr)
