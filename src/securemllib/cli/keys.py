"""`securemllib keys`: the key-encryption key that wraps dataset secrets, of an owner's keystore or of a broker."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from securemllib.cli.shared import PassphraseFile, console, open_keystore, passphrase_from
from securemllib.errors import UsageError
from securemllib.kms.key import KeyEncryptionKey
from securemllib.kms.names import EXAMPLES, create_key, needs_passphrase, open_key
from securemllib.kms.turns import turn
from securemllib.owner.home import Home
from securemllib.owner.keystore import Keystore

__all__ = ["app"]

app = typer.Typer(help="The keys that protect keys.", no_args_is_help=True)
_kms = typer.Typer(help="The key-encryption key of dataset secrets: in a file, or in a key management service.", no_args_is_help=True)
app.add_typer(_kms, name="kms")

_Name = Annotated[str, typer.Argument(metavar="NAME", help=f"{EXAMPLES}. Credentials come from environment and files.")]
_OfBroker = Annotated[bool, typer.Option("--broker", help="The broker's key, instead of that of the owner's keystore.")]
_BrokerHome = Annotated[Path | None, typer.Option("--home", help="With --broker: its directory; SECUREMLLIB_BROKER_HOME when not given.")]
_Database = Annotated[str | None, typer.Option("--database", envvar="SECUREMLLIB_BROKER_DATABASE", help="With --broker: its database.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Holder:
    kek: KeyEncryptionKey
    versions: Callable[[], dict[int, int]]
    rotate: Callable[[], int]
    rewrap: Callable[[], int]
    shred: Callable[[], None]


@_kms.command("create")
def create(
    name: _Name,
    passphrase_file: PassphraseFile = None,
    no_passphrase: Annotated[bool, typer.Option("--no-passphrase", help="Protect a key file by its permissions alone.")] = False,
) -> None:
    """Make a key-encryption key. Those who run the service may prefer to make it themselves."""
    needs = name.startswith("file:") and not no_passphrase
    described = create_key(name, passphrase_from(passphrase_file, "new key file", confirm=True) if needs else None).describe()
    console.print(f"made  {described.name}   {described.protection}", markup=False)


@_kms.command("use")
def use(
    name: _Name,
    tenant: Annotated[str, typer.Option("--tenant", help="In whose name the owner's key wraps.")] = "",
    broker: _OfBroker = False,
    home: _BrokerHome = None,
    database: _Database = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Wrap all dataset secrets under another, existing key from now on. The passphrase is that of the keystore and of key files."""
    if broker:
        _use_for_broker(name, home, database, passphrase_file)
        return
    keystore = open_keystore(passphrase_file)
    directory = Home.default().keystore
    fresh, old = directory.with_name("keystore.new"), directory.with_name("keystore.old")
    if fresh.exists() or old.exists():
        raise UsageError(f"{fresh} or {old} exists.", next_step="Remove what an earlier change left, once you know that it is not needed.")
    moved = keystore.give_way(Keystore.create(fresh, _passphrase_of(name, passphrase_file), kek=name, tenant=tenant), old)
    console.print(f"wrapped  {moved} secrets under {name}", markup=False)
    console.print(f"remove   {old}   it still opens your datasets", markup=False)


@_kms.command("status")
def status(broker: _OfBroker = False, home: _BrokerHome = None, database: _Database = None, passphrase_file: PassphraseFile = None) -> None:
    """Show the key, and how many secrets are wrapped under which of its versions."""
    with _holder(broker, home, database, passphrase_file) as holder:
        described = holder.kek.describe()
        console.print(f"key      {described.name}   {described.protection}, version {described.version}", markup=False)
        for version, count in holder.versions().items():
            told = "not wrapped: sealed under the keystore alone" if version == 0 else f"wrapped under version {version}"
            advice = "" if version == described.version else "   `securemllib keys kms rewrap` renews them"
            console.print(f"secrets  {count} {told}{advice}", markup=False)


@_kms.command("rotate")
def rotate(broker: _OfBroker = False, home: _BrokerHome = None, database: _Database = None, passphrase_file: PassphraseFile = None) -> None:
    """Make a new version of the key. What older versions wrapped still opens; `rewrap` replaces it."""
    with _holder(broker, home, database, passphrase_file) as holder:
        console.print(f"version  {holder.rotate()}   next: securemllib keys kms rewrap", markup=False)


@_kms.command("rewrap")
def rewrap(broker: _OfBroker = False, home: _BrokerHome = None, database: _Database = None, passphrase_file: PassphraseFile = None) -> None:
    """Wrap every dataset secret under the latest version of the key, in the place of the old bytes."""
    with _holder(broker, home, database, passphrase_file) as holder:
        console.print(f"rewrapped  {holder.rewrap()} secrets", markup=False)


@_kms.command("shred")
def shred(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask: every secret that the key wrapped is lost.")] = False,
    broker: _OfBroker = False,
    home: _BrokerHome = None,
    database: _Database = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Destroy the key: no dataset secret that it wrapped opens again, in any copy or backup."""
    with _holder(broker, home, database, passphrase_file) as holder:
        name, count = holder.kek.describe().name, sum(holder.versions().values())
        if not yes and not typer.confirm(f"Shred {name}, and with it {count} dataset secrets, for ever?", err=True):
            raise typer.Exit(1)
        holder.shred()
        console.print(f"shredded  {name}", markup=False)


@contextmanager
def _holder(broker: bool, home: Path | None, database: str | None, passphrase_file: Path | None) -> Iterator[_Holder]:
    if not broker:
        if home is not None:
            raise UsageError("--home is for --broker; SECUREMLLIB_HOME names the owner's directory.")
        keystore = open_keystore(passphrase_file)
        kek = keystore.kek
        yield _Holder(kek=kek, versions=keystore.key_versions, rotate=kek.rotate, rewrap=keystore.rewrap, shred=kek.shred)
        return
    # The broker is an extra of its own, and slow to import.
    from securemllib.broker import dataset_secrets
    from securemllib.cli.broker_home import files_of, open_broker

    opened = open_broker(files_of(home), database, passphrase_file)
    try:
        custody = opened.custody()
        if custody.store.kek is None:
            raise UsageError("The broker has no key-encryption key.", next_step="Name one with `securemllib keys kms use NAME --broker`.")
        yield _Holder(
            kek=custody.store.kek,
            versions=partial(dataset_secrets.key_versions, custody),
            rotate=partial(dataset_secrets.rotate, custody),
            rewrap=partial(dataset_secrets.rewrap_all, custody),
            shred=partial(dataset_secrets.shred, custody),
        )
    finally:
        opened.close()


def _use_for_broker(name: str, home: Path | None, database: str | None, passphrase_file: Path | None) -> None:
    from securemllib.broker import dataset_secrets
    from securemllib.cli.broker_home import files_of, open_broker

    files = files_of(home)
    kek = open_key(name, _passphrase_of(name, passphrase_file))
    with turn(files.kek):
        broker = open_broker(files, database, passphrase_file)
        try:
            moved = dataset_secrets.move(broker.custody(), kek, name)
        finally:
            broker.close()
        files.use_kek(name)
    console.print(f"wrapped  {moved} secrets under {name}   restart the broker", markup=False)


def _passphrase_of(name: str, passphrase_file: Path | None) -> str | None:
    return passphrase_from(passphrase_file, "key file") if needs_passphrase(name) else None
