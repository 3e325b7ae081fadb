"""Companions: a dataset's encoded columns beside its sealed parts, written by the owner and opened by whoever holds the keys.

::

    DATASET/companion/companion.sml        the signed record of `securemllib.wire.companion`
    DATASET/companion/part-00000.parquet   ordinary Parquet for plain Spark: `spark.read.parquet("DATASET/companion/part-*.parquet")`
    DATASET/companion/order-00000.sealed   the sealed dictionary of a column's order codes
    DATASET/companion/ckks-00000.parquet   the ciphertexts of a homomorphic column

A companion is made from the sealed parts, in their order, so its rows are shuffled as they are; it can be written with the dataset or
later.
"""

import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from hashlib import file_digest, sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from securemllib.crypto.encodings.keys import key_id
from securemllib.crypto.encodings.order import DictionaryBuilder, open_dictionary, seal_dictionary
from securemllib.crypto.encodings.values import kind_of
from securemllib.crypto.identity import PrivateIdentity, verify
from securemllib.errors import IntegrityError, UsageError
from securemllib.owner.atomic import new_directory, write_synced
from securemllib.owner.ciphertexts import CiphertextWriter, read_blocks, read_secret
from securemllib.owner.encoded_columns import KeyedColumn, code_fields, key_of
from securemllib.owner.encoding_attacks import GUESSED, Sample, check, measure
from securemllib.owner.encoding_schema import ColumnEncoding
from securemllib.owner.keystore import Keystore
from securemllib.owner.reading import OpenDataset, open_dataset
from securemllib.wire.companion import (
    COMPANION_DIRECTORY,
    COMPANION_FILE,
    ROW_COLUMN,
    Companion,
    CompanionFile,
    EncodedColumn,
    EncodingName,
    ciphertext_context,
    dictionary_context,
    stored_names,
)
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.signed import Signed

__all__ = ["OpenCompanion", "open_companion", "read_file", "write_companion"]

_SALT_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenCompanion:
    """A companion whose record was verified, with the keys of its columns.

    Attributes:
        directory: Where its files lie.
        companion: The record.
        columns: Its columns with their keys.
    """

    directory: Path
    companion: Companion
    columns: tuple[KeyedColumn, ...]

    def column(self, name: str, encoding: EncodingName) -> KeyedColumn:
        """Return a column in an encoding; `UsageError` where the companion lacks it."""
        for item in self.columns:
            if (item.description.column, item.description.encoding) == (name, encoding):
                return item
        raise UsageError(f"The companion has no column {name!r} in the encoding {encoding.value}.", code="usage.encoding")


def write_companion(
    opened: OpenDataset,
    encodings: Sequence[ColumnEncoding],
    *,
    identity: PrivateIdentity,
    keystore: Keystore,
    accept_leakage: Collection[str] = (),
) -> Companion:
    """Write the companion of a dataset version and return its record.

    Args:
        opened: The dataset version.
        encodings: What its schema declares.
        identity: The owner.
        keystore: Has the join groups' keys.
        accept_leakage: Columns whose codes may show equality or order although an attack on the rows recovers many.

    Raises:
        PolicyError: A column has too little entropy for its encoding, and its leakage was not accepted.
        UsageError: The schema names a column or a join group that there is not, or a companion exists.
        DataError: A column's type or values do not fit its encoding.
    """
    if not opened.manifest.columns or opened.manifest.rows is None:
        raise UsageError("A companion shows columns and rows, which this dataset hides.", next_step="Encrypt it without hiding them.")
    salt = os.urandom(_SALT_BYTES)
    columns = [_keyed(opened, item, keystore, salt) for item in encodings]
    _check_stored([ROW_COLUMN, *(name for item in columns for name in item.description.stored)])
    with new_directory(opened.directory / COMPANION_DIRECTORY) as temporary:
        columns, dictionaries = _surveyed(temporary, opened, columns, accept_leakage)
        ciphertexts = _Ciphertexts(temporary, opened, columns)
        parts = _write_parts(temporary, opened, columns, ciphertexts)
        companion = Companion(
            dataset=opened.manifest.reference,
            owner=identity.public.fingerprint,
            salt=salt,
            columns=tuple(item.description for item in columns),
            parts=tuple(parts),
            dictionaries=dictionaries,
            ciphertexts=ciphertexts.close(),
        )
        write_synced(temporary / COMPANION_FILE, identity.sign(companion).to_bytes())
    return companion


