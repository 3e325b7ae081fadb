"""Does the page of keys name every function that makes one?"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "securemllib"
PAGE = (ROOT / "docs" / "security" / "keys.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| ")][1:]
NAMED = {name for row in ROWS for name in re.findall(r"`([\w/]+\.py::\w+)`", row[-1])}
MAKERS = {"generate", "generate_private_key", "generate_key", "create_key"}
# The primitives that other functions call to make keys, and a command that throws its keys away.
NOT_MAKERS = ("crypto/", "cli/")


def makes_a_key(call: ast.Call) -> bool:
    """Return whether a call draws a key: by a library's or our own generator, or as random bytes of a key's length."""
    if not isinstance(call.func, ast.Attribute):
        return False
    return call.func.attr in MAKERS or (call.func.attr == "urandom" and "KEY_BYTES" in ast.unparse(call))


def makers() -> set[str]:
    """Return every function that makes a key, as ``file::function``."""
    found = set()
    for path in SOURCE.rglob("*.py"):
        file = path.relative_to(SOURCE).as_posix()
        if not file.startswith(NOT_MAKERS):
            functions = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.FunctionDef))
            calls = ((function.name, node) for function in functions for node in ast.walk(function) if isinstance(node, ast.Call))
            found |= {f"{file}::{name}" for name, call in calls if makes_a_key(call)}
    return found


def test_every_function_that_makes_a_key_is_on_the_page() -> None:
    """No key is made that the page does not explain, and the page names no function that makes none."""
    assert makers() == NAMED


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_each_key_has_a_whole_life(row: list[str]) -> None:
    """Each key says what it protects, who makes it, who holds it, when it rotates and how it is destroyed."""
    assert len(row) == 7
    assert all(row)
