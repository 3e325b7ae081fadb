"""The enclave process: ``python -I -m securemllib.enclave --port 0 --memory BYTES --idle SECONDS``.

In this order: open the only socket that it will ever have, give up what it does not need, and only then load the libraries, whose threads
inherit the restrictions and whose choices no variable of the host's can steer.
"""

import argparse
import gc
import os
import resource
import socket
import sys
from contextlib import suppress

from securemllib.enclave.hardening import harden
from securemllib.enclave.kernel import allocate_frugally

__all__ = ["main"]

_LOOPBACK = "127.0.0.1"
_BACKLOG = 128
_DEFAULT_MEMORY = 4 * 2**30
# What the process may have in all: libraries, threads, states and statistics, and twice its blocks, which are decoded before they are kept.
_OTHER_MEMORY, _MEMORY_FACTOR = 3 * 2**30, 2
_DEFAULT_IDLE_SECONDS = 600
_DEFAULT_CONNECTIONS = 256
# Each task is one thread, and a product's bits must not depend on how many there are; Arrow's own allocator keeps what it freed.
_LIBRARIES = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}

# What the enclave may import, whatever else is installed; cryptography brings cffi's one module.
_PACKAGES = sys.stdlib_module_names | {"securemllib", "cbor2", "cryptography", "_cffi_backend", "numpy", "pyarrow", "scipy"}


class _Closure:
    """Finds no package that is not the enclave's, where libraries load what they happen to find: pyarrow all of pandas."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        """Refuse a module of another package; otherwise leave it to the finders that follow."""
        if name.partition(".")[0] not in _PACKAGES and not name.startswith("_sysconfigdata"):
            raise ModuleNotFoundError(f"{name} is none of the enclave's packages.", name=name)


def main(arguments: list[str] | None = None) -> None:
    """Run the process: listen, harden, measure, and say on standard output where it listens."""
    parser = argparse.ArgumentParser(prog="securemllib.enclave", description="The enclave process, without a TEE: insecure.")
    parser.add_argument("--port", type=int, default=0, help="loopback port; 0 for any free one")
    parser.add_argument("--memory", type=int, default=_DEFAULT_MEMORY, help="bytes for decrypted blocks, and for the largest part")
    parser.add_argument("--idle", type=float, default=_DEFAULT_IDLE_SECONDS, help="seconds without a connection before the process ends")
    # A thread each, and the threads of an SGX enclave are counted when it is built.
    parser.add_argument("--connections", type=int, default=_DEFAULT_CONNECTIONS, help="connections that are served at once")
    options = parser.parse_args(arguments)
    listener = socket.create_server((_LOOPBACK, options.port), backlog=_BACKLOG)
    output = os.open(os.devnull, os.O_RDWR)
    sys.dont_write_bytecode = True
    _bound_memory(options.memory)
    protections = harden()
    allocate_frugally()
    os.environ.update(_LIBRARIES)
    sys.meta_path.insert(0, _Closure)
    from securemllib.enclave.server import serve  # after hardening, so that the libraries' threads inherit it

    # What was loaded stays: the collector, which holds up all threads, need not look at it again for each part of many columns.
    gc.freeze()
    serve(
        listener, output, protections=protections, memory_limit=options.memory, idle_seconds=options.idle, connections=options.connections
    )


def _bound_memory(blocks: int) -> None:
    """Let an allocation fail, which is an error with a code, before the kernel ends the process, which is none."""
    bound = _OTHER_MEMORY + _MEMORY_FACTOR * blocks
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (bound, bound))


if __name__ == "__main__":
    main()
