"""Dealing a source's rows to parts: in windows of bounded memory, shuffled, two parts encrypted at a time.

Which rows share a part: rows are gathered into a window of bounded size (128 MiB), shuffled there uniformly, and dealt to its parts.
So the order within a source that fits one window is hidden completely; in a longer source a row's part tells its window, nothing finer.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from securemllib.crypto.keys import DataKey
from securemllib.errors import DataError, UsageError
from securemllib.owner.atomic import SyncedWriter
from securemllib.owner.column_types import type_text
from securemllib.owner.parts import encode_part
from securemllib.owner.reading import Progress
from securemllib.owner.sources import Source
from securemllib.wire.dataset import Column, ManifestBody, Part

__all__ = ["PART_BYTES", "Layout", "PartWriter"]

# Two tasks that decrypt such parts at once stay within 200 MB of the float32 matrix that they fill, which those of 9 MiB did not; smaller
# ones have more pieces of columns, and each costs some 20 us beside its bytes.
PART_BYTES = 8 * 2**20

_WINDOW_BYTES = 128 * 2**20
# A source that fits one window is dealt to this many parts if each gets as many rows as named below, so that tasks can share it.
_SHARED_PARTS = 8
_SHARED_ROWS = 512
# Arrow, the cipher and SHA-256 release the interpreter's lock.
_THREADS = 2
_COMPRESSIONS = frozenset({"none", "zstd", "lz4", "snappy"})
_ENCODING = "sealed"
# Positions of half the size leave more of a column in the cache.
_SHORT_POSITIONS = 2**32


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a dataset lies in its files.

    Attributes:
        rows_per_part: At most this many rows a part; None follows ``part_bytes``.
        part_bytes: About this many bytes of plaintext a part: a part is one task's input and one allocation of an enclave.
        compression: ``none``, or a codec, whose output's length follows the values.
        size_hiding: Whether files are padded.
        hide_columns: Whether the clear section leaves out the columns.
        hide_rows: Whether the clear section leaves out the row count.
        seed: Of the shuffle, for tests; None draws one.
    """

    rows_per_part: int | None = None
    part_bytes: int = PART_BYTES
    compression: str = "none"
    size_hiding: bool = False
    hide_columns: bool = False
    hide_rows: bool = False
    seed: int | None = None

    def __post_init__(self) -> None:
        if (self.rows_per_part is not None and self.rows_per_part < 1) or self.part_bytes < 1:
            raise UsageError("A part has at least one row and one byte.")
        if self.compression not in _COMPRESSIONS:
            raise UsageError(f"{self.compression!r} is no compression.", next_step=f"Use one of {', '.join(sorted(_COMPRESSIONS))}.")
        if self.size_hiding and self.compression != "none":
            raise UsageError("Size hiding and compression exclude each other.", next_step="Leave out one of them.")


