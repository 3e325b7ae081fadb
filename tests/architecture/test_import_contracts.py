"""Who may import whom: do the contracts in pyproject.toml hold, and is each algorithm a file of its own?"""

import ast
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_ERROR, EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).resolve().parents[2]
ALGORITHMS = ROOT / "src" / "securemllib" / "algorithms"


def algorithm_modules() -> dict[str, ast.Module]:
    """Return the modules that define an algorithm: a class with `statistics` and `to_model` that is not the protocol itself."""
    modules = {}
    for path in sorted(ALGORITHMS.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and path.stem != "base":
                methods = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
                if {"statistics", "to_model"} <= methods:
                    modules[f"securemllib.algorithms.{path.stem}"] = tree
    return modules


def imported(tree: ast.Module) -> set[str]:
    """Return the modules, and the names in them, that a module's source imports."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_the_contracts_hold(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every import contract in pyproject.toml is kept."""
    monkeypatch.chdir(ROOT)
    status = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out


def test_a_broken_contract_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The same linter refuses a contract that our own code breaks, so that a silent linter cannot pass for a kept contract."""
    config = tmp_path / "broken.toml"
    config.write_text(
        """
        [tool.importlinter]
        root_package = "securemllib"
        include_external_packages = true
        [[tool.importlinter.contracts]]
        name = "Algorithms do not use numpy"
        type = "forbidden"
        source_modules = ["securemllib.algorithms"]
        forbidden_modules = ["numpy"]
        """,
        encoding="utf-8",
    )
    monkeypatch.chdir(ROOT)
    assert lint_imports(config_filename=str(config), no_cache=True) == EXIT_STATUS_ERROR
    assert "securemllib.algorithms is not allowed to import numpy" in capsys.readouterr().out


def test_one_algorithm_never_imports_another() -> None:
    """Each algorithm is read, reviewed and measured alone: its file imports no other algorithm's."""
    modules = algorithm_modules()
    assert modules, "no algorithm was found, so nothing was checked"
    crossings = {name: sorted((imported(tree) & modules.keys()) - {name}) for name, tree in modules.items()}
    assert {name: others for name, others in crossings.items() if others} == {}
