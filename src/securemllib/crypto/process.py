"""What a process that holds keys in the clear does against others of its user: enclaves, brokers, agents and owners' commands.

Root is not kept out, nor is whoever ran as this user before the process started. Python erases no memory.
"""

import contextlib
import ctypes
import resource
import sys
from pathlib import Path

__all__ = ["protect_process"]

# Linux, prctl.h and capability.h.
_PR_GET_DUMPABLE, _PR_SET_DUMPABLE = 3, 4
_CAP_IPC_LOCK = 14
# MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT: what is in memory stays there, and nothing is brought in before its use.
_LOCK_ALL = 0b111


def protect_process() -> set[str]:
    """Apply what this system has, and return the names of what is in force.

    ``not-dumpable``: no process of the same user may trace this one or read its memory; ``no-core-dump``: a crash writes no memory
    anywhere; ``locked-memory``: no page is written to swap, which takes the capability IPC_LOCK or no limit on locked memory.
    """
    held = set()
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        # With a finite limit and no capability, locking future pages would make allocations fail.
        if (_may_lock() or resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY) and libc.mlockall(_LOCK_ALL) == 0:
            held.add("locked-memory")
        none = [ctypes.c_ulong(0)] * 4
        if libc.prctl(_PR_SET_DUMPABLE, *none) == 0 and libc.prctl(_PR_GET_DUMPABLE, *none) == 0:
            held.add("not-dumpable")
    # A core pattern that names a program ignores the limit, and others of the user may raise it; neither holds of the flag.
    if "not-dumpable" in held and resource.getrlimit(resource.RLIMIT_CORE)[0] == 0:
        held.add("no-core-dump")
    return held


def _may_lock() -> bool:
    with contextlib.suppress(OSError, IndexError):  # not every kernel tells capabilities
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return bool(int(status.partition("CapEff:")[2].split()[0], 16) >> _CAP_IPC_LOCK & 1)
    return False
