"""What has a hardened process given up, and does it say exactly that?"""

import json
import os
import re
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from securemllib.attestation.verifier import verify_evidence
from securemllib.crypto.identity import PrivateIdentity
from securemllib.enclave.hardening import PROTECTIONS
from securemllib.wire.attestation import Challenge, Evidence
from securemllib.wire.framing import receive, send
from securemllib.wire.task import REPLIES, Attest
from tests.isolation.processes import kernel_has_filters, kernel_has_landlock, ordinary, start
from tests.world import Dataset, Relay, World, binomial_table, run

CAP_IPC_LOCK = 14  # Linux, capability.h.
EVERYWHERE = {"no-core-dump", "not-dumpable", "no-new-privileges", "empty-environment", "isolated-python"}
BY_LANDLOCK = {"no-file-writes", "no-foreign-file-reads"}
BY_FILTER = {"no-new-sockets", "no-new-processes", "no-programs", "no-tracing"}

# One process tries everything, hardened or not, and says what worked.
TRY = """
import json, os, socket, sys, threading
mode, folder = sys.argv[1:]
os.environ["FORGOTTEN"] = "no"
listener = socket.create_server(("127.0.0.1", 0))
made_before = socket.socket()
claimed = []
if mode == "two threads":
    threading.Thread(target=threading.Event().wait, daemon=True).start()
if mode != "control":
    from securemllib.enclave.hardening import harden
    claimed = harden()

def works(attempt):
    try:
        attempt()
    except PermissionError:
        return False
    return True

def fork():
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)

def spawn():
    os.waitpid(os.posix_spawn(sys.executable, [sys.executable, "-c", ""], {}), 0)

def connect():
    made_before.connect(listener.getsockname())

def bind():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))

def undo():
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(4, 1, 0, 0, 0) != 0:
        raise PermissionError

def in_a_thread(attempt):
    found = []
    thread = threading.Thread(target=lambda: found.append(works(attempt)))
    thread.start()
    thread.join()
    return found[0]

def write():
    with open(f"{folder}/written", "w") as file:
        file.write("x")

def read():
    with open(f"{folder}/secret") as file:
        file.read()

def compute():
    import numpy, scipy.optimize, scipy.sparse.linalg, pyarrow.parquet, cryptography.hazmat.primitives.hpke
    numpy.linalg.eigh(numpy.eye(50))
    import zoneinfo
    pyarrow.array([0], pyarrow.timestamp("us", tz="Europe/Paris")).cast(pyarrow.string())

done = {
    "no-file-writes": works(write),
    "no-foreign-file-reads": works(read),
    "no-tcp": works(connect),
    "no-new-sockets": works(bind),
    "no-new-processes": works(fork) or works(spawn),
    "no-programs": works(spawn),
    "not-dumpable": works(undo),
    "thread writes": in_a_thread(write),
    "thread forks": in_a_thread(fork),
    "environment": "FORGOTTEN" in os.environ,
    "threads": in_a_thread(lambda: None),
    "compute": works(compute),
}
if mode == "control":
    done["accept"] = works(lambda: listener.accept()[0].close())
sys.stdout.write(json.dumps({"claimed": claimed, "works": done}))
"""


# Takes memory after it was hardened, and waits to be looked at.
LOCK = """
import json, sys
from securemllib.enclave.hardening import harden
claimed, later = harden(), b"x" * (64 * 2**20)
print(json.dumps(claimed), flush=True)
sys.stdin.read()
"""


