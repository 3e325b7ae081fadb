"""The few kernel interfaces that Python does not wrap: the only module of the enclave that calls C functions by hand."""

import ctypes
import os

__all__ = ["Buffer", "allocate_frugally", "prctl", "syscall", "wipe"]

# glibc, malloc.h: options of mallopt.
_M_ARENA_MAX, _M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -8, -3, -1
# Above what rows of a part and the statistics of a round take in most trainings: the heap's, whose pages are used again.
_LARGE = 12 << 20
# What may lie free at the heap's end before it is given back: what a round frees, the next one asks for.
_HELD = 128 << 20

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long


class Buffer:
    """Bytes at an address that stays valid as long as this object lives.

    Attributes:
        address: Where they are.
    """

    __slots__ = ("_buffer", "address")

    def __init__(self, data: bytes) -> None:
        self._buffer = ctypes.create_string_buffer(data, len(data))
        self.address = ctypes.addressof(self._buffer)


def syscall(number: int, *arguments: int | bytes) -> int:
    """Return the result of a system call; bytes are passed by address.

    Raises:
        OSError: The kernel refused, or has no such call.
    """
    passed = [ctypes.c_char_p(argument) if isinstance(argument, bytes) else ctypes.c_long(argument) for argument in arguments]
    result = int(_LIBC.syscall(ctypes.c_long(number), *passed))
    if result < 0:
        number_of_error = ctypes.get_errno()
        raise OSError(number_of_error, os.strerror(number_of_error))
    return result


def prctl(option: int, argument: int = 0) -> int:
    """Return the result of ``prctl(option, argument, 0, 0, 0)``; `OSError` where it is negative."""
    result = int(_LIBC.prctl(option, ctypes.c_ulong(argument), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)))
    if result < 0:
        number_of_error = ctypes.get_errno()
        raise OSError(number_of_error, os.strerror(number_of_error))
    return result


def wipe(start: int, end: int) -> None:
    """Write zeros over the process's own memory from ``start`` up to ``end``."""
    ctypes.memset(start, 0, end - start)


def allocate_frugally() -> None:
    """Keep glibc from holding freed memory in an arena a thread, and from fetching fresh pages for each buffer of a part or a round.

    A fresh page costs as much as decrypting what is written to it, and on a virtual machine ten times that. Blocks, which stay, get
    pages of their own: between arrays that stay a heap could not use again what lies there.
    """
    if hasattr(_LIBC, "mallopt"):
        _LIBC.mallopt(_M_ARENA_MAX, 1)
        _LIBC.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        _LIBC.mallopt(_M_TRIM_THRESHOLD, _HELD)
