"""The exact files of an enclave's environment: the interpreter, its standard library, the packages that it trusts, and their libraries."""

import sys
import sysconfig
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath

from securemllib.cli.image.libraries import shared_libraries
from securemllib.cli.image.sources import sources
from securemllib.errors import IntegrityError, UnavailableError

__all__ = ["FILE_LIMIT", "INTERPRETER", "LIBRARIES", "OURS", "PACKAGES", "ImageFile", "closure", "verified_files"]

# Gramine registers each trusted file when the enclave starts: 363 take 1.2 s, 60,000 take 134 s.
FILE_LIMIT = 2_000

_VERSION = f"python{sysconfig.get_python_version()}"
INTERPRETER = f"python/bin/{_VERSION}"
LIBRARIES = "lib"
_STANDARD_LIBRARY = f"python/lib/{_VERSION}"
PACKAGES = f"{_STANDARD_LIBRARY}/site-packages"
OURS = f"{PACKAGES}/securemllib"

# `cryptography` needs the one compiled module of cffi.
_DISTRIBUTIONS = {"cbor2": "", "cffi": "_cffi_backend.", "cryptography": "", "numpy": "", "pyarrow": "", "scipy": ""}
_NOT_PACKAGES = frozenset({"tests", "include", "__pycache__"})
# Tests, desktop programs, and installers of the standard library.
_NOT_STANDARD = frozenset(
    {"test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "venv", "lib2to3", "pydoc_data", "site-packages", "dist-packages"}
    | {"__pycache__", "sqlite3", "curses", "dbm", "distutils", "msilib", "wsgiref", "xmlrpc"}
)
_NOT_MODULES = ("_tkinter", "_curses", "_dbm", "_gdbm", "_sqlite3", "_test", "_ctypes_test", "_xx", "xx", "readline", "nis", "ossaudiodev")
_DATA = frozenset({".npz", ".json"})


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ImageFile:
    """One file of an image.

    Attributes:
        path: Its path in the image, relative.
        source: Where its bytes are.
    """

    path: str
    source: Path


def closure(package: Path, replaced: dict[str, Path], operations: Sequence[str] = ()) -> list[ImageFile]:
    """Return the files of an image, sorted by path.

    Args:
        package: The folder of this package.
        replaced: Libraries to use in place of the system's, by the name that programs ask for.
        operations: What the enclave runs; everything when empty.

    Raises:
        UsageError: There is no such operation.
        UnavailableError: A file, package or library is missing.
        IntegrityError: A package's file is not the one that was installed.
    """
    found = [ImageFile(path=INTERPRETER, source=_interpreter())]
    found += _standard_library()
    for name in _DISTRIBUTIONS:
        found += _packaged(name)
    ours = sources(package, operations)
    found += [ImageFile(path=f"{OURS}/{file.relative_to(package).as_posix()}", source=file.resolve()) for file in ours]
    inside = {each.source for each in found}
    wanted = [each.source for each in found if ".so" in each.source.name or each.path == INTERPRETER]
    libraries = {**{name: path for name, path in shared_libraries(wanted).items() if path not in inside}, **replaced}
    found += [ImageFile(path=f"{LIBRARIES}/{name}", source=path) for name, path in libraries.items()]
    return sorted(found)


def _interpreter() -> Path:
    executable = Path(getattr(sys, "_base_executable", "") or sys.executable).resolve()
    if not executable.is_file():
        raise UnavailableError("The interpreter's file is not found.", code="unavailable.image")
    return executable


def _standard_library() -> Iterator[ImageFile]:
    folder = Path(sysconfig.get_path("stdlib", vars={"base": sys.base_prefix}))
    dynamic = folder / "lib-dynload"
    if not (folder / "os.py").is_file() or not dynamic.is_dir():
        raise UnavailableError(f"The standard library is not complete in {folder}.", code="unavailable.image")
    for file in folder.rglob("*.py"):
        path = file.relative_to(folder)
        if not _NOT_STANDARD.intersection(path.parts[:-1]) and not path.parts[0].startswith("config-"):
            yield ImageFile(path=f"{_STANDARD_LIBRARY}/{path.as_posix()}", source=file.resolve())
    for file in dynamic.glob("*.so"):
        if not file.name.startswith(_NOT_MODULES):
            yield ImageFile(path=f"{_STANDARD_LIBRARY}/lib-dynload/{file.name}", source=file.resolve())


def _packaged(name: str) -> Iterator[ImageFile]:
    try:
        installed = distribution(name)
    except PackageNotFoundError:
        raise UnavailableError(
            f"The package {name} is not installed.", next_step="Install securemllib with its base dependencies.", code="unavailable.image"
        ) from None
    for path, source in verified_files(installed, _DISTRIBUTIONS[name]):
        yield ImageFile(path=f"{PACKAGES}/{path}", source=source)


def verified_files(installed: Distribution, prefix: str = "") -> Iterator[tuple[PurePosixPath, Path]]:
    """Give the files of a distribution that an enclave needs.

    Args:
        installed: The distribution.
        prefix: Of the names to give, beside the metadata; all when empty.

    Raises:
        UnavailableError: A file is missing, or the installer left no list.
        IntegrityError: A file's digest is not the one in the list.
    """
    name = installed.metadata["Name"]
    if not installed.files:
        raise UnavailableError(f"The installer of {name} left no list of its files.", code="unavailable.image")
    for listed in installed.files:
        path = PurePosixPath(listed)
        if not _is_needed(path) or (prefix and not (str(path).startswith(prefix) or path.name == "METADATA")):
            continue
        source = Path(str(listed.locate())).resolve()
        if not source.is_file():
            raise UnavailableError(f"The file {path} of {name} is missing.", next_step=f"Install {name} again.", code="unavailable.image")
        # An entry without a digest would let its file be anything.
        if listed.hash is None or listed.hash.mode != "sha256" or listed.hash.value != _record_digest(source):
            raise IntegrityError(f"The file {path} of {name} is not the one that was installed.", code="integrity.image")
        yield path, source


def _is_needed(path: PurePosixPath) -> bool:
    if ".." in path.parts or _NOT_PACKAGES.intersection(path.parts):
        return False
    # Versions are read from the metadata; what else stands there depends on the installer.
    if path.parts[0].endswith(".dist-info"):
        return path.name == "METADATA" and len(path.parts) == 2
    return path.suffix in {".py", *_DATA} or ".so" in path.suffixes


def _record_digest(source: Path) -> str:
    """Return a file's digest as the list of installed files writes it (PEP 376)."""
    return urlsafe_b64encode(sha256(source.read_bytes()).digest()).rstrip(b"=").decode()
