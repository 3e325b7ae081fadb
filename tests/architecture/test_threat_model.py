"""Does the threat model point at code and tests that exist?"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security" / "threat-model.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in PAGE.splitlines() if re.match(r"\| [A-Z]\d+ ", line)]
COLUMNS = ["id", "attacker", "target", "surface: what is tried", "defence", "enforced in", "proved by", "what remains"]
DEFENCES = [row for row in ROWS if row[0][0] != "M"]


def test_the_table_is_there():
    """The threat model has rows of defences, and each of the five attacks on a learning pipeline."""
    assert len(DEFENCES) >= 20
    assert f"| {' | '.join(COLUMNS)} |" in PAGE
    assert {row[0] for row in ROWS} >= {"M1", "M2", "M3", "M4", "M5"}
    assert len({row[0] for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", DEFENCES, ids=lambda row: row[0])
def test_each_defence_names_a_file_and_tests_that_exist(row):
    """The file that enforces a defence and the tests that prove it exist as the page names them; no cell but the last is empty."""
    assert len(row) == len(COLUMNS)
    assert all(row[:-1])
    file = row[5].strip("`")
    assert (ROOT / "src" / "securemllib" / file).is_file() or (ROOT / file).is_file()
    for test in row[6].split(", "):
        path, _, name = test.strip("`").partition("::")
        assert (ROOT / path).is_file()
        assert not name or f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), test
