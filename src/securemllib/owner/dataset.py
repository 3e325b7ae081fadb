"""Encrypting a table into a dataset: a directory of encrypted Parquet parts and a signed manifest.

Which rows share a part: rows are gathered into a window of bounded size (128 MiB), shuffled there uniformly, and dealt to the window's parts.
So the order within a source that fits one window is hidden completely; in a longer source a row's part tells its window, nothing finer.

What the files tell whoever stores them: how many parts there are and their lengths. Without compression (the default) and with columns of
fixed width a length tells the row count and no value; texts and lists add their total length a part, nulls leave out their width, and
``size_hiding`` pads each file so that its length tells the size only to about an eighth. Compression saves space and lets lengths follow
the values: a label column's compressed size tells the balance of its classes.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa

from securemllib.crypto.aead import seal
from securemllib.crypto.identity import PrivateIdentity
from securemllib.crypto.keys import DataKey
from securemllib.errors import DataError, UsageError
from securemllib.owner.atomic import new_directory, write_synced
from securemllib.owner.column_types import type_text
from securemllib.owner.keystore import Keystore
from securemllib.owner.parts import encode_part, take
from securemllib.owner.reading import BODY_PURPOSE, MANIFEST_FILE, OpenDataset, open_dataset
from securemllib.owner.sources import Source, open_source
from securemllib.wire.dataset import ClearPart, Column, Manifest, ManifestBody, Part, body_context

__all__ = ["Layout", "Progress", "append", "encrypt"]

Progress = Callable[[int, int | None], None]

_WINDOW_BYTES = 128 * 2**20
# A source that fits one window is dealt to this many parts if each gets as many rows as named below, so that tasks can share it.
_SHARED_PARTS = 8
_SHARED_ROWS = 512
# Arrow, the cipher and SHA-256 release the interpreter's lock; a third thread gained nothing on two cores.
_THREADS = 2
_COMPRESSIONS = frozenset({"none", "zstd", "lz4", "snappy"})
_ENCODING = "sealed"


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
    part_bytes: int = 16 * 2**20
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


def encrypt(
    source: object,
    directory: str | Path,
    *,
    name: str,
    identity: PrivateIdentity,
    keystore: Keystore,
    previous: str | Path | None = None,
    rows_per_part: int | None = None,
    part_bytes: int = 16 * 2**20,
    compression: str = "none",
    size_hiding: bool = False,
    hide_columns: bool = False,
    hide_rows: bool = False,
    seed: int | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Encrypt a source into a new directory and return the dataset's manifest.

    The directory appears whole or not at all; memory stays within a few windows of 128 MiB whatever the source's size.

    Args:
        source: What `securemllib.owner.sources.open_source` takes.
        directory: The dataset's directory; it must not exist.
        name: What people call the dataset.
        identity: The owner, who signs the manifest.
        keystore: Keeps the dataset secret.
        previous: The directory of the dataset version that this one replaces; None makes a new dataset.
        rows_per_part: See `Layout`.
        part_bytes: See `Layout`.
        compression: See `Layout`.
        size_hiding: See `Layout`.
        hide_columns: See `Layout`.
        hide_rows: See `Layout`.
        seed: See `Layout`.
        progress: Called with the rows written so far and the rows in all, if those are known.

    Raises:
        DataError: The source has no rows, or a column of a type that datasets do not hold.
        CapacityError: The disk is full.
        FreshnessError: ``previous`` is not the latest version.
    """
    layout = Layout(
        rows_per_part=rows_per_part,
        part_bytes=part_bytes,
        compression=compression,
        size_hiding=size_hiding,
        hide_columns=hide_columns,
        hide_rows=hide_rows,
        seed=seed,
    )
    before = open_dataset(Path(previous), owner=identity.public, keystore=keystore) if previous is not None else None
    return _write(open_source(source), Path(directory), name, identity, keystore, before, layout, progress)


