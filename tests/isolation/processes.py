"""Real processes of one ordinary user: an enclave, a control that did not harden itself, and attackers beside them."""

import contextlib
import ctypes
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from securemllib.broker.keystore import create_keystore
from securemllib.owner import identity_file

# Without capabilities root is a user like any other; a test that runs as root gives them up on the way into each process.
# The process must be executed after that: one that changes its own privileges is no longer dumpable, and so protected by accident.
BECOME_ORDINARY = """
import ctypes, os, resource, sys
PR_SET_SECUREBITS, NOROOT_AND_LOCKED = 28, 3
if os.geteuid() == 0 and ctypes.CDLL(None).prctl(PR_SET_SECUREBITS, NOROOT_AND_LOCKED, 0, 0, 0) != 0:
    sys.exit("root cannot give up its capabilities here")
resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
os.execv(sys.argv[1], sys.argv[1:])
"""
CONTROL = """
import os, sys, time
secret = os.environ["MARKER"].encode()
sys.stdout.write("ready\\n")
sys.stdout.flush()
time.sleep(600)
"""
COMMAND_LINE = """
from securemllib.cli import main
main()
"""
ATTACKER = """
import ctypes, errno, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
attack, pid, marker = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode()

def mappings():
    with open(f"/proc/{pid}/maps") as file:
        for line in file:
            addresses, rights, *_ = line.split()
            if rights.startswith("rw"):
                yield [int(address, 16) for address in addresses.split("-")]

def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result

def trace():
    check(libc.ptrace(16, pid, None, None))  # PTRACE_ATTACH
    os.waitpid(pid, 0x40000000)  # __WALL
    check(libc.ptrace(17, pid, None, None))  # PTRACE_DETACH
    return True

def memory():
    with open(f"/proc/{pid}/mem", "rb", 0) as file:
        for start, end in mappings():
            file.seek(start)
            try:
                if marker in file.read(end - start):
                    return True
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
    return False

def environment():
    with open(f"/proc/{pid}/environ", "rb") as file:
        return marker in file.read()

def vm_read():
    class Vector(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
    try:
        start = next(mappings())[0]
    except PermissionError:
        start = 4096  # unknown, and irrelevant: permission is looked at first
    here = ctypes.create_string_buffer(64)
    local, remote = Vector(ctypes.addressof(here), 64), Vector(start, 64)
    libc.process_vm_readv.restype = ctypes.c_ssize_t
    return check(libc.process_vm_readv(pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)) == 64

def descriptors():
    return bool(os.readlink(f"/proc/{pid}/fd/0"))

try:
    outcome = "succeeded" if globals()[attack]() else "failed"
except PermissionError:
    outcome = "refused"
except OSError as error:
    outcome = f"error {error.errno}"
sys.stdout.write(json.dumps(outcome))
"""


@dataclass
class Victim:
    """A process under attack.

    Attributes:
        process: The process.
        marker: What its starter put into its environment.
        port: Where it listens, if it is an enclave.
        line: What it printed first.
    """

    process: subprocess.Popen
    marker: str
    port: int | None
    line: str

    def attack(self, name):
        """Return what an attack from another process of the same user came to."""
        done = ordinary("-c", ATTACKER, name, str(self.process.pid), self.marker, capture_output=True, run=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def stop(self):
        """End the process."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(10)
        self.process.stdout.close()


def ordinary(*arguments, run=False, **options):
    """Start (or run to its end) this interpreter without any capability."""
    command = [sys.executable, "-c", BECOME_ORDINARY, sys.executable, *arguments]
    return (
        subprocess.run(command, text=True, timeout=120, check=False, **options) if run else subprocess.Popen(command, text=True, **options)
    )


def start(kind, folder):
    """Return a process: an ``enclave``, ``broker`` or ``agent``, or a ``control`` that holds the marker and does not harden itself."""
    if kind == "broker":
        create_keystore(folder / "keystore.sml", "broker", None)
    if kind == "agent":
        identity_file.create(folder, "alice", None)
    marker = os.urandom(16).hex()
    arguments = {
        "enclave": ("-I", "-m", "securemllib.enclave", "--idle", "120"),
        "broker": ("-I", "-c", COMMAND_LINE, "broker", "serve", "--port", "0"),
        "agent": ("-I", "-u", "-c", COMMAND_LINE, "agent"),
        "control": ("-I", "-c", CONTROL),
    }
    environment = {"MARKER": marker, "HOME": str(folder), "SECUREMLLIB_BROKER_HOME": str(folder), "SECUREMLLIB_HOME": str(folder)}
    process = ordinary(*arguments[kind], stdout=subprocess.PIPE, cwd=folder, env=environment)
    line = process.stdout.readline()
    assert line, "the process ended before it was ready"
    return Victim(process, marker, int(line.rpartition(":")[2]) if kind == "enclave" else None, line)


def kernel_has_landlock():
    """Return the kernel's Landlock ABI, 0 where it has none."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return max(0, libc.syscall(ctypes.c_long(444), None, ctypes.c_size_t(0), ctypes.c_uint(1)))


def kernel_has_filters():
    """Return whether the kernel has seccomp filters and the package knows the machine's calls."""
    return "Seccomp:" in Path("/proc/self/status").read_text() and os.uname().machine in {"x86_64", "aarch64"}
