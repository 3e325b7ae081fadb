"""`securemllib enclave`: the measurement to put into a policy, and the process itself."""

import os
from typing import Annotated

import typer

from securemllib.attestation.measurement import measure_package
from securemllib.cli.enclave_process import command

__all__ = ["app"]

app = typer.Typer(help="Run an enclave, or print what identifies its code.", no_args_is_help=True)

_DEFAULT_MEMORY = 4 * 2**30
_DEFAULT_IDLE_SECONDS = 600.0


@app.command("measure")
def measure() -> None:
    """Print the measurement of the installed enclave: what a policy's `measurements` name."""
    typer.echo(measure_package().hex())


@app.command("serve")
def serve(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Loopback port; 0 for any free one, which it prints.")] = 0,
    memory: Annotated[int, typer.Option("--memory", min=1, help="Bytes for decrypted blocks, and for the largest part.")] = _DEFAULT_MEMORY,
    idle: Annotated[
        float, typer.Option("--idle", min=0.0, help="Seconds without a connection before the process ends.")
    ] = _DEFAULT_IDLE_SECONDS,
) -> None:
    """Become an enclave process. Without a TEE it is insecure: this machine's operator can read everything in it."""
    arguments = command(port=port, memory=memory, idle=idle)
    os.execve(arguments[0], arguments, {})  # noqa: S606 - this command is that process
