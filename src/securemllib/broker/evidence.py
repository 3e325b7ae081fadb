"""The broker's own evidence: what code holds the keys, for owners who ask. It binds the broker's identity and the asker's nonce.

Under Gramine with SGX this is a quote. Elsewhere the operator may choose the attester that is labelled insecure, to try the way; or none.
"""

from pathlib import Path
from typing import Protocol

from securemllib.attestation import gramine
from securemllib.attestation.insecure import InsecureAttester
from securemllib.errors import UsageError
from securemllib.wire.attestation import Evidence, report_data
from securemllib.wire.encoding import digest
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.notices import broker_challenge

__all__ = ["Attester", "attester_of", "evidence_of", "measure_source"]


class Attester(Protocol):
    """Makes reports of this process."""

    tee: str

    def report(self, report_data: bytes) -> bytes:
        """Return a report over 64 bytes."""


def attester_of(*, allow_insecure: bool, directory: Path = gramine.DIRECTORY) -> Attester | None:
    """Return Gramine's attester where there is one, else the insecure one where it is allowed, else None."""
    if gramine.is_available(directory):
        return gramine.GramineAttester(directory)
    return InsecureAttester(measure_source(), ()) if allow_insecure else None


def evidence_of(broker: PublicIdentity, attester: Attester | None, nonce: bytes) -> Evidence:
    """Return the broker's evidence for a nonce; `UsageError` where the broker has no attester."""
    if attester is None:
        raise UsageError(
            "This broker runs without an attester: it cannot show what code it runs.",
            next_step="Ask its operator, or trust it for the operator's sake.",
            code="usage.no_attester",
        )
    bound = report_data(broker_challenge(nonce, broker), broker)
    return Evidence(tee=attester.tee, report=attester.report(bound), identity=broker)


def measure_source() -> bytes:
    """Return the SHA-256 over names and contents of all source files of this package: the measurement where no TEE makes one."""
    folder = Path(__file__).resolve().parent.parent
    parts: list[bytes | str | int] = []
    for file in sorted(folder.rglob("*.py")):
        parts += [file.relative_to(folder).as_posix(), file.read_bytes()]
    return digest("securemllib/broker-measurement/v1", *parts)
