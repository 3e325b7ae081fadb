"""`securemllib agent`, `result open`: the analyst's keys at work."""

import json
import signal
from pathlib import Path
from types import FrameType
from typing import Annotated

import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.console import Console

from securemllib.cli.shared import IdentityName, PassphraseFile, console, open_identity, open_keystore
from securemllib.crypto.process import protect_process
from securemllib.errors import UsageError
from securemllib.owner import identity_file
from securemllib.owner.agent import Agent, AgentServer
from securemllib.owner.atomic import new_file
from securemllib.owner.home import Home
from securemllib.owner.opening import OpenedResult, open_result
from securemllib.owner.query_literals import LiteralEncoder
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.job import OutputKind
from securemllib.wire.result import SealedResult

__all__ = ["register"]

_result = typer.Typer(help="Open results that are for you.", no_args_is_help=True)
_NO_BROKER = "none: results stay closed until `securemllib trust-broker` has run and the agent starts again"
_BrokerFile = Annotated[
    Path | None, typer.Option("--broker", help="The trusted broker's .pub file; that of `securemllib trust-broker` when not given.")
]


def register(app: typer.Typer) -> None:
    """Add this module's commands to the top level."""
    app.command("agent")(agent)
    app.add_typer(_result, name="result")


def agent(
    socket: Annotated[
        Path | None, typer.Option("--socket", help="Where to listen; SECUREMLLIB_AGENT_SOCK, else agent.sock in the home.")
    ] = None,
    broker: _BrokerFile = None,
    confirm: Annotated[bool, typer.Option("--confirm", help="Ask on the terminal before a job is signed or literals are encoded.")] = False,
    literals: Annotated[
        int, typer.Option("--literals", min=0, help="With your keystore, encode up to this many different literals of queries a column.")
    ] = 0,
    identity: IdentityName = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Sign jobs and open results for the programs of this user, until stopped; each job is shown before it is signed."""
    # Programs of this user may ask it to sign; none may take the key that it signs with.
    protect_process()
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    analyst = open_identity(identity, passphrase_file)
    trusted = _trusted(broker)
    served = Agent(
        analyst,
        trusted,
        show=lambda text: errors.print(text, markup=False),
        confirm=(lambda _: typer.confirm("Agree?", err=True)) if confirm else None,
        literals=LiteralEncoder(analyst.public, open_keystore(passphrase_file), limit=literals) if literals else None,
    )
    path = socket or Home.default().agent_socket
    server = AgentServer(served, path)

    def stop(_signal: int, _frame: FrameType | None) -> None:
        server.close()

    signal.signal(signal.SIGTERM, stop)
    # The Ctrl-C of a program that started the agent is that program's: it has the agent ignore it.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, stop)
    # The first line tells a program that started the agent that it listens.
    typer.echo(f"SECUREMLLIB_AGENT_SOCK={path}")
    errors.print(f"agent of {analyst.public.fingerprint}; broker {trusted.fingerprint if trusted else _NO_BROKER}", markup=False)
    server.serve()


@_result.command("open")
def open_(
    file: Annotated[Path, typer.Argument(help="The sealed result.")],
    job: Annotated[str, typer.Option("--job", help="The id of the job whose result this is.")],
    output: Annotated[Path | None, typer.Option("--output", help="For rows: the new .parquet file.")] = None,
    broker: _BrokerFile = None,
    identity: IdentityName = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Check a result and print it as JSON; rows go to a Parquet file."""
    if not file.is_file():
        raise UsageError(f"There is no file {file}.", code="usage.missing_file")
    trusted = _trusted(broker)
    if trusted is None:
        raise UsageError("No broker is trusted yet.", next_step="Run `securemllib trust-broker`, or give --broker.", code="usage.no_broker")
    data = file.read_bytes()
    result = SealedResult.from_bytes(data, limit=len(data))
    opened = open_result(result, identity=open_identity(identity, passphrase_file), broker=trusted, job_id=job)
    Console(stderr=True).print(f"TEE: {opened.attestation.tee}", style="red" if opened.attestation.tee == "insecure" else "green")
    if opened.kind is OutputKind.ROWS:
        _write_rows(opened, output)
    else:
        typer.echo(json.dumps(opened.tree, indent=2))


def _write_rows(opened: OpenedResult, output: Path | None) -> None:
    if output is None:
        raise UsageError("The result is rows.", next_step="Give --output with the name of a new .parquet file.")
    with (
        new_file(output) as temporary,
        pa.ipc.open_stream(opened.content) as stream,
        pq.ParquetWriter(temporary, stream.schema) as writer,
    ):
        for batch in stream:
            writer.write_batch(batch)
    console.print(f"opened  rows to {output}", markup=False)


def _trusted(file: Path | None) -> PublicIdentity | None:
    path = file if file is not None else Home.default().broker
    return identity_file.load_public(path) if file is not None or path.is_file() else None
