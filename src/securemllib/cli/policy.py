"""`securemllib policy`: what the owner allows, from a first draft to its end."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.text import Text

from securemllib.cli import policy_decisions
from securemllib.cli.failure import printable
from securemllib.cli.shared import Broker, CaFile, Fingerprint, IdentityName, PassphraseFile, console, open_identity, trusted_broker
from securemllib.errors import FormatError, PolicyError, UsageError
from securemllib.owner.atomic import move_into, new_file, write_synced
from securemllib.owner.broker_client import BrokerClient
from securemllib.owner.policy import TEMPLATE, for_broker, load_policy, read_policy
from securemllib.owner.policy_schema import written_schema
from securemllib.owner.reading import open_manifest
from securemllib.policy.approval import ReleaseApproval, Revocation
from securemllib.policy.changes import changes
from securemllib.policy.envelope import Envelope, seal_statement
from securemllib.policy.lint import remarks_of
from securemllib.policy.model import Policy

__all__ = ["app"]

app = typer.Typer(help="Write, check, explain, sign, approve and submit policies.", no_args_is_help=True)
policy_decisions.register(app)

_DAY_SECONDS = 86_400
_EVENTS = {"policy", "revoke", "approve"}
_Yaml = Annotated[Path, typer.Argument(help="The policy as YAML.")]
_Directory = Annotated[Path, typer.Argument(help="The dataset's directory.")]
_Signed = Annotated[Path, typer.Argument(help="The envelope that `securemllib policy sign` wrote.")]
_AnyBroker = Annotated[bool, typer.Option("--any-broker", help="Where the policy names no broker: for any that has the dataset.")]


@app.command("new")
def new(
    output: Annotated[Path, typer.Argument(help="The new file.")],
    measurement: Annotated[
        str, typer.Option("--measurement", help="Of the enclave, as `securemllib enclave measure` prints it; zeros when not given.")
    ] = "00" * 32,
) -> None:
    """Write a policy to start from."""
    with new_file(output) as temporary:
        write_synced(temporary, TEMPLATE.replace("{measurement}", measurement).encode())
    console.print(f"wrote {output}: edit it, then `securemllib policy lint {output}`", markup=False)


@app.command("schema")
def schema() -> None:
    """Print the JSON Schema of policies, for editors."""
    typer.echo(json.dumps(written_schema(), indent=2))


@app.command("lint")
def lint(
    policies: Annotated[list[Path], typer.Argument(help="Policies as YAML.")],
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 for a remark, too.")] = False,
) -> None:
    """Check policies: errors stop them from being signed, remarks are what they may say without being meant. Exits with 1 for an error."""
    errors = remarks = 0
    for path in policies:
        written = read_policy(path)
        problems = written.problems()
        for problem in problems:
            _told(path, written.line(problem.place), "error", f"{problem.said}. {problem.advice}", "bold red")
        errors += len(problems)
        found = (
            ()
            if problems
            else remarks_of(written.resolve(dataset_id=written.dataset or "0" * 32, owner="a" * 52, serial=1), now=datetime.now(tz=UTC))
        )
        for remark in found:
            _told(path, written.line(remark.place), "remark", remark.words, "yellow")
        remarks += len(found)
    console.print(f"{errors} errors, {remarks} remarks")
    if errors or (strict and remarks):
        raise PolicyError(f"{errors} errors and {remarks} remarks.", next_step="See the lines above.", code="usage.policy")


@app.command("sign")
def sign(
    policy: _Yaml,
    directory: _Directory,
    output: Annotated[Path, typer.Argument(help="The new file for the signed policy.")],
    fingerprint: Fingerprint = None,
    any_broker: _AnyBroker = False,
    identity: IdentityName = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Sign a policy for a dataset, to be approved and submitted later or by somebody else.

    It is for the broker that it names, else for that of --fingerprint, else for the one that you trust.
    """
    owner = open_identity(identity, passphrase_file)
    manifest = open_manifest(directory, owner.public)
    written = load_policy(policy, dataset_id=manifest.dataset_id, owner=owner.public.fingerprint)
    if not any_broker and (written.broker is None or fingerprint is not None):
        written = for_broker(written, trusted_broker(fingerprint))
    signed = seal_statement(written, owner)
    with new_file(output) as temporary:
        write_synced(temporary, signed.to_bytes())
    console.print(f"signed  policy of dataset {manifest.dataset_id} for {_broker_of(written)} in {output}", markup=False)


@app.command("submit")
def submit(
    policy: _Signed, broker: Broker, any_broker: _AnyBroker = False, fingerprint: Fingerprint = None, ca_file: CaFile = None
) -> None:
    """Hand a signed policy to the broker that it is for."""
    envelope, expected = _read_envelope(policy), trusted_broker(fingerprint)
    found = Policy.from_json(envelope.payload)
    if for_broker(found, expected) != found and not any_broker:
        raise UsageError(
            "The signed policy names no broker: whoever has it can put it in force at any broker that has the dataset.",
            next_step="Sign it again, for this broker, or say --any-broker.",
            code="usage.policy",
        )
    with BrokerClient(broker, expected, ca_file=ca_file) as client:
        client.submit_policy(found.dataset_id, envelope.to_bytes())
    console.print(f"submitted  policy serial {found.serial}, {len(envelope.signers)} signatures")


