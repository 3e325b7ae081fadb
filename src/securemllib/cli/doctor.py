"""`securemllib doctor`: what this machine has, and what an enclave process on it really is."""

import json
import platform
import re
import shutil
import subprocess
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from securemllib.algorithms.kernels.library import status
from securemllib.attestation.measurement import measure_package
from securemllib.cli.enclave_process import ask_claims, running
from securemllib.cli.shared import console
from securemllib.enclave.hardening import PROTECTIONS
from securemllib.errors import SecureMLlibError

__all__ = ["Diagnosis", "app", "diagnose"]

app = typer.Typer(subcommand_metavar="", help="Show what this machine has and how an enclave on it is protected.")

_TEE_DEVICES = ("/dev/attestation", "/dev/sgx_enclave", "/dev/tdx_guest")
_JAVA_SECONDS = 20
_DOCTOR_MEMORY = 2**26


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What was found.

    Attributes:
        securemllib: Our version.
        python: Python's version.
        java: Java's version, None where no Java starts.
        spark: PySpark's version, None where it is not installed.
        kernel: The kernel's release.
        kernels: ``compiled``, or ``numpy`` and why the compiled inner loops are not used.
        tee_devices: The devices of a TEE on this machine; none means insecure.
        measurement: The measurement of the installed enclave, in hexadecimal.
        attested: What the evidence of a started enclave process says of its TEE, None where it did not start.
        matches: Whether that process has the measurement of the installed package.
        protections: The protections in force in that process.
        missing: The others.
        problem: Why there is no evidence.
    """

    securemllib: str
    python: str
    java: str | None
    spark: str | None
    kernel: str
    kernels: str
    tee_devices: tuple[str, ...]
    measurement: str
    attested: str | None
    matches: bool
    protections: tuple[str, ...]
    missing: tuple[str, ...]
    problem: str | None


def diagnose() -> Diagnosis:
    """Start an enclave process, ask it for evidence, and return all that was found."""
    measurement = measure_package()
    claims, problem = None, None
    try:
        with running(memory=_DOCTOR_MEMORY) as port:
            claims = ask_claims(port)
    except SecureMLlibError as error:
        problem = str(error)
    protections = () if claims is None else claims.protections
    return Diagnosis(
        securemllib=_version("securemllib") or "not installed",
        python=platform.python_version(),
        java=_java(),
        spark=_version("pyspark"),
        kernel=platform.release(),
        kernels=status(),
        tee_devices=tuple(device for device in _TEE_DEVICES if Path(device).exists()),
        measurement=measurement.hex(),
        attested=None if claims is None else claims.tee,
        matches=claims is not None and claims.measurement == measurement,
        protections=protections,
        missing=tuple(name for name in PROTECTIONS if name not in protections),
        problem=problem,
    )


@app.callback(invoke_without_command=True)
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Show versions, the TEE, the measurement, and the protections of an enclave process that is really started."""
    found = diagnose()
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2))
    else:
        _show(found)
    if found.problem is not None or not found.matches:
        raise typer.Exit(1)


def _show(found: Diagnosis) -> None:
    for label, value in (
        ("securemllib", found.securemllib),
        ("Python", found.python),
        ("Java", found.java or "not found: Spark needs 17 or newer"),
        ("Spark", found.spark or "not installed: `securemllib[spark]` brings it"),
        ("kernel", found.kernel),
        ("inner loops", found.kernels),
        ("measurement", found.measurement),
    ):
        console.print(Text(f"{label:<13}{value}"))
    _show_tee(found)
    for name in found.protections:
        console.print(Text.assemble(("  yes ", "green"), f"{name:<22}{PROTECTIONS.get(name, '')}"))
    for name in found.missing:
        console.print(Text.assemble(("  no  ", "yellow"), f"{name:<22}{PROTECTIONS[name]}"))
    if found.problem is not None:
        console.print(Text(f"no evidence: {found.problem}", style="bold red"))
    elif not found.matches:
        console.print(Text("The started enclave has another measurement than the installed package.", style="bold red"))


def _show_tee(found: Diagnosis) -> None:
    if found.tee_devices:
        devices = ", ".join(found.tee_devices)
        console.print(Text(f"{'TEE':<13}{devices} found; attesting with it is untested and not used", style="bold yellow"))
        console.print(Text("insecure: enclaves start without the TEE", style="bold red"))
    else:
        console.print(Text("insecure: no TEE on this machine", style="bold red"))
    console.print(Text("Whoever operates this machine can read what its enclave processes hold. Against others in force:"))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _java() -> str | None:
    program = shutil.which("java")
    if program is None:
        return None
    try:
        done = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=_JAVA_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r'version "([^"]+)"', done.stderr + done.stdout)
    return found.group(1) if found else None
