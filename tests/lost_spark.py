"""What happens where Spark's virtual machine ends in the middle of the tests: they go on in a new process, once, and the summary says so.

A process has one virtual machine, which hundreds of tests share: one crash of Java would be hundreds of failures that say nothing of why.
The exit code, and the head of the report that Java writes of its own crash, are the reason of a skip. A second loss is a failure.
"""

import os
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

_LOSSES = "SECUREMLLIB_TESTS_LOSSES"
_MOST_LOSSES = 1
_CRASH_LINES = 12


def losses():
    """Return the file in which the processes of one run write down the virtual machines that they lost, a line each."""
    if _LOSSES not in os.environ:
        descriptor, path = tempfile.mkstemp(prefix="securemllib-losses-")
        os.close(descriptor)
        os.environ[_LOSSES] = path
    return Path(os.environ[_LOSSES])


def _ended():
    """Return the exit code and the process id of this process's virtual machine, where that ended although nobody ended it."""
    context = getattr(sys.modules.get("pyspark.core.context"), "SparkContext", None)
    process = getattr(getattr(context, "_gateway", None), "proc", None)
    return None if process is None or process.poll() is None else (process.returncode, process.pid)


def _why(code, pid):
    """Return what is known of the end of a virtual machine, in one line."""
    report = Path(f"hs_err_pid{pid}.log")
    head = report.read_text(errors="replace").splitlines()[:_CRASH_LINES] if report.is_file() else ()
    return " ".join([f"Spark's virtual machine ended with {code}.", *(line.strip("# ") for line in head)])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Leave a process whose virtual machine ended under a test, before that counts as failed: another process gets what is left."""
    report = yield
    ended = _ended() if call.excinfo is not None else None
    if ended is not None:
        why = _why(*ended)
        if hasattr(item.config, "workerinput") and len(losses().read_text().splitlines()) < _MOST_LOSSES:
            with losses().open("a") as file:
                file.write(f"{item.nodeid}\t{why}\n")
            for child in psutil.Process().children(recursive=True):
                child.kill()
            os._exit(1)
        report.sections.append(("Spark", why))
    return report


def pytest_unconfigure(config):
    """Remove the file when the last process of the run ends."""
    if not hasattr(config, "workerinput"):
        losses().unlink(missing_ok=True)
        del os.environ[_LOSSES]


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem, report, sched):
    """Report the test under which a virtual machine ended as skipped here: it is run again with those after it."""
    for line in losses().read_text().splitlines():
        lost, _, why = line.partition("\t")
        if lost == crashitem:
            report.outcome, report.longrepr = "skipped", (crashitem.partition("::")[0], 0, f"{why} Run again in a new process: {crashitem}")