def _check_stored(names: list[str]) -> None:
    """Check that no two columns of a companion have one name for Spark, which sees no difference in case."""
    counts = Counter(name.lower() for name in names)
    if twice := next((name for name in names if counts[name.lower()] > 1), ""):
        raise UsageError(
            f"Two columns of the companion would be stored as {twice}, in any case.",
            next_step="Rename a column, or leave one out of the schema.",
            code="usage.schema",
        )


def open_companion(directory: str | Path, *, owner: PublicIdentity, keystore: Keystore, any_version: bool = False) -> OpenCompanion:
    """Return the companion in a dataset's directory, with the keys of its columns.

    1. The dataset opens (see `open_dataset`): it is the latest version, unless ``any_version``.
    2. The companion is signed by the dataset's owner, for just this version.
    3. Each column's key is the one that the companion names, and opens the column's dictionary.

    Raises:
        IntegrityError: 2 or 3 does not hold.
        UsageError: There is no companion.
    """
    opened = open_dataset(Path(directory), owner=owner, keystore=keystore, any_version=any_version)  # 1
    path = opened.directory / COMPANION_DIRECTORY / COMPANION_FILE
    if not path.is_file():
        raise UsageError(f"{opened.directory} has no companion.", next_step="Run `securemllib data encode`.", code="usage.no_companion")
    companion = verify(Signed.from_bytes(path.read_bytes()), Companion, owner)  # 2
    if companion.dataset != opened.manifest.reference or companion.owner != owner.fingerprint:
        raise IntegrityError("The companion is of another dataset, or of another version.", code="integrity.companion")
    keyed = [_with_key(opened, item, keystore, companion.salt) for item in companion.columns]  # 3
    columns = tuple(_with_secret(path.parent, companion, item) for item in keyed)
    return OpenCompanion(directory=path.parent, companion=companion, columns=columns)


def _keyed(opened: OpenDataset, item: ColumnEncoding, keystore: Keystore, salt: bytes) -> KeyedColumn:
    known = {column.name: column for column in opened.body.columns}
    if item.column not in known:
        raise UsageError(f"The schema names a column {item.column!r} that the dataset does not have.", code="usage.schema")
    column, kind = known[item.column], opened.schema.field(item.column).type
    group = keystore.join_group(item.join_group) if item.join_group else None
    key = key_of(item.column, item.encoding, group, opened.secret, opened.manifest.version, salt)
    is_clear = item.encoding is EncodingName.CLEAR
    description = EncodedColumn(
        column=item.column,
        encoding=item.encoding,
        type=column.type,
        kind="" if is_clear else kind_of(kind),
        stored=stored_names(item.column, item.encoding, code_fields(item.encoding, kind)),
        nullable=column.nullable,
        key_id="" if is_clear else key_id(key),
        join_group=item.join_group,
        digits=kind.scale if pa.types.is_decimal(kind) else item.digits or 0,
        alphabet=item.alphabet,
    )
    return KeyedColumn(description=description, key=key)


def _with_key(opened: OpenDataset, item: EncodedColumn, keystore: Keystore, salt: bytes) -> KeyedColumn:
    group = keystore.join_group(item.join_group) if item.join_group else None
    key = key_of(item.column, item.encoding, group, opened.secret, opened.manifest.version, salt)
    if item.encoding is not EncodingName.CLEAR and key_id(key) != item.key_id:
        raise IntegrityError(f"The key of the encoded column {item.column!r} is another one.", code="integrity.companion")
    return KeyedColumn(description=item, key=key)


