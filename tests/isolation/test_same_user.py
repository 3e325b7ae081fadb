"""What can another process of the same user get from an enclave without a TEE, a broker or an analyst's agent?

Each attack is made on a control process first: where it does not work even there, the test says why it is skipped.
"""

import resource
import signal
from pathlib import Path

import pytest

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
    victim = start("broker", tmp_path_factory.mktemp("broker"))
    yield victim
    victim.stop()


@pytest.mark.parametrize("attack", ["trace", "memory", "vm_read", "environment", "descriptors"])
def test_the_brokers_process_cannot_be_looked_into(control, broker, attack):
    """The same attacks are refused on a broker that serves."""
    if (outcome := control.attack(attack)) != "succeeded":
        pytest.skip(f"this kernel does not let a user do that to any process of theirs: {outcome}")
    assert broker.attack(attack) == "refused"


def test_the_brokers_memory_is_locked_or_it_says_so(broker):
    """What it holds is locked to the last page, or its operator reads that swap may get it."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{broker.process.pid}/status").read_text().splitlines())
    locked, resident = (int(status[field].split()[0]) for field in ("VmLck", "VmRSS"))
    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY:
        assert locked >= resident
    else:
        assert (locked, broker.line.startswith("memory is not locked")) == (0, True)


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    """Return an agent that listens, with its analyst's keys open."""
    victim = start("agent", tmp_path_factory.mktemp("agent"))
    yield victim
    victim.stop()


@pytest.mark.parametrize("attack", ["trace", "memory", "vm_read", "environment", "descriptors"])
def test_the_agents_process_cannot_be_looked_into(control, agent, attack):
    """Programs of the analyst may ask the agent to sign, and cannot take its key."""
    if (outcome := control.attack(attack)) != "succeeded":
        pytest.skip(f"this kernel does not let a user do that to any process of theirs: {outcome}")
    assert agent.attack(attack) == "refused"


def test_a_crash_leaves_no_core(tmp_path):
    """A segmentation fault of an enclave, a broker or an agent writes no core file, where a control's core holds its secret."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if pattern.startswith(("|", "/")) or not pattern:
        pytest.skip(f"this kernel gives cores to {pattern or 'nobody'}")
    cores = {}
    for kind in ("control", "enclave", "broker", "agent"):
        folder = tmp_path / kind
        folder.mkdir(mode=0o700)
        victim = start(kind, folder)
        there = set(folder.iterdir())
        victim.process.send_signal(signal.SIGSEGV)
        assert victim.process.wait(30) == -signal.SIGSEGV
        victim.stop()
        cores[kind] = [victim.marker.encode() in path.read_bytes() for path in set(folder.iterdir()) - there]
    if not any(cores["control"]):
        pytest.skip("no process of this user may write a core here")
    assert (cores["enclave"], cores["broker"], cores["agent"]) == ([], [], [])
