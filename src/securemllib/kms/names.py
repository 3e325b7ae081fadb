"""From the name of a KEK to the key: the scheme chooses the adapter, whose library is an extra."""

from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from securemllib.errors import UsageError
from securemllib.kms import file
from securemllib.kms.key import KeyEncryptionKey

__all__ = ["EXAMPLES", "create_key", "needs_passphrase", "open_key"]

EXAMPLES = "file:///path, vault://host:8200/transit/keys/name, awskms:///alias/name or pkcs11:token=...;object=..."

# Scheme: the adapter's module and class, the library that it needs, and the extra that installs it.
_SERVICES = {
    "vault": ("securemllib.kms.vault", "VaultKey", "hvac", "vault"),
    "vault+http": ("securemllib.kms.vault", "VaultKey", "hvac", "vault"),
    "awskms": ("securemllib.kms.aws", "AwsKey", "boto3", "aws"),
    "pkcs11": ("securemllib.kms.pkcs11", "Pkcs11Key", "pkcs11", "pkcs11"),
}


def create_key(name: str, passphrase: str | None = None) -> KeyEncryptionKey:
    """Make the key-encryption key of a name; see `open_key`.

    Raises:
        UsageError: There is one of that name.
    """
    if _scheme(name) == file.SCHEME:
        return file.FileKey.create(file.path_of(name), passphrase)
    key: KeyEncryptionKey = _adapter(name).create(name)
    return key


def open_key(name: str, passphrase: str | None = None) -> KeyEncryptionKey:
    """Return the key-encryption key of a name.

    Args:
        name: ``file:///path``, ``vault://host:port/mount/keys/name``, ``awskms:///alias/name`` or an RFC 7512 ``pkcs11:`` URI.
        passphrase: Of a file that has one. Other services get their credentials from environment and files.

    Raises:
        UsageError: The name has another form, holds a secret, or its extra is not installed.
        UnavailableError: There is no such key, or its service does not answer.
        RefusedError: The service does not permit it.
    """
    if _scheme(name) == file.SCHEME:
        return file.FileKey.open(file.path_of(name), passphrase)
    key: KeyEncryptionKey = _adapter(name).open(name)
    return key


def needs_passphrase(name: str) -> bool:
    """Return whether the key of a name is a file under a passphrase."""
    return _scheme(name) == file.SCHEME and file.FileKey.has_passphrase(file.path_of(name))


def _scheme(name: str) -> str:
    parts = urlsplit(name)
    if parts.scheme not in {file.SCHEME, *_SERVICES}:
        raise UsageError(f"The name of a key-encryption key starts with its service: {EXAMPLES}.", code="usage.kek_name")
    if "@" in parts.netloc:
        # The name goes into settings and messages.
        raise UsageError("The name of a key holds no user and no password.", next_step="Use environment or files.", code="usage.kek_name")
    return parts.scheme


def _adapter(name: str) -> Any:
    module, adapter, library, extra = _SERVICES[_scheme(name)]
    try:
        return getattr(import_module(module), adapter)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != library:
            raise
        raise UsageError(
            f"Keys of {_scheme(name)}: need the package {library}, which is not installed.",
            next_step=f"Run `pip install 'securemllib[{extra}]'`.",
            code="usage.missing_extra",
        ) from None
