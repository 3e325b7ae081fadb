"""Searching files and the memory of processes for planted values, in every form in which software writes them.

A search that finds nothing says something only beside one that finds: look in a place that must hold the values, too.
"""

import os
import struct
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np

__all__ = ["Canaries", "Finding", "descendants", "search_bytes", "search_files", "search_memory", "session_processes"]

_CHUNK = 8 * 2**20
_ZEROS = bytes(_CHUNK)
_PAGE = os.sysconf("SC_PAGE_SIZE")
# An entry of a pagemap has eight bytes, whose two highest bits say that the page is in memory or in swap.
_PAGE_ENTRY = 8
_IN_MEMORY_OR_SWAP = np.uint64(62)
# Base64 writes three bytes as four characters, so a text has three forms, and its ends depend on its neighbours.
_BASE64_SHIFTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a search came to.

    Attributes:
        searched: How many bytes were searched.
        places: How many files or processes.
        hits: How often each form was found, by its name; forms that were not found are missing.
        denied: How many files or processes could not be read.
    """

    searched: int = 0
    places: int = 0
    hits: dict[str, int]
    denied: int = 0

    @property
    def total(self) -> int:
        """How many values were found."""
        return sum(self.hits.values())

    def __add__(self, other: "Finding") -> "Finding":
        hits = {name: self.hits.get(name, 0) + other.hits.get(name, 0) for name in {*self.hits, *other.hits}}
        return Finding(
            searched=self.searched + other.searched, places=self.places + other.places, hits=hits, denied=self.denied + other.denied
        )


@dataclass(frozen=True)
class Canaries:
    """Values that occur nowhere else: a text that begins identifiers, and two numbers that stand in neighbouring columns.

    Attributes:
        text: The text.
        numbers: The numbers, float64 with random digits.
    """

    text: str
    numbers: tuple[float, float]

    @classmethod
    def generate(cls, low: tuple[float, float]) -> Self:
        """Return new ones; each number is less than one above its lower bound."""
        first, second = (bound + int.from_bytes(os.urandom(6), "big") / 2**48 for bound in low)
        return cls(f"canary-{os.urandom(8).hex()}", (first, second))

    @cached_property
    def forms(self) -> dict[str, bytes]:
        """The bytes to look for, by a name of the form."""
        text, (first, second) = self.text.encode(), self.numbers
        forms = {"text": text, "UTF-16": self.text.encode("utf-16-le"), "float32 pair": np.array([first, second], np.float32).tobytes()}
        for number, name in ((first, "first"), (second, "second")):
            forms |= {
                f"{name} float64": struct.pack("<d", number),
                f"{name} big-endian float64": struct.pack(">d", number),
                # Enough digits that chance does not write them, few enough that rounding does not hide them.
                f"{name} digits": f"{number:.16g}"[:13].encode(),
            }
        forms |= {f"base64 {shift}": b64encode(bytes(shift) + text)[4:-4] for shift in range(_BASE64_SHIFTS)}
        return forms


def search_bytes(canaries: Canaries, data: bytes | bytearray) -> Finding:
    """Return what is found in bytes."""
    counted = {name: data.count(form) for name, form in canaries.forms.items()}
    return Finding(searched=len(data), hits={name: count for name, count in counted.items() if count})


def search_files(canaries: Canaries, paths: Iterable[Path]) -> Finding:
    """Return what is found in the contents and names of files; folders are searched with all below them."""
    total = Finding(hits={})
    for file in _files(paths):
        found = search_bytes(canaries, os.fsencode(file.name))
        try:
            with file.open("rb") as stream:
                found += _search_chunks(canaries, _chunks(stream))
        except OSError:
            total += Finding(places=1, hits={}, denied=1)
            continue
        total += found + Finding(places=1, hits={})
    return total


def search_memory(canaries: Canaries, processes: Iterable[int]) -> Finding:
    """Return what is found in the writable memory of processes; one that may not be read, or is gone, counts as denied."""
    total = Finding(hits={})
    for process in processes:
        try:
            found = _search_process(canaries, process)
        except OSError:
            total += Finding(places=1, hits={}, denied=1)
            continue
        total += found + Finding(places=1, hits={})
    return total


def descendants(process: int) -> list[int]:
    """Return a process and all below it."""
    children: dict[int, list[int]] = {}
    for identifier, (parent, _) in _processes().items():
        children.setdefault(parent, []).append(identifier)
    found = [process]
    for identifier in found:
        found += children.get(identifier, [])
    return found


def session_processes(session: int) -> list[int]:
    """Return the processes of a session: those that its leader started, though their parents be gone."""
    return [identifier for identifier, (_, its_session) in _processes().items() if its_session == session]


def _processes() -> dict[int, tuple[int, int]]:
    """Return each live process's parent and session."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            # The command's name is in parentheses and may hold anything.
            fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            found[int(folder.name)] = (int(fields[1]), int(fields[3]))
    return found


def _search_process(canaries: Canaries, process: int) -> Finding:
    found = Finding(hits={})
    folder = Path(f"/proc/{process}")
    with (folder / "maps").open() as maps, (folder / "mem").open("rb", 0) as memory, (folder / "pagemap").open("rb", 0) as pages:
        for line in maps:
            addresses, rights, *rest = line.split()
            if rights[:2] != "rw" or (rest[-1].startswith("/dev/") and "shm" not in rest[-1]):
                continue
            start, end = (int(address, 16) for address in addresses.split("-"))
            found += _search_chunks(canaries, _memory_chunks(memory, pages, start, end))
    return found


def _memory_chunks(memory: BinaryIO, pages: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    """Yield what a mapping holds: pages that were never touched hold nothing."""
    for position in range(start, end, _CHUNK):
        try:
            pages.seek(position // _PAGE * _PAGE_ENTRY)
            entries = np.frombuffer(pages.read((min(_CHUNK, end - position) // _PAGE) * _PAGE_ENTRY), np.uint64)
            held = np.flatnonzero(entries >> _IN_MEMORY_OR_SWAP)
            if not held.size:
                continue
            first, last = int(held[0]), int(held[-1]) + 1
            memory.seek(position + first * _PAGE)
            yield memory.read((last - first) * _PAGE)
        except (OSError, OverflowError, ValueError):
            # Mappings that only look readable: pages that were given back meanwhile, or that the kernel keeps secret.
            continue


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    read: Callable[[], bytes] = lambda: stream.read(_CHUNK)  # noqa: E731 - what `iter` wants
    return iter(read, b"")


def _search_chunks(canaries: Canaries, chunks: Iterator[bytes]) -> Finding:
    longest = max(map(len, canaries.forms.values()))
    searched, hits, tail = 0, Finding(hits={}), b""
    for chunk in chunks:
        searched += len(chunk)
        if not any(tail) and chunk == _ZEROS[: len(chunk)]:
            continue
        hits += search_bytes(canaries, tail + chunk)
        # A form that lies wholly within the tail was counted with the chunk before.
        tail = (tail + chunk)[-(longest - 1) :]
        hits = _without(hits, search_bytes(canaries, tail))
    hits += search_bytes(canaries, tail)
    return Finding(searched=searched, hits=hits.hits)


def _without(found: Finding, counted: Finding) -> Finding:
    left = {name: count - counted.hits.get(name, 0) for name, count in found.hits.items()}
    return Finding(hits={name: count for name, count in left.items() if count})


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from (file for file in sorted(path.rglob("*")) if file.is_file() and not file.is_symlink())
        elif path.is_file():
            yield path
