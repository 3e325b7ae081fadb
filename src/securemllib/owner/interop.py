"""Datasets and other readers of encrypted Parquet: the keys of parts, handed out on purpose, and a copy that every such reader opens.

A part's key reads that part of that version and nothing else; but nobody asks a policy about it, no broker notes it, and it cannot be taken
back. Ciphers are symmetric, so whoever holds it can also make a part of other rows that opens in its place: with a host that plays along,
an enclave would train on them. Hand keys of parts to yourself; to others hand an export, whose key is of no use against the dataset.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe

from securemllib.errors import UsageError
from securemllib.owner.atomic import new_file
from securemllib.owner.keystore import Keystore
from securemllib.owner.parquet_keys import FileKey, ParquetKeys, require_apart
from securemllib.owner.parts import part_key
from securemllib.owner.reading import Progress, open_dataset
from securemllib.wire.identity import PublicIdentity

__all__ = ["export", "hand_out_keys"]

_KEY_BYTES = 32
# DuckDB 2.0 opens the first page of an encrypted column and no other, so a row group's column is one page, which Parquet bounds at 2 GiB.
_ROW_GROUP_BYTES = 64 * 2**20
_ONE_PAGE = {"use_dictionary": False, "data_page_size": 2**30, "max_rows_per_page": 2**31 - 1, "write_batch_size": 2**20}


def hand_out_keys(
    directory: str | Path, destination: str | Path, *, owner: PublicIdentity, keystore: Keystore, parts: Iterable[int] | None = None
) -> tuple[str, ...]:
    """Write the keys of some parts of a dataset's latest version to a new file of mode 0600, and return the parts' file names.

    Args:
        directory: The dataset.
        destination: The file; never in the dataset's directory, which may lie on storage that nobody trusts.
        owner: Who signed the manifest.
        keystore: Knows the dataset secret.
        parts: The parts' ordinals; None for all.

    Raises:
        UsageError: There is no such part, or the destination exists or lies in the dataset.
    """
    path, target = Path(directory), Path(destination)
    require_apart(target, path)
    opened = open_dataset(path, owner=owner, keystore=keystore)
    manifest, known = opened.manifest, opened.body.parts
    chosen = range(len(known)) if parts is None else sorted(set(parts))
    if not chosen or not 0 <= chosen[0] <= chosen[-1] < len(known):
        raise UsageError(f"Dataset {manifest.dataset_id} has parts from 0 to {len(known) - 1}.", next_step="Name some of them.")
    named = [part_key(known[item], secret=opened.secret, dataset_id=manifest.dataset_id, version=manifest.version) for item in chosen]
    ParquetKeys(tuple(named)).write(target)
    return tuple(key.file for key in named)


def export(
    directory: str | Path,
    destination: str | Path,
    keys: str | Path,
    *,
    owner: PublicIdentity,
    keystore: Keystore,
    progress: Progress | None = None,
) -> int:
    """Write a dataset's rows to one new Parquet file under a fresh key, write that key to a new file of mode 0600, and return the rows.

    The file has one 256-bit key for footer and columns and no AAD prefix, which DuckDB cannot supply: pyarrow, polars and DuckDB open it;
    columns of lists open in pyarrow and polars only, as DuckDB 2.0 decrypts no nested column. A file of its own under a key of its own
    needs no prefix; that it is the latest export, nothing tells.

    Args:
        directory: The dataset.
        destination: The Parquet file.
        keys: The file of its key, not in the same directory.
        owner: Who signed the manifest.
        keystore: Knows the dataset secret.
        progress: Hears of the rows so far and in all.
    """
    target, key_file = Path(destination), Path(keys)
    require_apart(key_file, target)
    opened = open_dataset(Path(directory), owner=owner, keystore=keystore)
    key = FileKey(file=target.name, footer_key=os.urandom(_KEY_BYTES), aad_prefix=b"")
    properties = pe.create_encryption_properties(key.footer_key)
    with new_file(target) as temporary:
        with pq.ParquetWriter(temporary, opened.schema, encryption_properties=properties, **_ONE_PAGE) as writer:
            for table in opened.tables(progress):
                writer.write_table(table, row_group_size=max(1, table.num_rows * _ROW_GROUP_BYTES // max(table.nbytes, _ROW_GROUP_BYTES)))
        # A file whose key could not be kept would be of no use to anybody.
        ParquetKeys((key,)).write(key_file)
    return opened.body.rows
