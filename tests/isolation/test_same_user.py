"""What can another process of the same user get from an enclave process without a TEE?

Each attack is made on a control process first: where it does not work even there, the test says why it is skipped.
"""

import signal
from pathlib import Path

import pytest

from securemllib.broker.keystore import create_keystore
from tests.isolation.processes import start


@pytest.fixture(scope="module")
def control(tmp_path_factory):
    """Return a process that does not harden itself."""
    victim = start("control", tmp_path_factory.mktemp("control"))
    yield victim
    victim.stop()


@pytest.fixture(scope="module")
def enclave(tmp_path_factory):
    """Return an enclave process."""
    victim = start("enclave", tmp_path_factory.mktemp("enclave"))
    yield victim
    victim.stop()


@pytest.mark.parametrize("attack", ["trace", "memory", "vm_read", "environment", "descriptors"])
def test_the_process_cannot_be_looked_into(control, enclave, attack):
    """Tracing, reading memory in two ways, the environment and the open descriptors: refused, where a control gives all of it away."""
    if (outcome := control.attack(attack)) != "succeeded":
        pytest.skip(f"this kernel does not let a user do that to any process of theirs: {outcome}")
    assert enclave.attack(attack) == "refused"


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    """Return a broker that serves, with its keystore open."""
    home = tmp_path_factory.mktemp("broker")
    create_keystore(home / "keystore.sml", "broker", None)
    victim = start("broker", home)
    yield victim
    victim.stop()


@pytest.mark.parametrize("attack", ["trace", "memory", "vm_read", "environment", "descriptors"])
def test_the_brokers_process_cannot_be_looked_into(control, broker, attack):
    """The same attacks are refused on a broker that serves."""
    if (outcome := control.attack(attack)) != "succeeded":
        pytest.skip(f"this kernel does not let a user do that to any process of theirs: {outcome}")
    assert broker.attack(attack) == "refused"


def test_a_crash_leaves_no_core(tmp_path):
    """A segmentation fault of an enclave or a broker writes no core file, where a control's core holds its secret."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if pattern.startswith(("|", "/")) or not pattern:
        pytest.skip(f"this kernel gives cores to {pattern or 'nobody'}")
    cores = {}
    for kind in ("control", "enclave", "broker"):
        folder = tmp_path / kind
        folder.mkdir(mode=0o700)
        if kind == "broker":
            create_keystore(folder / "keystore.sml", "broker", None)
        victim = start(kind, folder)
        there = set(folder.iterdir())
        victim.process.send_signal(signal.SIGSEGV)
        assert victim.process.wait(30) == -signal.SIGSEGV
        victim.stop()
        cores[kind] = [victim.marker.encode() in path.read_bytes() for path in set(folder.iterdir()) - there]
    if not any(cores["control"]):
        pytest.skip("no process of this user may write a core here")
    assert (cores["enclave"], cores["broker"]) == ([], [])
