"""What an owner does with an encrypted dataset: open, inspect, verify and decrypt it."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from securemllib.crypto.aead import unseal
from securemllib.crypto.identity import verify as verify_signature
from securemllib.crypto.keys import DataKey
from securemllib.errors import DataError, FormatError, IntegrityError, SignatureError, UsageError
from securemllib.owner.atomic import new_file, outside
from securemllib.owner.column_types import type_from_text
from securemllib.owner.keystore import Keystore
from securemllib.owner.parts import read_part
from securemllib.wire.dataset import ClearPart, Manifest, ManifestBody, Part, body_context
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.signed import Signed

__all__ = [
    "BODY_PURPOSE",
    "MANIFEST_FILE",
    "OpenDataset",
    "Progress",
    "decrypt",
    "inspect",
    "open_dataset",
    "open_manifest",
    "read_manifest",
    "verify",
]

# Reading, decrypting and decoding release the interpreter's lock.
_READERS = 2

Progress = Callable[[int, int | None], None]

BODY_PURPOSE = "securemllib/manifest-body/v1"
MANIFEST_FILE = "manifest.sml"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenDataset:
    """A dataset version whose manifest was verified and opened.

    Attributes:
        directory: Where its files lie.
        manifest: The manifest.
        body: Its opened body.
        secret: The dataset secret.
    """

    directory: Path
    manifest: Manifest
    body: ManifestBody
    secret: DataKey

    @property
    def schema(self) -> pa.Schema:
        """The columns' Arrow schema."""
        return pa.schema([pa.field(column.name, type_from_text(column.type)) for column in self.body.columns])

    def table(self, part: Part, *, whole: bool = False) -> pa.Table:
        """Return the rows of one part; `IntegrityError` unless they are just what the owner wrote (see `read_part` for ``whole``)."""
        manifest = self.manifest
        return read_part(
            self.directory,
            part,
            secret=self.secret,
            dataset_id=manifest.dataset_id,
            version=manifest.version,
            schema=self.schema,
            whole=whole,
        )

    def tables(self, progress: Progress | None = None, *, whole: bool = False) -> Iterator[pa.Table]:
        """Yield the rows part by part; in memory is one part, and the next ones that are being read.

        Args:
            progress: Hears of the rows so far and in all.
            whole: See `read_part`.
        """
        done, waiting = 0, deque(self.body.parts)
        with ThreadPoolExecutor(_READERS) as pool:
            reading = deque(pool.submit(self.table, waiting.popleft(), whole=whole) for _ in range(min(_READERS, len(waiting))))
            while reading:
                table = reading.popleft().result()
                if waiting:
                    reading.append(pool.submit(self.table, waiting.popleft(), whole=whole))
                done += table.num_rows
                yield table
                if progress is not None:
                    progress(done, self.body.rows)


def read_manifest(directory: Path) -> tuple[Signed, Manifest]:
    """Return a dataset's manifest and its signature, which is not verified here: the clear section tells nothing that is trusted."""
    path = directory / MANIFEST_FILE
    if not path.is_file():
        raise UsageError(f"{directory} is no dataset: it has no {MANIFEST_FILE}.", code="usage.no_dataset")
    signed = Signed.from_bytes(path.read_bytes())
    if signed.payload_type != Manifest.TYPE:
        raise FormatError(f"{path} holds a {signed.payload_type}, not a manifest.")
    return signed, Manifest.from_bytes(signed.payload)


def open_manifest(directory: Path, owner: PublicIdentity) -> Manifest:
    """Return a dataset's manifest.

    1. It is signed by the expected owner.
    2. It names that owner.
    """
    signed, _ = read_manifest(directory)
    if signed.signer != owner.fingerprint:
        raise SignatureError(
            f"The dataset in {directory} is signed by {signed.signer}, not by {owner.fingerprint}.",
            next_step="Use its owner's identity; if it should be theirs, fetch the dataset again from them.",
        )
    manifest = verify_signature(signed, Manifest, owner)  # 1
    if manifest.owner != owner.fingerprint:  # 2
        raise SignatureError(f"The manifest names the owner {manifest.owner}, but {owner.fingerprint} signed it.")
    return manifest


