"""Sums of ciphertexts over the rows that a query chose, computed by Spark's own tasks: no enclave, and no key on the host.

A query's rows come with the numbers of the rows that each sum adds, as words of 64 bits (`securemllib.sql.fields`). A block of the column
is multiplied with 1 in the slots of such rows and with 0 in all others, and the products of all blocks are added: one product deep,
whatever the query. A task needs TenSEAL, of the extra ``securemllib[homomorphic]``, and the public context, with which nothing opens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql.types import BinaryType, StructField, StructType

from securemllib.errors import FormatError
from securemllib.spark.storage import Folder
from securemllib.wire.companion import PUBLIC_CONTEXT

__all__ = ["EncryptedSum", "with_encrypted_sums"]

# The last slots of each ciphertext hold what its error is measured by, and are always added.
_GUARD_SLOTS = 8
_WORD_BITS = 64
# What a task sums at once: a sum takes about 400 kB of memory, and the file is read once for so many.
_SUMS_AT_ONCE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptedSum:
    """One column of sums.

    Attributes:
        name: What it is called in the result.
        rows: The result's column with the rows that each sum adds.
        folder: Where the column's file of ciphertexts lies.
        file: The file's name.
    """

    name: str
    rows: str
    folder: Folder
    file: str


def with_encrypted_sums(rows: DataFrame, sums: Sequence[EncryptedSum]) -> DataFrame:
    """Return a query's rows with columns of encrypted sums, null where a sum adds no row.

    Args:
        rows: What Spark computed.
        sums: The columns.
    """
    added = [StructField(wanted.name, BinaryType(), True) for wanted in sums]
    return rows.mapInArrow(_Summing(sums=tuple(sums)), StructType([*rows.schema.fields, *added]))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Summing:
    """What a Spark task does to the rows of its share."""

    sums: tuple[EncryptedSum, ...]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield each batch with its sums."""
        for batch in batches:
            for start in range(0, batch.num_rows, _SUMS_AT_ONCE):
                part = batch.slice(start, _SUMS_AT_ONCE)
                for wanted in self.sums:
                    found = pa.array(_summed(wanted, part.column(wanted.rows)), pa.binary())
                    part = pa.RecordBatch.from_arrays([*part.columns, found], names=[*part.schema.names, wanted.name])
                yield part


def _summed(wanted: EncryptedSum, words: pa.Array) -> list[bytes | None]:
    """Return one serialised sum for each list of words, None where it is empty."""
    import tenseal

    totals: list[Any] = [None] * len(words)
    with wanted.folder.parquet(wanted.file) as file:
        metadata = file.schema_arrow.metadata or {}
        if PUBLIC_CONTEXT.encode() not in metadata:
            raise FormatError(f"{wanted.file} of {wanted.folder.root} holds no ciphertexts.")
        context = tenseal.context_from(bytes.fromhex(metadata[PUBLIC_CONTEXT.encode()].decode()))
        # A product keeps its scale of 2**80, of which the modulus has room: bringing it back would cost precision.
        context.auto_rescale = False
        layout = file.read(columns=["first_row", "rows"])
        first_rows = layout["first_row"].to_numpy()
        needed = _by_block(words, first_rows)
        for number, ciphertext in _ciphertexts(file, needed):
            block = tenseal.ckks_vector_from(context, ciphertext)
            for group, slots in needed[number]:
                mask = np.zeros(block.size())
                mask[slots] = 1.0
                mask[-_GUARD_SLOTS:] = 1.0
                term = block * mask.tolist()
                totals[group] = term if totals[group] is None else totals[group] + term
    return [None if total is None else bytes(total.serialize()) for total in totals]


def _by_block(words: pa.Array, first_rows: NDArray[np.int64]) -> dict[int, list[tuple[int, NDArray[np.int64]]]]:
    """Return for each block that has rows of a sum the sums' positions, and the slots of their rows."""
    needed: dict[int, list[tuple[int, NDArray[np.int64]]]] = {}
    for group, listed in enumerate(words):
        if not listed.is_valid or not len(listed.values):
            continue
        buckets, bits = (item.cast(pa.int64()).to_numpy(zero_copy_only=False) for item in listed.values.flatten())
        there = np.unpackbits(bits.astype("<i8").view(np.uint8), bitorder="little").reshape(-1, _WORD_BITS)
        which, bit = np.nonzero(there)
        rows = np.sort(buckets[which] * _WORD_BITS + bit)
        blocks = np.searchsorted(first_rows, rows, side="right") - 1
        for number in np.unique(blocks):
            needed.setdefault(int(number), []).append((group, rows[blocks == number] - first_rows[number]))
    return needed


def _ciphertexts(file: pq.ParquetFile, needed: dict[int, Any]) -> Iterator[tuple[int, bytes]]:
    """Yield the numbers and ciphertexts of blocks that are needed; a row group without such a block is not read."""
    number = 0
    for group in range(file.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        if any(block in needed for block in range(number, number + count)):
            position = number
            for batch in file.iter_batches(batch_size=1, row_groups=[group], columns=["ciphertext"]):
                if position in needed:
                    yield position, batch.column("ciphertext")[0].as_py()
                position += 1
        number += count
