"""The measurement of the enclave's code where no TEE measures it: the digest of every file in its import closure, C included."""

import platform
from importlib.metadata import version
from pathlib import Path

from securemllib.wire.encoding import digest

__all__ = ["MEASURED", "measure_package", "measured_files"]

# The folders and files that the enclave imports; tests/architecture compares them with the computed import closure.
MEASURED = ("__init__.py", "errors.py", "wire", "algorithms", "crypto", "attestation", "enclave")
_SUFFIXES = frozenset({".py", ".so", ".c", ".h"})
_DISTRIBUTIONS = ("cbor2", "cryptography", "numpy", "pyarrow", "scipy")


def measure_package(root: Path | None = None) -> bytes:
    """Return the SHA-256 over names and contents of the enclave's source files, Python's version and its libraries' versions.

    Args:
        root: The package's folder; the installed one when not given.
    """
    folder = root or Path(__file__).resolve().parent.parent
    files = sorted(file for name in MEASURED for file in measured_files(folder / name))
    parts: list[bytes | str | int] = [platform.python_version()]
    parts += [f"{name}=={version(name)}" for name in _DISTRIBUTIONS]
    for file in files:
        parts += [file.relative_to(folder).as_posix(), file.read_bytes()]
    return digest("securemllib/measurement/v1", *parts)


def measured_files(path: Path) -> list[Path]:
    """Return a file, or what is measured of a folder: what runs, and the C sources of what runs compiled."""
    if path.is_file():
        return [path]
    return [file for file in path.rglob("*") if file.suffix in _SUFFIXES]