def tried(mode, folder, *, isolated=True):
    """Return what one process claims and what worked in it."""
    (folder / "secret").write_text("secret")
    flags = ("-I",) if isolated else ()
    done = ordinary(*flags, "-c", TRY, mode, str(folder), run=True, capture_output=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def expected_here():
    """Return what this kernel offers to every user."""
    found = set(EVERYWHERE)
    abi = kernel_has_landlock()
    found |= BY_LANDLOCK if abi else set()
    found |= {"no-tcp"} if abi >= 4 else set()
    return found | (BY_FILTER if kernel_has_filters() else set())


@pytest.fixture(scope="module")
def control(tmp_path_factory):
    """Return what a process without hardening can do."""
    return tried("control", tmp_path_factory.mktemp("control"))


@pytest.fixture(scope="module")
def hardened(tmp_path_factory):
    """Return what a hardened process says, and can do."""
    return tried("hardened", tmp_path_factory.mktemp("hardened"))


def test_a_control_can_do_everything(control):
    """Without hardening each attempt works, so a refusal below is the protection's."""
    assert control["claimed"] == []
    assert set(control["works"].values()) == {True}


def test_every_claim_of_giving_up_is_true(hardened):
    """What the process says that it cannot do, an attempt written differently from its own cannot do either."""
    tested = set(hardened["claimed"]) & hardened["works"].keys()
    assert tested, "this kernel has neither Landlock nor seccomp filters"
    assert {name for name in tested if hardened["works"][name]} == set()


def test_nothing_that_this_kernel_has_is_left_out(hardened):
    """Every protection that the kernel offers is in force; locked memory needs a limit that ordinary users seldom have."""
    assert expected_here() <= set(hardened["claimed"]) <= PROTECTIONS.keys()


def looked_at(start):
    """Return what a process that takes 64 MiB says that it locks, and how much of it, in kB, is locked and in memory."""
    process = start("-I", "-c", LOCK, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        claimed = json.loads(process.stdout.readline())
        status = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
        locked, resident = (int(status[field].split()[0]) for field in ("VmLck", "VmRSS"))
    finally:
        process.communicate()
    assert resident > 64 * 1024
    return "locked-memory" in claimed, locked, resident


def test_memory_is_locked_where_it_is_said_to_be():
    """Who may lock memory locks all that is there, also what is taken later, and says so; a user with a limit does neither."""
    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] != resource.RLIM_INFINITY:
        assert looked_at(ordinary)[:2] == (False, 0)
        if not int(re.search(r"CapEff:\s+(\w+)", Path("/proc/self/status").read_text())[1], 16) >> CAP_IPC_LOCK & 1:
            pytest.skip("this user may not lock memory")
    claimed, locked, resident = looked_at(
        lambda *arguments, **options: subprocess.Popen([sys.executable, *arguments], text=True, **options)
    )
    assert claimed
    assert locked >= resident


def test_threads_started_later_have_given_up_as_much(hardened):
    """A thread that starts after hardening cannot write files or start processes."""
    if not (kernel_has_landlock() and kernel_has_filters()):
        pytest.skip("this kernel lacks Landlock or seccomp filters")
    assert not hardened["works"]["thread writes"]
    assert not hardened["works"]["thread forks"]


def test_the_work_goes_on(hardened):
    """Threads start, and numpy, scipy, pyarrow and cryptography load and compute, after hardening."""
    assert hardened["works"]["threads"]
    assert hardened["works"]["compute"]
    assert not hardened["works"]["environment"]


def test_a_process_with_another_thread_does_not_claim_what_only_one_gave_up(tmp_path):
    """With a second thread already running, no restriction that works by thread is claimed."""
    claimed = set(tried("two threads", tmp_path)["claimed"])
    assert {"not-dumpable", "no-core-dump"} <= claimed
    assert not claimed & (BY_LANDLOCK | BY_FILTER | {"no-tcp", "no-new-privileges"})


def test_isolation_of_python_is_claimed_only_where_it_holds(tmp_path):
    """An interpreter that was started without ``-I`` does not say that it is isolated."""
    assert "isolated-python" not in tried("hardened", tmp_path, isolated=False)["claimed"]


def test_evidence_names_what_is_in_force(tmp_path):
    """The enclave's evidence lists every protection that this kernel offers, and nothing unknown."""
    victim = start("enclave", tmp_path)
    try:
        with socket.create_connection(("127.0.0.1", victim.port), timeout=20) as connection:
            challenge = Challenge(nonce=os.urandom(32), broker=PrivateIdentity.generate("broker").public, job_id="job")
            send(connection, Attest(challenge=challenge))
            attested, _ = receive(connection, REPLIES)
        claims = verify_evidence(Evidence.from_bytes(attested.evidence), challenge=challenge)
        assert expected_here() <= set(claims.protections) <= PROTECTIONS.keys()
        assert not claims.debug
    finally:
        victim.stop()


class RemoteRelay(Relay):
    """A relay to an enclave in a process of its own."""

    def __init__(self, world, port):
        self.world = world
        self.fetched = []
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=60)

    def close(self):
        self.connection.close()


@pytest.mark.parametrize(("operation", "label"), [("LogisticRegression", "y"), ("KMeans", None)])
def test_a_hardened_process_trains(tmp_path, operation, label):
    """A whole job runs in the hardened process, to a sealed model."""
    world = World(Dataset(binomial_table(), parts=2))
    victim = start("enclave", tmp_path)
    relay = RemoteRelay(world, victim.port)
    try:
        finished, _ = run(world, world.job(operation, {"maxIter": 5}, label=label), [relay])
        assert len(finished.model) > 0
    finally:
        relay.close()
        victim.stop()


def test_the_process_ends_when_nobody_asks(tmp_path):
    """Without a connection for the idle time the process ends by itself, with exit code 0."""
    process = ordinary("-I", "-m", "securemllib.enclave", "--idle", "0.5", stdout=subprocess.PIPE, cwd=tmp_path)
    assert process.stdout.readline().startswith("listening 127.0.0.1:")
    assert process.wait(60) == 0
    process.stdout.close()


def test_memory_that_is_read_as_a_file_is_traced(tmp_path):
    """Without rules for files another process's memory is one that can be opened, so `no-tracing` is not claimed; with them it is."""
    program = "import json; from securemllib.enclave import hardening, landlock; {}; print(json.dumps(hardening.harden()))"
    claimed = [
        set(json.loads(ordinary("-I", "-c", program.format(change), run=True, capture_output=True, cwd=tmp_path).stdout))
        for change in ("landlock.restrict = lambda paths: None", "None")
    ]
    assert "no-tracing" not in claimed[0]
    assert ("no-tracing" in claimed[1]) == bool(kernel_has_filters() and kernel_has_landlock())