@app.command("approve")
def approve(
    policy: Annotated[Path | None, typer.Argument(help="A signed policy to approve: the signature is added to the file.")] = None,
    against: Annotated[Path | None, typer.Option("--against", help="The signed policy in force, to see what changes.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Approve the release of this model instead.")] = None,
    digest: Annotated[str | None, typer.Option("--digest", help="The model's digest, in hexadecimal.")] = None,
    recipient: Annotated[list[str] | None, typer.Option("--recipient", help="Fingerprint of who may open it; may be repeated.")] = None,
    days: Annotated[int, typer.Option("--days", min=1, max=365, help="For how long the approval of a release counts.")] = 7,
    broker: Annotated[
        str | None, typer.Option("--broker", envvar="SECUREMLLIB_BROKER", help="Address of the broker, for a release.")
    ] = None,
    fingerprint: Fingerprint = None,
    ca_file: CaFile = None,
    identity: IdentityName = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Approve a change of a policy, or the release of one model to some recipients."""
    if (policy is None) == (model is None):
        raise UsageError("Approve either a signed policy or a release with --model.")
    approver = open_identity(identity, passphrase_file)
    if policy is not None:
        envelope = _read_envelope(policy)
        found = Policy.from_json(envelope.payload)
        if against is not None:
            policy_decisions.print_changes(changes(Policy.from_json(_read_envelope(against).payload), found))
        _replace(policy, envelope.signed_by(approver).to_bytes())
        console.print(
            f"approved  policy serial {found.serial} of dataset {found.dataset_id} as {approver.public.fingerprint}", markup=False
        )
        return
    if digest is None or not recipient or broker is None:
        raise UsageError("A release is approved with --model, --digest, --recipient and --broker.")
    expected = trusted_broker(fingerprint)
    approval = ReleaseApproval(
        broker=expected,
        model_id=str(model),
        model_digest=digest,
        recipients=tuple(sorted(set(recipient))),
        expires=int(time.time()) + days * _DAY_SECONDS,
    )
    with BrokerClient(broker, expected, ca_file=ca_file) as client:
        datasets = client.approve_release(seal_statement(approval, approver).to_bytes())
    console.print(f"approved  release of model {model} for {len(datasets)} datasets", markup=False)


@app.command("revoke")
def revoke(
    directory: _Directory,
    broker: Broker,
    reason: Annotated[str, typer.Option("--reason", help="For the audit log.")] = "",
    fingerprint: Fingerprint = None,
    ca_file: CaFile = None,
    identity: IdentityName = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """End a dataset's policy: no job gets a key any more. The next policy needs the approvals that this one asks for."""
    owner = open_identity(identity, passphrase_file)
    dataset_id = open_manifest(directory, owner.public).dataset_id
    ended = Revocation(dataset_id=dataset_id, owner=owner.public.fingerprint, serial=int(time.time()), reason=reason)
    with BrokerClient(broker, trusted_broker(fingerprint), ca_file=ca_file) as client:
        client.revoke_policy(dataset_id, seal_statement(ended, owner).to_bytes())
    console.print(f"revoked  policy of dataset {dataset_id}", markup=False)


@app.command("log")
def log(
    directory: _Directory,
    broker: Broker,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
    fingerprint: Fingerprint = None,
    ca_file: CaFile = None,
    identity: IdentityName = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Show who put which policy of a dataset in force, approved or ended it, and what was refused, from the broker's audit log."""
    owner = open_identity(identity, passphrase_file)
    dataset_id = open_manifest(directory, owner.public).dataset_id
    with BrokerClient(broker, trusted_broker(fingerprint), ca_file=ca_file) as client:
        entries = client.audit(owner)
    for entry in entries:
        if entry.get("event") not in _EVENTS or dataset_id not in entry.get("datasets", ()):
            continue
        if as_json:
            typer.echo(json.dumps(entry, sort_keys=True))
        else:
            _print_entry(entry)


def _print_entry(entry: dict[str, object]) -> None:
    at = entry.get("at")
    when = f"{datetime.fromtimestamp(at, tz=UTC):%Y-%m-%dT%H:%M:%SZ}" if isinstance(at, int) else ""
    serial = f" serial {printable(entry['serial'])}" if "serial" in entry else ""
    said = printable(entry.get("decision"))
    style = "green" if said == "accepted" else "bold red"
    console.print(Text.assemble(f"{when}  {printable(entry.get('event'))}{serial}  ", (said, style)))
    for field in ("code", "why", "wider", "narrower", "approvers", "model", "recipients"):
        values = entry.get(field)
        for value in values if isinstance(values, list) else [values]:
            if value:
                console.print(Text(f"    {field}: {printable(value)}"))


def _replace(path: Path, data: bytes) -> None:
    with TemporaryDirectory(prefix=".approving-", dir=path.parent) as name:
        write_synced(Path(name) / path.name, data)
        move_into((path.name,), Path(name), path.parent)


def _broker_of(policy: Policy) -> str:
    return f"the broker {policy.broker}" if policy.broker is not None else "any broker that has it"


def _told(path: Path, line: int, kind: str, words: str, style: str) -> None:
    console.print(Text.assemble(f"{path}:{line}: ", (kind, style), f": {words}"))


def _read_envelope(path: Path) -> Envelope:
    if not path.is_file():
        raise UsageError(f"There is no file {path}.", code="usage.missing_file")
    try:
        return Envelope.from_bytes(path.read_bytes())
    except FormatError:
        raise UsageError(
            f"{path} is no signed policy.", next_step="Sign it with `securemllib policy sign`, and name the file that this writes."
        ) from None
