"""The broker's own keys: its identity and the key of its store, in one file.

The file is sealed either under a passphrase (scrypt) or under a key file that only the broker's user may read. The second protects
against whoever sees copies of the keystore alone; who runs as that user, or as root, reads both.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from securemllib.crypto.aead import seal, unseal
from securemllib.crypto.identity import PrivateIdentity
from securemllib.crypto.keys import KEY_BYTES, DataKey
from securemllib.crypto.locked import write_private
from securemllib.errors import RefusedError, UnavailableError, UnsealError, UsageError
from securemllib.wire.encoding import length_prefixed
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.record import Record

__all__ = [
    "Keystore",
    "create_keystore",
    "has_passphrase",
    "open_keystore",
    "pack",
    "read_public_identity",
    "unpack",
    "write_keystore",
]

# OWASP's password storage sheet asks for at least N = 2**17, r = 8, p = 1: 128 MiB and about a third of a second a guess.
_SCRYPT_LOG2_N = 17
_SCRYPT_LOG2_N_LIMIT = 20
_SCRYPT_R = 8
_SCRYPT_P = 1
_SALT_BYTES = 32
_PASSPHRASE = "passphrase"  # noqa: S105 - the name of a protection
_KEY_FILE = "key-file"


@dataclass(frozen=True, slots=True, kw_only=True)
class _File(Record):
    TYPE: ClassVar[str] = "securemllib/broker-keystore/v1"

    protection: str
    salt: bytes
    log2_n: int
    public: PublicIdentity
    envelope: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Secrets(Record):
    TYPE: ClassVar[str] = "securemllib/broker-secrets/v1"

    identity: bytes
    store_key: bytes

    def __repr__(self) -> str:
        return "_Secrets(...)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Keystore:
    """An open keystore: the broker's identity and the key that seals its store."""

    identity: PrivateIdentity
    store_key: DataKey


def pack(keystore: Keystore) -> bytes:
    """Return the keys of a keystore, to be sealed at once."""
    return _Secrets(identity=keystore.identity.expose(), store_key=keystore.store_key.expose()).to_bytes()


def unpack(name: str, packed: bytes) -> Keystore:
    """Return the keystore of a broker of that name whose keys `pack` gave."""
    secrets = _Secrets.from_bytes(packed)
    return Keystore(identity=PrivateIdentity.from_secret(name, secrets.identity), store_key=DataKey(secrets.store_key))


def create_keystore(path: Path, name: str, passphrase: str | None) -> Keystore:
    """Make a fresh identity and store key, and write them to a new keystore; see `write_keystore`."""
    keystore = Keystore(identity=PrivateIdentity.generate(name), store_key=DataKey.generate())
    write_keystore(path, keystore, passphrase)
    return keystore


def write_keystore(path: Path, keystore: Keystore, passphrase: str | None) -> None:
    """Write keys to a new keystore.

    Args:
        path: The new file; a key file is written beside it when there is no passphrase.
        keystore: The keys.
        passphrase: Protects the file; None protects it by a key file.

    Raises:
        UsageError: The file exists, or the passphrase is empty.
    """
    if path.exists():
        raise UsageError(f"{path} exists already: its keys open the broker's database.")
    if passphrase == "":
        raise UsageError("The passphrase is empty.")
    salt = os.urandom(_SALT_BYTES)
    if passphrase is None:
        write_private(_key_file(path), os.urandom(KEY_BYTES), replace=True)
        protection, key = _KEY_FILE, _file_key(path)
    else:
        protection, key = _PASSPHRASE, _passphrase_key(passphrase, salt, _SCRYPT_LOG2_N)
    empty = _File(protection=protection, salt=salt, log2_n=_SCRYPT_LOG2_N, public=keystore.identity.public, envelope=b"")
    file = replace(empty, envelope=seal(key, _context(empty), pack(keystore)))
    write_private(path, file.to_bytes())


def open_keystore(path: Path, passphrase: str | None) -> Keystore:
    """Return the keys of a keystore.

    1. The file, and its key file, belong to this user and nobody else may read them.
    2. The passphrase or key file opens it.

    Raises:
        UnavailableError: There is no such file.
        RefusedError: 1 does not hold.
        UnsealError: The passphrase is wrong, or the file was changed.
        UsageError: The keystore has a passphrase and none was given.
    """
    file = _File.from_bytes(_read_private(path))
    if file.protection == _KEY_FILE:
        key = _file_key(path)
    elif passphrase is None:
        raise UsageError(f"{path} is protected by a passphrase.", next_step="Give it at the prompt or by --passphrase-file.")
    else:
        key = _passphrase_key(passphrase, file.salt, file.log2_n)
    try:
        return unpack(file.public.name, unseal(key, _context(file), file.envelope))
    except UnsealError:
        wrong = "passphrase is wrong" if file.protection == _PASSPHRASE else "key file does not belong to the keystore"
        raise UnsealError(
            f"The {wrong}, or {path} was changed.",
            next_step="Try the right one, or restore the keystore from its backup.",
            code="integrity.unseal.keystore",
        ) from None


def has_passphrase(path: Path) -> bool:
    """Return whether a keystore needs a passphrase."""
    return _File.from_bytes(_read_private(path)).protection == _PASSPHRASE


def read_public_identity(path: Path) -> PublicIdentity:
    """Return the broker's public identity without opening the keystore."""
    return _File.from_bytes(_read_private(path)).public


def _read_private(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid != os.geteuid() or status.st_mode & 0o077:
                raise RefusedError(
                    f"{path} belongs to user {status.st_uid} with mode {status.st_mode & 0o777:o}.",
                    next_step="It must be this user's own, with mode 600.",
                    code="refused.permissions",
                )
            return file.read()
    except FileNotFoundError:
        raise UnavailableError(f"There is no {path}.", next_step="Run `securemllib broker init` first.") from None


def _key_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.key")


def _file_key(path: Path) -> DataKey:
    return DataKey(_read_private(_key_file(path)))


def _passphrase_key(passphrase: str, salt: bytes, log2_n: int) -> DataKey:
    if not _SCRYPT_LOG2_N <= log2_n <= _SCRYPT_LOG2_N_LIMIT:
        raise UnsealError(
            f"The keystore asks for scrypt with N = 2**{log2_n}, outside of 2**{_SCRYPT_LOG2_N} to 2**{_SCRYPT_LOG2_N_LIMIT}."
        )
    return DataKey(Scrypt(salt=salt, length=KEY_BYTES, n=2**log2_n, r=_SCRYPT_R, p=_SCRYPT_P).derive(passphrase.encode()))


def _context(file: _File) -> bytes:
    return length_prefixed(_File.TYPE, file.protection, file.salt, file.log2_n, file.public.to_bytes())
