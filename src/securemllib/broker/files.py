"""Where the broker's files lie."""

import os
from dataclasses import dataclass
from pathlib import Path

from securemllib.crypto.locked import write_private

__all__ = ["BrokerFiles"]


@dataclass(frozen=True, slots=True)
class BrokerFiles:
    """The broker's directory.

    Attributes:
        path: ``SECUREMLLIB_BROKER_HOME``, else ``broker`` in ``SECUREMLLIB_HOME``, else in ``~/.securemllib``.
    """

    path: Path

    @classmethod
    def default(cls) -> "BrokerFiles":
        """Return the directory that the environment names."""
        named = os.environ.get("SECUREMLLIB_BROKER_HOME")
        user = os.environ.get("SECUREMLLIB_HOME") or "~/.securemllib"
        return cls(Path(named if named else f"{user}/broker").expanduser())

    def make(self) -> None:
        """Create the directory, and those above it that are missing, for this user alone: above it may lie the user's own home."""
        missing = [self.path, *self.path.parents]
        for directory in reversed(missing):
            directory.mkdir(mode=0o700, exist_ok=True)

    @property
    def keystore(self) -> Path:
        """The broker's keys."""
        return self.path / "keystore.sml"

    @property
    def public(self) -> Path:
        """The broker's public identity, one line of base64: what owners and analysts are given."""
        return self.path / "broker.pub"

    @property
    def recovery(self) -> Path:
        """The signed public half of the recovery key."""
        return self.path / "recovery.sml"

    @property
    def head(self) -> Path:
        """The last audit head, beside the keystore and outside of the database."""
        return self.path / "head.sml"

    @property
    def database(self) -> str:
        """The URL of the SQLite database that is used unless another is named."""
        return f"sqlite:///{self.path.resolve() / 'broker.db'}"

    @property
    def kek(self) -> Path:
        """The name of the key-encryption key of dataset secrets, one line; without it only the keystore's key seals them."""
        return self.path / "kek.name"

    def kek_name(self) -> str | None:
        """Return the name of the key-encryption key, None where there is none."""
        return self.kek.read_text(encoding="utf-8").strip() if self.kek.exists() else None

    def use_kek(self, name: str) -> None:
        """Name the key-encryption key from now on."""
        write_private(self.kek, f"{name}\n".encode(), replace=True)

    @property
    def collateral(self) -> Path:
        """Intel's collateral, one file a kind of platform."""
        return self.path / "collateral"

    @property
    def certificate(self) -> Path:
        """The self-signed certificate."""
        return self.path / "tls.crt"

    @property
    def certificate_key(self) -> Path:
        """Its key."""
        return self.path / "tls.key"