def append(
    source: object,
    previous: str | Path,
    directory: str | Path,
    *,
    identity: PrivateIdentity,
    keystore: Keystore,
    layout: Layout | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Write the next version of a dataset, with the rows of the previous one and of the source, and return its manifest.

    Every part is encrypted again: a part's key and AAD prefix belong to one version.
    """
    before = open_dataset(Path(previous), owner=identity.public, keystore=keystore)
    added = open_source(source)
    if added.schema != before.schema:
        raise DataError(f"The source's columns are not those of dataset {before.manifest.dataset_id}.", code="data.schema")
    old = (batch for table in before.tables() for batch in table.to_batches())
    rows = None if added.rows is None else added.rows + before.body.rows
    both = replace(added, batches=chain(old, added.batches), rows=rows)
    return _write(both, Path(directory), before.manifest.name, identity, keystore, before, layout or Layout(), progress)


def _write(
    source: Source,
    directory: Path,
    name: str,
    identity: PrivateIdentity,
    keystore: Keystore,
    before: OpenDataset | None,
    layout: Layout,
    progress: Progress | None,
) -> Manifest:
    if before is None:
        dataset_id, version, previous = os.urandom(16).hex(), 1, b""
        secret = keystore.add(dataset_id, name)
    else:
        dataset_id, version, previous = before.manifest.dataset_id, before.manifest.version + 1, before.manifest.reference.digest
        secret = keystore.secret(dataset_id)
    writer = _PartWriter(
        directory=directory, schema=source.schema, secret=secret, dataset_id=dataset_id, version=version, layout=layout, nullable=set()
    )
    try:
        with new_directory(directory) as temporary:
            body = writer.write(temporary, source, progress)
            manifest = Manifest(
                dataset_id=dataset_id,
                name=name,
                version=version,
                previous=previous,
                owner=identity.public.fingerprint,
                created=int(time.time()),
                parts=tuple(ClearPart(file=part.file, length=part.length) for part in body.parts),
                columns=() if layout.hide_columns else body.columns,
                rows=None if layout.hide_rows else body.rows,
                body=seal(secret.derive(BODY_PURPOSE), body_context(dataset_id, version), body.to_bytes()),
            )
            write_synced(temporary / MANIFEST_FILE, identity.sign(manifest).to_bytes())
    except BaseException:
        if before is None:
            keystore.forget(dataset_id)
        raise
    keystore.record(manifest)
    return manifest


@dataclass(slots=True, kw_only=True)
class _PartWriter:
    """Writes the parts of one dataset version, window by window."""

    directory: Path
    schema: pa.Schema
    secret: DataKey
    dataset_id: str
    version: int
    layout: Layout
    nullable: set[str] = field(default_factory=set)

    def write(self, directory: Path, source: Source, progress: Progress | None) -> ManifestBody:
        """Write all parts and return the body of their manifest."""
        generator = np.random.default_rng(self.layout.seed)
        self.directory = directory
        parts: list[Part] = []
        done = 0
        with ThreadPoolExecutor(_THREADS) as pool:
            for batches, only in _windows(source.batches, self.layout.rows_per_part):
                columns = self._columns(batches)
                rows = len(columns[0])
                dealt = np.array_split(generator.permutation(rows), self._part_count(columns, rows, only=only))
                first = len(parts)
                for part in pool.map(lambda item: self._part(columns, *item), ((first + k, chosen) for k, chosen in enumerate(dealt))):  # noqa: B023
                    parts.append(part)
                    done += part.rows
                    if progress is not None:
                        progress(done, source.rows)
        if not parts:
            raise DataError("The source has no rows.", code="data.no_rows")
        columns_known = tuple(
            Column(name=item.name, type=type_text(item.type), nullable=item.name in self.nullable, encoding=_ENCODING) for item in self.schema
        )
        return ManifestBody(parts=tuple(parts), columns=columns_known)

    def _columns(self, batches: Sequence[pa.RecordBatch]) -> list[pa.Array]:
        columns = [pa.concat_arrays([batch.column(index) for batch in batches]) for index in range(len(self.schema))]
        self.nullable |= {item.name for item, column in zip(self.schema, columns, strict=True) if column.null_count}
        return columns

    def _part_count(self, columns: Sequence[pa.Array], rows: int, *, only: bool) -> int:
        if self.layout.rows_per_part is not None:
            return -(-rows // self.layout.rows_per_part)
        count = -(-sum(column.nbytes for column in columns) // self.layout.part_bytes)
        shared = min(_SHARED_PARTS, rows // _SHARED_ROWS) if only else 1
        return min(rows, max(1, count, shared))

    def _part(self, columns: list[pa.Array], ordinal: int, chosen: np.ndarray) -> Part:
        part, data = encode_part(
            take(columns, self.schema, chosen),
            secret=self.secret,
            dataset_id=self.dataset_id,
            version=self.version,
            ordinal=ordinal,
            compression=self.layout.compression,
            size_hiding=self.layout.size_hiding,
        )
        write_synced(self.directory / part.file, memoryview(data))
        return part


def _windows(batches: Iterator[pa.RecordBatch], rows_per_part: int | None) -> Iterator[tuple[list[pa.RecordBatch], bool]]:
    """Yield the batches window by window, each with whether it is the only one; with ``rows_per_part`` all but the last fill their parts."""
    waiting: list[pa.RecordBatch] = []
    rows = size = 0
    only = True
    for batch in batches:
        if batch.num_rows == 0:
            continue
        waiting.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if size >= _WINDOW_BYTES:
            kept = rows % rows_per_part if rows_per_part is not None and rows >= rows_per_part else 0
            window, waiting = _split(waiting, rows - kept)
            only = False
            yield window, only
            rows, size = kept, sum(item.nbytes for item in waiting)
    if waiting:
        yield waiting, only


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
