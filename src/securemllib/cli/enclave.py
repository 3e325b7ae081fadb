"""`securemllib enclave`: build and sign the image that runs under SGX, what identifies it, and the process without a TEE."""

import os
from pathlib import Path
from typing import Annotated

import typer

from securemllib.attestation.measurement import measure_package
from securemllib.cli.enclave_process import command
from securemllib.cli.image.build import build as build_image
from securemllib.cli.image.build import own_code, signed_enclave
from securemllib.cli.image.build import sign as sign_image
from securemllib.cli.image.manifest import JobClass
from securemllib.cli.image.sigstruct import SignedEnclave

__all__ = ["app"]

app = typer.Typer(help="Build, sign and run enclaves, or print what identifies their code.", no_args_is_help=True)

_DEFAULT_MEMORY = 4 * 2**30
_DEFAULT_IDLE_SECONDS = 600.0
_DEFAULT_THREADS = 8

_Memory = Annotated[int, typer.Option("--memory", min=1, help="Bytes for decrypted blocks, and for the largest part.")]
_Idle = Annotated[float, typer.Option("--idle", min=0.0, help="Seconds without a connection before the process ends.")]
_Image = Annotated[Path, typer.Argument(help="The folder of an image.")]


@app.command("build")
def build(
    folder: Annotated[Path, typer.Argument(help="The new folder of the image.")],
    memory: _Memory = _DEFAULT_MEMORY,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Tasks that one enclave serves at once.")] = _DEFAULT_THREADS,
    idle: _Idle = _DEFAULT_IDLE_SECONDS,
    operations: Annotated[
        list[str] | None, typer.Option("--operation", help="What its jobs may name, and nothing else is in it: once for each. Else all.")
    ] = None,
) -> None:
    """Write an image: every file that the enclave may open, and the Gramine manifest that trusts exactly those. Reproducible."""
    built = build_image(folder, JobClass(memory=memory, threads=threads, idle=idle, operations=tuple(operations or ())))
    typer.echo(f"image     {folder}: {built.files} files, {built.ours} of them SecureMLlib's, {built.size // 10**6} MB")
    typer.echo(f"manifest  {built.manifest}")
    if not built.has_gramine:
        typer.echo("without Gramine: it is not installed here, so the image can be compared and looked into, not signed", err=True)


@app.command("sign")
def sign(
    folder: _Image,
    key: Annotated[Path, typer.Option("--key", help="The signing key, as `gramine-sgx-gen-private-key` makes it.")],
) -> None:
    """Let Gramine's signer measure and sign an image. It needs no SGX, and only the machine that signs needs the key."""
    _tell(sign_image(folder, key))


@app.command("measure")
def measure(
    folder: Annotated[Path | None, typer.Argument(help="The folder of a signed image; without it, this installation.")] = None,
) -> None:
    """Print what a policy's `measurement` names: a signed image's MRENCLAVE, else the installation's measurement without a TEE."""
    signed = None if folder is None else signed_enclave(folder)
    if signed is not None:
        _tell(signed)
        return
    if folder is not None:
        typer.echo(f"{folder} is not signed, so it has no MRENCLAVE yet.", err=True)
    what = "this installation" if folder is None else "this image's code"
    typer.echo(f"insecure: what follows is the measurement of enclaves without a TEE, of {what}", err=True)
    typer.echo(measure_package(None if folder is None else own_code(folder)).hex())


@app.command("serve")
def serve(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Loopback port; 0 for any free one, which it prints.")] = 0,
    memory: _Memory = _DEFAULT_MEMORY,
    idle: _Idle = _DEFAULT_IDLE_SECONDS,
) -> None:
    """Become an enclave process. Without a TEE it is insecure: this machine's operator can read everything in it."""
    arguments = command(port=port, memory=memory, idle=idle)
    os.execve(arguments[0], arguments, {})  # noqa: S606 - this command is that process


def _tell(signed: SignedEnclave) -> None:
    """Print the measurement on standard output, where scripts read it, and what else a policy may name on standard error."""
    typer.echo(f"MRSIGNER {signed.signer.hex()}, product {signed.product_id}, security version {signed.security_version}", err=True)
    typer.echo("MRENCLAVE:", err=True)
    typer.echo(signed.measurement.hex())
