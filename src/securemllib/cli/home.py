"""`securemllib init`, `identity`, `trust-broker`: who the user is and whom they trust."""

from pathlib import Path
from typing import Annotated

import typer

from securemllib.cli.shared import (
    Broker,
    CaFile,
    Fingerprint,
    IdentityName,
    PassphraseFile,
    console,
    open_identity,
    owner_of,
    passphrase_from,
    trusted_broker,
)
from securemllib.errors import UsageError
from securemllib.kms.names import EXAMPLES, needs_passphrase, open_key
from securemllib.owner import identity_file
from securemllib.owner.broker_client import BrokerClient
from securemllib.owner.home import Home
from securemllib.owner.keystore import Keystore
from securemllib.owner.shares import open_share
from securemllib.wire.signed import Signed

__all__ = ["register"]

_identity = typer.Typer(help="Show, rotate and revoke identities.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add this module's commands to the top level."""
    app.command("init")(init)
    app.command("trust-broker")(trust_broker)
    app.command("accept-store")(accept_store)
    app.add_typer(_identity, name="identity")


def init(
    name: Annotated[str, typer.Argument(help="What people call you, for example alice.")],
    passphrase_file: PassphraseFile = None,
    no_passphrase: Annotated[bool, typer.Option("--no-passphrase", help="Protect the keys by file permissions alone.")] = False,
    kms: Annotated[str | None, typer.Option("--kms", help=f"Key that wraps dataset secrets, instead of a file here: {EXAMPLES}.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="In whose name that key wraps; your fingerprint when not given.")] = None,
) -> None:
    """Make an identity and a keystore in the home directory (SECUREMLLIB_HOME, else ~/.securemllib)."""
    if no_passphrase and passphrase_file is not None:
        raise UsageError("--no-passphrase and --passphrase-file exclude each other.")
    home = Home.default()
    if home.path / f"{name}.pub" == home.broker:
        raise UsageError(f"{home.broker} is where the broker that you trust stands.", next_step="Choose another name.")
    if kms is not None and Keystore.exists(home.keystore):
        raise UsageError(f"{home.keystore} exists.", next_step="A keystore keeps its key-encryption key; use another SECUREMLLIB_HOME.")
    kek_passphrase = passphrase_from(passphrase_file, "key file") if kms is not None and needs_passphrase(kms) else None
    if kms is not None:
        open_key(kms, kek_passphrase)
    home.make()
    passphrase = None if no_passphrase else passphrase_from(passphrase_file, "new identity and keystore", confirm=True)
    identity = identity_file.create(home.path, name, passphrase)
    if not Keystore.exists(home.keystore):
        Keystore.create(home.keystore, passphrase if kms is None else kek_passphrase, kek=kms, tenant=tenant or identity.public.fingerprint)
    console.print(f"identity     {identity.public.fingerprint} ({name})")
    console.print(f"public file  {home.path / name}.pub   give it to owners and brokers", markup=False)
    console.print(f"keystore     {home.keystore}   back it up: without it your datasets cannot be read", markup=False)


@_identity.command("show")
def show(identity: IdentityName = None, public: Annotated[Path | None, typer.Option("--public", help="Any .pub file.")] = None) -> None:
    """Print an identity's name and fingerprint."""
    shown = owner_of(identity, public)
    console.print(f"{shown.fingerprint} {shown.name!r}", markup=False)


@_identity.command("rotate")
def rotate(
    new: Annotated[str, typer.Argument(help="Name of the new identity, made with `securemllib init NAME`.")],
    identity: Annotated[str, typer.Option("--identity", help="Name of the old identity, which signs the new one.")],
    broker: Broker,
    fingerprint: Fingerprint = None,
    ca_file: CaFile = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Tell a broker that a new identity takes an old one's place: in what policies grant, and as the owner of datasets."""
    old, following = open_identity(identity, passphrase_file), open_identity(new, passphrase_file)
    with BrokerClient(broker, trusted_broker(fingerprint), ca_file=ca_file) as client:
        client.rotate(old, following)
    console.print(f"rotated  {old.public.fingerprint} to {following.public.fingerprint}", markup=False)
    console.print("keep the old public file: manifests that it signed are read with it", markup=False)


@_identity.command("revoke")
def revoke(
    identity: Annotated[str, typer.Option("--identity", help="Name of the identity, which signs its own end.")],
    broker: Broker,
    fingerprint: Fingerprint = None,
    ca_file: CaFile = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Tell a broker that nothing of an identity counts any more: its requests, jobs and policies. It cannot be undone."""
    revoked = open_identity(identity, passphrase_file)
    with BrokerClient(broker, trusted_broker(fingerprint), ca_file=ca_file) as client:
        client.revoke(revoked)
    console.print(f"revoked  {revoked.public.fingerprint}", markup=False)


@_identity.command("share")
def share(
    file: Annotated[Path, typer.Argument(help="Your share file, which the broker's operator gave you.")],
    identity: IdentityName = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Print the words of your share of a broker's recovery key. Say them only to whom you trust to restore that broker."""
    if not file.is_file():
        raise UsageError(f"There is no file {file}.", code="usage.missing_file")
    broker, words = open_share(Signed.from_bytes(file.read_bytes()), open_identity(identity, passphrase_file))
    typer.echo(f"a share of the broker {broker.fingerprint}", err=True)
    typer.echo(words)


def accept_store(
    sequence: Annotated[int, typer.Option("--sequence", help="The last entry of the restored log, as the operator tells it.")],
    entry: Annotated[str, typer.Option("--entry", help="That entry's digest, in hexadecimal.")],
    broker: Broker,
    fingerprint: Fingerprint = None,
    ca_file: CaFile = None,
    identity: IdentityName = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Go on with a broker whose store was restored: enrol your latest version and submit your policy first."""
    try:
        digest = bytes.fromhex(entry)
    except ValueError:
        raise UsageError("The digest is not hexadecimal.") from None
    owner = open_identity(identity, passphrase_file)
    with BrokerClient(broker, trusted_broker(fingerprint), ca_file=ca_file) as client:
        accepted = client.accept_store(owner, sequence, digest)
    console.print(f"accepted  the store up to entry {sequence}, for {len(accepted)} datasets", markup=False)


def trust_broker(
    broker: Broker,
    fingerprint: Annotated[str, typer.Option("--fingerprint", help="Its fingerprint, as its operator told you.")],
    ca_file: CaFile = None,
) -> None:
    """Fetch a broker's identity, compare its fingerprint with the one you were told, and keep it as the broker to trust."""
    home = Home.default()
    home.check()
    with BrokerClient(broker, fingerprint, ca_file=ca_file) as client:
        identity_file.save_public(client.identity(), home.broker)
    console.print(f"trusted  {fingerprint}")
