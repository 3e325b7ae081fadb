"""Options that several commands take, and how a command comes to its identity and keystore."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from securemllib.crypto.identity import PrivateIdentity
from securemllib.errors import UnsealError, UsageError
from securemllib.owner import identity_file
from securemllib.owner.home import Home
from securemllib.owner.keystore import Keystore
from securemllib.wire.identity import PublicIdentity

__all__ = [
    "Broker",
    "CaFile",
    "Fingerprint",
    "IdentityName",
    "PassphraseFile",
    "console",
    "open_identity",
    "open_keystore",
    "open_own",
    "owner_of",
    "passphrase_from",
    "trusted_broker",
]

console = Console(highlight=False, soft_wrap=True)

IdentityName = Annotated[
    str | None, typer.Option("--identity", help="Name of the identity in the home directory; not needed when it holds one.")
]
PassphraseFile = Annotated[
    Path | None, typer.Option("--passphrase-file", help="File whose first line is the passphrase, instead of being asked for it.")
]
Broker = Annotated[
    str, typer.Option("--broker", envvar="SECUREMLLIB_BROKER", help="Address of the broker, like https://broker.example:8460.")
]
Fingerprint = Annotated[
    str | None, typer.Option("--fingerprint", help="The broker's fingerprint; not needed after `securemllib trust-broker`.")
]

CaFile = Annotated[str | None, typer.Option("--ca-file", help="Certificates to trust for TLS.")]


def passphrase_from(file: Path | None, what: str, *, confirm: bool = False) -> str:
    """Return the passphrase in the file's first line, or ask for it on the terminal."""
    if file is None:
        return str(typer.prompt(f"Passphrase of the {what}", hide_input=True, confirmation_prompt=confirm, err=True))
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        raise UsageError(f"{file} cannot be read.", code="usage.missing_file") from None
    return lines[0] if lines else ""


def open_identity(name: str | None, passphrase_file: Path | None) -> PrivateIdentity:
    """Return the user's identity, asking for its passphrase where it has one."""
    home = Home.default()
    home.check()
    path = home.identity(name)
    passphrase = passphrase_from(passphrase_file, "identity") if identity_file.has_passphrase(path) else None
    return identity_file.load(path, passphrase)


def open_keystore(passphrase_file: Path | None) -> Keystore:
    """Return the user's keystore, asking for its passphrase where it has one."""
    home = Home.default()
    home.check()
    passphrase = passphrase_from(passphrase_file, "keystore") if Keystore.has_passphrase(home.keystore) else None
    return Keystore.open(home.keystore, passphrase)


def open_own(name: str | None, passphrase_file: Path | None) -> tuple[PrivateIdentity, Keystore]:
    """Return the user's identity and keystore; one passphrase that opens both, as `init` makes them, is asked for once."""
    home = Home.default()
    home.check()
    path = home.identity(name)
    passphrase = passphrase_from(passphrase_file, "identity") if identity_file.has_passphrase(path) else None
    owner = identity_file.load(path, passphrase)
    if passphrase is not None and Keystore.has_passphrase(home.keystore):
        with suppress(UnsealError):
            return owner, Keystore.open(home.keystore, passphrase)
    return owner, open_keystore(passphrase_file)


def owner_of(name: str | None, public: Path | None) -> PublicIdentity:
    """Return the public identity of a ``.pub`` file, or the user's own."""
    return identity_file.load_public(public if public is not None else identity_file.public_path(Home.default().identity(name)))


def trusted_broker(fingerprint: str | None) -> str:
    """Return the fingerprint to expect of the broker: the given one, or that of the broker that the user trusts."""
    if fingerprint is not None:
        return fingerprint
    path = Home.default().broker
    if not path.is_file():
        raise UsageError(
            "No broker is trusted yet.",
            next_step="Run `securemllib trust-broker`, or give --fingerprint; the broker's operator knows it.",
            code="usage.no_broker",
        )
    return identity_file.load_public(path).fingerprint
