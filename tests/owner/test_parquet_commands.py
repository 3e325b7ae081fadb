"""Do the commands for other readers of Parquet work together?"""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.owner.test_command_line import home, refused, run

from securemllib.errors import UsageError

__all__ = ["home"]


@pytest.mark.usefixtures("home")
def test_keys_and_exports_by_command(tmp_path: Path) -> None:
    """An export is encrypted again as a dataset with the file of its key, and `data keys` writes what was named, no more."""
    (tmp_path / "mine").mkdir()
    assert run("data", "encrypt", "rows.csv", "dataset", "--rows-per-part", "20").exit_code == 0
    assert "50 rows" in run("data", "export", "dataset", "rows.parquet", "--keys", "mine/rows.json").output
    assert run("data", "encrypt", "rows.parquet", "again", "--parquet-keys", "mine/rows.json").exit_code == 0
    assert run("data", "decrypt", "again", "clear.parquet").exit_code == 0
    assert sorted(pq.read_table(tmp_path / "clear.parquet")["age"].to_pylist()) == list(range(50))
    assert "of 1 parts" in run("data", "keys", "dataset", "mine/part.json", "--part", "1").output
    assert "of 3 parts" in run("data", "keys", "dataset", "mine/all.json", "--all").output


@pytest.mark.usefixtures("home")
def test_keys_are_asked_for_by_name() -> None:
    """Without a word on which parts, no key is written."""
    run("data", "encrypt", "rows.csv", "dataset")
    assert isinstance(refused("data", "keys", "dataset", "keys.json"), UsageError)
    assert not Path("keys.json").exists()
