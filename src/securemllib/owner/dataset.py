"""Encrypting a table into a dataset: a directory of encrypted Parquet parts and a signed manifest.

Which rows share a part: rows are gathered into a window of bounded size (128 MiB), shuffled there uniformly, and dealt to its parts.
So the order within a source that fits one window is hidden completely; in a longer source a row's part tells its window, nothing finer.

What the files tell whoever stores them: how many parts there are and their lengths. Without compression (the default) and with columns of
fixed width a length tells the row count and no value; texts and lists add their total length a part, nulls leave out their width, and
``size_hiding`` pads each file so that its length tells the size only to about an eighth. Compression saves space and lets lengths follow
the values: a label column's compressed size tells the balance of its classes.
"""

import os
import shutil
import time
from collections.abc import Collection, Sequence
from dataclasses import fields, replace
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

from securemllib.crypto.aead import seal
from securemllib.crypto.identity import PrivateIdentity
from securemllib.errors import DataError, UsageError
from securemllib.owner.atomic import move_into, new_directory, write_synced
from securemllib.owner.companion import write_companion
from securemllib.owner.encoding_schema import ColumnEncoding
from securemllib.owner.keystore import Keystore
from securemllib.owner.reading import BODY_PURPOSE, MANIFEST_FILE, OpenDataset, Progress, open_dataset
from securemllib.owner.sources import Source, open_source
from securemllib.owner.writing import PART_BYTES, Layout, PartWriter
from securemllib.wire.companion import COMPANION_DIRECTORY
from securemllib.wire.dataset import ClearPart, KeptPart, Manifest, ManifestBody, Part, body_context

__all__ = ["Layout", "Progress", "append", "encrypt", "extend", "name_brokers"]


