"""Which of our own files an enclave needs: read from the imports of its modules, of which none is run."""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

from securemllib.algorithms.registry import module_of
from securemllib.attestation.measurement import MEASURED, measured_files
from securemllib.errors import UnavailableError

__all__ = ["sources"]

_ROOT = "securemllib"
# Kernels' sources share headers, and what asks the processor what it can do is loaded before them.
_SHARED = ("algorithms/kernels/*.h", "algorithms/kernels/*processor.*")


def sources(package: Path, operations: Sequence[str]) -> list[Path]:
    """Return the files of an enclave that runs some operations.

    Args:
        package: The folder of this package.
        operations: What its jobs and their plans may name; everything when empty.

    Raises:
        UsageError: There is no such operation.
        UnavailableError: A folder or a file is missing.
    """
    everything = [file for name in MEASURED for file in _measured(package / name)]
    if not operations:
        return everything
    needed = _needed(package, operations)
    return [file for file in everything if file in needed]


def _needed(package: Path, operations: Sequence[str]) -> frozenset[Path]:
    """Return the files that the enclave and these operations import, and what is compiled from them."""
    waiting = [_ROOT, *(f"{_ROOT}.enclave.{file.stem}" for file in (package / "enclave").glob("*.py")), *map(module_of, operations)]
    found: dict[str, Path] = {}
    while waiting:
        module = waiting.pop()
        file = _file(package, module)
        if file is not None and module not in found:
            found[module] = file
            waiting += _imports(file)
    missing = [name for name in operations if module_of(name) not in found]
    if missing:
        raise UnavailableError(f"The file of {missing[0]} is missing.", code="unavailable.image")
    # A folder whose modules all stay away is looked into when the table is read.
    packages = package.glob("algorithms/**/__init__.py")
    compiled = [file for source in found.values() for file in _compiled(source)]
    return frozenset([*found.values(), *packages, *compiled, *(file for pattern in _SHARED for file in package.glob(pattern))])


def _measured(top: Path) -> list[Path]:
    files = measured_files(top)
    if not files:
        raise UnavailableError(f"{top} is missing: the enclave's own code is not complete.", code="unavailable.image")
    return files


def _file(package: Path, module: str) -> Path | None:
    """Return the file of a module of ours; None where the name is another's, or of something in a module."""
    root, *path = module.split(".")
    base = package.joinpath(*path)
    candidates = (base / "__init__.py", base.with_suffix(".py")) if root == _ROOT else ()
    return next((file for file in candidates if file.is_file()), None)


def _imports(file: Path) -> Iterator[str]:
    """Give what a module imports, wherever that stands, and the packages above; nothing that only a type checker reads."""
    waiting: list[ast.AST] = [ast.parse(file.read_bytes())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{name}" for name in names]
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:length]) for length in range(1, len(parts) + 1))
        waiting += ast.iter_child_nodes(node)


def _compiled(source: Path) -> list[Path]:
    return [file for file in (source.with_suffix(".c"), source.with_name(f"lib{source.stem}.so")) if file.is_file()]
