"""`securemllib enrol`: handing datasets to a broker."""

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
    open_own,
    trusted_broker,
)
from securemllib.owner.broker_client import BrokerClient
from securemllib.owner.reading import open_dataset

__all__ = ["enrol"]


def enrol(
    directory: Annotated[Path, typer.Argument(help="The dataset's directory.")],
    broker: Broker,
    policy: Annotated[Path | None, typer.Option("--policy", help="A policy as YAML, to sign and submit along with it.")] = None,
    fingerprint: Fingerprint = None,
    ca_file: CaFile = None,
    identity: IdentityName = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Put a dataset under a broker's guard: it gets the manifest and the dataset secret, wrapped for it alone; never a row."""
    from securemllib.owner.policy import load_policy  # the model of policies takes half a second to import
    from securemllib.policy.envelope import seal_statement

    expected = trusted_broker(fingerprint)
    owner, keystore = open_own(identity, passphrase_file)
    dataset = open_dataset(directory, owner=owner.public, keystore=keystore)
    dataset_id = dataset.manifest.dataset_id
    signed = None
    if policy is not None:
        signed = seal_statement(load_policy(policy, dataset_id=dataset_id, owner=owner.public.fingerprint, broker=expected), owner)
    with BrokerClient(broker, expected, ca_file=ca_file) as client:
        version = client.enrol(dataset, owner)
        if signed is not None:
            client.submit_policy(dataset_id, signed.to_bytes())
    console.print(f"enrolled  dataset {dataset_id} version {version}{' with its policy' if signed is not None else ''}")
