"""Landlock: the process gives up all files but the code that it runs, every write, and TCP.

The numbers are those of ``linux/landlock.h``; a kernel of an older ABI gets the rights that it knows, a kernel without Landlock none.
"""

import contextlib
import os
import stat
import struct

from securemllib.enclave.kernel import syscall

__all__ = ["restrict"]

# The system calls have the same numbers on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1

_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
# The ABI that brought each set of rights: the first thirteen, renaming across folders, truncating, and ioctl on devices.
_FILE_RIGHTS = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
_TCP_RIGHTS = {4: 0b11}
# Abstract UNIX sockets and signals, each towards processes outside.
_SCOPES = {6: 0b11}


def restrict(readable: tuple[str, ...]) -> None:
    """Leave this thread, and every thread that it starts, nothing but reading the given files and folders.

    Open descriptors keep working. ``no_new_privs`` must be set before.

    Raises:
        OSError: The kernel has no Landlock, or it is switched off.
    """
    version = syscall(_CREATE_RULESET, 0, 0, _VERSION_FLAG)
    fields = [_known(_FILE_RIGHTS, version)]
    if version >= min(_TCP_RIGHTS):
        fields.append(_known(_TCP_RIGHTS, version))
    if version >= min(_SCOPES):
        fields.append(_known(_SCOPES, version))
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    ruleset = syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    try:
        for path in readable:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
                _allow_reading(ruleset, path)
        syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _known(rights: dict[int, int], version: int) -> int:
    return sum(bits for since, bits in rights.items() if since <= version)


def _allow_reading(ruleset: int, path: str) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        allowed = _READ_FILE | _READ_DIR if is_folder else _READ_FILE
        syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, struct.pack("=Qi", allowed, descriptor), 0)
    finally:
        os.close(descriptor)
