"""`securemllib attest`: take evidence from an enclave or a broker, fetch collateral for it, and ask a policy about it, offline."""

import json
import time
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from securemllib.attestation import insecure
from securemllib.attestation.claims import Claims
from securemllib.attestation.collateral import read_collateral
from securemllib.attestation.dcap import Endorsements, Model
from securemllib.attestation.verifier import Finding, closest, findings, verify_evidence
from securemllib.cli.collateral import read_collateral_file
from securemllib.cli.enclave_process import ask_evidence
from securemllib.cli.shared import Broker, CaFile, Fingerprint, IdentityName, PassphraseFile, console, open_identity, trusted_broker
from securemllib.errors import AttestationError, FormatError, UsageError
from securemllib.owner import endorsement as endorsing
from securemllib.owner.atomic import new_file, write_synced
from securemllib.owner.broker_client import BrokerClient
from securemllib.owner.policy import load_appraisals
from securemllib.wire.attestation import Challenge, Evidence

__all__ = ["app"]

app = typer.Typer(help="Take evidence from an enclave, and see claim by claim what a policy says of it.", no_args_is_help=True)

_EVIDENCE_LIMIT = 2**20
_LABEL = 18
_DAY_SECONDS = 86_400

_EvidenceFile = Annotated[
    Path, typer.Argument(help="JSON with the base64 fields `challenge` and `evidence`, as `attest collect` writes it.")
]


@app.command("collect")
def collect(
    output: Annotated[Path, typer.Argument(help="The new file for the evidence and the challenge that it answers.")],
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="The enclave's port on this machine.")],
) -> None:
    """Ask the enclave on a port of this machine for evidence. Nobody grants anything on it: its challenge is no broker's."""
    _keep(output, *ask_evidence(port))


@app.command("broker")
def broker(
    output: Annotated[Path, typer.Argument(help="The new file for the evidence and the challenge that it answers.")],
    address: Broker,
    fingerprint: Fingerprint = None,
    ca_file: CaFile = None,
) -> None:
    """Ask a broker what code it runs, before you enrol data there: `verify` then says what a policy of yours thinks of it."""
    with BrokerClient(address, trusted_broker(fingerprint), ca_file=ca_file) as client:
        _keep(output, *client.evidence())


