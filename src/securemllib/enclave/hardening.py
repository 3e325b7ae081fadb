"""What an operating system can do for a process without a TEE, applied for real, and which of it holds.

None of this protects against root: that takes hardware. It does protect against other processes of the same user, and against
an enclave that a defect has turned into the host's tool. A protection is reported only when trying the forbidden thing failed.
"""

import contextlib
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from securemllib.crypto.process import protect_process
from securemllib.enclave import landlock, seccomp
from securemllib.enclave.kernel import prctl, syscall, wipe

__all__ = ["PROTECTIONS", "harden"]

# Every name that `harden` may return, and what it means.
PROTECTIONS = {
    "no-core-dump": "a crash writes no memory anywhere",
    "not-dumpable": "no process of the same user may trace this one or read its memory",
    "no-new-privileges": "no program that it starts gains privileges",
    "empty-environment": "the variables that the host set are gone, from the process's memory too",
    "isolated-python": "neither the working directory nor the user's packages are on the import path",
    "locked-memory": "no page is written to swap",
    "no-file-writes": "no file can be opened for writing",
    "no-foreign-file-reads": "no file can be read but Python's, its packages' and the system's libraries",
    "no-tcp": "no TCP connection can be made, no port bound",
    "no-new-sockets": "no socket can be made: what it accepts on its own port is all it talks to",
    "no-new-processes": "no process can be started, only threads",
    "no-programs": "no program can be executed",
    "no-tracing": "no other process can be traced or its memory read",
}

_PR_SET_NO_NEW_PRIVS, _PR_GET_NO_NEW_PRIVS = 38, 39
_PTRACE_PEEKDATA = 2
_SYSTEM_FILES = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo", "/etc/ld.so.cache", "/etc/localtime",
    "/sys/devices/system/cpu", "/proc/cpuinfo", "/proc/meminfo", "/dev/urandom",
)  # fmt: skip
# /proc/self/stat, proc(5): the addresses of the initial environment, counted after the program's name in brackets.
_ENVIRONMENT_FIELDS = slice(47, 49)


def harden() -> tuple[str, ...]:
    """Apply every protection that this kernel has, and return the names, of `PROTECTIONS`, of those in force.

    Call it while the process has one thread: threads inherit what their starter gave up. Sockets and files that the process needs
    later must be open before, and the libraries that it imports afterwards must be on the import path.
    """
    is_alone = _threads() == 1
    held = _protect_memory()
    given_up = _give_up()
    return tuple(name for name in PROTECTIONS if name in held or (is_alone and name in given_up))


def _protect_memory() -> set[str]:
    """Apply what holds for the process as a whole, and return what does."""
    # What the kernel shows of a process that is not dumpable belongs to root.
    held = {"empty-environment"} if _empty_environment() else set()
    held |= protect_process()
    if sys.flags.isolated and sys.flags.ignore_environment and sys.flags.no_user_site:
        held.add("isolated-python")
    return held


def _give_up() -> set[str]:
    """Apply what holds for this thread and those that it starts, and return what does."""
    held = set()
    with contextlib.suppress(OSError):
        prctl(_PR_SET_NO_NEW_PRIVS, 1)
        if prctl(_PR_GET_NO_NEW_PRIVS) == 1:
            held.add("no-new-privileges")
    with contextlib.suppress(OSError):
        landlock.restrict(_readable())
    # Landlock's own refusals are looked for before the filter refuses sockets as a whole.
    held |= {name for name, attempts in _FORBIDDEN_FILES_AND_TCP.items() if _is_refused(*attempts)}
    with contextlib.suppress(OSError):
        seccomp.install()
    held |= {name for name, attempts in _FORBIDDEN_CALLS.items() if _is_refused(*attempts)}
    # The memory of a process is a file, too.
    return held if "no-foreign-file-reads" in held else held - {"no-tracing"}


def _threads() -> int:
    try:
        return len(list(Path("/proc/self/task").iterdir()))
    except OSError:
        return 0


def _empty_environment() -> bool:
    """Forget the variables, overwrite the memory that they came in, and return whether the kernel shows it as blank."""
    os.environ.clear()
    try:
        fields = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        start, end = map(int, fields[_ENVIRONMENT_FIELDS])
        if 0 < start < end:
            wipe(start, end)
        return not os.environ and not Path("/proc/self/environ").read_bytes().strip(b"\0")
    except (OSError, ValueError):
        return False


def _readable() -> tuple[str, ...]:
    """Return the import path, the folders of the interpreter's own libraries, and the system's libraries."""
    prefixes = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}
    return (*(path for path in sys.path if path), *(f"{prefix}/lib" for prefix in sorted(prefixes)), *_SYSTEM_FILES)


def _is_refused(*attempts: Callable[[], object]) -> bool:
    """Return whether each attempt fails for want of permission; success and any other error mean that nothing forbids it."""
    for attempt in attempts:
        try:
            attempt()
        except PermissionError:
            continue
        except OSError:
            return False
        return False
    return True


def _connect() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Nobody listens on TCP port 1: without protection the connection is refused by the network, not for want of permission.
        probe.connect(("127.0.0.1", 1))


def _bind() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))


def _fork() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def _call(name: str, *arguments: int) -> Callable[[], object]:
    def attempt() -> None:
        if name in seccomp.NUMBERS:
            syscall(seccomp.NUMBERS[name], *arguments, *[0] * (6 - len(arguments)))

    return attempt


# Everybody may write the null device and read what the kernel says of their own process: only Landlock refuses it.
_FORBIDDEN_FILES_AND_TCP: dict[str, tuple[Callable[[], object], ...]] = {
    "no-file-writes": (lambda: os.close(os.open(os.devnull, os.O_WRONLY)),),
    "no-foreign-file-reads": (lambda: os.close(os.open("/proc/self/status", os.O_RDONLY)),),
    "no-tcp": (_connect, _bind),
}
# Without a filter: sockets are made, a child starts, no program has an empty name, no process is traced, and no memory of oneself is read.
_FORBIDDEN_CALLS: dict[str, tuple[Callable[[], object], ...]] = {
    "no-new-sockets": (lambda: socket.socket(socket.AF_INET).close(), lambda: socket.socket(socket.AF_UNIX).close()),
    "no-new-processes": (_fork,),
    "no-programs": (lambda: os.execv("/", ["/"]),),  # noqa: S606 - it must not start anything
    "no-tracing": (_call("ptrace", _PTRACE_PEEKDATA, os.getpid()), _call("process_vm_readv", os.getpid())),
}
