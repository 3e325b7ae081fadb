"""A KEK in a hardware security module, or whatever else speaks PKCS#11: AES-256 keys that do not leave it, used with AES-GCM.

Named by an RFC 7512 URI: ``pkcs11:token=TOKEN;object=LABEL?module-path=/path/to/module.so&pin-source=file:/path/to/pin``. Without
``pin-source`` the PIN comes from ``SECUREMLLIB_PKCS11_PIN``, without ``module-path`` the module from ``SECUREMLLIB_PKCS11_MODULE``. A PIN
within the name (``pin-value``) is refused.

Each version is an object of its own with the same label, or several that programs made at once; its ``CKA_ID`` is the version in four
bytes. How long a call may wait is the
module's to say.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import unquote, urlsplit

import pkcs11
from pkcs11 import exceptions
from pkcs11.mechanisms import GCMParams

from securemllib.crypto.keys import DataKey
from securemllib.errors import ConnectionLostError, RefusedError, UnavailableError, UsageError
from securemllib.kms.key import Binding, KeyDescription, WrappedSecret, not_openable, shredded

__all__ = ["SCHEME", "Pkcs11Key"]

SCHEME = "pkcs11"
_KEY_BITS = 256
# NIST SP 800-38D section 8.3 allows 2**32 random nonces of 96 bits a key: datasets and their versions stay far below.
_NONCE_BYTES = 12
_TAG_BITS = 128
_VERSION_BYTES = 4
_PIN_ERRORS = (exceptions.PinIncorrect, exceptions.PinLocked, exceptions.PinExpired, exceptions.PinInvalid, exceptions.PinLenRange)
_WRONG_ERRORS = (exceptions.EncryptedDataInvalid, exceptions.EncryptedDataLenRange, exceptions.GeneralError, exceptions.FunctionFailed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Location:
    module: str
    token: str
    label: str
    pin_source: str | None


class Pkcs11Key:
    """The AES keys of one label in one token.

    Args:
        name: An RFC 7512 URI with ``token`` and ``object``.
    """

    __slots__ = ("_location", "_lock", "_name", "_session")

    def __init__(self, name: str) -> None:
        self._name = name
        self._location = _location(name)
        self._session: Any = None
        # A session does one thing at a time.
        self._lock = Lock()

    @classmethod
    def create(cls, name: str) -> "Pkcs11Key":
        """Make version 1 in the token; `UsageError` where the label exists."""
        key = cls(name)
        with key._used() as session:
            if key._versions(session):
                raise UsageError(f"{name} exists.", next_step="Use it, or choose another label.", code="usage.kek_exists")
            key._generate(session, 1)
        return key

    @classmethod
    def open(cls, name: str) -> "Pkcs11Key":
        """Return the key, which must exist."""
        key = cls(name)
        key.describe()
        return key

    def wrap(self, secret: DataKey, binding: Binding) -> WrappedSecret:
        """See `KeyEncryptionKey.wrap`."""
        with self._used() as session:
            return self._encrypt(self._existing(session), secret, binding)

    def unwrap(self, wrapped: WrappedSecret, binding: Binding) -> DataKey:
        """See `KeyEncryptionKey.unwrap`."""
        with self._used() as session:
            return self._decrypt(self._existing(session), wrapped, binding)

    def rewrap(self, wrapped: WrappedSecret, binding: Binding) -> WrappedSecret:
        """See `KeyEncryptionKey.rewrap`."""
        with self._used() as session:
            versions = self._existing(session)
            return self._encrypt(versions, self._decrypt(versions, wrapped, binding), binding)

    def rotate(self) -> int:
        """See `KeyEncryptionKey.rotate`."""
        with self._used() as session:
            version = max(self._existing(session)) + 1
            self._generate(session, version)
        return version

    def shred(self) -> None:
        """See `KeyEncryptionKey.shred`."""
        with self._used() as session:
            for keys in self._existing(session).values():
                for key in keys:
                    key.destroy()

    def describe(self) -> KeyDescription:
        """See `KeyEncryptionKey.describe`."""
        with self._used() as session:
            version = max(self._existing(session))
            maker = str(session.token.manufacturer_id).strip()
        return KeyDescription(name=self._name, version=version, protection=f"PKCS#11 token of {maker}")

    def __repr__(self) -> str:
        return f"Pkcs11Key({self._name!r})"

    def _encrypt(self, versions: dict[int, list[Any]], secret: DataKey, binding: Binding) -> WrappedSecret:
        version, nonce = max(versions), os.urandom(_NONCE_BYTES)
        parameters = GCMParams(nonce, binding.associated_data, _TAG_BITS)
        ciphertext = versions[version][0].encrypt(secret.expose(), mechanism=pkcs11.Mechanism.AES_GCM, mechanism_param=parameters)
        return WrappedSecret(service=SCHEME, key_version=version, ciphertext=nonce + ciphertext)

    def _decrypt(self, versions: dict[int, list[Any]], wrapped: WrappedSecret, binding: Binding) -> DataKey:
        if wrapped.service != SCHEME or wrapped.key_version not in versions or len(wrapped.ciphertext) <= _NONCE_BYTES + _TAG_BITS // 8:
            raise not_openable(binding)
        parameters = GCMParams(wrapped.ciphertext[:_NONCE_BYTES], binding.associated_data, _TAG_BITS)
        sealed = wrapped.ciphertext[_NONCE_BYTES:]
        for key in versions[wrapped.key_version]:
            # Modules differ in what they call a tag that does not fit.
            with suppress(*_WRONG_ERRORS):
                return DataKey(key.decrypt(sealed, mechanism=pkcs11.Mechanism.AES_GCM, mechanism_param=parameters))
        raise not_openable(binding)

    def _versions(self, session: Any) -> dict[int, list[Any]]:
        # A token has no compare-and-swap: programs that rotate at once leave several keys of one version, and secrets under each.
        template = {
            pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY,
            pkcs11.Attribute.KEY_TYPE: pkcs11.KeyType.AES,
            pkcs11.Attribute.LABEL: self._location.label,
        }
        found: dict[int, list[Any]] = {}
        for key in session.get_objects(template):
            found.setdefault(int.from_bytes(key.id, "big"), []).append(key)
        return found

    def _existing(self, session: Any) -> dict[int, list[Any]]:
        versions = self._versions(session)
        if not versions:
            raise shredded(self._name)
        return versions

    def _generate(self, session: Any, version: int) -> None:
        session.generate_key(
            pkcs11.KeyType.AES,
            _KEY_BITS,
            id=version.to_bytes(_VERSION_BYTES, "big"),
            label=self._location.label,
            store=True,
            capabilities=pkcs11.MechanismFlag.ENCRYPT | pkcs11.MechanismFlag.DECRYPT,
            template={pkcs11.Attribute.SENSITIVE: True, pkcs11.Attribute.EXTRACTABLE: False},
        )

    @contextmanager
    def _used(self) -> Iterator[Any]:
        with self._lock:
            try:
                if self._session is None:
                    self._session = self._login()
                yield self._session
            except _PIN_ERRORS:
                raise RefusedError(
                    f"The token of {self._name} does not take the PIN.",
                    next_step="Check it: tokens lock after a few tries.",
                    code="refused.kek",
                ) from None
            except exceptions.NoSuchToken:
                raise UnavailableError(
                    f"There is no token {self._location.token}.",
                    next_step="Check its name, and that it is connected.",
                    code="unavailable.kek",
                ) from None
            except exceptions.PKCS11Error as error:
                # A module that restarted knows the session no more: the next use makes another.
                self._session = None
                raise ConnectionLostError(
                    f"The module of {self._name} failed: {type(error).__name__}.",
                    next_step="Check that it is connected; then try again.",
                    code="unavailable.connection.kek",
                ) from None

    def _login(self) -> Any:
        try:
            module = pkcs11.lib(self._location.module)
        except RuntimeError:
            raise UsageError(f"{self._location.module} is no PKCS#11 module.", code="usage.kek_module") from None
        token = module.get_token(token_label=self._location.token)
        try:
            return token.open(rw=True, user_pin=_pin(self._location.pin_source))
        except exceptions.UserAlreadyLoggedIn:
            # A program is logged in to a token as a whole: another key of it was opened before.
            return token.open(rw=True)


def _location(name: str) -> _Location:
    parts = urlsplit(name)
    path, query = _attributes(parts.path, ";"), _attributes(parts.query, "&")
    if "pin-value" in {**path, **query}:
        raise UsageError("A PIN does not belong into the name of a key.", next_step="Use pin-source=file:/path.", code="usage.kek_name")
    unknown = (path.keys() - {"token", "object", "type"}) | (query.keys() - {"module-path", "pin-source"})
    module = query.get("module-path") or os.environ.get("SECUREMLLIB_PKCS11_MODULE")
    if unknown or not path.get("token") or not path.get("object") or path.get("type", "secret-key") != "secret-key" or not module:
        raise UsageError(
            "A PKCS#11 key is named pkcs11:token=TOKEN;object=LABEL?module-path=/MODULE.so&pin-source=file:/PIN, without other attributes.",
            code="usage.kek_name",
        )
    return _Location(module=module, token=path["token"], label=path["object"], pin_source=query.get("pin-source"))


def _attributes(text: str, separator: str) -> dict[str, str]:
    pairs = (attribute.partition("=") for attribute in text.split(separator) if attribute)
    return {key: unquote(value) for key, _, value in pairs}


def _pin(source: str | None) -> str:
    if source is None:
        pin = os.environ.get("SECUREMLLIB_PKCS11_PIN", "")
    else:
        try:
            pin = Path(source.removeprefix("file:")).read_text(encoding="utf-8").strip()
        except OSError:
            raise UsageError(f"The PIN file {source} cannot be read.", code="usage.kek_token") from None
    if not pin:
        raise UsageError("There is no PIN for the token.", next_step="Name a file with pin-source.", code="usage.kek_token")
    return pin