def _surveyed(
    directory: Path, opened: OpenDataset, columns: Sequence[KeyedColumn], accepted: Collection[str]
) -> tuple[list[KeyedColumn], dict[str, CompanionFile]]:
    """Return the columns with the dictionaries of those in ``order``, which are written sealed, after a first pass over the rows.

    The pass also takes samples, and refuses columns whose codes would tell too much.
    """
    builders = {item.description.column: DictionaryBuilder() for item in columns if item.description.encoding is EncodingName.ORDER}
    samples = {item.description.column: Sample() for item in columns if item.description.encoding in GUESSED}
    for table in opened.tables() if samples else ():
        for name, sample in samples.items():
            sample.add(table[name])
        for name, builder in builders.items():
            builder.add(table[name])
    made: list[KeyedColumn] = []
    files: dict[str, CompanionFile] = {}
    for item in columns:
        name, encoding = item.description.column, item.description.encoding
        if encoding in GUESSED:
            check(name, encoding, measure(encoding, samples[name].values()), accepted)
        if encoding is EncodingName.ORDER:
            item = replace(item, dictionary=builders[name].finish())
            context = dictionary_context(opened.manifest.dataset_id, opened.manifest.version, name)
            envelope = seal_dictionary(item.key, context, item.dictionary)
            files[name] = _write_file(directory, f"order-{len(files):05d}.sealed", memoryview(envelope), opened.body.rows)
        made.append(item)
    return made, files


class _Ciphertexts:
    """The files of a companion's homomorphic columns while they are written."""

    def __init__(self, directory: Path, opened: OpenDataset, columns: Sequence[KeyedColumn]) -> None:
        self._rows = opened.body.rows
        self._writers: dict[str, tuple[Path, CiphertextWriter]] = {}
        for item in columns:
            if item.description.encoding is EncodingName.HOMOMORPHIC:
                name, path = item.description.column, directory / f"ckks-{len(self._writers):05d}.parquet"
                context = ciphertext_context(opened.manifest.dataset_id, opened.manifest.version, name)
                self._writers[name] = path, CiphertextWriter(path, item.key, context)

    def add(self, table: pa.Table, first_row: int) -> None:
        """Encrypt the columns of a part."""
        for name, (_, writer) in self._writers.items():
            writer.add(table[name], first_row)

    def close(self) -> dict[str, CompanionFile]:
        """Finish the files and describe them."""
        described = {}
        for name, (path, writer) in self._writers.items():
            writer.close()
            with path.open("rb") as file:
                os.fsync(file.fileno())
                digest = file_digest(file, "sha256").digest()
            described[name] = CompanionFile(file=path.name, length=path.stat().st_size, sha256=digest, rows=self._rows)
        return described


def _with_secret(directory: Path, companion: Companion, item: KeyedColumn) -> KeyedColumn:
    """Return the column with the dictionary or the secret context that its encoding has."""
    name, dataset = item.description.column, companion.dataset
    match item.description.encoding:
        case EncodingName.ORDER:
            envelope = read_file(directory, companion.dictionaries[name])
            context = dictionary_context(dataset.dataset_id, dataset.version, name)
            return replace(item, dictionary=open_dictionary(item.key, context, envelope))
        case EncodingName.HOMOMORPHIC:
            context = ciphertext_context(dataset.dataset_id, dataset.version, name)
            data = read_file(directory, companion.ciphertexts[name])
            return replace(item, secret=read_secret(data, item.key, context), blocks=read_blocks(data))
        case _:
            return item


def read_file(directory: Path, file: CompanionFile) -> bytes:
    """Return the bytes of a companion's file; `IntegrityError` unless they are those that the owner wrote."""
    path = directory / file.file
    data = path.read_bytes() if path.is_file() and path.stat().st_size == file.length else b""
    if sha256(data).digest() != file.sha256:
        raise IntegrityError(f"The companion's file {file.file} is missing or was changed.", code="integrity.companion")
    return data


def _write_parts(directory: Path, opened: OpenDataset, columns: Sequence[KeyedColumn], ciphertexts: "_Ciphertexts") -> list[CompanionFile]:
    parts: list[CompanionFile] = []
    first_row = 1
    for table in opened.tables():
        stored = {ROW_COLUMN: pa.array(np.arange(first_row, first_row + table.num_rows))}
        ciphertexts.add(table, first_row)
        for column in columns:
            if not column.description.stored:
                continue
            codes = column.encode(table[column.description.column], first_row)
            stored |= dict(zip(column.description.stored, codes, strict=True))
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(stored), sink)
        parts.append(_write_file(directory, f"part-{len(parts):05d}.parquet", memoryview(sink.getvalue()), table.num_rows))
        first_row += table.num_rows
    return parts


def _write_file(directory: Path, name: str, data: memoryview, rows: int) -> CompanionFile:
    write_synced(directory / name, data)
    return CompanionFile(file=name, length=len(data), sha256=sha256(data).digest(), rows=rows)
