"""Do the tests go on, once, where Spark's virtual machine ends under one of them?"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFTEST = "from tests.lost_spark import losses, pytest_handlecrashitem, pytest_runtest_makereport, pytest_unconfigure\nlosses()\n"
# A process stands for the virtual machine; it ends under the first test that finds no note of an earlier run.
TESTS = """
import os, pathlib, subprocess, types
import pytest
from pyspark import SparkContext

@pytest.fixture(scope="session")
def machine():
    process = subprocess.Popen(["sleep", "60"])
    SparkContext._gateway = types.SimpleNamespace(proc=process)
    yield process
    process.kill()

@pytest.mark.parametrize("number", range(3))
def test_something(machine, number):
    notes = pathlib.Path(os.environ["NOTES"])
    with notes.open("a") as file:
        file.write(f"{number}\\n")
    if number == 1 and notes.read_text().count("1") <= int(os.environ["ENDS"]):
        machine.kill()
        machine.wait()
        raise ConnectionRefusedError
"""


def run(folder: Path, ends: int) -> subprocess.CompletedProcess[str]:
    """Run three tests in other processes; the second ends the virtual machine in its first runs."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_three.py").write_text(TESTS)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "SECUREMLLIB_"))}
    environment |= {"PYTHONPATH": str(ROOT), "NOTES": str(folder / "notes"), "ENDS": str(ends)}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(folder),
        "-rfs",
        "-n",
        "1",
        "--dist",
        "loadscope",
        ".",
    ]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_all_tests_run_where_it_ends_once(tmp_path: Path) -> None:
    """The test under which it ended runs again, with those after it, and the summary says with what it ended."""
    done = run(tmp_path, ends=1)
    assert done.returncode == 0, done.stdout
    assert "3 passed, 1 skipped" in done.stdout
    assert "ended with -9. Run again in a new process: test_three.py::test_something[1]" in done.stdout
    assert (tmp_path / "notes").read_text().split() == ["0", "1", "1", "2"]


def test_a_second_end_is_a_failure(tmp_path: Path) -> None:
    """What ends it again is no accident: the test fails."""
    done = run(tmp_path, ends=2)
    assert done.returncode == 1, done.stdout
    assert "FAILED test_three.py::test_something[1] - ConnectionRefusedError" in done.stdout