@app.command("endorse")
def endorse(
    output: Annotated[Path, typer.Argument(help="The new file for the endorsement.")],
    address: Broker,
    policy: Annotated[Path, typer.Option("--policy", help="YAML: its `enclaves` say which code you accept as a broker.")],
    collateral: Annotated[Path | None, typer.Option("--collateral", help="Intel's collateral: the file of `attest collateral`.")] = None,
    days: Annotated[int, typer.Option("--days", min=1, max=365, help="For how long datasets may be written on the strength of it.")] = 30,
    fingerprint: Fingerprint = None,
    ca_file: CaFile = None,
    identity: IdentityName = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Ask a broker what code it runs and, where your policy accepts it, sign that: datasets can be for endorsed brokers only.

    `securemllib data encrypt --endorsed FILE` and `securemllib data brokers` name it in a dataset's manifest.
    """
    named, owner = load_appraisals(policy), open_identity(identity, passphrase_file)
    held = Endorsements(collateral=_texts(collateral).get, now=int(time.time()))
    with BrokerClient(address, trusted_broker(fingerprint), ca_file=ca_file) as client:
        challenge, evidence = client.evidence()
    signed, found = endorsing.endorse(challenge, evidence, policies=named, collateral=held, identity=owner, seconds=days * _DAY_SECONDS)
    with new_file(output) as temporary:
        write_synced(temporary, signed.to_bytes())
    console.print(f"endorsed  broker {found.broker.fingerprint} as {found.accepted_as!r}, {found.tee}, in {output}", markup=False)
    if found.tee == insecure.TEE:
        console.print("insecure  no TEE is behind it: its operator can have started any code", style="bold red")


@app.command("collateral")
def collateral(
    evidence: _EvidenceFile,
    output: Annotated[Path, typer.Argument(help="The new file for the collateral.")],
    pccs: Annotated[str, typer.Option("--pccs", envvar="SECUREMLLIB_PCCS", help="Address of a PCCS, or of Intel's own service.")],
) -> None:
    """Fetch Intel's collateral for the platform of a quote, for machines without a network: `verify` and `broker serve` take the file."""
    from securemllib.broker.collateral import fetch_collateral  # the broker's packages take a second to import

    found = read_collateral(fetch_collateral(pccs, _read(evidence)[1].report))
    _write(output, found.text)
    until = _date(found.expires)
    console.print(f"collateral of {found.model.tee} {found.model.fmspc} ({found.model.ca}), valid until {until}, in {output}", markup=False)


@app.command("verify")
def verify(
    evidence: _EvidenceFile,
    policy: Annotated[Path, typer.Option("--policy", help="A policy as YAML; only its `enclaves` are asked.")],
    collateral: Annotated[Path | None, typer.Option("--collateral", help="Intel's collateral: the file of `attest collateral`.")] = None,
    at: Annotated[str | None, typer.Option("--at", help="The time to verify at, ISO 8601 in UTC; now when not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Verify evidence offline and explain, line by line, which claims the policy accepts. Exits with 1 where it refuses one.

    The same code decides in the broker. What a line calls `no` is the reason that the enclave gets no keys; the first one is the broker's.
    """
    challenge, found = _read(evidence)
    named = load_appraisals(policy)
    endorsements = Endorsements(collateral=_texts(collateral).get, now=_time(at))
    if not named:
        raise AttestationError("The policy names no enclave.", code="refused.attestation.measurement")
    roots = {root for enclave in named.values() for root in enclave.insecure_roots}
    claims = verify_evidence(found, challenge=challenge, endorsements=endorsements, insecure_roots=roots)
    name, _ = closest(found.tee, claims, named)
    lines = list(findings(found.tee, claims, named[name]))
    refusals = [line for line in lines if line.refusal is not None]
    if as_json:
        typer.echo(json.dumps({"accepted": not refusals, "enclave": name, "claims": [_tree(line) for line in lines]}, indent=1))
    else:
        _explain(found, claims, name, lines)
    if refusals:
        raise AttestationError(
            str(refusals[0].refusal),
            next_step=f"The policy refuses {len(refusals)} of {len(lines)} claims.",
            code=f"refused.attestation.{refusals[0].code}",
        )


def _texts(collateral: Path | None) -> dict[Model, str]:
    held = read_collateral_file(collateral) if collateral is not None else None
    return {} if held is None else {held.model: held.text}


def _keep(output: Path, challenge: Challenge, evidence: Evidence) -> None:
    tree = {name: b64encode(record.to_bytes()).decode() for name, record in (("challenge", challenge), ("evidence", evidence))}
    _write(output, json.dumps(tree, indent=1) + "\n")
    console.print(f"evidence of {evidence.tee}, {len(evidence.report)} bytes, in {output}", markup=False)


def _explain(evidence: Evidence, claims: Claims, name: str, lines: list[Finding]) -> None:
    _line("yes", "genuine", f"the {'report' if claims.platform is None else 'quote'} is signed, {len(evidence.report)} bytes")
    _line("yes", "report data", "binds the challenge, its broker and job, and the enclave's keys")
    _line("yes", "enclave's keys", evidence.identity.fingerprint)
    if claims.platform is not None:
        _line("yes", "collateral", f"signed, valid until {_date(claims.platform.expires)}")
    _line("yes", "compared with", f"the policy's enclave {name!r}")
    for line in lines:
        _line("yes" if line.refusal is None else "no", line.claim, line.found, line.refusal)
    if all(line.refusal is None for line in lines):
        console.print(Text("accepted", style="bold green"))


def _line(verdict: str, claim: str, found: str, refusal: str | None = None) -> None:
    style = "green" if verdict == "yes" else "bold red"
    console.print(Text.assemble((f"  {verdict:<5}", style), f"{claim:<{_LABEL}}{found}"))
    if refusal is not None:
        console.print(Text(f"{'':<7}{'':<{_LABEL}}{refusal}", style="red"))


def _tree(line: Finding) -> dict[str, str | bool | None]:
    return {"claim": line.claim, "found": line.found, "accepted": line.refusal is None, "refusal": line.refusal}


def _read(path: Path) -> tuple[Challenge, Evidence]:
    try:
        with path.open("rb") as file:
            tree = json.loads(file.read(_EVIDENCE_LIMIT))
        challenge, evidence = (b64decode(tree[name], validate=True) for name in ("challenge", "evidence"))
        return Challenge.from_bytes(challenge), Evidence.from_bytes(evidence)
    except OSError:
        raise UsageError(f"There is no file {path}.", code="usage.missing_file") from None
    except (ValueError, KeyError, TypeError, Base64Error, RecursionError):
        raise FormatError(f"{path} holds no evidence.", next_step="`securemllib attest collect` writes such a file.") from None


def _write(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.", code="usage.output") from None


def _time(text: str | None) -> int:
    if text is None:
        return int(time.time())
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no ISO 8601 time.") from None
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
