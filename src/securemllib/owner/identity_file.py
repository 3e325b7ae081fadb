"""Identities as files: the private half locked, the public half as one line of base64 that policies and brokers read."""

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from pathlib import Path

from securemllib.crypto.identity import PrivateIdentity
from securemllib.crypto.locked import Locked, lock, read_private, unlock, write_private
from securemllib.errors import FormatError, UsageError
from securemllib.wire.identity import PublicIdentity

__all__ = ["create", "has_passphrase", "load", "load_public", "public_path", "save_public"]

_PURPOSE = "securemllib identity"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
# A public identity takes about 1,800 characters of base64.
_PUBLIC_LIMIT = 16_384


def create(directory: Path, name: str, passphrase: str | None) -> PrivateIdentity:
    """Make an identity and write ``NAME.identity`` (private, 0600) and ``NAME.pub``.

    Args:
        directory: An existing directory.
        name: What people call the identity, and the files' name.
        passphrase: Seals the private file; None leaves it to the file's permissions.
    """
    if not _NAME.fullmatch(name):
        raise UsageError("An identity's name has 1 to 64 letters, digits, dots, dashes, underscores or at-signs.")
    identity = PrivateIdentity.generate(name)
    locked = lock(_PURPOSE, identity.public.to_bytes(), identity.expose(), passphrase)
    write_private(directory / f"{name}.identity", locked.to_bytes())
    save_public(identity.public, directory / f"{name}.pub")
    return identity


def has_passphrase(path: Path) -> bool:
    """Return whether a private identity file needs a passphrase."""
    return Locked.from_bytes(read_private(path)).has_passphrase


def load(path: Path, passphrase: str | None = None) -> PrivateIdentity:
    """Return the identity of a private file.

    Raises:
        UsageError: No such file, others can read it, or a passphrase is needed.
        UnsealError: The passphrase is wrong.
        FormatError: The file is no identity, or its two halves do not belong together.
    """
    locked = Locked.from_bytes(read_private(path))
    secret = unlock(locked, _PURPOSE, passphrase)
    public = PublicIdentity.from_bytes(locked.public)
    identity = PrivateIdentity.from_secret(public.name, secret)
    if identity.public != public:
        raise FormatError(f"{path} holds the private keys of {identity.public.fingerprint}, not of {public.fingerprint}.")
    return identity


def public_path(path: Path) -> Path:
    """Return where the public half of a private identity file lies."""
    return path.with_suffix(".pub")


def save_public(identity: PublicIdentity, path: Path) -> None:
    """Write a public identity as one line of base64."""
    path.write_text(b64encode(identity.to_bytes()).decode() + "\n", encoding="ascii")


def load_public(path: Path) -> PublicIdentity:
    """Return the public identity of a ``.pub`` file."""
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        raise UsageError(f"There is no file {path}.", code="usage.missing_file") from None
    except UnicodeDecodeError:
        raise FormatError(f"{path} is no public identity.") from None
    if len(text) > _PUBLIC_LIMIT:
        raise FormatError(f"{path} is too long for a public identity.")
    try:
        return PublicIdentity.from_bytes(b64decode("".join(text.split()), validate=True))
    except (Base64Error, FormatError):
        raise FormatError(f"{path} is no public identity.", next_step="Give the NAME.pub file that `securemllib init` wrote.") from None
