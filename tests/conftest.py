"""What all tests share: Spark's tasks run in this interpreter, and property tests do not depend on how busy the machine is."""

import os
import sys

import pytest
from hypothesis import settings

# Spark starts its Python tasks with whatever `python3` it finds, unless told.
os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)

# A deadline of milliseconds fails on a shared machine, never on a wrong answer.
settings.register_profile("securemllib", deadline=None, print_blob=True)
settings.load_profile("securemllib")

# A process has one Spark at a time: the folders that share the host's for the whole run stay in one process, and those that end theirs in another.
_PROCESSES = {"ml": "host", "spark": "host", "spark_suite": "host", "sql": "host", "algorithms": "own Spark", "e2e": "own Spark"}
_NO_SPARK = ("e2e/test_demo.py",)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give a process the tests of one Spark, or those of one file; the longest first, as their number tells."""
    from xdist.scheduler import LoadScopeScheduling

    class BySpark(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.partition("::")[0].removeprefix("tests/")
            return file if file in _NO_SPARK else _PROCESSES.get(file.partition("/")[0], file)

    return BySpark(config, log)
