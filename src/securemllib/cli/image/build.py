"""Building an image, signing it, and reading what identifies it."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import securemllib
from securemllib.cli.image.closure import FILE_LIMIT, OURS, closure
from securemllib.cli.image.libraries import GramineRuntime
from securemllib.cli.image.manifest import ROOT, JobClass, read_manifest, render, sha256_of, verify_files
from securemllib.cli.image.sigstruct import SignedEnclave, read_sigstruct
from securemllib.errors import CapacityError, FormatError, UnavailableError, UsageError

__all__ = ["ENTRYPOINT", "MANIFEST", "SIGNATURE", "SIGNED_MANIFEST", "Built", "build", "own_code", "sign", "signed_enclave"]

# Gramine's programs take the first part of these names.
MANIFEST, SIGNED_MANIFEST, SIGNATURE = "enclave.manifest", "enclave.manifest.sgx", "enclave.sig"
ENTRYPOINT = "gramine/libsysdb.so"
# Where Gramine's packages put it; an image that was built without Gramine is no one's to sign.
_USUAL_ENTRYPOINT = "/usr/lib/x86_64-linux-gnu/gramine/libsysdb.so"
_SIGNER = "gramine-sgx-sign"
_SIGN_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What a build made.

    Attributes:
        files: How many trusted files.
        ours: How many of them are this project's.
        size: Their bytes.
        manifest: The SHA-256 of the manifest, in hexadecimal.
        has_gramine: Whether Gramine's runtime is part of it.
    """

    files: int
    ours: int
    size: int
    manifest: str
    has_gramine: bool


def build(folder: Path, job_class: JobClass, *, package: Path | None = None) -> Built:
    """Write an image: the same environment and job class give the same bytes, wherever and whenever.

    Args:
        folder: The image's new folder.
        job_class: What the enclave is for.
        package: The folder of this package; the installed one when not given.

    Raises:
        UsageError: The folder exists, or there is no such operation.
        UnavailableError: A file of the environment is missing.
        IntegrityError: A package's file was changed since it was installed.
        CapacityError: There are more files than an enclave starts with in a reasonable time.
    """
    if folder.exists():
        raise UsageError(f"{folder} exists.", next_step="Name a new folder.", code="usage.exists")
    runtime = GramineRuntime.find()
    found = closure(
        package or Path(securemllib.__file__).resolve().parent, {} if runtime is None else runtime.libraries, job_class.operations
    )
    if len(found) > FILE_LIMIT:
        raise CapacityError(f"The environment has {len(found)} files, over {FILE_LIMIT}.", code="unavailable.capacity.image")
    copies = {f"{ROOT}/{each.path}": each.source for each in found}
    if runtime is not None:
        copies[ENTRYPOINT] = runtime.entrypoint
    digests, size = {}, 0
    for path, source in copies.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        # The loader and the interpreter are executed, by whoever runs the image without Gramine to look into it.
        target.chmod(0o755 if ".so" in target.name or "/bin/" in path else 0o644)
        digests[path], size = sha256_of(target), size + target.stat().st_size
    text = render(digests, job_class, entrypoint=f"file:{_USUAL_ENTRYPOINT if runtime is None else ENTRYPOINT}")
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    ours = sum(path.startswith(f"{ROOT}/{OURS}/") for path in digests)
    return Built(files=len(digests), ours=ours, size=size, manifest=sha256_of(folder / MANIFEST), has_gramine=runtime is not None)


def sign(folder: Path, key: Path) -> SignedEnclave:
    """Let Gramine's signer measure and sign an image, and return what identifies it.

    1. The image was built with Gramine's runtime, so that this is measured too.
    2. The image's files are those of its manifest.
    3. What was signed is the manifest's product and security version, and no debug enclave.

    Raises:
        UnavailableError: The signer is not installed or failed, or 1 does not hold.
        IntegrityError: 2 or 3 does not hold.
    """
    program = shutil.which(_SIGNER)
    if program is None:
        raise UnavailableError(
            f"{_SIGNER} is not installed.",
            next_step=f"On a machine with Gramine 1.9 (no SGX needed): securemllib enclave build {folder.name} && securemllib enclave sign "
            f"{folder.name} --key {key}",
            code="unavailable.gramine",
        )
    if not key.is_file():
        raise UsageError(
            f"There is no key {key}.", next_step="Make one with `gramine-sgx-gen-private-key FILE`.", code="usage.missing_file"
        )
    manifest = read_manifest(folder / MANIFEST)
    if not (folder / ENTRYPOINT).is_file():
        raise UnavailableError(
            "The image was built without Gramine's runtime.", next_step="Build it again on this machine.", code="unavailable.gramine"
        )
    verify_files(folder, manifest)
    command = [program, "--manifest", MANIFEST, "--key", str(key.resolve()), "--output", SIGNED_MANIFEST]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_SIGN_SECONDS, check=False)
    if done.returncode:
        raise UnavailableError(f"{_SIGNER} failed: {done.stderr.strip()[-300:]}", code="unavailable.gramine")
    signed = signed_enclave(folder)
    if signed is None:
        raise UnavailableError(f"{_SIGNER} left no {SIGNATURE}.", code="unavailable.gramine")
    return signed


def own_code(folder: Path) -> Path:
    """Return the folder of our own code in an image, which is what is measured without a TEE; `UsageError` where it is no image."""
    read_manifest(folder / MANIFEST)
    return folder / ROOT / OURS


def signed_enclave(folder: Path) -> SignedEnclave | None:
    """Return what identifies an image's signed enclave, or None where it was not signed.

    Raises:
        UsageError: The folder holds no image.
        IntegrityError: The signature is not one of an enclave that is no debug enclave, with the manifest's versions.
    """
    manifest = read_manifest(folder / MANIFEST)
    try:
        found = read_sigstruct((folder / SIGNATURE).read_bytes())
    except FileNotFoundError:
        return None
    sgx = manifest.get("sgx", {})
    if found.debug or (found.product_id, found.security_version) != (sgx.get("isvprodid"), sgx.get("isvsvn")):
        raise FormatError("The signature is not one of this image, or admits a debug enclave.", code="integrity.format.sigstruct")
    return found
