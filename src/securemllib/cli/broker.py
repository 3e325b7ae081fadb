"""`securemllib broker`: make a broker, name the owners that may enrol datasets, serve."""

from base64 import b64encode
from pathlib import Path
from typing import Annotated, Literal

import typer

from securemllib.broker.collateral import CollateralStore
from securemllib.broker.evidence import attester_of
from securemllib.broker.keystore import create_keystore, read_public_identity
from securemllib.broker.rates import ADDRESS_RATE, IDENTITY_RATE, REFUSAL_RATE, Rates
from securemllib.broker.server import Listening, certificate_digest, make_certificate, serve
from securemllib.cli import broker_recovery
from securemllib.cli.broker_home import (
    DatabaseOption,
    HomeOption,
    PassphraseFile,
    broker_passphrase,
    console,
    files_of,
    open_broker,
    read_identity,
)
from securemllib.cli.collateral import read_collateral_file
from securemllib.crypto.process import protect_process
from securemllib.errors import RefusedError, UnavailableError, UsageError
from securemllib.kms.names import EXAMPLES, needs_passphrase, open_key

__all__ = ["app"]

app = typer.Typer(help="Run a key broker.", no_args_is_help=True)
broker_recovery.register(app)


@app.command("init")
def init(
    name: Annotated[str, typer.Option("--name", help="What people call the broker.")] = "broker",
    home: HomeOption = None,
    passphrase_file: PassphraseFile = None,
    no_passphrase: Annotated[bool, typer.Option("--no-passphrase", help="Protect the keys by file permissions alone.")] = False,
    kms: Annotated[str | None, typer.Option("--kms", help=f"Existing key that also wraps dataset secrets: {EXAMPLES}.")] = None,
) -> None:
    """Make the broker's identity and keystore."""
    if no_passphrase and passphrase_file is not None:
        raise UsageError("--no-passphrase and --passphrase-file exclude each other.")
    files = files_of(home)
    files.make()
    passphrase = None if no_passphrase else broker_passphrase(passphrase_file, confirm=True)
    if kms is not None:
        open_key(kms, broker_passphrase(passphrase_file) if passphrase is None and needs_passphrase(kms) else passphrase)
    public = create_keystore(files.keystore, name, passphrase).identity.public
    if kms is not None:
        files.use_kek(kms)
    files.public.write_text(b64encode(public.to_bytes()).decode() + "\n", encoding="ascii")
    console.print(f"fingerprint  {public.fingerprint}   tell it to owners and analysts, not over this network", markup=False)
    console.print(f"keystore     {files.keystore}   back it up: without it the database cannot be read", markup=False)


@app.command("identity")
def identity(home: HomeOption = None) -> None:
    """Print the broker's fingerprint."""
    console.print(read_public_identity(files_of(home).keystore).fingerprint, markup=False)


