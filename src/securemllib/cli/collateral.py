"""Collateral files, as broker operators and owners hand them to commands."""

from pathlib import Path

from securemllib.attestation.collateral import Collateral, read_collateral
from securemllib.errors import FormatError, UsageError

__all__ = ["read_collateral_file"]


def read_collateral_file(path: Path) -> Collateral:
    """Return the collateral of a file; `UsageError` where there is none, `FormatError` where the file holds something else."""
    try:
        return read_collateral(path.read_text(encoding="utf-8"))
    except OSError:
        raise UsageError(f"There is no file {path}.", code="usage.missing_file") from None
    except UnicodeDecodeError:
        raise FormatError(f"{path} is no collateral.", code="integrity.collateral") from None