def open_dataset(directory: Path, *, owner: PublicIdentity, keystore: Keystore, any_version: bool = False) -> OpenDataset:
    """Return a dataset version that the owner can read.

    1. The manifest is the owner's.
    2. It is the latest version that the keystore knows, or the next one, which the keystore then notes; unless ``any_version``.
    3. Its body opens with the dataset secret, as the body of this version.
    4. The clear section repeats the body.

    Raises:
        SignatureError: 1 does not hold.
        FreshnessError: 2 does not hold.
        IntegrityError: 3 or 4 does not hold.
        UsageError: The keystore does not know the dataset.
    """
    manifest = open_manifest(directory, owner)  # 1
    if not any_version:  # 2
        keystore.record(manifest)
    secret = keystore.secret(manifest.dataset_id)
    context = body_context(manifest.dataset_id, manifest.version)
    body = ManifestBody.from_bytes(unseal(secret.derive(BODY_PURPOSE), context, manifest.body))  # 3
    clear = tuple(ClearPart(file=part.file, length=part.length) for part in body.parts)  # 4
    if manifest.parts != clear or manifest.columns not in {(), body.columns} or manifest.rows not in {None, body.rows}:
        raise IntegrityError(f"The clear section of dataset {manifest.dataset_id} contradicts its sealed body.")
    return OpenDataset(directory=directory, manifest=manifest, body=body, secret=secret)


def verify(directory: str | Path, *, owner: PublicIdentity, keystore: Keystore | None = None, progress: Progress | None = None) -> Manifest:
    """Return the manifest of a dataset that is whole.

    1. The manifest is signed by ``owner``.
    2. Every part is there with the length that the manifest says.
    3. With a keystore: it is the latest version, and every part has its SHA-256 and decrypts as that part.

    Raises:
        IntegrityError: One of them does not hold.
    """
    path = Path(directory)
    manifest = open_manifest(path, owner)  # 1
    for ordinal, part in enumerate(manifest.parts):  # 2
        file = path / part.file
        if not file.is_file():
            raise IntegrityError(f"Part {ordinal} of dataset {manifest.dataset_id} is missing.", code="integrity.missing_part")
        if file.stat().st_size != part.length:
            raise IntegrityError(f"Part {ordinal} has {file.stat().st_size} bytes, not {part.length}.", code="integrity.part")
    if keystore is not None:  # 3
        for _ in open_dataset(path, owner=owner, keystore=keystore).tables(progress, whole=True):
            pass
    return manifest


def inspect(directory: str | Path, *, owner: PublicIdentity | None = None, keystore: Keystore | None = None) -> dict[str, Any]:
    """Return what a manifest says: its clear section, unverified, or with owner and keystore all of it, verified."""
    path = Path(directory)
    opened = open_dataset(path, owner=owner, keystore=keystore, any_version=True) if owner is not None and keystore is not None else None
    manifest = opened.manifest if opened else read_manifest(path)[1]
    columns, rows = (opened.body.columns, opened.body.rows) if opened else (manifest.columns, manifest.rows)
    described: dict[str, Any] = {
        "dataset_id": manifest.dataset_id,
        "name": manifest.name,
        "version": manifest.version,
        "digest": manifest.reference.digest.hex(),
        "previous": manifest.previous.hex(),
        "owner": manifest.owner,
        "created": manifest.created,
        "verified": opened is not None,
        "parts": len(manifest.parts),
        "bytes": sum(part.length for part in manifest.parts),
        "rows": rows,
        "columns": [{"name": item.name, "type": item.type, "nullable": item.nullable, "encoding": item.encoding} for item in columns],
    }
    if opened:
        described["part_rows"] = [part.rows for part in opened.body.parts]
        described["brokers"] = list(opened.body.brokers)
    return described


def decrypt(
    directory: str | Path,
    destination: str | Path,
    *,
    owner: PublicIdentity,
    keystore: Keystore,
    any_version: bool = False,
    progress: Progress | None = None,
) -> int:
    """Write a dataset's rows, in the shuffled order of its parts, to a new Parquet or CSV file and return their number."""
    target = Path(destination)
    outside(target, [Path(directory)])
    opened = open_dataset(Path(directory), owner=owner, keystore=keystore, any_version=any_version)
    is_csv = target.suffix.lower() == ".csv"
    if not is_csv and target.suffix.lower() not in {".parquet", ".pq"}:
        raise UsageError(f"{target.name} has no suffix that names its format.", next_step="Use .parquet or .csv.")
    if is_csv and any(pa.types.is_list(item.type) for item in opened.schema):
        raise DataError("A CSV file cannot hold a column of lists.", next_step="Decrypt to Parquet.", code="data.type")
    with new_file(target) as temporary:
        make = pa_csv.CSVWriter if is_csv else pq.ParquetWriter
        with make(temporary, opened.schema) as writer:
            for table in opened.tables(progress):
                writer.write_table(table)
    return opened.body.rows
