"""One part: a Parquet file of one row group, encrypted under its own key, in the file format's own encryption."""

import os
import threading
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe

from securemllib.algorithms.vectors import PACKED, VECTOR, unpacked
from securemllib.crypto.aead import seal, unseal
from securemllib.crypto.keys import DataKey
from securemllib.errors import FormatError, IntegrityError
from securemllib.owner.parquet_keys import FileKey
from securemllib.wire.dataset import Part, aad_prefix, part_key_context, written_in

__all__ = ["WRAPPING_PURPOSE", "encode_part", "part_key", "read_part"]

WRAPPING_PURPOSE = "securemllib/part-key-wrapping/v1"
_SALT_BYTES = 16
# A padded file is a multiple of a sixteenth of its size's power of two, and at least of 64 KiB: at most 1/8 more, few distinct sizes.
_PADDING_STEPS = 16
_PADDING_MINIMUM = 2**16
_ROOMS = threading.local()
# Headers and the footer's entry of a column, by far.
_COLUMN_ROOM = 2**14
# Lengths from here to 2**21 take three bytes in the footer's encoding, so a change of padding changes the file by the same amount.
_PADDING_FLOOR = 2**14
# Arrow's bytes have offsets of 4 bytes.
_MOST_BYTES = 2**31 - 1
# A column's values are handed over in batches, each with a cost of its own; the size of pages is bounded apart.
_VALUES_AT_ONCE = 2**16


def encode_part(
    table: pa.Table, *, secret: DataKey, dataset_id: str, version: int, ordinal: int, compression: str, size_hiding: bool
) -> tuple[Part, pa.Buffer]:
    """Return a part's description and its encrypted file, which lasts until the same thread encodes its next part.

    Args:
        table: The part's rows.
        secret: The dataset secret, which wraps the part's fresh random key.
        dataset_id: The dataset.
        version: Its version.
        ordinal: The part's position.
        compression: A Parquet codec, or ``none``.
        size_hiding: Whether the file is padded.
    """
    key, salt = DataKey.generate(), os.urandom(_SALT_BYTES)
    table = _without_levels(_packed(table))
    prefix = aad_prefix(dataset_id, version, ordinal, table.num_rows, salt)
    data = _padded(table, key, prefix, compression) if size_hiding else _encrypted(table, key, prefix, compression, 0)
    file = f"part-{ordinal:05d}.parquet"
    context = part_key_context(dataset_id, version, ordinal)
    part = Part(
        ordinal=ordinal,
        file=file,
        length=data.size,
        sha256=sha256(memoryview(data)).digest(),
        rows=table.num_rows,
        wrapped_key=seal(secret.derive(WRAPPING_PURPOSE), context, key.expose()),
        salt=salt,
    )
    return part, data


def read_part(
    directory: Path, part: Part, *, secret: DataKey, dataset_id: str, version: int, schema: pa.Schema | None = None, whole: bool = False
) -> pa.Table:
    """Return the rows of a part.

    1. The file has the length of the signed manifest, and its SHA-256 where ``whole`` asks for that: decryption binds every byte
       that becomes a row by itself, the SHA-256 also those that become none.
    2. Its key unwraps as the key of this part of this version.
    3. It decrypts with the AAD prefix of this part and holds as many rows as the manifest says.
    4. Its columns are the manifest's, where ``schema`` gives them.

    Raises:
        IntegrityError: One of them does not hold.
    """
    # 1
    path = directory / part.file
    if not path.is_file():
        raise IntegrityError(f"Part {part.ordinal} of dataset {dataset_id} is missing.", code="integrity.missing_part")
    if path.stat().st_size != part.length:
        raise IntegrityError(f"Part {part.ordinal} has {path.stat().st_size} bytes, not {part.length}.", code="integrity.part")
    data = pa.py_buffer(path.read_bytes())
    if whole and sha256(memoryview(data)).digest() != part.sha256:
        raise IntegrityError(f"Part {part.ordinal} of dataset {dataset_id} was changed.", code="integrity.part")
    # 2
    key = part_key(part, secret=secret, dataset_id=dataset_id, version=version)
    # 3
    try:
        with pq.ParquetFile(pa.BufferReader(data), decryption_properties=key.decryption()) as file:
            stored = file.read().replace_schema_metadata(None)
            table = pa.Table.from_arrays([unpacked(column) for column in stored.columns], names=stored.column_names)
    except (OSError, pa.ArrowException) as error:
        raise IntegrityError(
            f"Part {part.ordinal} of dataset {dataset_id} does not decrypt as that part.", code="integrity.part"
        ) from error
    if table.num_rows != part.rows:
        raise IntegrityError(f"Part {part.ordinal} holds {table.num_rows} rows, not {part.rows}.", code="integrity.part")
    # 4
    found = _nullable(table.schema)
    if schema is not None and found != schema:
        raise FormatError(f"Part {part.ordinal} has other columns than its manifest.")
    return pa.Table.from_arrays(table.columns, schema=found)


