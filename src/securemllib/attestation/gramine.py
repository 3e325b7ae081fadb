"""The attester in a Gramine SGX enclave: writes report data to one file of ``/dev/attestation`` and reads the quote from another.

Untested on SGX hardware: tests give it a folder that behaves like Gramine's.
"""

from pathlib import Path
from threading import Lock

from securemllib.errors import AttestationError

__all__ = ["DIRECTORY", "GramineAttester", "is_available"]

# Gramine documentation, "Attestation and Secret Provisioning", low-level interface.
DIRECTORY = Path("/dev/attestation")
_REPORT_DATA_BYTES = 64
_QUOTE_LIMIT = 64 * 2**10


def is_available(directory: Path = DIRECTORY) -> bool:
    """Return whether Gramine offers DCAP attestation to this process."""
    try:
        return (directory / "attestation_type").read_bytes().strip() == b"dcap"
    except OSError:
        return False


class GramineAttester:
    """Asks Gramine for quotes.

    Args:
        directory: Gramine's pseudo files.
    """

    tee = "sgx"

    def __init__(self, directory: Path = DIRECTORY) -> None:
        self._directory = directory
        # The two files are one register of the whole process: another thread must not write in between.
        self._lock = Lock()

    def report(self, report_data: bytes) -> bytes:
        """Return a quote over 64 bytes of report data.

        Raises:
            AttestationError: There are not 64 bytes, or Gramine gives no quote.
        """
        if len(report_data) != _REPORT_DATA_BYTES:
            raise AttestationError(f"A quote is made over {_REPORT_DATA_BYTES} bytes, not {len(report_data)}.")
        try:
            with self._lock:
                # Unbuffered: Gramine takes what one call brings for the whole.
                with (self._directory / "user_report_data").open("wb", buffering=0) as file:
                    file.write(report_data)
                with (self._directory / "quote").open("rb") as file:
                    quote = file.read(_QUOTE_LIMIT)
        except OSError as error:
            raise AttestationError(
                "Gramine gave no quote.",
                next_step="Check the AESM service and the quote provider of this node.",
                code="refused.attestation.attester",
            ) from error
        if not quote:
            raise AttestationError("Gramine gave an empty quote.", code="refused.attestation.attester")
        return quote
