"""Compiles the kernels' C files into shared libraries beside them, one each, for wheels and for editable installs alike.

The compiler is `cc` where it works; elsewhere the build asks for the `ziglang` package, which brings one. A build without a working
compiler succeeds without them: the package then computes with numpy, and `securemllib doctor` says so.
"""

import hashlib
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("src/securemllib/algorithms/kernels")
# Runs before it is known what the processor has, so it is compiled for every one of its family.
ANY_PROCESSOR = "processor.c"

FLAGS = (
    "-std=gnu11", "-O3", "-fPIC", "-g0", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-psabi",
    # Sums keep the order in which they are written; these only drop what nobody reads: errno and floating-point traps.
    "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast",
)  # fmt: skip
LINK_FLAGS = ("-shared", "-s", "-Wl,-z,relro,-z,now,-z,noexecstack")
# The processors of the last decade: AVX2, FMA and BMI2. The names differ between gcc and zig.
PROCESSOR_FLAGS = {"x86_64": {"cc": "-march=x86-64-v3", "zig": "-march=x86_64_v3"}}

ZIG = [sys.executable, "-m", "ziglang", "cc"]
PROBE = "#include <math.h>\n#include <stdint.h>\n#include <string.h>\nint64_t probe(double x) { return (int64_t)floor(x); }\n"


def sources_digest(folder: Path) -> str:
    """Return the SHA-256 over names and contents of the C files and headers, which `libprocessor.so` carries."""
    digest = hashlib.sha256()
    for file in sorted([*folder.glob("*.c"), *folder.glob("*.h")]):
        digest.update(f"{file.name} {file.stat().st_size}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def works(compiler: list[str]) -> bool:
    """Return whether a compiler makes a shared library out of a few lines: one without the C library's headers does not."""
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder, "probe.c")
        probe.write_text(PROBE, encoding="utf-8")
        return run([*compiler, *FLAGS, *processor_flags(compiler), *LINK_FLAGS, "-o", f"{folder}/probe.so", str(probe)]) is None


def processor_flags(compiler: list[str]) -> tuple[str, ...]:
    """Return the flags that let a compiler use what `processor.c` checks."""
    names = PROCESSOR_FLAGS.get(platform.machine())
    return () if names is None else (names["zig" if compiler == ZIG else "cc"],)


def run(command: list[str]) -> str | None:
    """Run a command, and return what it said where it failed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return str(error)
    return None if done.returncode == 0 else done.stderr


def system_compiler() -> list[str] | None:
    """Return the system's compiler where there is one that works."""
    found = shutil.which("cc")
    return [found] if found and works([found]) else None


def compile_libraries(compiler: list[str], folder: Path) -> str | None:
    """Compile each of the folder's C files into a library of its own, and return what the compiler said where it failed."""
    stamp = f'-DSOURCES="{sources_digest(folder)}"'
    with tempfile.TemporaryDirectory(dir=folder) as libraries:
        for source in sorted(folder.glob("*.c")):
            flags = () if source.name == ANY_PROCESSOR else processor_flags(compiler)
            command = [*compiler, *FLAGS, *flags, *LINK_FLAGS, stamp, "-o", f"{libraries}/lib{source.stem}.so", str(source), "-lm"]
            if problem := run(command):
                return problem
        for built in Path(libraries).iterdir():
            # A process that has the old library open keeps it.
            built.replace(folder / built.name)
    return None


class KernelsHook(BuildHookInterface[Any]):
    """The build step of the kernels."""

    def dependencies(self) -> list[str]:
        """Return the package that brings a compiler, where the system has none."""
        return [] if system_compiler() else ["ziglang>=0.13"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - wheels and editable installs are alike
        """Compile the libraries, and mark the wheel as one of this platform."""
        folder = Path(self.root) / FOLDER
        for old in folder.glob("*.so"):
            old.unlink()
        compiler = system_compiler() or (ZIG if works(ZIG) else None)
        if compiler is None:
            self.app.display_warning("no compiler works here: numpy will do the kernels' work")
            return
        if problem := compile_libraries(compiler, folder):
            raise RuntimeError(f"the kernels do not compile:\n{problem}")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
        build_data["artifacts"].append(f"{FOLDER}/*.so")
