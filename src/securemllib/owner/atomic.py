"""Files and directories that appear whole or not at all."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from securemllib.errors import CapacityError, UnavailableError, UsageError

__all__ = ["new_directory", "new_file", "write_synced"]


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


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """Give the path of a temporary sibling file that becomes ``target`` when the block ends, and vanishes when it fails."""
    with _temporary(target) as temporary:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        _place(temporary, target)


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
        view = memoryview(data).cast("B")
        while view:
            view = view[file.write(view) :]
        os.fsync(file.fileno())


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
