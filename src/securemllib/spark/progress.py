"""Progress of a job: rounds on the terminal; never a value of the data."""

import importlib.util
import logging
import sys
import time
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

__all__ = ["Progress"]

_LOG = logging.getLogger(__name__)


class Progress:
    """A line that shows which round a job is in, where standard error is a terminal and rich is installed.

    Args:
        title: What the line says.
        rows: Rows that each round reads; None where their number is not known.
    """

    def __init__(self, title: str, rows: int | None = None) -> None:
        self._title, self._rows = title, rows
        self._begun: float | None = None
        self._bar: Any = None
        self._task: Any = None
        self._stack = ExitStack()
        self.round: int | None = None
        self.read_again = 0
        self.text = title

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and importlib.util.find_spec("rich") is not None:
            from rich.console import Console
            from rich.progress import Progress as Bar
            from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

            columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
            self._bar = self._stack.enter_context(Bar(*columns, console=Console(stderr=True), transient=True))
            self._task = self._bar.add_task(self._title, total=None)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()
        if self.read_again:
            _LOG.warning(
                "%s: an enclave's memory does not hold its rows, so it read and decrypted %d MiB again; "
                "raise spark.securemllib.enclave.memory, or use more executors",
                self._title,
                self.read_again >> 20,
            )

    def at_round(self, number: int, read_again: int = 0, jobs: int = 1) -> None:
        """Show that a round begins, and how fast the one before it went through the rows.

        Args:
            number: The round.
            read_again: Bytes of parts that the first enclave did not keep, so far.
            jobs: How many jobs are in training at once.
        """
        now = time.monotonic()
        before, self._begun, self.round = self._begun, now, number
        self.text = f"{self._title}: round {number}" + (f" of {jobs} models" if jobs > 1 else "")
        if before is not None and self._rows is not None and now > before:
            self.text += f", {self._rows / (now - before):,.0f} rows/s"
        if read_again:
            self.text += f", {read_again >> 20:,} MiB read again"
            self.read_again = read_again
        if self._bar is not None:
            self._bar.update(self._task, description=self.text)
