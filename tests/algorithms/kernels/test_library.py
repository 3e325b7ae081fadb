"""Is the compiled library the one of these sources, and does its door refuse what C could not?"""

import ctypes
import hashlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from securemllib.algorithms.kernels import library

FOLDER = Path(library.__file__).parent


def test_the_library_is_built_from_these_sources():
    """The loaded library carries the digest of the C files beside it: set-up builds anew when one changed."""
    digest = hashlib.sha256()
    for file in sorted([*FOLDER.glob("*.c"), *FOLDER.glob("*.h")]):
        digest.update(f"{file.name} {file.stat().st_size}\n".encode() + file.read_bytes())
    assert library.status() == "compiled"
    carried = ctypes.CDLL(f"{FOLDER}/libprocessor.so").sources_digest
    carried.restype = ctypes.c_char_p
    assert carried().decode() == digest.hexdigest()


def test_a_folder_without_library_leaves_numpy(monkeypatch, tmp_path):
    """Where no library was built, none is loaded, the reason says so, and every function's twin does its work."""
    monkeypatch.setattr(library, "_FOLDER", str(tmp_path))
    monkeypatch.setattr(library, "_STATUS", library._find())
    assert library.status() == "numpy: no compiler built the kernels"
    assert library.function("processor", "processor_suffices") is None


def test_every_c_file_has_its_library():
    """Each C file is a library of its own, and no other library lies beside them: an enclave holds those alone that it needs."""
    assert {file.stem for file in FOLDER.glob("*.so")} == {f"lib{file.stem}" for file in FOLDER.glob("*.c")}


@pytest.mark.parametrize("asked", [("kmeans", "no_such_function"), ("no_such_library", "kmeans_assign")])
def test_an_older_library_is_told(asked):
    """A function that the library beside its source lacks, or a library that is not there, is an error that says what to do."""
    assert library.function("kmeans", "kmeans_assign") is not None
    with pytest.raises(ImportError, match="make setup"):
        library.function(*asked)


@pytest.mark.parametrize(("suffices", "status"), [(1, "compiled"), (0, "numpy: this processor is older")])
def test_a_processor_that_is_too_old_leaves_numpy(monkeypatch, suffices, status):
    """The library runs only where its own check says that the processor has the instructions it was compiled for."""
    monkeypatch.setattr(
        library.ctypes, "CDLL", lambda path: SimpleNamespace(processor_suffices=lambda: suffices, kmeans_assign=SimpleNamespace())
    )
    monkeypatch.setattr(library, "_STATUS", library._find())
    assert library.status().startswith(status)
    assert (library.function("kmeans", "kmeans_assign") is not None) == bool(suffices)


def test_an_array_is_checked_before_its_address_is_passed():
    """An array of another dtype, order or kind, and one that may not be written, is a TypeError; the right ones pass."""
    rows = np.zeros((4, 3), dtype=np.float32)
    frozen = rows.copy()
    frozen.flags.writeable = False
    read, written = library.array_of(np.float32), library.array_of(np.float32, written=True)
    assert read.from_param(rows).value == rows.ctypes.data
    assert written.from_param(rows).value == rows.ctypes.data
    assert read.from_param(frozen).value == frozen.ctypes.data
    assert library.array_of(np.float32, optional=True).from_param(None).value is None
    for refused in (rows.astype(np.float64), rows.T, rows[:, :2], rows.tolist(), None, 7):
        with pytest.raises(TypeError):
            read.from_param(refused)
    with pytest.raises(TypeError):
        written.from_param(frozen)
