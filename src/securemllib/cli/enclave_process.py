"""Starting an enclave process, and asking it what it is."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from securemllib.attestation.claims import Claims
from securemllib.attestation.verifier import verify_evidence
from securemllib.crypto.identity import PrivateIdentity
from securemllib.errors import AttestationError, UnavailableError
from securemllib.wire.attestation import Challenge, Evidence
from securemllib.wire.framing import receive, send
from securemllib.wire.task import REPLIES, Attest, Attested

__all__ = ["ask_claims", "ask_evidence", "command", "running", "started"]

_MODULE = "securemllib.enclave"
_SECONDS_TO_ANSWER = 30.0
_SECONDS_TO_END = 10.0


def command(*, port: int, memory: int, idle: float) -> list[str]:
    """Return the command line of an enclave process of this interpreter."""
    return [sys.executable, "-I", "-m", _MODULE, "--port", str(port), "--memory", str(memory), "--idle", str(idle)]


@contextmanager
def running(*, memory: int) -> Iterator[int]:
    """Start an enclave process, give the port it listens on, and end it afterwards.

    Raises:
        UnavailableError: It did not start.
    """
    with started(memory=memory, idle=_SECONDS_TO_ANSWER) as (_, port):
        yield port


@contextmanager
def started(*, memory: int, idle: float) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """Start an enclave process, give it and the port it listens on, and end it afterwards.

    Raises:
        UnavailableError: It did not start.
    """
    with subprocess.Popen(command(port=0, memory=memory, idle=idle), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={}) as process:
        try:
            line = process.stdout.readline() if process.stdout is not None else b""
            port = line.rpartition(b":")[2].strip()
            if not line.startswith(b"listening ") or not port.isdigit():
                raise UnavailableError("The enclave process did not start.", code="unavailable.enclave")
            yield process, int(port)
        finally:
            process.terminate()
            try:
                process.wait(_SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                process.kill()


def ask_claims(port: int) -> Claims:
    """Return the verified claims of the enclave on a loopback port, for a challenge that nobody will grant anything on.

    Raises:
        AttestationError: Its evidence does not answer the challenge.
        UnavailableError: It does not answer.
    """
    challenge, evidence = ask_evidence(port)
    return verify_evidence(evidence, challenge=challenge)


def ask_evidence(port: int) -> tuple[Challenge, Evidence]:
    """Return a fresh challenge that is no broker's, and the evidence with which the enclave on a loopback port answers it.

    Raises:
        AttestationError: It gives no evidence.
        UnavailableError: It does not answer.
    """
    broker = PrivateIdentity.generate("doctor").public
    challenge = Challenge(nonce=os.urandom(32), broker=broker, job_id="doctor")
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_SECONDS_TO_ANSWER) as connection:
            send(connection, Attest(challenge=challenge))
            reply, _ = receive(connection, REPLIES)
    except OSError as error:
        raise UnavailableError(
            f"No enclave process answers on port {port} of this machine.",
            next_step="Give the port that `securemllib enclave serve` prints, and try again while it serves.",
            code="unavailable.enclave",
        ) from error
    if not isinstance(reply, Attested):
        raise AttestationError("The enclave process gave no evidence.")
    return challenge, Evidence.from_bytes(reply.evidence)