def encrypt(
    source: object,
    directory: str | Path,
    *,
    name: str,
    identity: PrivateIdentity,
    keystore: Keystore,
    previous: str | Path | None = None,
    rows_per_part: int | None = None,
    part_bytes: int = PART_BYTES,
    compression: str = "none",
    size_hiding: bool = False,
    hide_columns: bool = False,
    hide_rows: bool = False,
    seed: int | None = None,
    progress: Progress | None = None,
    encodings: Sequence[ColumnEncoding] = (),
    accept_leakage: Collection[str] = (),
    brokers: Collection[str] | None = None,
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
        encodings: Columns that plain Spark may work on, in the dataset's companion; none writes no companion.
        accept_leakage: See `write_companion`.
        brokers: Fingerprints of the only brokers whose keys enclaves take for this version; none for any, None for those of ``previous``.

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
    return _write(
        open_source(source), Path(directory), name, identity, keystore, before, layout, progress, encodings, accept_leakage, brokers
    )


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

    Every part is encrypted again and all rows are shuffled anew; `extend` leaves what is there as it is.
    """
    before = open_dataset(Path(previous), owner=identity.public, keystore=keystore)
    added = open_source(source)
    if added.schema != before.schema:
        raise DataError(f"The source's columns are not those of dataset {before.manifest.dataset_id}.", code="data.schema")
    old = (batch for table in before.tables() for batch in table.to_batches())
    rows = None if added.rows is None else added.rows + before.body.rows
    both = replace(added, batches=chain(old, added.batches), rows=rows)
    return _write(both, Path(directory), before.manifest.name, identity, keystore, before, layout or Layout(), progress)


def extend(
    source: object,
    directory: str | Path,
    *,
    identity: PrivateIdentity,
    keystore: Keystore,
    layout: Layout | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Add a source's rows to a dataset as new parts, and return the manifest of the version that this makes.

    The parts that are there stay as they are, under their keys, so the cost is that of the new rows. A reader that has seen the parts up to
    some ordinal goes on from there. The new manifest takes the old one's place once all new parts are on the disk. One process at a time.

    Args:
        source: What `securemllib.owner.sources.open_source` takes, with the dataset's columns.
        directory: The dataset's directory.
        identity: The owner.
        keystore: Knows the dataset secret.
        layout: Of the new parts; whether columns and row count are hidden stays as it is.
        progress: Hears of the rows so far, and in all where those are known.

    Raises:
        DataError: The source has no rows, or other columns.
        UsageError: The dataset has a companion, which would lack the new rows.
    """
    path = Path(directory)
    before = _growing(path, identity, keystore)
    added = open_source(source)
    if added.schema != before.schema:
        raise DataError(f"The source's columns are not those of dataset {before.manifest.dataset_id}.", code="data.schema")
    old, layout = before.manifest, layout or Layout()
    kept = tuple(_kept(part, old.version) for part in before.body.parts)
    writer = PartWriter(
        schema=added.schema,
        secret=before.secret,
        dataset_id=old.dataset_id,
        version=old.version + 1,
        layout=replace(layout, hide_columns=not old.columns, hide_rows=old.rows is None),
        brokers=before.body.brokers,
        nullable={column.name for column in before.body.columns if column.nullable},
    )
    with TemporaryDirectory(prefix=".extending-", dir=path) as name:
        temporary = Path(name)
        body = writer.write(temporary, added, progress, kept)
        manifest = _manifest(writer, body, old.name, old.reference.digest, identity)
        write_synced(temporary / MANIFEST_FILE, identity.sign(manifest).to_bytes())
        move_into((*(part.file for part in body.parts[len(kept) :]), MANIFEST_FILE), temporary, path)
    keystore.record(manifest)
    return manifest


def name_brokers(brokers: Collection[str], directory: str | Path, *, identity: PrivateIdentity, keystore: Keystore) -> Manifest:
    """Write the next version of a dataset, with the rows that it has, for other brokers, and return its manifest.

    Args:
        brokers: Fingerprints of the only brokers from which enclaves take this version's keys; none for any.
        directory: The dataset's directory, whose parts stay as they are.
        identity: The owner.
        keystore: Knows the dataset secret.

    Raises:
        UsageError: The dataset has a companion, which is of the version that it was written for.
    """
    path = Path(directory)
    before = _growing(path, identity, keystore)
    old = before.manifest
    layout = Layout(hide_columns=not old.columns, hide_rows=old.rows is None)
    writer = PartWriter(
        schema=before.schema,
        secret=before.secret,
        dataset_id=old.dataset_id,
        version=old.version + 1,
        layout=layout,
        brokers=tuple(sorted(set(brokers))),
    )
    body = replace(before.body, parts=tuple(_kept(part, old.version) for part in before.body.parts), brokers=writer.brokers)
    manifest = _manifest(writer, body, old.name, old.reference.digest, identity)
    with TemporaryDirectory(prefix=".extending-", dir=path) as name:
        write_synced(Path(name) / MANIFEST_FILE, identity.sign(manifest).to_bytes())
        move_into((MANIFEST_FILE,), Path(name), path)
    keystore.record(manifest)
    return manifest


def _growing(path: Path, identity: PrivateIdentity, keystore: Keystore) -> OpenDataset:
    """Return the dataset of a directory whose manifest is to be replaced."""
    if (path / COMPANION_DIRECTORY).exists():
        raise UsageError(
            f"{path} has a companion, whose codes are of its rows and no others.", next_step="Use `append`, which writes a new directory."
        )
    return open_dataset(path, owner=identity.public, keystore=keystore)


def _kept(part: Part, version: int) -> KeptPart:
    if isinstance(part, KeptPart):
        return part
    return KeptPart(**{field.name: getattr(part, field.name) for field in fields(part)}, version=version)


def _write(
    source: Source,
    directory: Path,
    name: str,
    identity: PrivateIdentity,
    keystore: Keystore,
    before: OpenDataset | None,
    layout: Layout,
    progress: Progress | None,
    encodings: Sequence[ColumnEncoding] = (),
    accept_leakage: Collection[str] = (),
    brokers: Collection[str] | None = None,
) -> Manifest:
    if encodings and (layout.hide_columns or layout.hide_rows or layout.size_hiding):
        raise UsageError("A companion shows columns, rows and sizes, so they cannot be hidden.", next_step="Leave out one of them.")
    if before is None:
        dataset_id, version, previous = os.urandom(16).hex(), 1, b""
        secret = keystore.add(dataset_id, name)
    else:
        dataset_id, version, previous = before.manifest.dataset_id, before.manifest.version + 1, before.manifest.reference.digest
        secret = keystore.secret(dataset_id)
    inherited = before.body.brokers if before is not None else ()
    writer = PartWriter(
        schema=source.schema,
        secret=secret,
        dataset_id=dataset_id,
        version=version,
        layout=layout,
        brokers=inherited if brokers is None else tuple(sorted(set(brokers))),
    )
    try:
        with new_directory(directory) as temporary:
            body = writer.write(temporary, source, progress)
            manifest = _manifest(writer, body, name, previous, identity)
            write_synced(temporary / MANIFEST_FILE, identity.sign(manifest).to_bytes())
            if encodings:
                opened = OpenDataset(directory=temporary, manifest=manifest, body=body, secret=secret)
                write_companion(opened, encodings, identity=identity, keystore=keystore, accept_leakage=accept_leakage)
    except BaseException:
        if before is None:
            keystore.forget(dataset_id)
        raise
    _record(keystore, manifest, directory)
    return manifest


def _manifest(writer: PartWriter, body: ManifestBody, name: str, previous: bytes, identity: PrivateIdentity) -> Manifest:
    dataset_id, version = writer.dataset_id, writer.version
    return Manifest(
        dataset_id=dataset_id,
        name=name,
        version=version,
        previous=previous,
        owner=identity.public.fingerprint,
        created=int(time.time()),
        parts=tuple(ClearPart(file=part.file, length=part.length) for part in body.parts),
        columns=() if writer.layout.hide_columns else body.columns,
        rows=None if writer.layout.hide_rows else body.rows,
        body=seal(writer.secret.derive(BODY_PURPOSE), body_context(dataset_id, version), body.to_bytes()),
    )


def _record(keystore: Keystore, manifest: Manifest, directory: Path) -> None:
    """Note the new version; a dataset that cannot be noted is taken back."""
    try:
        keystore.record(manifest)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        if manifest.version == 1:
            keystore.forget(manifest.dataset_id)
        raise
