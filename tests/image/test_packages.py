"""Does a build take a package's files only as they were installed?"""

from base64 import urlsafe_b64encode
from hashlib import sha256
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from securemllib.cli.image.closure import verified_files
from securemllib.cli.image.libraries import shared_libraries
from securemllib.errors import IntegrityError, UnavailableError

FILES = {"toy/__init__.py": b"x = 1\n", "toy/_fast.so": b"\x7fELF", "toy/tests/test_x.py": b"", "toy/notes.txt": b"no code"}


@pytest.fixture
def installed(tmp_path: Path) -> tuple[Path, Distribution]:
    """Return the folder of an installed package, and its distribution."""
    info = tmp_path / "toy-1.0.dist-info"
    info.mkdir()
    files = {**FILES, "toy-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n", "../../bin/toy": b"#!"}
    lines = []
    for name, data in files.items():
        if ".." not in name:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(data)
        lines.append(f"{name},sha256={urlsafe_b64encode(sha256(data).digest()).rstrip(b'=').decode()},{len(data)}")
    (info / "RECORD").write_text("\n".join([*lines, "toy-1.0.dist-info/RECORD,,"]) + "\n")
    return tmp_path, Distribution.at(info)


def names(distribution: Distribution) -> set[str]:
    """Return the names of the files that an image takes."""
    return {str(path) for path, _ in verified_files(distribution)}


def test_code_and_metadata_are_taken(installed: tuple[Path, Distribution]) -> None:
    """What runs and what versions are read from is taken; tests, texts and programs outside are not."""
    assert names(installed[1]) == {"toy/__init__.py", "toy/_fast.so", "toy-1.0.dist-info/METADATA"}


def test_a_changed_file_is_refused(installed: tuple[Path, Distribution]) -> None:
    """One changed byte since the installation stops the build."""
    (installed[0] / "toy" / "_fast.so").write_bytes(b"\x7fELG")
    with pytest.raises(IntegrityError):
        names(installed[1])


def test_a_missing_file_is_refused(installed: tuple[Path, Distribution]) -> None:
    """A file that was installed and is gone stops the build."""
    (installed[0] / "toy" / "__init__.py").unlink()
    with pytest.raises(UnavailableError):
        names(installed[1])


@pytest.mark.parametrize("entry", ["toy/__init__.py,,", "toy/__init__.py,md5=AAAA,6"])
def test_a_file_without_a_sha256_is_refused(installed: tuple[Path, Distribution], entry: str) -> None:
    """A list that gives no SHA-256 for a file of code would let it be anything."""
    (installed[0] / "toy-1.0.dist-info" / "RECORD").write_text(f"{entry}\n")
    with pytest.raises(IntegrityError):
        names(installed[1])


def test_a_package_without_a_list_is_refused(installed: tuple[Path, Distribution]) -> None:
    """Where the installer left no list, nothing can be compared."""
    (installed[0] / "toy-1.0.dist-info" / "RECORD").unlink()
    with pytest.raises(UnavailableError):
        names(installed[1])


def test_libraries_of_something_that_is_no_program_are_refused(tmp_path: Path) -> None:
    """A file that the loader does not know stops the build."""
    (tmp_path / "text.so").write_text("no library")
    with pytest.raises(UnavailableError):
        shared_libraries([tmp_path / "text.so"])
