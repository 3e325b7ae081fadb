"""Does an enclave process load its own packages only, whatever else is installed beside them?"""

import subprocess
import sys
from importlib.util import find_spec

import pytest

from tests.architecture.test_tcb import THIRD_PARTY

# Says in which packages the files of the loaded modules lie.
TOLD = """
import os, sys, sysconfig
places = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
files = [file for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))]
inside = {file.removeprefix(place + os.sep) for file in files for place in places if file.startswith(place)}
os.write(told, "\\n".join({path.split(os.sep)[0].partition(".")[0] for path in inside}).encode())
"""
# Becomes an enclave until it is idle; or only loads what one loads.
ENCLAVE = 'import os; told = os.dup(1)\nfrom securemllib.enclave.__main__ import main; main(["--idle", "0.1"])'
PLAIN = "told = 1; import securemllib.enclave.server"


def loaded(code):
    """Return the installed packages of which a fresh interpreter has loaded a module after some code."""
    done = subprocess.run([sys.executable, "-I", "-c", code + TOLD], capture_output=True, text=True, timeout=60, check=True)
    return {name for name in done.stdout.splitlines() if not name.startswith(("listening", "_virtualenv", "_securemllib"))}


def test_an_enclave_loads_nothing_but_its_packages():
    """A started enclave holds modules of the five trusted packages and cffi's one, and of no package that happens to be installed."""
    assert loaded(ENCLAVE) - {"securemllib"} == THIRD_PARTY | {"_cffi_backend"}


@pytest.mark.skipif(find_spec("pandas") is None, reason="needs pandas beside the enclave's packages")
def test_the_same_code_elsewhere_loads_what_is_there():
    """Where nothing refuses it, pyarrow loads all of pandas: so the refusal above is what keeps it out."""
    assert "pandas" in loaded(PLAIN)


def test_a_task_of_spark_loads_nothing_that_works_on_rows():
    """What carries sealed bytes loads neither pandas nor scipy nor pyspark.ml: without, a worker starts in half the time."""
    carries = "told = 1\nfrom securemllib.spark import tasks, relay, round_jobs, parts_source, sink"
    assert loaded(carries) & {"pandas", "scipy", "sklearn", "cryptography", "pydantic"} == set()
    assert "pandas" in loaded("told = 1\nfrom securemllib.spark import SecureSession")
