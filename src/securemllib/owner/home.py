"""The user's own directory: identity, keystore, trusted broker and the agent's socket."""

import os
from dataclasses import dataclass
from pathlib import Path

from securemllib.errors import UsageError

__all__ = ["Home"]

_OTHERS = 0o077
_DEFAULT = "~/.securemllib"


@dataclass(frozen=True, slots=True)
class Home:
    """A directory that only its user can enter.

    Attributes:
        path: The directory.
    """

    path: Path

    @classmethod
    def default(cls) -> "Home":
        """Return the directory that ``SECUREMLLIB_HOME`` names, else ``~/.securemllib``."""
        return cls(Path(os.environ.get("SECUREMLLIB_HOME") or _DEFAULT).expanduser())

    def make(self) -> None:
        """Create the directory; `UsageError` if it exists and others can enter it."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.check()

    def check(self) -> None:
        """Raise `UsageError` unless the directory exists and is this user's alone."""
        if not self.path.is_dir():
            raise UsageError(f"There is no {self.path}.", next_step="Run `securemllib init`.", code="usage.no_home")
        status = self.path.stat()
        if status.st_mode & _OTHERS or status.st_uid != os.getuid():
            raise UsageError(
                f"{self.path} is open to others.", next_step=f"Run `chmod 700 {self.path}` as its owner.", code="usage.permissions"
            )

    def identity(self, name: str | None = None) -> Path:
        """Return the private identity file of a name; without a name, of the only identity there is."""
        if name is not None:
            return self.path / f"{name}.identity"
        found = sorted(self.path.glob("*.identity"))
        if len(found) != 1:
            names = ", ".join(path.stem for path in found)
            advice = f"Choose one with --identity: {names}." if found else "Run `securemllib init`."
            raise UsageError(f"{self.path} holds {len(found)} identities.", next_step=advice, code="usage.identity")
        return found[0]

    @property
    def keystore(self) -> Path:
        """The keystore's directory."""
        return self.path / "keystore"

    @property
    def broker(self) -> Path:
        """The public identity of the broker that this user trusts."""
        return self.path / "broker.pub"

    @property
    def agent_socket(self) -> Path:
        """The agent's socket: ``SECUREMLLIB_AGENT_SOCK``, else in this directory."""
        named = os.environ.get("SECUREMLLIB_AGENT_SOCK")
        return Path(named) if named else self.path / "agent.sock"
