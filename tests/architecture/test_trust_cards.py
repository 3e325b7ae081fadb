"""Does every package say where it runs and what it sees?"""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "securemllib"
FOLDERS = sorted(path.parent for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE)


def trust_card(folder: Path) -> dict[str, str]:
    """Return the `Runs in` and `Sees` lines of a package's docstring, by label."""
    docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    fields = (line.split(":", 1) for line in docstring.splitlines() if line.startswith(("Runs in:", "Sees:")))
    return {label: text.strip() for label, text in fields}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(PACKAGE)))
def test_every_package_has_a_trust_card(folder: Path) -> None:
    """A package's docstring says in which process it runs and what it may see there."""
    card = trust_card(folder)
    assert card.get("Runs in"), f"{folder.name}/__init__.py has no `Runs in:` line"
    assert card.get("Sees"), f"{folder.name}/__init__.py has no `Sees:` line"


@pytest.mark.parametrize("docstring", ["", '"""A package."""', '"""A package.\n\nRuns in:\nSees: everything.\n"""'])
def test_a_missing_trust_card_is_noticed(tmp_path: Path, docstring: str) -> None:
    """A package without a docstring, without the lines, or with an empty line does not pass."""
    (tmp_path / "__init__.py").write_text(docstring, encoding="utf-8")
    card = trust_card(tmp_path)
    assert not (card.get("Runs in") and card.get("Sees"))


def test_every_folder_of_modules_is_a_package() -> None:
    """No folder of modules escapes its trust card by having no `__init__`."""
    folders = {path.parent for path in PACKAGE.rglob("*.py")} - {PACKAGE}
    assert folders == set(FOLDERS)
