"""The dataset manifest: which parts make a dataset, under one signature, with a clear section for the host."""

from dataclasses import dataclass
from typing import ClassVar

from securemllib.errors import FormatError
from securemllib.wire.encoding import digest, length_prefixed
from securemllib.wire.record import Record

__all__ = [
    "PART_LIMIT",
    "ClearPart",
    "Column",
    "DatasetRef",
    "KeptPart",
    "Manifest",
    "ManifestBody",
    "Part",
    "aad_prefix",
    "body_context",
    "manifest_digest",
    "part_key_context",
    "written_in",
]

# One part is one Spark task's input and one enclave allocation; the manifest of 10,000 parts takes 3 MB.
PART_LIMIT = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRef(Record):
    """One version of one dataset, named by the digest of its manifest."""

    TYPE: ClassVar[str] = "securemllib/dataset-ref/v1"

    dataset_id: str
    version: int
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Column(Record):
    """A column's name and type.

    Attributes:
        name: The column's name.
        type: An Arrow type's text: ``int64``, ``double``, ``bool``, ``string``, ``timestamp[us, tz=UTC]``, ``list<list<int64>>``...
        nullable: Whether the source held nulls.
        encoding: How the column is stored; ``sealed`` means that only enclaves read it.
    """

    TYPE: ClassVar[str] = "securemllib/column/v1"

    name: str
    type: str
    nullable: bool
    encoding: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearPart(Record):
    """What the host must know of a part to schedule it."""

    TYPE: ClassVar[str] = "securemllib/clear-part/v1"

    file: str
    length: int

    def __post_init__(self) -> None:
        if not self.file or "/" in self.file or "\\" in self.file or self.file.startswith("."):
            raise FormatError("A part's file is a plain name in the dataset's directory.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part(Record):
    """What an owner and an enclave know of a part.

    Attributes:
        ordinal: The part's position, from 0.
        file: Its file name.
        length: Bytes of the encrypted file.
        sha256: SHA-256 of the encrypted file.
        rows: Its rows.
        wrapped_key: Its random data key, sealed under the dataset secret.
        salt: 16 random bytes of its AAD prefix.
    """

    TYPE: ClassVar[str] = "securemllib/part/v1"

    ordinal: int
    file: str
    length: int
    sha256: bytes
    rows: int
    wrapped_key: bytes
    salt: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptPart(Part):
    """A part that an earlier version wrote and this one has as it was.

    Attributes:
        version: The version that wrote it, which its key and AAD prefix are bound to.
    """

    TYPE: ClassVar[str] = "securemllib/kept-part/v1"

    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestBody(Record):
    """The sealed section of a manifest. Where it names brokers, by fingerprint, enclaves take the dataset's keys from no other."""

    TYPE: ClassVar[str] = "securemllib/manifest-body/v1"

    parts: tuple[Part | KeptPart, ...]
    columns: tuple[Column, ...]
    brokers: tuple[str, ...]

    def __post_init__(self) -> None:
        if [part.ordinal for part in self.parts] != list(range(len(self.parts))):
            raise FormatError("The parts of a manifest are numbered from 0 without gaps.")
        if len({column.name for column in self.columns}) != len(self.columns):
            raise FormatError("A manifest names a column twice.")

    @property
    def rows(self) -> int:
        """The rows of all parts."""
        return sum(part.rows for part in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest(Record):
    """A version of a dataset.

    Attributes:
        dataset_id: 32 hexadecimal digits, chosen at random when the dataset is made.
        name: What people call the dataset.
        version: From 1.
        previous: The digest of the version before, empty for the first.
        owner: The owner's fingerprint.
        created: Seconds since 1970, by the owner's clock.
        parts: File names and lengths of all parts, in order.
        columns: Names and types, or empty where the owner hides them.
        rows: The row count, or None where the owner hides it.
        body: A `ManifestBody`, sealed under the dataset secret.
    """

    TYPE: ClassVar[str] = "securemllib/manifest/v1"

    dataset_id: str
    name: str
    version: int
    previous: bytes
    owner: str
    created: int
    parts: tuple[ClearPart, ...]
    columns: tuple[Column, ...]
    rows: int | None
    body: bytes

    def __post_init__(self) -> None:
        if self.version < 1 or (self.version == 1) != (self.previous == b""):
            raise FormatError("Version 1 has no version before it, and every later version has one.")
        if len(self.parts) > PART_LIMIT:
            raise FormatError(f"A dataset has at most {PART_LIMIT} parts, not {len(self.parts)}.")

    @property
    def reference(self) -> DatasetRef:
        """The name of this version."""
        return DatasetRef(dataset_id=self.dataset_id, version=self.version, digest=manifest_digest(self.to_bytes()))


def written_in(part: Part, version: int) -> int:
    """Return the version that wrote a part of a dataset's given version."""
    return part.version if isinstance(part, KeptPart) else version


def manifest_digest(payload: bytes) -> bytes:
    """Return the digest that names a manifest, from its encoding."""
    return digest(Manifest.TYPE, payload)


def aad_prefix(dataset_id: str, version: int, ordinal: int, rows: int, salt: bytes) -> bytes:
    """Return a part's Parquet AAD prefix: never stored, so that a file in another part's place does not decrypt."""
    return digest("securemllib/part/v1", dataset_id, version, ordinal, rows, salt)


def part_key_context(dataset_id: str, version: int, ordinal: int) -> bytes:
    """Return the associated data of a part's wrapped key."""
    return length_prefixed("securemllib/part-key/v1", dataset_id, version, ordinal)


def body_context(dataset_id: str, version: int) -> bytes:
    """Return the associated data of a manifest's sealed body."""
    return length_prefixed("securemllib/manifest-body/v1", dataset_id, version)
