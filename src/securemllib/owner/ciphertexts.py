"""The files of ``homomorphic`` columns: ordinary Parquet of ciphertexts, a row a block of rows of the companion's parts, in their order.

Columns: ``first_row`` and ``rows`` (which rows of the companion the block holds), ``present`` (a bit a row that is not null, lowest first)
and ``ciphertext``. The schema's metadata holds the public context that a host computes with, and the sealed secret one.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from securemllib.crypto.encodings.homomorphic import SecretContext, block_guards
from securemllib.crypto.keys import DataKey
from securemllib.errors import IntegrityError
from securemllib.wire.companion import PUBLIC_CONTEXT, SECRET_CONTEXT

__all__ = ["Blocks", "CiphertextWriter", "read_blocks", "read_secret"]

_SCHEMA = pa.schema(
    [("first_row", pa.int64()), ("rows", pa.int64()), ("present", pa.binary()), ("ciphertext", pa.large_binary())]
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """Where the rows of a column lie.

    Attributes:
        first_rows: The numbers of the blocks' first rows, in order.
        present: Of each row, from number 1, whether it is not null.
    """

    first_rows: NDArray[np.int64]
    present: NDArray[np.bool_]


class CiphertextWriter:
    """Writes one column's file, part by part."""

    def __init__(self, path: Path, key: DataKey, context: bytes) -> None:
        self._key = key
        self._secret = SecretContext.generate()
        metadata = {PUBLIC_CONTEXT: self._secret.public(), SECRET_CONTEXT: self._secret.seal(key, context)}
        self._writer = pq.ParquetWriter(
            path, _SCHEMA.with_metadata({name: value.hex() for name, value in metadata.items()}), compression="none"
        )

    def add(self, values: pa.ChunkedArray, first_row: int) -> None:
        """Encrypt the rows of a part, the first of which has a number."""
        blocks = self._secret.encode(values, lambda start: block_guards(self._key, first_row + start))
        rows, present, ciphertexts = blocks.flatten()
        counts = rows.to_numpy()
        starts = pa.array(first_row + np.cumsum(counts) - counts)
        self._writer.write_table(pa.table([starts, rows, present, ciphertexts], schema=self._writer.schema))

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()


def read_blocks(data: bytes) -> Blocks:
    """Return where the rows of a column's file lie; `IntegrityError` where its blocks are not those of all rows in order."""
    table = pq.read_table(pa.BufferReader(data), columns=["first_row", "rows", "present"])
    first_rows, counts = (table[name].to_numpy().astype(np.int64) for name in ("first_row", "rows"))
    bits = [np.unpackbits(np.frombuffer(found, np.uint8), bitorder="little") for found in table["present"].to_pylist()]
    present = [found[:count] for found, count in zip(bits, counts, strict=True)]
    if not np.array_equal(first_rows, 1 + np.cumsum(counts) - counts) or sum(map(len, present)) != counts.sum():
        raise IntegrityError("The blocks of a file of ciphertexts are not in order.", code="integrity.companion")
    return Blocks(first_rows=first_rows, present=np.concatenate([np.empty(0, np.uint8), *present]).astype(bool))


def read_secret(data: bytes, key: DataKey, context: bytes) -> SecretContext:
    """Return the secret context of a column's file; `IntegrityError` where it has none that the key opens."""
    metadata = pq.read_schema(pa.BufferReader(data)).metadata or {}
    try:
        envelope = bytes.fromhex(metadata[SECRET_CONTEXT.encode()].decode())
    except (KeyError, ValueError):
        raise IntegrityError("A file of ciphertexts has no sealed context.", code="integrity.companion") from None
    return SecretContext.unseal(key, context, envelope)
