"""`securemllib policy`, `enrol`: what the owner allows, and handing datasets to a broker."""

from pathlib import Path
from typing import Annotated

import typer

from securemllib.cli.shared import Broker, Fingerprint, IdentityName, PassphraseFile, console, open_identity, open_keystore, trusted_broker
from securemllib.errors import UsageError
from securemllib.owner.atomic import new_file, write_synced
from securemllib.owner.broker_client import BrokerClient
from securemllib.owner.policy import TEMPLATE, load_policy
from securemllib.owner.reading import open_dataset, open_manifest
from securemllib.wire.policy import Policy
from securemllib.wire.signed import Signed

__all__ = ["register"]

_policy = typer.Typer(help="Write, sign and submit policies.", no_args_is_help=True)
_CaFile = Annotated[str | None, typer.Option("--ca-file", help="Certificates to trust for TLS.")]
_Directory = Annotated[Path, typer.Argument(help="The dataset's directory.")]
_Yaml = Annotated[Path, typer.Argument(help="The policy as YAML.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands to the top level."""
    app.add_typer(_policy, name="policy")
    app.command("enrol")(enrol)


@_policy.command("template")
def template() -> None:
    """Print a policy to start from."""
    typer.echo(TEMPLATE, nl=False)


@_policy.command("sign")
def sign(
    policy: _Yaml,
    directory: _Directory,
    output: Annotated[Path, typer.Argument(help="The new file for the signed policy.")],
    identity: IdentityName = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Sign a policy for a dataset, to be submitted later or by somebody else."""
    owner = open_identity(identity, passphrase_file)
    manifest = open_manifest(directory, owner.public)
    signed = owner.sign(load_policy(policy, dataset_id=manifest.dataset_id, owner=owner.public.fingerprint))
    with new_file(output) as temporary:
        write_synced(temporary, signed.to_bytes())
    console.print(f"signed  policy of dataset {manifest.dataset_id} in {output}", markup=False)


@_policy.command("submit")
def submit(
    policy: Annotated[Path, typer.Argument(help="A policy that `securemllib policy sign` wrote.")],
    broker: Broker,
    fingerprint: Fingerprint = None,
    ca_file: _CaFile = None,
) -> None:
    """Hand a signed policy to the broker."""
    if not policy.is_file():
        raise UsageError(f"There is no file {policy}.", code="usage.missing_file")
    signed = Signed.from_bytes(policy.read_bytes())
    with BrokerClient(broker, trusted_broker(fingerprint), ca_file=ca_file) as client:
        client.submit_policy(signed)
    console.print(f"submitted  policy serial {Policy.from_bytes(signed.payload).serial}")


def enrol(
    directory: _Directory,
    broker: Broker,
    policy: Annotated[Path | None, typer.Option("--policy", help="A policy as YAML, to sign and submit along with it.")] = None,
    fingerprint: Fingerprint = None,
    ca_file: _CaFile = None,
    identity: IdentityName = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Put a dataset under a broker's guard: it gets the manifest and the dataset secret, wrapped for it alone; never a row."""
    expected = trusted_broker(fingerprint)
    owner = open_identity(identity, passphrase_file)
    dataset = open_dataset(directory, owner=owner.public, keystore=open_keystore(passphrase_file))
    dataset_id = dataset.manifest.dataset_id
    signed = owner.sign(load_policy(policy, dataset_id=dataset_id, owner=owner.public.fingerprint)) if policy is not None else None
    with BrokerClient(broker, expected, ca_file=ca_file) as client:
        version = client.enrol(dataset, owner)
        if signed is not None:
            client.submit_policy(signed)
    console.print(f"enrolled  dataset {dataset_id} version {version}{' with its policy' if signed is not None else ''}")
