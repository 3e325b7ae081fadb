"""The Gramine manifest of an image: what the enclave runs, how large it is, and the digest of every file that it may open."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import file_digest
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from securemllib.attestation.insecure import SECURITY_VERSION
from securemllib.cli.image.closure import INTERPRETER, LIBRARIES, PACKAGES
from securemllib.errors import FormatError, IntegrityError, UsageError

__all__ = ["PRODUCT_ID", "ROOT", "JobClass", "arguments", "read_manifest", "render", "sha256_of", "verify_files"]

# Tells this program's enclaves from others of the same signer (ISVPRODID).
PRODUCT_ID = 1
ROOT = "root"

# Interpreter, mapped libraries (259 MB with pyarrow), and Gramine itself.
_CODE_BYTES = 512 * 2**20
# The enclave's peak stayed within 1.5 times its blocks in all benchmarks.
_BLOCKS_FACTOR = 1.5
# Stack and the slices that a task computes on.
_TASK_BYTES = 64 * 2**20
# The main thread, Gramine's four, Arrow's eight that read and one that computes, and the two that grow trees.
_OTHER_THREADS = 16
_THREAD_LIMIT, _SIZE_LIMIT = 256, 2**42


@dataclass(frozen=True, slots=True, kw_only=True)
class JobClass:
    """What an enclave is made for; another class is another enclave with another measurement.

    Attributes:
        memory: Bytes for decrypted blocks, and for the largest part.
        threads: Tasks that it serves at once.
        idle: Seconds without a connection before it ends.
        operations: What its jobs and their plans may name, by the class names of pyspark.ml; everything when empty.
    """

    memory: int
    threads: int
    idle: float
    operations: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.memory <= _SIZE_LIMIT // 4:
            raise UsageError(f"The memory must be 1 to {_SIZE_LIMIT // 4} bytes, not {self.memory}.")
        if not 1 <= self.threads <= _THREAD_LIMIT:
            raise UsageError(f"The threads must be 1 to {_THREAD_LIMIT}, not {self.threads}.")
        if not 0.0 <= self.idle < float("inf"):
            raise UsageError(f"The idle seconds must be at least 0, not {self.idle}.")

    @property
    def enclave_size(self) -> int:
        """The enclave's size in bytes: a power of two, as the processor wants it."""
        needed = _CODE_BYTES + int(_BLOCKS_FACTOR * self.memory) + self.threads * _TASK_BYTES
        return 1 << (needed - 1).bit_length()

    @property
    def connections(self) -> int:
        """The connections that it serves at once, a thread each: a task has one, and for a moment a second one to drop its keys."""
        return 2 * self.threads

    @property
    def max_threads(self) -> int:
        """The enclave's threads."""
        return self.connections + _OTHER_THREADS


def arguments(job_class: JobClass) -> list[str]:
    """Return the enclave's fixed command line."""
    code = (
        f"import sys; sys.path.append('/{PACKAGES}'); "
        "from securemllib.enclave.__main__ import main; main()"
    )  # fmt: skip
    options = ["--port", "0", "--memory", str(job_class.memory), "--idle", str(job_class.idle)]
    options += ["--connections", str(job_class.connections)]
    # Isolated, without `site`, without writing bytecode: neither variables nor folders of the host's choosing are looked at.
    return [f"/{INTERPRETER}", "-I", "-S", "-B", "-c", code, *options]


def render(digests: Mapping[str, str], job_class: JobClass, *, entrypoint: str) -> str:
    """Return the manifest's text.

    Args:
        digests: The SHA-256 of each file, in hexadecimal, by its path in the image's folder.
        job_class: What the enclave is for.
        entrypoint: The URI of Gramine's library.
    """
    # JSON's strings are TOML's too, as long as they hold no control character but those that both escape alike.
    lines = [f'    {{ uri = {json.dumps(f"file:{path}")}, sha256 = "{digests[path]}" }},' for path in sorted(digests)]
    template = Template((files("securemllib.cli.image") / "enclave.manifest.template").read_text(encoding="utf-8"))
    return template.substitute(
        entrypoint=entrypoint,
        interpreter=INTERPRETER,
        libraries=LIBRARIES,
        arguments=json.dumps(arguments(job_class)),
        enclave_size=f"{job_class.enclave_size // 2**20}M",
        max_threads=job_class.max_threads,
        product_id=PRODUCT_ID,
        security_version=SECURITY_VERSION,
        trusted_files="\n".join(lines),
    )


def read_manifest(path: Path) -> dict[str, Any]:
    """Return a manifest's values.

    Raises:
        UsageError: There is no such file.
        FormatError: It is no manifest.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise UsageError(
            f"{path.parent} holds no enclave image.", next_step="Make one with `securemllib enclave build`.", code="usage.missing_file"
        ) from None
    except ValueError as error:
        raise FormatError(f"{path.name} is no manifest.", code="integrity.format.image") from error


def verify_files(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Check that an image holds the files that its manifest trusts.

    1. Every trusted file is there and has its digest.
    2. Beneath the image's root there is no other file.

    Raises:
        IntegrityError: 1 or 2 does not hold.
        FormatError: The manifest has no list of trusted files with digests.
    """
    try:
        trusted = {each["uri"].removeprefix("file:"): each["sha256"] for each in manifest["sgx"]["trusted_files"]}
    except (KeyError, TypeError, AttributeError):
        raise FormatError("The manifest has no list of trusted files with digests.", code="integrity.format.image") from None
    for name, expected in sorted(trusted.items()):
        file = folder / name
        if file.is_symlink() or not file.is_file():
            raise IntegrityError(f"The image's file {name} is missing.", code="integrity.image")
        if sha256_of(file) != expected:
            raise IntegrityError(f"The image's file {name} is not the one that the manifest trusts.", code="integrity.image")
    present = {file.relative_to(folder).as_posix() for file in (folder / ROOT).rglob("*") if not file.is_dir()}
    if others := sorted(present - trusted.keys()):
        raise IntegrityError(
            f"The image holds {len(others)} files that its manifest does not trust, {others[0]} first.", code="integrity.image"
        )


def sha256_of(path: Path) -> str:
    """Return a file's digest in hexadecimal."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
