"""What an operating system can do for a process without a TEE, applied for real, and which of it holds.

None of this protects against root: that takes hardware. It does protect against other processes of the same user, and against
an enclave that a defect has turned into the host's tool.
"""

import ctypes
import os
import resource
import sys

__all__ = ["harden"]

_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38


def harden() -> tuple[str, ...]:
    """Apply every protection that this kernel has, and return the names of those in force.

    ``no-core-dump``: a crash writes no memory to disk. ``not-dumpable``: no process of the same user may ptrace this one or read its
    memory. ``no-new-privileges``: no setuid program runs. ``empty-environment``: the host's variables are gone.
    ``isolated-python``: neither the working directory nor the user's packages are on the import path.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    held = []
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    held.append("no-core-dump")
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0:
        held.append("not-dumpable")
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        held.append("no-new-privileges")
    os.environ.clear()
    held.append("empty-environment")
    if sys.flags.isolated and sys.flags.ignore_environment:
        held.append("isolated-python")
    return tuple(held)
