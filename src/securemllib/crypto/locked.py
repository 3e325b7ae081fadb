"""Secrets at rest on the owner's machine: sealed under a passphrase, or protected by the file's permissions alone."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from securemllib.crypto.aead import seal, unseal
from securemllib.crypto.keys import KEY_BYTES, DataKey
from securemllib.errors import FormatError, UnsealError, UsageError
from securemllib.wire.encoding import length_prefixed
from securemllib.wire.record import Record

__all__ = ["Locked", "lock", "read_private", "unlock", "write_private"]

# RFC 7914 with N=2**17, r=8, p=1 takes 128 MiB and under half a second: the OWASP password storage recommendation of 2023.
_LOG2_COST = 17
_LOG2_COST_LIMIT = 20
_BLOCK_SIZE = 8
_SALT_BYTES = 16
_PRIVATE_MODE = 0o600
_OTHERS = 0o077


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked(Record):
    """A secret as a file holds it.

    Attributes:
        purpose: What the secret is for.
        public: What goes with it in the clear, under the seal.
        salt: Of scrypt; empty where only the file's permissions protect the secret.
        log2_cost: The exponent of scrypt's N; 0 without a passphrase.
        secret: The secret, sealed where there is a passphrase.
    """

    TYPE: ClassVar[str] = "securemllib/locked/v1"

    purpose: str
    public: bytes
    salt: bytes
    log2_cost: int
    secret: bytes

    def __post_init__(self) -> None:
        if (self.salt == b"") != (self.log2_cost == 0) or not 0 <= self.log2_cost <= _LOG2_COST_LIMIT:
            raise FormatError(f"A locked secret has a salt and a cost of at most 2**{_LOG2_COST_LIMIT}, or neither.")

    @property
    def has_passphrase(self) -> bool:
        """Whether a passphrase is needed."""
        return self.salt != b""

    @property
    def context(self) -> bytes:
        """The associated data of the sealed secret."""
        return length_prefixed(self.TYPE, self.purpose, self.public, self.salt, self.log2_cost)


def lock(purpose: str, public: bytes, secret: bytes, passphrase: str | None) -> Locked:
    """Return the secret as a file may hold it.

    Args:
        purpose: What the secret is for.
        public: What goes with it in the clear.
        secret: The secret.
        passphrase: None leaves the secret as it is: only the file's permissions protect it.
    """
    if passphrase is None:
        return Locked(purpose=purpose, public=public, salt=b"", log2_cost=0, secret=secret)
    if not passphrase:
        raise UsageError("An empty passphrase protects nothing.", next_step="Choose a passphrase, or ask for none explicitly.")
    empty = Locked(purpose=purpose, public=public, salt=os.urandom(_SALT_BYTES), log2_cost=_LOG2_COST, secret=b"")
    sealed = seal(_key(passphrase, empty), empty.context, secret)
    return Locked(purpose=purpose, public=public, salt=empty.salt, log2_cost=empty.log2_cost, secret=sealed)


def unlock(locked: Locked, purpose: str, passphrase: str | None) -> bytes:
    """Return the secret.

    Raises:
        FormatError: The file holds a secret for another purpose.
        UsageError: A passphrase is needed and none was given.
        UnsealError: The passphrase is another one, or the file was changed.
    """
    if locked.purpose != purpose:
        raise FormatError(f"The file holds a {locked.purpose}, not a {purpose}.")
    if not locked.has_passphrase:
        return locked.secret
    if passphrase is None:
        raise UsageError(f"The {purpose} is protected by a passphrase.", next_step="Give its passphrase.", code="usage.passphrase")
    try:
        return unseal(_key(passphrase, locked), locked.context, locked.secret)
    except UnsealError:
        raise UnsealError(
            f"The passphrase does not open the {purpose}.",
            next_step="Give the passphrase that it was made with; if that fails too, the file was changed: restore it.",
            code="integrity.unseal.passphrase",
        ) from None


def _key(passphrase: str, locked: Locked) -> DataKey:
    derivation = Scrypt(salt=locked.salt, length=KEY_BYTES, n=2**locked.log2_cost, r=_BLOCK_SIZE, p=1)
    return DataKey(derivation.derive(passphrase.encode()))


def write_private(path: Path, data: bytes, *, replace: bool = False) -> None:
    """Write a file that only this user can read: whole and on the disk, or not at all.

    Raises:
        UsageError: The file exists and ``replace`` is false.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _PRIVATE_MODE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        else:
            path.hardlink_to(temporary)
    except FileExistsError:
        raise UsageError(f"{path} exists.", next_step="Choose another name: private keys are never overwritten.") from None
    finally:
        temporary.unlink(missing_ok=True)


def read_private(path: Path) -> bytes:
    """Return the bytes of a file that only this user can read.

    Raises:
        UsageError: There is no such file, or others can read it.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_mode & _OTHERS or status.st_uid != os.getuid():
                raise UsageError(
                    f"{path} can be read by others.", next_step=f"Run `chmod 600 {path}` as its owner.", code="usage.permissions"
                )
            return file.read()
    except FileNotFoundError:
        raise UsageError(f"There is no file {path}.", next_step="Run `securemllib init`.", code="usage.missing_file") from None
