"""Processes of their own session, which end with this one whatever happens."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from securemllib.cli.demo.searching import descendants, session_processes
from securemllib.errors import UnavailableError

__all__ = ["Processes", "Started", "leaving_nothing_behind"]

_STOP_SECONDS = 8.0
_POLL_SECONDS = 0.05
_LOG_LINES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A started process.

    Attributes:
        name: What it is.
        process: The process; it leads a session.
        log: What it writes on standard error, and on standard output where that is not a pipe.
    """

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def wait_for(self, pattern: str, seconds: float) -> str:
        """Return the first group of the first match in the log; `UnavailableError` where the process ends or the time does."""
        deadline = time.monotonic() + seconds
        while (ended := self.process.poll()) is None and time.monotonic() < deadline:
            if found := re.search(pattern, self.log.read_text(errors="replace")):
                return found.group(1)
            time.sleep(_POLL_SECONDS)
        raise self.failure("did not start" if ended is None else f"ended with code {ended}")

    def failure(self, what: str) -> UnavailableError:
        """Return the error of this process, with the end of its log."""
        lines = self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
        return UnavailableError(f"The {self.name} {what}.", next_step="Its log ends: " + " | ".join(lines), code="unavailable.process")


class Processes:
    """Starts processes and, on leaving, ends them with all that they started."""

    def __init__(self) -> None:
        self._started: list[Started] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for started in reversed(self._started):
            _end(started.process)

    def start(
        self, name: str, command: Sequence[str], *, log: Path, environment: Mapping[str, str], folder: Path, piped: bool = False
    ) -> Started:
        """Return a started process.

        Args:
            name: What it is.
            command: The program and its arguments.
            log: The file for its output.
            environment: Its whole environment.
            folder: Its working directory.
            piped: Whether standard input and output are pipes.
        """
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else output,
                stderr=output,
                env=dict(environment),
                cwd=folder,
                start_new_session=True,
            )
        started = Started(name=name, process=process, log=log)
        self._started.append(started)
        return started

    def end(self, started: Started) -> None:
        """End one process and all that it started."""
        _end(started.process)


@contextmanager
def leaving_nothing_behind() -> Iterator[None]:
    """Turn the signals that end a process into an exception, and at the end kill all that this process had started and not ended."""

    def leave(number: int, frame: FrameType | None) -> None:
        del frame
        # Impatience must not stop the ending of what was started.
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    before: dict[signal.Signals, Any] = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        before[number] = signal.signal(number, leave)
    try:
        yield
    finally:
        # A signal may come between the start of a process and the moment when its starter knows of it.
        for child in descendants(os.getpid())[1:]:
            _kill_session(child)
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(process: "subprocess.Popen[bytes]") -> None:
    # A process that daemonised itself has left its parent, not its session.
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_SECONDS)
    _kill_session(process.pid)
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(BrokenPipeError):
                stream.close()


def _kill_session(leader: int) -> None:
    deadline = time.monotonic() + _STOP_SECONDS
    while (left := session_processes(leader)) and time.monotonic() < deadline:
        for identifier in left:
            with suppress(ProcessLookupError):
                os.kill(identifier, signal.SIGKILL)
        # A killed process takes a moment to give back its memory; one that was forked meanwhile is found in the next turn.
        time.sleep(_POLL_SECONDS)
