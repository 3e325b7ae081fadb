"""Does the measurement cover exactly the code that runs in the enclave?"""

import shutil
from pathlib import Path

import pytest
from tests.architecture.test_tcb import ROOT_PACKAGE, SOURCE, closure, path_of

from securemllib.attestation.measurement import MEASURED, measure_package

PACKAGE = SOURCE / ROOT_PACKAGE
MEASURED_FILES = sorted(
    file.relative_to(PACKAGE).as_posix()
    for name in MEASURED
    for file in ([PACKAGE / name] if (PACKAGE / name).is_file() else (PACKAGE / name).rglob("*"))
    if file.suffix in {".py", ".c", ".h", ".so"}
)


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the package's source."""
    return Path(shutil.copytree(PACKAGE, tmp_path_factory.mktemp("copy") / ROOT_PACKAGE, ignore=shutil.ignore_patterns("__pycache__")))


def test_what_is_measured_is_what_the_enclave_imports() -> None:
    """The measured folders and files are the top of the computed import closure, no more and no less."""
    paths = [path for module in closure() if (path := path_of(module)) is not None]
    assert {path.relative_to(PACKAGE).parts[0] for path in paths} == set(MEASURED)
    assert {path.relative_to(PACKAGE).as_posix() for path in paths} <= set(MEASURED_FILES)


def test_the_compiled_library_and_its_sources_are_measured() -> None:
    """The code that runs compiled is measured as it runs and as it is read."""
    kernels = {Path(name).suffix for name in MEASURED_FILES if name.startswith("algorithms/kernels/")}
    assert kernels == {".py", ".c", ".h", ".so"}


def test_a_copy_has_the_same_measurement(copied: Path) -> None:
    """The same files in another folder have the same measurement, so it names code and no place."""
    assert measure_package(copied) == measure_package()


@pytest.mark.parametrize("name", MEASURED_FILES)
def test_every_measured_byte_counts(copied: Path, name: str) -> None:
    """One changed byte of any measured file changes the measurement, and putting it back restores it."""
    before, file = measure_package(copied), copied / name
    original = file.read_bytes()
    changed = bytes([original[0] ^ 1]) + original[1:] if original else b"\n"
    file.write_bytes(changed)
    assert measure_package(copied) != before
    file.write_bytes(original)
    assert measure_package(copied) == before


@pytest.mark.parametrize("change", ["added", "renamed", "deleted", "moved bytes"])
def test_the_set_of_files_counts(copied: Path, change: str) -> None:
    """A file more, a file less, another name, and bytes moved from one file's end to the next file's beginning are all seen."""
    before = measure_package(copied)
    first, second = copied / "crypto" / "aead.py", copied / "crypto" / "identity.py"
    originals = first.read_bytes(), second.read_bytes()
    other = copied / "crypto" / "another.py"
    if change == "added":
        other.write_bytes(b"")
    elif change == "renamed":
        first.rename(other)
    elif change == "deleted":
        first.unlink()
    else:
        first.write_bytes(originals[0][:-1])
        second.write_bytes(originals[0][-1:] + originals[1])
    assert measure_package(copied) != before
    other.unlink(missing_ok=True)
    first.write_bytes(originals[0])
    second.write_bytes(originals[1])
    assert measure_package(copied) == before


def test_what_the_enclave_does_not_import_does_not_count(copied: Path) -> None:
    """A change of another role's code leaves the measurement as it is, so owners need no new policy for it."""
    before = measure_package(copied)
    (copied / "cli" / "added.py").write_text("x = 1\n", encoding="utf-8")
    (copied / "broker").mkdir(exist_ok=True)
    (copied / "broker" / "added.py").write_text("x = 1\n", encoding="utf-8")
    assert measure_package(copied) == before
