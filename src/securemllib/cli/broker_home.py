"""How the commands of a broker's operator come to its directory, its keys and its database."""

from base64 import b64decode
from binascii import Error as Base64Error
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from securemllib.broker.collateral import CollateralStore
from securemllib.broker.evidence import Attester
from securemllib.broker.files import BrokerFiles
from securemllib.broker.keystore import has_passphrase, open_keystore
from securemllib.broker.rates import Rates
from securemllib.broker.server import configure_logs
from securemllib.broker.service import Broker
from securemllib.errors import FormatError, UsageError
from securemllib.kms.names import needs_passphrase, open_key
from securemllib.wire.identity import PublicIdentity

__all__ = [
    "DatabaseOption",
    "HomeOption",
    "PassphraseFile",
    "broker_passphrase",
    "console",
    "files_of",
    "open_broker",
    "read_identity",
]

# A public identity takes about 1,800 characters of base64.
_IDENTITY_LIMIT = 16_384

console = Console(highlight=False, soft_wrap=True)

HomeOption = Annotated[
    Path | None, typer.Option("--home", help="The broker's directory; SECUREMLLIB_BROKER_HOME, else `broker` in SECUREMLLIB_HOME.")
]
DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--database", envvar="SECUREMLLIB_BROKER_DATABASE", help="postgresql+psycopg://... instead of the SQLite file in the directory."
    ),
]
PassphraseFile = Annotated[
    Path | None, typer.Option("--passphrase-file", help="File whose first line is the passphrase, instead of being asked for it.")
]


def read_identity(path: Path) -> PublicIdentity:
    """Return the public identity of a ``.pub`` file."""
    if not path.is_file():
        raise UsageError(f"There is no file {path}.", code="usage.missing_file")
    try:
        text = path.read_text(encoding="ascii")
        return PublicIdentity.from_bytes(b64decode("".join(text[:_IDENTITY_LIMIT].split()), validate=True))
    except (UnicodeDecodeError, Base64Error, FormatError):
        raise FormatError(f"{path} is no public identity.", next_step="Give the NAME.pub file that `securemllib init` wrote.") from None


def files_of(home: Path | None) -> BrokerFiles:
    """Return the broker's files in the named directory, or where the environment says."""
    return BrokerFiles.default() if home is None else BrokerFiles(home)


def open_broker(
    files: BrokerFiles,
    database: str | None,
    passphrase_file: Path | None,
    collateral: CollateralStore | None = None,
    rates: Rates | None = None,
    *,
    may_be_older: bool = False,
    attester: Attester | None = None,
    profile: str = "production",
) -> Broker:
    """Return the broker of a directory, with its keystore and its key-encryption key open."""
    configure_logs()
    name = files.kek_name()
    needed = has_passphrase(files.keystore) or (name is not None and needs_passphrase(name))
    passphrase = broker_passphrase(passphrase_file) if needed else None
    keystore = open_keystore(files.keystore, passphrase)
    kek = None if name is None else open_key(name, passphrase)
    return Broker(
        keystore,
        database or files.database,
        files.head,
        collateral=collateral,
        rates=rates,
        kek=kek,
        may_be_older=may_be_older,
        attester=attester,
        profile=profile,
        kek_name=name,
    )


def broker_passphrase(file: Path | None, *, confirm: bool = False) -> str:
    """Return the passphrase in the file's first line, or ask for it on the terminal."""
    if file is None:
        return str(typer.prompt("Passphrase of the broker's keystore", hide_input=True, confirmation_prompt=confirm, err=True))
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        raise UsageError(f"{file} cannot be read.", code="usage.missing_file") from None
    return lines[0] if lines else ""
