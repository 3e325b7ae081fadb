"""A KEK in a file of this machine: under a passphrase (scrypt), or protected by the file's permissions alone.

The file holds all versions, 32 bytes each, the first one first. Shredding replaces it by a file that says so; copies and backups of
the file are not reached by that, and neither are blocks that a disk set aside.
"""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from securemllib.crypto.aead import seal, unseal
from securemllib.crypto.keys import KEY_BYTES, DataKey
from securemllib.crypto.locked import Locked, lock, read_private, unlock, write_private
from securemllib.errors import FormatError, UnsealError, UsageError
from securemllib.kms.key import Binding, KeyDescription, WrappedSecret, not_openable, shredded

__all__ = ["SCHEME", "FileKey", "path_of"]

SCHEME = "file"
_PURPOSE = "securemllib key-encryption key"
_WRAPPING = "securemllib/kek-file/v1"
_SHREDDED = b"shredded"


def path_of(name: str) -> Path:
    """Return the path of ``file:///absolute/path``."""
    parts = urlsplit(name)
    path = Path(unquote(parts.path))
    if parts.scheme != SCHEME or parts.netloc or parts.query or parts.fragment or not path.is_absolute():
        raise UsageError("A key in a file is named file:///ABSOLUTE/PATH.", code="usage.kek_name")
    return path


class FileKey:
    """All versions of a KEK in memory, and the file that they come from.

    Args:
        path: The file.
        versions: The versions, the first one first.
        passphrase: What the file is sealed under, to write it again; None for permissions alone.
    """

    __slots__ = ("_passphrase", "_path", "_versions")

    def __init__(self, path: Path, versions: tuple[DataKey, ...], passphrase: str | None) -> None:
        self._path = path
        self._versions = versions
        self._passphrase = passphrase

    @classmethod
    def create(cls, path: Path, passphrase: str | None) -> "FileKey":
        """Make a key in a new file; None leaves it to the file's permissions."""
        key = cls(path, (DataKey.generate(),), passphrase)
        key._write(key._versions, replace=False)
        return key

    @classmethod
    def open(cls, path: Path, passphrase: str | None = None) -> "FileKey":
        """Return the key of a file.

        Raises:
            UsageError: There is no such file, others can read it, or a passphrase is needed.
            UnsealError: The passphrase is wrong.
            UnavailableError: The key was shredded.
        """
        secrets = unlock(_read(path), _PURPOSE, passphrase)
        if not secrets or len(secrets) % KEY_BYTES:
            raise FormatError(f"{path} holds no key-encryption key.")
        versions = tuple(DataKey(secrets[start : start + KEY_BYTES]) for start in range(0, len(secrets), KEY_BYTES))
        return cls(path, versions, passphrase)

    @staticmethod
    def has_passphrase(path: Path) -> bool:
        """Return whether the key of a file needs a passphrase."""
        return _read(path).has_passphrase

    def wrap(self, secret: DataKey, binding: Binding) -> WrappedSecret:
        """See `KeyEncryptionKey.wrap`."""
        _read(self._path)
        version = len(self._versions)
        sealed = seal(self._key(version), binding.associated_data, secret.expose())
        return WrappedSecret(service=SCHEME, key_version=version, ciphertext=sealed)

    def unwrap(self, wrapped: WrappedSecret, binding: Binding) -> DataKey:
        """See `KeyEncryptionKey.unwrap`."""
        _read(self._path)
        if wrapped.service != SCHEME or wrapped.key_version > len(self._versions):
            raise not_openable(binding)
        try:
            return DataKey(unseal(self._key(wrapped.key_version), binding.associated_data, wrapped.ciphertext))
        except UnsealError:
            raise not_openable(binding) from None

    def rewrap(self, wrapped: WrappedSecret, binding: Binding) -> WrappedSecret:
        """See `KeyEncryptionKey.rewrap`."""
        return self.wrap(self.unwrap(wrapped, binding), binding)

    def rotate(self) -> int:
        """See `KeyEncryptionKey.rotate`."""
        _read(self._path)
        versions = (*self._versions, DataKey.generate())
        self._write(versions, replace=True)
        self._versions = versions
        return len(versions)

    def shred(self) -> None:
        """See `KeyEncryptionKey.shred`."""
        _read(self._path)
        write_private(self._path, lock(_PURPOSE, _SHREDDED, b"", None).to_bytes(), replace=True)
        self._versions = ()

    def describe(self) -> KeyDescription:
        """See `KeyEncryptionKey.describe`."""
        protection = "passphrase" if _read(self._path).has_passphrase else "file permissions"
        return KeyDescription(name=self._path.absolute().as_uri(), version=len(self._versions), protection=protection)

    def __repr__(self) -> str:
        return f"FileKey({str(self._path)!r})"

    def _key(self, version: int) -> DataKey:
        return self._versions[version - 1].derive(_WRAPPING)

    def _write(self, versions: tuple[DataKey, ...], *, replace: bool) -> None:
        secrets = b"".join(version.expose() for version in versions)
        write_private(self._path, lock(_PURPOSE, b"", secrets, self._passphrase).to_bytes(), replace=replace)


def _read(path: Path) -> Locked:
    # Read at each use: a key that another process shredded is used no more, although this one still remembers it.
    locked = Locked.from_bytes(read_private(path))
    if locked.public == _SHREDDED:
        raise shredded(path.absolute().as_uri())
    return locked
