"""The shared libraries that programs load: the system's, by asking its loader; and those of a Gramine installation."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from securemllib.errors import UnavailableError

__all__ = ["GramineRuntime", "shared_libraries"]

_LOADED = re.compile(r"^\s+(?:(?P<name>\S+) => )?(?P<path>/\S+) \(0x")
_MISSING = re.compile(r"^\s+(?P<name>\S+) => not found")
_SECONDS = 120.0


def shared_libraries(files: Sequence[Path]) -> dict[str, Path]:
    """Return the libraries that programs and libraries load, those that these load included, by the name that is asked for.

    Raises:
        UnavailableError: A library is missing, or the system has no `ldd`.
    """
    program = shutil.which("ldd", path="/usr/bin:/bin")
    if program is None:
        raise UnavailableError("Images are built where glibc's `ldd` is.", code="unavailable.image")
    # Without variables: LD_LIBRARY_PATH and LD_PRELOAD must not choose what is trusted.
    done = subprocess.run([program, *map(str, files)], capture_output=True, text=True, env={}, timeout=_SECONDS, check=False)
    # A library that a package carries is found through the one that loads it, not by itself.
    carried = {file.name for file in files}
    found: dict[str, Path] = {}
    for line in done.stdout.splitlines():
        if (missing := _MISSING.match(line)) and missing["name"] not in carried:
            raise UnavailableError(f"The shared library {missing['name']} is not installed.", code="unavailable.image")
        if loaded := _LOADED.match(line):
            path = Path(loaded["path"])
            found[(loaded["name"] or path.name).rpartition("/")[2]] = path.resolve()
    if not found:
        raise UnavailableError(f"`ldd` found no library: {done.stderr.strip()[:200]}", code="unavailable.image")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class GramineRuntime:
    """What an image takes from a Gramine installation.

    Attributes:
        entrypoint: Gramine's library that stands in for the kernel.
        libraries: Its C library, by the names that programs ask for.
    """

    entrypoint: Path
    libraries: dict[str, Path]

    @classmethod
    def find(cls) -> Self | None:
        """Return the runtime of the Gramine on the PATH, or None where there is none.

        Raises:
            UnavailableError: There is one, and its libraries are not where it installs them.
        """
        program = shutil.which("gramine-direct")
        if program is None:
            return None
        prefix = Path(program).resolve().parent.parent
        for folder in (
            prefix / "lib" / f"{os.uname().machine}-linux-gnu" / "gramine",
            prefix / "lib" / "gramine",
            prefix / "lib64" / "gramine",
        ):
            libraries = {file.name: file.resolve() for file in (folder / "runtime" / "glibc").glob("*.so*")}
            if (folder / "libsysdb.so").is_file() and libraries:
                return cls(entrypoint=folder / "libsysdb.so", libraries=libraries)
        raise UnavailableError(f"The libraries of the Gramine in {prefix} are not found.", code="unavailable.gramine")
