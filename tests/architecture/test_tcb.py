"""How much code must be trusted: what does the enclave import, of ours, of others and of the standard library?

Two views that fail for different reasons: the source read statically, every import in every function included, and a fresh interpreter
that imports all of it while a finder refuses any package outside the list.
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from securemllib.algorithms.registry import ALGORITHMS, TRANSFORMERS

SOURCE = Path(__file__).resolve().parents[2] / "src"
ROOT_PACKAGE = "securemllib"
REGISTRY = "securemllib.algorithms.registry"
TABLE_ENTRY = re.compile(r' +"\w+": "[a-z0-9_.]+",')
THIRD_PARTY = frozenset({"numpy", "scipy", "pyarrow", "cryptography", "cbor2"})
# Lines of code of what one job runs through (ADR 0007). Trees bring their compiled loops: their owners read more than those of any other.
MAX_LINES = 6_000
MAX_TREE_LINES = 6_500
TREES = "securemllib.algorithms.trees"
# Tokens that no interpreter acts on.
LAYOUT = frozenset({tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER})
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
C_INCLUDE = re.compile(r'^#include "(.*)"', re.MULTILINE)
C_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
# Code that runs other code, talks to names, or turns bytes into objects of the sender's choosing.
FORBIDDEN_STDLIB = frozenset(
    {"pickle", "shelve", "marshal", "subprocess", "multiprocessing", "pty", "http", "urllib", "ftplib", "smtplib", "xmlrpc", "webbrowser"}
)
# Kernel interfaces that Python does not wrap, and the one door to our own compiled loops; the reasons stand in their docstrings.
CTYPES_ALLOWED = frozenset({"securemllib.enclave.kernel", "securemllib.crypto.process", "securemllib.algorithms.kernels.library"})


def path_of(module: str) -> Path | None:
    """Return the source file of a module of ours, or None where the name is not a module."""
    base = SOURCE.joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def is_type_checking(node: ast.AST) -> bool:
    """Return whether a statement is an `if TYPE_CHECKING:` block, which never runs."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


@cache
def imports_of(module: str) -> set[str]:
    """Return the absolute names that a module imports when it runs, inside functions too, with their parent packages."""
    path = path_of(module)
    if path is None:
        return set()
    names: set[str] = set()
    nodes: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if is_type_checking(node):
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
        nodes.extend(ast.iter_child_nodes(node))
    parents = {name.rsplit(".", depth)[0] for name in names for depth in range(1, name.count(".") + 1)}
    return names | parents


def enclave_modules() -> list[str]:
    """Return the modules of the enclave package, and the root package."""
    return [ROOT_PACKAGE] + [
        ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        for path in (SOURCE / ROOT_PACKAGE / "enclave").rglob("*.py")
    ]


def reached(start: Iterable[str]) -> dict[str, frozenset[str]]:
    """Return every module of ours that these import, with what it imports."""
    found: dict[str, frozenset[str]] = {}
    waiting = list(start)
    while waiting:
        module = waiting.pop()
        if module not in found and path_of(module):
            found[module] = frozenset(imports_of(module))
            waiting.extend(name for name in found[module] if name.split(".")[0] == ROOT_PACKAGE)
    return found


def operations() -> dict[str, str]:
    """Return the module of each operation that a job or a plan may name."""
    return {name: operation.__module__ for name, operation in {**ALGORITHMS, **TRANSFORMERS}.items()}


@cache
def closure() -> dict[str, frozenset[str]]:
    """Return every module of ours that the enclave can import, with what it imports: the core, and every operation of its table."""
    return reached([*enclave_modules(), *operations().values()])


@cache
def core() -> frozenset[str]:
    """Return what runs whatever the job: no import leads from the enclave to an operation, only its table does."""
    return frozenset(reached(enclave_modules()))


def trusted_lines(operation: str) -> int:
    """Return the lines that one operation's job runs through: the core, the operation and what that imports."""
    return sum(lines_of(module) for module in core() | reached([operations()[operation]]).keys())


def top_levels() -> set[str]:
    """Return the top-level packages, other than ours, that the closure imports."""
    return {name.split(".")[0] for names in closure().values() for name in names} - {ROOT_PACKAGE}


def code_of(source: str) -> set[int]:
    """Return the numbers of the lines of a Python source that hold code, as line counters see it: no blanks, comments and docstrings."""
    documented = [
        node.body[0] for node in ast.walk(ast.parse(source)) if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None
    ]
    prose = {line for text in documented for line in range(text.lineno, (text.end_lineno or text.lineno) + 1)}
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {line for token in tokens if token.type not in LAYOUT for line in range(token.start[0], token.end[0] + 1)} - prose


@cache
def lines_of(module: str) -> int:
    """Return the lines of code of a module, and of the C file beside it whose loops it calls, with the headers of ours it includes.

    What every kernel stands on counts once, with the library.
    """
    path = path_of(module)
    if path is None:
        return 0
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    # The table has a line for each operation: of those a job runs through one, and it is not to trust more as the table grows.
    entries = [line for line in lines if module == REGISTRY and TABLE_ENTRY.fullmatch(line)]
    compiled = list(path.parent.glob(f"{path.stem}.c"))
    included = {name for file in compiled for name in C_INCLUDE.findall(file.read_text(encoding="utf-8"))} - {"kernel.h"}
    compiled += [path.parent / name for name in (["kernel.h"] if path.stem == "library" else sorted(included))]
    in_c = [C_COMMENT.sub("", file.read_text(encoding="utf-8")).splitlines() for file in compiled]
    return len(code_of(source)) - len(entries[1:]) + sum(bool(line.strip()) for each in in_c for line in each)


