"""Who is who among the demonstration's processes."""

import os
from pathlib import Path

from securemllib.cli.demo.cluster import Cluster
from securemllib.cli.demo.processes import Started
from securemllib.cli.demo.searching import descendants, session_processes
from securemllib.cli.demo.story import Role

__all__ = ["host_processes", "roles"]

# What a command line holds, the role, and what it sees.
_SERVERS = (
    ("broker\0serve", "key broker", "keys, policies, audit log; no rows"),
    ("agent\0--socket", "analyst's agent", "analyst's key, what policy releases"),
)
_CIPHERTEXT = "ciphertext, sizes, timing"


def host_processes(cluster: Cluster, driver: Started) -> list[int]:
    """Return all processes of Spark: each leads a session, or belongs to one."""
    return list(_sessions(cluster.master, *cluster.workers, driver))


def roles(cluster: Cluster, driver: Started) -> tuple[Role, ...]:
    """Return who runs now, this process first."""
    started = [identifier for identifier in descendants(os.getpid()) if identifier != os.getpid()]
    servers = [Role(name=name, processes=_with(part, started), sees=sees) for part, name, sees in _SERVERS]
    enclaves = tuple(enclave.process.pid for enclave in cluster.enclaves)
    return (
        Role(name="owner, this process", processes=(os.getpid(),), sees="plaintext, keys"),
        *servers,
        Role(name="enclaves", processes=enclaves, sees="rows of jobs that the broker granted"),
        Role(name="Spark cluster", processes=_sessions(cluster.master, *cluster.workers), sees=_CIPHERTEXT),
        Role(name="analyst's driver", processes=_sessions(driver), sees="ciphertext, what policy releases"),
    )


def _sessions(*started: Started) -> tuple[int, ...]:
    return tuple(identifier for leader in started for identifier in session_processes(leader.process.pid))


def _with(part: str, processes: list[int]) -> tuple[int, ...]:
    return tuple(identifier for identifier in processes if part in _command(identifier))


def _command(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text(errors="replace")
    except OSError:
        return ""
