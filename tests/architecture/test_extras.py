"""Does each role work where only its extra is installed?"""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ONLY = """
import sys
installed = {installed!r}
class Absent:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top in sys.stdlib_module_names or top in installed or top.startswith(("_sysconfigdata", "pyarrow")):
            return None
        raise ModuleNotFoundError("No module named " + repr(top), name=top)
sys.meta_path.insert(0, Absent())
sys.argv = {argv!r}
{code}
"""
PROGRAM = "from securemllib.__main__ import main; main()"


def brought_by(package, extras=()):
    """Return the distributions that come with a package and some of its extras, itself included."""
    found, waiting = set(), [(canonicalize_name(package), frozenset(extras))]
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in found:
            continue
        found.add((name, wanted))
        try:
            needed = [Requirement(text) for text in requires(name) or ()]
        except PackageNotFoundError:
            continue
        named = (need for need in needed if need.marker is None or any(need.marker.evaluate({"extra": each}) for each in wanted or {""}))
        waiting += [(canonicalize_name(need.name), frozenset(need.extras)) for need in named]
    return {name for name, _ in found}


def run(extras, code=PROGRAM, *arguments):
    """Run code in an interpreter that finds no package but those of some extras."""
    brought = brought_by("securemllib", extras)
    installed = {top for top, names in packages_distributions().items() if brought & {canonicalize_name(name) for name in names}}
    source = ONLY.format(installed=sorted({*installed, "securemllib"}), argv=["securemllib", *arguments], code=code)
    return subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("extra", "works"),
    [("owner", ("init", "data", "policy", "attest", "agent")), ("broker", ("broker", "audit", "keys", "policy", "doctor"))],
)
def test_a_roles_commands_run_with_its_extra_alone(extra, works):
    """The commands of a role are listed, none of them as not installed, where nothing but its extra is."""
    done = run([extra], PROGRAM, "--help")
    assert done.returncode == 0, done.stderr
    lines = {line.split()[1]: line for line in done.stdout.splitlines() if len(line.split()) > 2}
    for name in works:
        assert "Not installed" not in lines[name]


def test_a_driver_imports_with_its_extra_alone():
    """What a Spark driver and its tasks import is found where nothing but the extra `spark` is installed."""
    done = run(["spark"], "import securemllib.spark.session, securemllib.spark.relay, securemllib.ml.classification, securemllib.ml.tuning")
    assert done.returncode == 0, done.stderr


def test_what_plays_every_role_says_what_to_install():
    """Where only an owner's extra is installed, counting for a prediction ends with the extra that it needs, before it starts a process."""
    done = run(["owner"], PROGRAM, "bench", "--sgx-model")
    assert done.returncode == 2
    assert "pip install 'securemllib[bench]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("extras", "arguments"), [(["owner"], ("broker", "serve", "--port", "0")), ([], ("init", "alice"))])
def test_a_command_that_is_not_installed_says_what_to_install(extras, arguments):
    """A command of another role, and any where only an enclave is installed, ends with the package, the extra and no traceback."""
    done = run(extras, PROGRAM, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error usage.missing_extra")
    assert "pip install 'securemllib[" in done.stderr
    assert "Traceback" not in done.stderr
