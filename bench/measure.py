"""CPU and wall seconds of everything that a call sets in motion: driver, JVM, Python tasks, enclave, broker and agent.

CPU seconds are user and system time of all processes below this one. A process that ends is counted through the parent that waited for it;
one whose parent ended first becomes a child of this process, because it asks to be the reaper of its descendants.
"""

import ctypes
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil

__all__ = ["Cost", "Samples", "adopt_orphans", "alternate", "measure", "peak_memory", "processes"]

# <linux/prctl.h>
_PR_SET_CHILD_SUBREAPER = 36
# <linux/posix-timers.h>: the scheduler's clock of a process, to the nanosecond; /proc counts in hundredths of a second.
_CPUCLOCK_SCHED = 2
# What a call leaves to be done by other processes, such as a Spark task's clean-up, is that call's.
_SETTLE_SECONDS = 0.25
_ROLES = {
    "securemllib.enclave": "enclave",
    "broker": "broker",
    "agent": "agent",
    "pyspark.daemon": "python tasks",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one call cost.

    Attributes:
        wall: Seconds by the clock.
        cpu: Seconds of CPU time, user and system, of all processes.
        roles: The CPU seconds by what the process is.
    """

    wall: float
    cpu: float
    roles: dict[str, float]


@dataclass(slots=True, kw_only=True)
class Samples:
    """The costs of repeated calls.

    Attributes:
        costs: One a call.
        fields: Other numbers of the last call.
    """

    costs: list[Cost] = field(default_factory=list)
    fields: dict[str, float] = field(default_factory=dict)

    @property
    def cpu(self) -> list[float]:
        return [cost.cpu for cost in self.costs]

    @property
    def wall(self) -> list[float]:
        return [cost.wall for cost in self.costs]

    @property
    def roles(self) -> dict[str, float]:
        """Median CPU seconds by role."""
        names = sorted({name for cost in self.costs for name in cost.roles})
        medians = {name: statistics.median(cost.roles.get(name, 0.0) for cost in self.costs) for name in names}
        return {name: round(value, 4) for name, value in medians.items() if value >= 0.0005}


def adopt_orphans() -> None:
    """Make this process the parent of descendants whose parent ends, so that their CPU time stays in sight."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def role(process: psutil.Process) -> str:
    """Return what a process is, by its command line."""
    try:
        command = process.cmdline()
    except psutil.Error:
        return "ended"
    if command and command[0].endswith("java"):
        return "jvm"
    if process.pid == os.getpid():
        return "driver"
    return next((name for mark, name in _ROLES.items() if mark in command), "other")


def processes() -> dict[int, psutil.Process]:
    """Return this process and all that it set in motion."""
    root = psutil.Process()
    return {process.pid: process for process in (root, *root.children(recursive=True))}


def _own_seconds(process: psutil.Process, user: float, system: float) -> float:
    try:
        return time.clock_gettime((~process.pid << 3) | _CPUCLOCK_SCHED)
    except OSError:
        return user + system


def _snapshot() -> dict[int, tuple[str, float]]:
    found = {}
    for pid, process in processes().items():
        try:
            times = process.cpu_times()
            found[pid] = role(process), _own_seconds(process, times.user, times.system) + times.children_user + times.children_system
        except psutil.Error:
            continue
    return found


def measure(call: Callable[[], object], settle: float = _SETTLE_SECONDS) -> Cost:
    """Return what a call cost, with what other processes still did for it in the seconds after it."""
    before, start = _snapshot(), time.perf_counter()
    call()
    wall = time.perf_counter() - start
    time.sleep(settle)
    after = _snapshot()
    roles: dict[str, float] = {}
    for snapshot, sign in ((after, 1.0), (before, -1.0)):
        for pid, (name, seconds) in snapshot.items():
            name = before.get(pid, (name,))[0]
            roles[name] = roles.get(name, 0.0) + sign * seconds
    return Cost(wall=wall, cpu=sum(roles.values()), roles=roles)


def alternate(
    ours: Callable[[int], Callable[[], object]],
    reference: Callable[[int], Callable[[], object]],
    *,
    warm_up: int,
    runs: int,
    warm_up_seconds: float = 0.0,
) -> tuple[Samples, Samples]:
    """Measure two calls in turn, A B A B, so that whatever else the machine does meets both.

    Args:
        ours: Prepares the call number n, unmeasured, and returns it.
        reference: The same for the other side.
        warm_up: How many first calls of each side do not count.
        runs: How many calls of each side count.
        warm_up_seconds: Each side is called until it ran for so long: a JVM compiles what it runs often, so short calls need more of them.
    """
    sides = (ours, Samples()), (reference, Samples())
    for prepare, _ in sides:
        spent = 0.0
        while warm_up_seconds > spent:
            spent += measure(prepare(0), settle=0.0).wall
    for number in range(warm_up + runs):
        for prepare, samples in sides:
            cost = measure(prepare(number))
            if number >= warm_up:
                samples.costs.append(cost)
    return sides[0][1], sides[1][1]


def peak_memory(pid: int) -> int:
    """Return the bytes of the largest resident set that a process has had."""
    with open(f"/proc/{pid}/status") as status:  # noqa: PTH123 - a file of the kernel
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    raise OSError(f"process {pid} has no VmHWM")