def part_key(part: Part, *, secret: DataKey, dataset_id: str, version: int) -> FileKey:
    """Return the key and AAD prefix of a part's file; `UnsealError` where the key is not that of this part of this version."""
    version = written_in(part, version)
    context = part_key_context(dataset_id, version, part.ordinal)
    key = unseal(secret.derive(WRAPPING_PURPOSE), context, part.wrapped_key)
    return FileKey(file=part.file, footer_key=key, aad_prefix=aad_prefix(dataset_id, version, part.ordinal, part.rows, part.salt))


def _nullable(schema: pa.Schema) -> pa.Schema:
    """Return the columns as a dataset has them: one part says of a column that it holds no null, another part may hold some."""
    return pa.schema([item.with_nullable(True) for item in schema])


def _without_levels(table: pa.Table) -> pa.Table:
    """Return the rows with every column that holds no null as one that may hold none: Parquet then stores, and reads, no level a value."""
    fields = [item.with_nullable(column.null_count > 0) for item, column in zip(table.schema, table.columns, strict=True)]
    return pa.Table.from_arrays(table.columns, schema=pa.schema(fields))


def _packed(table: pa.Table) -> pa.Table:
    """Return the rows with the lists of vectors as bytes where these can hold them: what `unpacked` reads."""
    columns = [_packed_vectors(column.combine_chunks()) if column.type == VECTOR else column for column in table.columns]
    return pa.Table.from_arrays(columns, names=table.column_names)


def _packed_vectors(vectors: pa.StructArray) -> pa.StructArray:
    lists = [vectors.field("indices"), vectors.field("values")]
    if any(column.values.null_count or column.values.nbytes > _MOST_BYTES for column in lists):
        return vectors
    columns = [vectors.field("type"), vectors.field("size"), *map(_row_bytes, lists)]
    return pa.StructArray.from_arrays(columns, fields=list(PACKED), mask=vectors.is_null() if vectors.null_count else None)


def _row_bytes(lists: pa.ListArray) -> pa.BinaryArray:
    """Return the bytes of each row's numbers, which are not copied."""
    flat, width = lists.values, lists.type.value_type.bit_width // 8
    valid, places = lists.buffers()[:2]
    ends = np.frombuffer(places, np.int32)[: lists.offset + len(lists) + 1] * np.int32(width)
    held = flat.buffers()[1].slice(flat.offset * width)
    return pa.Array.from_buffers(pa.binary(), len(lists), [valid, pa.py_buffer(ends), held], lists.null_count, lists.offset)


def _encrypted(table: pa.Table, key: DataKey, prefix: bytes, compression: str, padding: int) -> pa.Buffer:
    # An output that grows copies itself again and again: that took longer than the encryption.
    room = _room(table.nbytes + table.nbytes // 8 + padding + _COLUMN_ROOM * (table.num_columns + 1))
    try:
        with pa.FixedSizeBufferWriter(room) as sink:
            _write(sink, table, key, prefix, compression, padding)
            return room.slice(0, sink.tell())
    except OSError:
        # Short lists and nulls may take more in Parquet than in Arrow.
        grown = pa.BufferOutputStream()
        _write(grown, table, key, prefix, compression, padding)
        return grown.getvalue()


def _room(size: int) -> pa.Buffer:
    """Return this thread's buffer of at least so many bytes: fresh pages for each part cost as much as encrypting it."""
    room: pa.Buffer | None = getattr(_ROOMS, "room", None)
    if room is None or room.size < size:
        _ROOMS.room = room = pa.allocate_buffer(size)
    return room


def _write(sink: pa.NativeFile, table: pa.Table, key: DataKey, prefix: bytes, compression: str, padding: int) -> None:
    properties = pe.create_encryption_properties(key.expose(), aad_prefix=prefix, store_aad_prefix=False)
    with pq.ParquetWriter(
        sink,
        table.schema,
        compression=compression,
        use_dictionary=False,
        write_statistics=False,
        write_batch_size=_VALUES_AT_ONCE,
        encryption_properties=properties,
    ) as writer:
        writer.write_table(table, row_group_size=max(1, table.num_rows))
        if padding:
            writer.add_key_value_metadata({"padding": "0" * padding})


def _padded(table: pa.Table, key: DataKey, prefix: bytes, compression: str) -> pa.Buffer:
    """Return a file whose length tells the size of the rows only to about an eighth: the encrypted footer holds the padding."""
    size = _encrypted(table, key, prefix, compression, _PADDING_FLOOR).size
    step = max(_PADDING_MINIMUM, 2 ** (size.bit_length()) // _PADDING_STEPS)
    padding = _PADDING_FLOOR + -size % step
    data = _encrypted(table, key, prefix, compression, padding)
    # Longer lengths take more bytes in the footer; the second try has the length's own size in it.
    if excess := data.size % step:
        data = _encrypted(
            table, key, prefix, compression, padding - excess if padding - excess >= _PADDING_FLOOR else padding + step - excess
        )
    return data
