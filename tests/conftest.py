"""What all tests share: Spark's tasks run in this interpreter, and property tests do not depend on how busy the machine is."""

import os
import sys

import pytest
from hypothesis import settings

# Hooks are found by their names here.
from tests.lost_spark import losses, pytest_handlecrashitem, pytest_runtest_makereport, pytest_unconfigure  # noqa: F401

# Spark starts its Python tasks with whatever `python3` it finds, unless told.
os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)

# A deadline of milliseconds fails on a shared machine, never on a wrong answer.
settings.register_profile("securemllib", deadline=None, print_blob=True)
settings.load_profile("securemllib")
# Named before other processes start, so that they write to the same file.
losses()

# A process has one Spark at a time. Two folders end theirs and others share one until the process ends, so the first go before the others
# or elsewhere. The demonstration takes long and starts processes only.
_UNITS = ("algorithms", "e2e", "the Spark that stays", "e2e/test_demo.py")
_FOLDERS = {"algorithms": _UNITS[0], "e2e": _UNITS[1], "ml": _UNITS[2], "spark": _UNITS[2], "spark_suite": _UNITS[2], "sql": _UNITS[2]}


def _unit(nodeid):
    """Return what must run in one process with a test: the tests of some folders, or those of its file."""
    file = nodeid.partition("::")[0].removeprefix("tests/")
    return file if file in _UNITS else _FOLDERS.get(file.partition("/")[0], file)


def pytest_collection_modifyitems(config, items):
    """Let the units with a Spark be the first where several processes share the tests, and no test with one be elsewhere."""
    strays = {item.nodeid for item in items if "spark" in getattr(item, "fixturenames", ()) and _unit(item.nodeid) not in _UNITS[:3]}
    if strays:
        raise pytest.UsageError(f"Name the folder's Spark in {__file__}: {min(strays)}.")
    if hasattr(config, "workerinput"):
        units = {unit: place for place, unit in enumerate(_UNITS)}
        items.sort(key=lambda item: units.get(_unit(item.nodeid), len(units)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give each process one unit after another, in their order: how many tests a unit has says nothing of its time."""
    from xdist.scheduler import LoadScopeScheduling

    class ByUnit(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return _unit(nodeid)

    config.option.loadscopereorder = False
    return ByUnit(config, log)
