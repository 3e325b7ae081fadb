"""Taking turns: processes of one machine that change the same file or directory do it one after the other."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from securemllib.errors import UnavailableError

__all__ = ["turn"]

# A replacement takes under a second, most of it scrypt; a process that takes longer hangs, or is a debugger's.
WAIT_SECONDS = 10.0
_POLL_SECONDS = 0.05


@contextmanager
def turn(path: Path, *, wait: float | None = None) -> Iterator[None]:
    """Hold the lock of a file or directory while the block runs. It lies beside that, which is replaced, and ends with its process.

    Args:
        path: The file or directory.
        wait: Seconds to wait for another process; `WAIT_SECONDS` when not given.

    Raises:
        UnavailableError: Another process held it all the while.
    """
    lock = path.with_name(f".{path.name}.lock")
    end = time.monotonic() + (WAIT_SECONDS if wait is None else wait)
    descriptor = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        while not _locked(descriptor):
            if time.monotonic() >= end:
                raise UnavailableError(
                    f"Another process is changing {path}.", next_step="Let it finish, then try again.", code="unavailable.kek.busy"
                )
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