@dataclass(slots=True, kw_only=True)
class PartWriter:
    """Writes the parts of one dataset version, window by window."""

    schema: pa.Schema
    secret: DataKey
    dataset_id: str
    version: int
    layout: Layout
    brokers: tuple[str, ...]
    nullable: set[str] = field(default_factory=set)

    def write(self, directory: Path, source: Source, progress: Progress | None, before: tuple[Part, ...] = ()) -> ManifestBody:
        """Write all parts and return the body of their manifest, behind the parts that were there before."""
        generator = np.random.default_rng(self.layout.seed)
        windows = _windows(source.batches, self.layout.rows_per_part)
        parts = list(before)
        done = 0
        # The next window is read while the parts of this one are written.
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(_THREADS) as pool, SyncedWriter() as disk:
            upcoming = reader.submit(next, windows, None)
            while (window := upcoming.result()) is not None:
                upcoming = reader.submit(next, windows, None)
                order = generator.permutation(sum(batch.num_rows for batch in window.batches))
                table = self._shuffled(window.batches, order, pool)
                count = self._part_count(table, only=window.is_only)
                bounds = [len(order) * index // count for index in range(count + 1)]
                slices = [table.slice(start, end - start) for start, end in pairwise(bounds)]
                ordinals = range(len(parts), len(parts) + count)
                for part in pool.map(partial(self._part, directory, disk), ordinals, slices):
                    parts.append(part)
                    done += part.rows
                    if progress is not None:
                        progress(done, source.rows)
        if len(parts) == len(before):
            raise DataError("The source has no rows.", code="data.no_rows")
        columns_known = tuple(
            Column(name=item.name, type=type_text(item.type), nullable=item.name in self.nullable, encoding=_ENCODING)
            for item in self.schema
        )
        return ManifestBody(parts=tuple(parts), columns=columns_known, brokers=self.brokers)

    def _shuffled(
        self, batches: Sequence[pa.RecordBatch], order: np.ndarray[Any, np.dtype[np.int64]], pool: ThreadPoolExecutor
    ) -> pa.Table:
        """Return the window's rows in that order: whole columns, because a column stays in the cache while its rows are picked."""
        index = pa.array(order.astype(np.uint32) if len(order) <= _SHORT_POSITIONS else order)

        def shuffled(position: int) -> pa.Array:
            # The positions are a permutation: none is out of bounds.
            return pc.take(_joined([batch.column(position) for batch in batches]), index, boundscheck=False)

        columns = list(pool.map(shuffled, range(len(self.schema))))
        self.nullable |= {item.name for item, column in zip(self.schema, columns, strict=True) if column.null_count}
        return pa.Table.from_arrays(columns, schema=self.schema)

    def _part_count(self, table: pa.Table, *, only: bool) -> int:
        rows: int = table.num_rows
        if self.layout.rows_per_part is not None:
            return -(-rows // self.layout.rows_per_part)
        count = -(-int(table.nbytes) // self.layout.part_bytes)
        shared = min(_SHARED_PARTS, rows // _SHARED_ROWS) if only else 1
        return min(rows, max(1, count, shared))

    def _part(self, directory: Path, disk: SyncedWriter, ordinal: int, rows: pa.Table) -> Part:
        part, data = encode_part(
            rows,
            secret=self.secret,
            dataset_id=self.dataset_id,
            version=self.version,
            ordinal=ordinal,
            compression=self.layout.compression,
            size_hiding=self.layout.size_hiding,
        )
        disk.write(directory / part.file, memoryview(data))
        return part


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """Batches that are shuffled together, and whether the source has no more."""

    batches: list[pa.RecordBatch]
    is_only: bool


def _windows(batches: Iterator[pa.RecordBatch], rows_per_part: int | None) -> Iterator[_Window]:
    """Yield windows; with ``rows_per_part`` all but the last hold a whole number of parts."""
    waiting: list[pa.RecordBatch] = []
    rows = size = 0
    is_only = True
    for batch in batches:
        if batch.num_rows == 0:
            continue
        waiting.append(batch)
        rows, size = rows + batch.num_rows, size + _size(batch)
        if size >= _WINDOW_BYTES:
            kept = rows % rows_per_part if rows_per_part is not None and rows >= rows_per_part else 0
            window, waiting = _split(waiting, rows - kept)
            is_only = False
            yield _Window(batches=window, is_only=False)
            rows, size = kept, sum(map(_size, waiting))
    if waiting:
        yield _Window(batches=waiting, is_only=is_only)


def _joined(arrays: Sequence[pa.Array]) -> pa.Array:
    """Return the arrays as one, without a copy where they are neighbours in the same memory, as the batches of a table are."""
    first, end, places = arrays[0], arrays[0].offset, _places(arrays[0])
    if len(arrays) == 1:
        return first
    for array in arrays:
        if first.type.num_fields or array.offset != end or _places(array) != places:
            return pa.concat_arrays(arrays)
        end += len(array)
    return pa.Array.from_buffers(first.type, end - first.offset, first.buffers(), offset=first.offset)


def _places(array: pa.Array) -> list[int | None]:
    return [None if buffer is None else buffer.address for buffer in array.buffers()]


def _size(batch: pa.RecordBatch) -> int:
    """Return the bytes that a batch takes in a window: its own, and 8 a row for the shuffled positions."""
    return int(batch.nbytes) + 8 * int(batch.num_rows)


def _split(batches: list[pa.RecordBatch], rows: int) -> tuple[list[pa.RecordBatch], list[pa.RecordBatch]]:
    """Return the batches with the first ``rows`` rows, and those with the rest."""
    first: list[pa.RecordBatch] = []
    for position, batch in enumerate(batches):
        if batch.num_rows > rows:
            rest = [batch.slice(rows), *batches[position + 1 :]]
            return ([*first, batch.slice(0, rows)] if rows else first), rest
        first.append(batch)
        rows -= batch.num_rows
    return first, []
