"""A seccomp filter: the process gives up system calls that no enclave needs and every attacker wants.

New programs, new processes, other processes' memory, new sockets, kernel interfaces that go around the filter (io_uring) or have a
record of holes (bpf, userfaultfd, keyrings, namespaces), and undoing ``PR_SET_DUMPABLE``.
"""

import errno
import os
import struct
import sys

from securemllib.enclave.kernel import Buffer, syscall

__all__ = ["NUMBERS", "install"]

# (x86_64, aarch64): arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h; None where the call does not exist.
_TABLE: dict[str, tuple[int, int | None]] = {
    "execve": (59, 221),
    "execveat": (322, 281),
    "fork": (57, None),
    "vfork": (58, None),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "bind": (49, 200),
    "connect": (42, 203),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_by_handle_at": (304, 265),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
}
_CLONE = (56, 220)
_CLONE3 = (435, 435)
_PRCTL = (157, 167)
_SECCOMP = (317, 277)
# AUDIT_ARCH_X86_64 and AUDIT_ARCH_AARCH64 of linux/audit.h, by the machine's name.
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_X32_BIT = 0x40000000

_SET_MODE_FILTER = 1
_FLAG_ALL_THREADS = 1
_PR_SET_DUMPABLE = 4
_CLONE_THREAD = 0x00010000

# Classic BPF: BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_JGE, BPF_JSET, BPF_RET|BPF_K; offsets into struct seccomp_data.
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_OFFSET, _ARCHITECTURE_OFFSET, _FIRST_ARGUMENT_OFFSET = 0, 4, 16
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_REFUSE = _ERRNO | errno.EPERM


def _column() -> int | None:
    found = _ARCHITECTURES.get(os.uname().machine)
    return found[0] if found is not None and sys.maxsize > 2**32 and sys.byteorder == "little" else None


# Numbers of the refused calls on this machine; empty where the filter does not know the architecture.
NUMBERS: dict[str, int] = {
    name: number for name, row in _TABLE.items() for column in [_column()] if column is not None and (number := row[column]) is not None
}


def install() -> None:
    """Refuse the calls with EPERM, in every thread of the process, for good. ``no_new_privs`` must be set before.

    Raises:
        OSError: The kernel has no filters, or this is neither a 64-bit x86 nor a 64-bit ARM process.
    """
    column = _column()
    if column is None:
        raise OSError(errno.ENOSYS, "no filter for this architecture")
    program = _program(column)
    instructions = Buffer(b"".join(struct.pack("=HBBI", *instruction) for instruction in program))
    header = struct.pack("@HP", len(program), instructions.address)
    syscall(_SECCOMP[column], _SET_MODE_FILTER, _FLAG_ALL_THREADS, header)


def _program(column: int) -> list[tuple[int, int, int, int]]:
    architecture = dict(_ARCHITECTURES.values())[column]
    return [
        (_LOAD, 0, 0, _ARCHITECTURE_OFFSET),
        (_IF_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_OFFSET),
        # The x32 calls of x86_64 are the same calls by other numbers; no other architecture has numbers this large.
        (_IF_AT_LEAST, 0, 1, _X32_BIT),
        (_RETURN, 0, 0, _REFUSE),
        # The filter cannot see clone3's flags behind a pointer; C libraries fall back to clone.
        (_IF_EQUAL, 0, 1, _CLONE3[column]),
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
        *(step for number in NUMBERS.values() for step in ((_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE))),
        # Threads, and no processes.
        (_IF_EQUAL, 0, 4, _CLONE[column]),
        (_LOAD, 0, 0, _FIRST_ARGUMENT_OFFSET),
        (_IF_ANY_BIT, 0, 1, _CLONE_THREAD),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
        (_IF_EQUAL, 0, 3, _PRCTL[column]),
        (_LOAD, 0, 0, _FIRST_ARGUMENT_OFFSET),
        (_IF_EQUAL, 0, 1, _PR_SET_DUMPABLE),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    ]