@app.command("trust-owner")
def trust_owner(
    identity_file: Annotated[Path, typer.Argument(help="The owner's .pub file.")],
    home: HomeOption = None,
    database: DatabaseOption = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Let an owner enrol datasets. Compare the printed fingerprint with what the owner says it is."""
    owner = read_identity(identity_file)
    broker = open_broker(files_of(home), database, passphrase_file)
    broker.trust_owner(owner)
    broker.close()
    console.print(f"trusts {owner.fingerprint} {owner.name!r}", markup=False)


@app.command("revoke")
def revoke(
    fingerprint: Annotated[str, typer.Argument(help="The fingerprint of an owner's or analyst's identity.")],
    home: HomeOption = None,
    database: DatabaseOption = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Revoke an identity: its requests, jobs and policies count for nothing from now on. It cannot be undone."""
    broker = open_broker(files_of(home), database, passphrase_file)
    broker.revoke_by_operator(fingerprint)
    broker.close()
    console.print(f"revoked {fingerprint}", markup=False)


@app.command("accept-clock")
def accept_clock(home: HomeOption = None, database: DatabaseOption = None, passphrase_file: PassphraseFile = None) -> None:
    """Go on from this machine's clock, though the audit log has a later entry of a clock that was ahead."""
    broker = open_broker(files_of(home), database, passphrase_file)
    broker.accept_clock()
    broker.close()
    console.print("accepted  this clock; policies that had expired by the other one are in force again")


@app.command("serve")
def serve_command(
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="TCP port; 0 for any free one.")] = 8460,
    home: HomeOption = None,
    database: DatabaseOption = None,
    passphrase_file: PassphraseFile = None,
    owner: Annotated[list[Path] | None, typer.Option("--owner", help="An owner's .pub file to trust; may be repeated.")] = None,
    tls_cert: Annotated[Path | None, typer.Option("--tls-cert", help="PEM certificate chain.")] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", help="PEM key of the certificate.")] = None,
    tls_self_signed: Annotated[bool, typer.Option("--tls-self-signed", help="Make a certificate and print its SHA-256.")] = False,
    pccs: Annotated[
        str | None, typer.Option("--pccs", envvar="SECUREMLLIB_PCCS", help="Address of a PCCS, to fetch Intel's collateral from.")
    ] = None,
    collateral: Annotated[
        list[Path] | None, typer.Option("--collateral", help="A collateral file of `securemllib attest collateral`; may be repeated.")
    ] = None,
    insecure_plaintext: Annotated[bool, typer.Option("--insecure-plaintext", help="Serve without TLS off loopback.")] = False,
    proxy: Annotated[
        list[str] | None, typer.Option("--proxy", help="IP address or network of a reverse proxy that names its clients; may be repeated.")
    ] = None,
    insecure_evidence: Annotated[
        bool, typer.Option("--insecure-evidence", help="Without a TEE, answer owners with evidence that is labelled insecure.")
    ] = False,
    profile: Annotated[
        Literal["production", "development"], typer.Option("--profile", help="production takes no policy of the profile development.")
    ] = "production",
    address_rate: Annotated[str, typer.Option("--address-rate", help="Requests that one address may make.")] = ADDRESS_RATE,
    refusal_rate: Annotated[str, typer.Option("--refusal-rate", help="Refused requests that one address may make.")] = REFUSAL_RATE,
    identity_rate: Annotated[str, typer.Option("--identity-rate", help="Requests that one owner or analyst may sign.")] = IDENTITY_RATE,
) -> None:
    """Serve. Off loopback with TLS only, unless --insecure-plaintext says otherwise."""
    _protect()
    files = files_of(home)
    if tls_self_signed:
        if tls_cert is not None or tls_key is not None or insecure_plaintext:
            raise UsageError("--tls-self-signed excludes the other ways to serve.")
        tls_cert, tls_key = files.certificate, files.certificate_key
    listening = Listening(
        host=host, port=port, certificate=tls_cert, key=tls_key, insecure_plaintext=insecure_plaintext, proxies=tuple(proxy or ())
    )
    rates = Rates(address=address_rate, refusals=refusal_rate, identity=identity_rate)
    owners = [read_identity(path) for path in owner or []]
    given = [read_collateral_file(path) for path in collateral or []]
    broker = open_broker(
        files,
        database,
        passphrase_file,
        CollateralStore(files.collateral, pccs=pccs, given=given),
        rates,
        attester=attester_of(allow_insecure=insecure_evidence),
        profile=profile,
    )
    if tls_self_signed and not (files.certificate.exists() and files.certificate_key.exists()):
        make_certificate(host, files.certificate, files.certificate_key)
    for identity in owners:
        try:
            broker.trust_owner(identity)
        except RefusedError as error:
            # Owners revoke and rotate their keys themselves: the broker of all others starts as its operator wrote it down.
            console.print(f"not trusted {identity.fingerprint}: {error.reason}", markup=False, style="bold red")
    if tls_cert is not None:
        console.print(f"certificate SHA-256 {certificate_digest(tls_cert)}", markup=False)
    elif insecure_plaintext:
        console.print("insecure: plain HTTP; session cookies, plans and policies are readable on the network", style="bold red")
    console.print(f"fingerprint {broker.identity.fingerprint}", markup=False)
    serve(broker, listening, _announce)
    broker.close()


def _protect() -> None:
    held = protect_process()
    if "not-dumpable" not in held:
        raise UnavailableError("The kernel does not let the broker protect its memory.", code="unavailable.protection")
    if "locked-memory" not in held:
        console.print("memory is not locked, and may be written to swap: raise the limit on locked memory (ulimit -l unlimited)")


def _announce(url: str) -> None:
    # Plain, whole and at once: programs that start a broker read this line.
    typer.echo(f"listening {url}")