def test_the_closure_is_the_enclave_and_what_it_stands_on() -> None:
    """The measured code holds the enclave and the packages below it, and no other role."""
    packages = {module.split(".")[1] for module in closure() if "." in module}
    assert {"enclave", "crypto", "wire", "errors"} <= packages
    assert packages <= {"enclave", "attestation", "algorithms", "crypto", "wire", "errors"}


def test_encodings_are_no_part_of_the_enclave() -> None:
    """Column encodings and what describes them on the wire are the owner's and the analyst's: the enclave reaches none of it."""
    assert [name for name in closure() if "encodings" in name or name.endswith((".companion", ".query"))] == []


def test_only_five_third_party_packages_are_trusted() -> None:
    """The enclave imports nothing of others but numpy, scipy, pyarrow, cryptography and one CBOR library."""
    assert top_levels() - sys.stdlib_module_names <= THIRD_PARTY


def test_the_base_dependencies_are_the_trusted_packages() -> None:
    """Installing `securemllib` without extras installs exactly the packages that an enclave may import."""
    requirements = map(Requirement, distribution("securemllib").requires or [])
    assert {each.name for each in requirements if not (each.marker and "extra" in str(each.marker))} == THIRD_PARTY


def test_no_dangerous_standard_module_is_reachable() -> None:
    """The measured code starts no process, resolves no name and unpickles nothing."""
    assert {name: sorted(used & FORBIDDEN_STDLIB) for name, used in closure().items() if used & FORBIDDEN_STDLIB} == {}


def test_foreign_calls_stay_in_two_modules() -> None:
    """Only the module that asks the kernel for protection, and the one that loads our compiled loops, may call C functions by hand."""
    assert {name for name, used in closure().items() if "ctypes" in used} <= CTYPES_ALLOWED


@pytest.mark.parametrize("operation", sorted(operations()))
def test_the_code_that_one_job_trusts_is_small_enough_to_read(operation: str, record_property: Callable[[str, object], None]) -> None:
    """The core and the one operation that a job names stay within the bound."""
    record_property("tcb_lines", trusted_lines(operation))
    grows_trees = any(module.startswith(TREES) for module in reached([operations()[operation]]))
    assert 0 < trusted_lines(operation) <= (MAX_TREE_LINES if grows_trees else MAX_LINES)


def test_the_bound_would_notice_a_large_operation() -> None:
    """The core alone counts for most of the bound, so the lines above are those of code, not of an empty list."""
    assert MAX_LINES // 2 < sum(map(lines_of, core())) < MAX_LINES


def test_code_is_counted_and_prose_is_not() -> None:
    """Blanks, comments and docstrings are no code; a text that is used is, over all of its lines."""
    source = '"""About."""\n\n# why\nNAME = """a\nb"""  # what\n\n\ndef call(\n    one,\n):\n    """Do it."""\n    return one\n'
    assert code_of(source) == {4, 5, 8, 9, 10, 12}


def test_the_table_alone_leads_to_operations() -> None:
    """The enclave imports no operation but through its table, so an enclave can be built with those alone that an owner allows."""
    assert core() & set(operations().values()) == frozenset()


def test_operations_are_no_part_of_one_another() -> None:
    """One algorithm never imports another's module, so what a job trusts does not grow with the table."""
    modules = set(operations().values())
    assert [name for name, module in operations().items() if reached([module]).keys() & modules - {module}] == []


# What the trusted packages themselves bring along: cryptography stands on cffi and its parser.
CLOSED_WORLD = """
import importlib.util, sys
allowed = set({allowed!r})

class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top in sys.stdlib_module_names or top in allowed or top.startswith("_sysconfigdata"):
            return None
        raise ModuleNotFoundError("outside the enclave's closure: " + name, name=name)

sys.meta_path.insert(0, Refuse())
for module in {modules!r}:
    importlib.import_module(module)
sys.stdout.write("\\n".join(sorted({{name.split(".")[0] for name in sys.modules}})))
"""


def import_in_a_closed_world(modules: list[str]) -> subprocess.CompletedProcess[str]:
    """Import modules in a fresh interpreter in which no package outside the list can be found."""
    allowed = sorted(THIRD_PARTY | {ROOT_PACKAGE, "_cffi_backend", "cffi", "pycparser"})
    code = CLOSED_WORLD.format(allowed=allowed, modules=modules)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


def test_the_enclave_imports_where_only_its_dependencies_are_found() -> None:
    """Every module of the closure imports in an interpreter that refuses all packages but the trusted ones."""
    # `python -m securemllib.enclave` starts the process: importing its `__main__` would too.
    modules = sorted(module for module in closure() if not module.endswith("__main__"))
    done = import_in_a_closed_world(modules)
    assert done.returncode == 0, done.stderr
    assert "securemllib" in done.stdout.split()


@pytest.mark.parametrize("outsider", ["pyspark", "pandas", "httpx"])
def test_the_closed_world_is_closed(outsider: str) -> None:
    """A package that is installed but not trusted cannot be imported there, so passing above means something."""
    done = import_in_a_closed_world([outsider])
    assert done.returncode != 0
    assert f"outside the enclave's closure: {outsider}" in done.stderr
