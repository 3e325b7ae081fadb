"""Opening parts: Parquet Modular Encryption under the part's own key and AAD prefix."""

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe

from securemllib.algorithms.vectors import type_text, unpacked
from securemllib.crypto.aead import unseal
from securemllib.crypto.keys import DataKey
from securemllib.errors import IntegrityError, UnsealError
from securemllib.wire.dataset import DatasetRef, ManifestBody, Part, aad_prefix, part_key_context, written_in

__all__ = ["MANIFEST_BODY_PURPOSE", "PART_KEY_PURPOSE", "open_part"]

# The purposes of keys derived from a dataset secret; the owner derives the same.
PART_KEY_PURPOSE = "securemllib/part-key-wrapping/v1"
MANIFEST_BODY_PURPOSE = "securemllib/manifest-body/v1"

# The reader of a column holds its pages until all columns of the call are read, encrypted and decrypted; few at once stay in a cache, too.
_COLUMNS_AT_ONCE = 16


def open_part(data: memoryview, *, secret: DataKey, dataset: DatasetRef, part: Part, body: ManifestBody, columns: list[str]) -> pa.Table:
    """Return the named columns of a part.

    1. The bytes are as many as the manifest says.
    2. The part's key unwraps in its place of the dataset version that wrote it.
    3. Every Parquet module that is read authenticates under the part's AAD prefix.
    4. The rows are as many, and the columns of the types, that the manifest says.

    Raises:
        UnsealError: The bytes are not those of this part.
        IntegrityError: 1 or 4 does not hold.
    """
    if len(data) != part.length:
        raise IntegrityError(f"Part {part.ordinal} has {len(data)} bytes, not {part.length}.", code="integrity.part")
    version = written_in(part, dataset.version)
    key = unseal(secret.derive(PART_KEY_PURPOSE), part_key_context(dataset.dataset_id, version, part.ordinal), part.wrapped_key)
    prefix = aad_prefix(dataset.dataset_id, version, part.ordinal, part.rows, part.salt)
    properties = pe.create_decryption_properties(key, aad_prefix=prefix)
    try:
        source = pa.BufferReader(pa.py_buffer(data))
        with pq.ParquetFile(source, decryption_properties=properties) as file:
            table = _read(file, columns)
    except (OSError, pa.ArrowException):
        raise UnsealError(f"Part {part.ordinal} was changed, or is another part.", code="integrity.part") from None
    expected = {column.name: column.type for column in body.columns}
    if table.num_rows != part.rows or any(
        type_text(kind) != expected[name] for name, kind in zip(table.column_names, table.schema.types, strict=True)
    ):
        raise IntegrityError(f"Part {part.ordinal} does not hold the rows that the manifest says.", code="integrity.part")
    return table


def _read(file: pq.ParquetFile, columns: list[str]) -> pa.Table:
    """Return the named columns."""
    tables = [
        file.read(columns=columns[start : start + _COLUMNS_AT_ONCE], use_threads=False)
        for start in range(0, max(len(columns), 1), _COLUMNS_AT_ONCE)
    ]
    names = [name for table in tables for name in table.column_names]
    return pa.Table.from_arrays([unpacked(column) for table in tables for column in table.columns], names=names) if names else tables[0]
