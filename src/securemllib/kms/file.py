"""A KEK in a file of this machine: under a passphrase (scrypt), or protected by the file's permissions alone.

The file holds all versions, 32 bytes each, the first one first. It is read at each use, so a version that another process made is known
to this one, and it is replaced by one process at a time. Shredding replaces it by a file that says so; copies and backups of the file are
not reached by that, and neither are blocks that a disk set aside.
"""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from securemllib.crypto.aead import seal, unseal
from securemllib.crypto.keys import KEY_BYTES, DataKey
from securemllib.crypto.locked import Locked, lock, read_private, unlock, write_private
from securemllib.errors import FormatError, UnsealError, UsageError
from securemllib.kms.key import Binding, KeyDescription, WrappedSecret, not_openable, shredded
from securemllib.kms.turns import turn

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
        locked: What it holds.
        versions: The versions in it, the first one first.
        passphrase: What the file is sealed under, to open and write it again; None for permissions alone.
    """

    __slots__ = ("_held", "_passphrase", "_path")

    def __init__(self, path: Path, locked: Locked, versions: tuple[DataKey, ...], passphrase: str | None) -> None:
        self._path = path
        # One value, so that threads see both or neither.
        self._held = (locked, versions)
        self._passphrase = passphrase

    @classmethod
    def create(cls, path: Path, passphrase: str | None) -> "FileKey":
        """Make a key in a new file; None leaves it to the file's permissions."""
        versions = (DataKey.generate(),)
        return cls(path, _write(path, versions, passphrase, replace=False), versions, passphrase)

    @classmethod
    def open(cls, path: Path, passphrase: str | None = None) -> "FileKey":
        """Return the key of a file.

        Raises:
            UsageError: There is no such file, others can read it, or a passphrase is needed.
            UnsealError: The passphrase is wrong.
            UnavailableError: The key was shredded.
        """
        locked = _read(path)
        return cls(path, locked, _opened(path, locked, passphrase), passphrase)

    @staticmethod
    def has_passphrase(path: Path) -> bool:
        """Return whether the key of a file needs a passphrase."""
        return _read(path).has_passphrase

    def wrap(self, secret: DataKey, binding: Binding) -> WrappedSecret:
        """See `KeyEncryptionKey.wrap`."""
        versions = self._current()
        sealed = seal(versions[-1].derive(_WRAPPING), binding.associated_data, secret.expose())
        return WrappedSecret(service=SCHEME, key_version=len(versions), ciphertext=sealed)

    def unwrap(self, wrapped: WrappedSecret, binding: Binding) -> DataKey:
        """See `KeyEncryptionKey.unwrap`."""
        versions = self._current()
        if wrapped.service != SCHEME or wrapped.key_version > len(versions):
            raise not_openable(binding)
        try:
            return DataKey(unseal(versions[wrapped.key_version - 1].derive(_WRAPPING), binding.associated_data, wrapped.ciphertext))
        except UnsealError:
            raise not_openable(binding) from None

    def rewrap(self, wrapped: WrappedSecret, binding: Binding) -> WrappedSecret:
        """See `KeyEncryptionKey.rewrap`."""
        return self.wrap(self.unwrap(wrapped, binding), binding)

    def rotate(self) -> int:
        """See `KeyEncryptionKey.rotate`. Processes that rotate at once make a version each; `UnavailableError` where one does not end."""
        with turn(self._path):
            versions = (*self._current(), DataKey.generate())
            self._held = (_write(self._path, versions, self._passphrase, replace=True), versions)
        return len(versions)

    def shred(self) -> None:
        """See `KeyEncryptionKey.shred`."""
        with turn(self._path):
            _read(self._path)
            self._held = (lock(_PURPOSE, _SHREDDED, b"", None), ())
            write_private(self._path, self._held[0].to_bytes(), replace=True)

    def describe(self) -> KeyDescription:
        """See `KeyEncryptionKey.describe`."""
        versions = self._current()
        protection = "passphrase" if self._held[0].has_passphrase else "file permissions"
        return KeyDescription(name=self._path.absolute().as_uri(), version=len(versions), protection=protection)

    def __repr__(self) -> str:
        return f"FileKey({str(self._path)!r})"

    def _current(self) -> tuple[DataKey, ...]:
        """Return the versions that the file holds now: another process may have rotated or shredded it."""
        found, (locked, versions) = _read(self._path), self._held
        if found != locked:
            versions = _opened(self._path, found, self._passphrase)
            self._held = (found, versions)
        return versions


def _opened(path: Path, locked: Locked, passphrase: str | None) -> tuple[DataKey, ...]:
    secrets = unlock(locked, _PURPOSE, passphrase)
    if not secrets or len(secrets) % KEY_BYTES:
        raise FormatError(f"{path} holds no key-encryption key.")
    return tuple(DataKey(secrets[start : start + KEY_BYTES]) for start in range(0, len(secrets), KEY_BYTES))


def _write(path: Path, versions: tuple[DataKey, ...], passphrase: str | None, *, replace: bool) -> Locked:
    locked = lock(_PURPOSE, b"", b"".join(version.expose() for version in versions), passphrase)
    write_private(path, locked.to_bytes(), replace=replace)
    return locked


def _read(path: Path) -> Locked:
    if not path.exists():
        advice = "Check the name; `securemllib keys kms create NAME` makes such a key."
        raise UsageError(f"There is no key file {path}.", next_step=advice, code="usage.missing_file")
    locked = Locked.from_bytes(read_private(path))
    if locked.public == _SHREDDED:
        raise shredded(path.absolute().as_uri())
    return locked
