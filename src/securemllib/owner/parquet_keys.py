"""Keys of files in Parquet's own encryption, in a JSON file that only its owner can read.

::

    {"format": "securemllib/parquet-keys/v1",
     "files": [{"file": "part-00000.parquet", "footer_key": "<base64>", "aad_prefix": "<base64>"}]}

The key is the file's one key, for its footer and all columns, of 128, 192 or 256 bits. An empty ``aad_prefix`` means that there is none, or
that the file stores its own. The name ``*`` stands for every file that has no entry of its own.
"""

import base64
import binascii
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pyarrow.parquet.encryption as pe

from securemllib.crypto.locked import read_private, write_private
from securemllib.errors import DataError, UsageError

__all__ = ["ANY_FILE", "FileKey", "ParquetKeys", "require_apart", "require_gcm"]

ANY_FILE = "*"
_FORMAT = "securemllib/parquet-keys/v1"
_FIELDS = frozenset({"file", "footer_key", "aad_prefix"})
_KEY_BYTES = frozenset({16, 24, 32})
# A file with an encrypted footer ends with the length of its crypto metadata and footer, and this (Parquet Modular Encryption, section 5).
_ENCRYPTED_MAGIC = b"PARE"
_TAIL_BYTES = 8
# The crypto metadata begins with the algorithm, a Thrift union in compact encoding, whose first member is AES_GCM_V1.
_GCM = b"\x1c\x1c"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileKey:
    """The key of one file.

    Attributes:
        file: Its name, without a directory.
        footer_key: The key of its footer and columns.
        aad_prefix: What the reader must supply; empty for nothing.
    """

    file: str
    footer_key: bytes = field(repr=False)
    aad_prefix: bytes

    def decryption(self) -> Any:
        """Return pyarrow's decryption properties; they refuse a file that is not encrypted."""
        return pe.create_decryption_properties(self.footer_key, aad_prefix=self.aad_prefix or None)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key cannot be pickled or copied")


class ParquetKeys:
    """Keys by file name.

    Args:
        keys: One a file.
    """

    __slots__ = ("_keys",)

    def __init__(self, keys: tuple[FileKey, ...]) -> None:
        self._keys = {key.file: key for key in keys}

    def of(self, path: Path) -> FileKey:
        """Return the key of a file; `UsageError` where there is none."""
        found = self._keys.get(path.name, self._keys.get(ANY_FILE))
        if found is None:
            raise UsageError(f"The keys have no entry for {path.name}.", next_step=f"Add it, or one for {ANY_FILE!r}.", code="usage.keys")
        return found

    @classmethod
    def read(cls, path: Path) -> "ParquetKeys":
        """Return the keys of a JSON file that only this user can read; `UsageError` for any other."""
        data = read_private(path)
        try:
            tree = json.loads(data)
        except ValueError:
            raise _malformed(path, "it is no JSON") from None
        if not isinstance(tree, dict) or tree.keys() != {"format", "files"} or tree["format"] != _FORMAT:
            raise _malformed(path, f"it has the fields `format`, which is {_FORMAT!r}, and `files`")
        if not isinstance(tree["files"], list) or not tree["files"]:
            raise _malformed(path, "`files` is a list of at least one entry")
        return cls(tuple(_file_key(path, entry) for entry in tree["files"]))

    def write(self, path: Path) -> None:
        """Write the keys to a new file that only this user can read; `UsageError` where it exists."""
        if not path.parent.is_dir():
            raise UsageError(f"There is no directory {path.parent}.", next_step="Create it first.")
        files = [
            {"file": key.file, "footer_key": _text(key.footer_key), "aad_prefix": _text(key.aad_prefix)} for key in self._keys.values()
        ]
        write_private(path, json.dumps({"format": _FORMAT, "files": files}, indent=1).encode() + b"\n")


def require_apart(keys: Path, encrypted: Path) -> None:
    """Raise where a file of keys would lie in the directory of what they open, or beside the file: those go to storage of others."""
    target, parents = encrypted.resolve(), keys.resolve().parents
    if target in parents or target.parent == parents[0]:
        raise UsageError(
            f"{keys} lies beside {encrypted}, which its keys open.", next_step="Give a path in a directory of your own.", code="usage.keys"
        )


def require_gcm(path: Path) -> None:
    """Raise where a file is not encrypted as a whole with AES_GCM_V1.

    In AES_GCM_CTR_V1 pages carry no tag, so a changed page would be read as other values; a clear footer tells the columns' statistics.

    Raises:
        DataError: The file is in the clear, has a clear footer, or another algorithm.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _TAIL_BYTES))
        tail = file.read()
        if tail[4:] != _ENCRYPTED_MAGIC:
            raise DataError(f"{path.name} is not in Parquet's encryption with an encrypted footer.", code="data.parquet")
        file.seek(max(0, size - _TAIL_BYTES - int.from_bytes(tail[:4], "little")))
        if file.read(len(_GCM)) != _GCM:
            raise DataError(
                f"{path.name} is not encrypted with AES_GCM_V1.",
                next_step="Write it again with AES_GCM_V1: in AES_GCM_CTR_V1 nothing tells that a page was changed.",
                code="data.parquet",
            )


def _file_key(path: Path, entry: Any) -> FileKey:
    if not isinstance(entry, dict) or not entry.keys() <= _FIELDS or not isinstance(entry.get("file"), str):
        raise _malformed(path, f"an entry has the fields {', '.join(sorted(_FIELDS))}")
    key, prefix = (_bytes(path, entry.get(name, "")) for name in ("footer_key", "aad_prefix"))
    if len(key) not in _KEY_BYTES:
        raise _malformed(path, f"the key of {entry['file']!r} has {len(key)} bytes, not one of {sorted(_KEY_BYTES)}")
    return FileKey(file=entry["file"], footer_key=key, aad_prefix=prefix)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(path: Path, text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise _malformed(path, "keys and prefixes are texts in base64") from None


def _malformed(path: Path, rule: str) -> UsageError:
    return UsageError(f"{path.name} is no file of Parquet keys: {rule}.", code="usage.keys")
