"""Files and directories that appear whole or not at all."""

import errno
import os
import shutil
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from securemllib.errors import CapacityError, UnavailableError, UsageError

__all__ = ["SyncedWriter", "move_into", "new_directory", "new_file", "outside", "write_synced"]


# Files that the disk has not confirmed yet: each holds a descriptor and its pages.
_UNSYNCED_FILES = 16


@contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """Give a temporary sibling directory that becomes ``target`` when the block ends, and vanishes when it fails.

    Raises:
        UsageError: ``target`` exists.
        CapacityError: The disk is full.
    """
    with _temporary(target) as temporary:
        temporary.mkdir()
        yield temporary
        _sync_directory(temporary)
        _place(temporary, target)


def outside(destination: Path, shared: Iterable[Path]) -> Path:
    """Return where a file of opened values goes; `UsageError` where that is in a directory that the host reads."""
    target = destination.resolve()
    for directory in (path.resolve() for path in shared):
        if target.is_relative_to(directory):
            raise UsageError(
                f"{target.name} would lie in {directory}, which the host reads, and opened values must not go back to it.",
                next_step="Write them somewhere else.",
                code="usage.destination",
            )
    return target


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """Give the path of a temporary sibling file that becomes ``target`` when the block ends, and vanishes when it fails."""
    with _temporary(target) as temporary:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        _place(temporary, target)


def move_into(names: tuple[str, ...], source: Path, target: Path) -> None:
    """Move synced files to another directory of the same disk, in their order, replacing what has their names."""
    try:
        for name in names[:-1]:
            (source / name).replace(target / name)
        _sync_directory(target)
        (source / names[-1]).replace(target / names[-1])
        _sync_directory(target)
    except OSError as error:
        raise _translated(error, target) from error


@contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    _refuse_existing(target)
    if not target.parent.is_dir():
        raise UsageError(f"There is no directory {target.parent}.", next_step="Create it first.")
    temporary = target.with_name(f".{target.name}.{os.urandom(8).hex()}.incomplete")
    try:
        yield temporary
    except OSError as error:
        _remove(temporary)
        raise _translated(error, target) from error
    except BaseException:
        _remove(temporary)
        raise


def write_synced(path: Path, data: bytes | memoryview) -> None:
    """Write a new file and wait until the disk has it."""
    with path.open("xb", buffering=0) as file:
        _write_all(file, memoryview(data))
        os.fsync(file.fileno())


class SyncedWriter:
    """Writes new files, and waits at its end until the disk has all of them: the disk works while the next ones are made.

    It is for files in a `new_directory`, which is not seen under its name before that. An error of the disk is raised by a later write or
    at the end, and takes the directory with it.
    """

    def __init__(self) -> None:
        self._disk = ThreadPoolExecutor(1)
        self._waiting: deque[Future[None]] = deque()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._disk.shutdown()
        if kind is None:
            for synced in self._waiting:
                synced.result()

    def write(self, path: Path, data: memoryview) -> None:
        """Write a new file; it is synced by the end of the writer."""
        file = path.open("xb", buffering=0)
        try:
            _write_all(file, data)
        except BaseException:
            file.close()
            raise
        with self._lock:
            self._waiting.append(self._disk.submit(_synced, file))
            late = self._waiting.popleft() if len(self._waiting) > _UNSYNCED_FILES else None
        if late is not None:
            late.result()


def _synced(file: FileIO) -> None:
    with file:
        os.fsync(file.fileno())


def _write_all(file: FileIO, data: memoryview) -> None:
    view = data.cast("B")
    while view:
        view = view[file.write(view) :]


def _place(temporary: Path, target: Path) -> None:
    _refuse_existing(target)
    temporary.rename(target)
    try:
        _sync_directory(target.parent)
    except OSError:
        _remove(target)
        raise


def _refuse_existing(target: Path) -> None:
    if target.exists():
        raise UsageError(f"{target} exists.", next_step="Choose another name: nothing is overwritten.", code="usage.exists")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        # Where nothing can be written nothing can be removed: the first error is the one to tell.
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _translated(error: OSError, target: Path) -> UnavailableError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return CapacityError(
            f"The disk of {target.parent} is full; nothing of {target.name} was kept.",
            next_step="Free space there, or choose another disk.",
            code="unavailable.capacity.disk",
        )
    return UnavailableError(f"{target} could not be written: {os.strerror(error.errno or errno.EIO)}.", code="unavailable.storage")
