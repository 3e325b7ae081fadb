"""What the broker's process does against other processes of its own user, because it holds keys in the clear while it serves.

Root, and whoever runs as this user before the process starts, are not kept out; swap is not either: Python's keys lie in ordinary memory.
"""

import ctypes
import resource

from securemllib.errors import UnavailableError

__all__ = ["protect_process"]

_PR_SET_DUMPABLE = 4  # Linux, prctl.h.


def protect_process() -> None:
    """Let no other process of this user trace this one or read its memory, and write no core dump; `UnavailableError` where that fails."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        raise UnavailableError("The kernel does not let the broker protect its memory.", code="unavailable.protection")
