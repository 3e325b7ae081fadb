"""A KEK in the transit engine of OpenBao, or of HashiCorp's Vault.

Named ``vault://HOST:PORT/MOUNT/keys/NAME``: HTTPS, under the certificates that ``BAO_CACERT`` or ``VAULT_CACERT`` names, else the system's.
``vault+http://`` is for loopback, and goes through no proxy. The token comes from ``BAO_TOKEN`` or ``VAULT_TOKEN``, or from the file that
``BAO_TOKEN_FILE`` or ``VAULT_TOKEN_FILE`` names, which is read at each use because agents renew it.

Transit's own rewrapping takes no associated data, so a secret is unwrapped and wrapped again here, where it is unwrapped anyway.
"""

import os
import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import hvac
import requests
from hvac import exceptions

from securemllib.crypto.keys import DataKey
from securemllib.errors import ConnectionLostError, RefusedError, UnavailableError, UsageError
from securemllib.kms.key import Binding, KeyDescription, WrappedSecret, not_openable, shredded

__all__ = ["SCHEME", "VaultKey"]

SCHEME = "vault"
_PLAIN_SCHEME = "vault+http"
# For connecting, and then for an answer: a wrap takes about a millisecond where the server is near.
_TIMEOUT_SECONDS = 5
_KEY_TYPE = "aes256-gcm96"
_PATH = re.compile(r"/(\w[\w/-]*)/keys/(\w[\w.-]*)", re.ASCII)


class VaultKey:
    """A named key of a transit engine.

    Args:
        name: ``vault://HOST:PORT/MOUNT/keys/NAME``.
    """

    __slots__ = ("_client", "_key", "_mount", "_name")

    def __init__(self, name: str) -> None:
        parts = urlsplit(name)
        path = _PATH.fullmatch(parts.path)
        if parts.scheme not in {SCHEME, _PLAIN_SCHEME} or not parts.hostname or path is None or parts.query or parts.fragment:
            raise UsageError("A transit key is named vault://HOST:PORT/MOUNT/keys/NAME.", code="usage.kek_name")
        is_plain = parts.scheme == _PLAIN_SCHEME
        if is_plain and not _is_loopback(parts.hostname):
            raise UsageError("vault+http:// is for loopback only: the token would be readable on the network.", code="usage.kek_name")
        self._name, self._mount, self._key = name, path[1], path[2]
        self._client: Any = hvac.Client(
            f"{'http' if is_plain else 'https'}://{parts.netloc}",
            timeout=_TIMEOUT_SECONDS,
            verify=_environment("CACERT") or True,
            namespace=_environment("NAMESPACE"),
            allow_redirects=False,
            session=_direct() if is_plain else None,
        )

    @classmethod
    def create(cls, name: str) -> "VaultKey":
        """Make the key in its engine, not exportable; `UsageError` where it exists."""
        key = cls(name)
        with key._translated():
            if key._client.read(f"{key._mount}/keys/{key._key}") is not None:
                raise UsageError(f"{name} exists.", next_step="Use it, or choose another name.", code="usage.kek_exists")
            key._client.secrets.transit.create_key(key._key, key_type=_KEY_TYPE, exportable=False, mount_point=key._mount)
        return key

    @classmethod
    def open(cls, name: str) -> "VaultKey":
        """Return the key, which must exist."""
        key = cls(name)
        key.describe()
        return key

    def wrap(self, secret: DataKey, binding: Binding) -> WrappedSecret:
        """See `KeyEncryptionKey.wrap`."""
        # A token that may create keys would make a new one here in the place of one that was shredded.
        self._read()
        with self._translated(binding):
            answer = self._client.secrets.transit.encrypt_data(
                self._key, plaintext=_base64(secret.expose()), associated_data=_base64(binding.associated_data), mount_point=self._mount
            )
            data = self._data(answer, "key_version", "ciphertext")
        return WrappedSecret(service=SCHEME, key_version=int(data["key_version"]), ciphertext=str(data["ciphertext"]).encode())

    def unwrap(self, wrapped: WrappedSecret, binding: Binding) -> DataKey:
        """See `KeyEncryptionKey.unwrap`."""
        if wrapped.service != SCHEME or not wrapped.ciphertext.isascii():
            raise not_openable(binding)
        with self._translated(binding):
            answer = self._client.secrets.transit.decrypt_data(
                self._key, wrapped.ciphertext.decode(), associated_data=_base64(binding.associated_data), mount_point=self._mount
            )
            data = self._data(answer, "plaintext")
        try:
            return DataKey(b64decode(str(data["plaintext"]), validate=True))
        except Base64Error:
            raise not_openable(binding) from None

    def rewrap(self, wrapped: WrappedSecret, binding: Binding) -> WrappedSecret:
        """See `KeyEncryptionKey.rewrap`."""
        return self.wrap(self.unwrap(wrapped, binding), binding)

    def rotate(self) -> int:
        """See `KeyEncryptionKey.rotate`."""
        self._read()
        with self._translated():
            self._client.secrets.transit.rotate_key(self._key, mount_point=self._mount)
        return self.describe().version

    def shred(self) -> None:
        """See `KeyEncryptionKey.shred`. Needs the right to change the key's configuration, because transit forbids deletion by default."""
        self._read()
        with self._translated():
            self._client.secrets.transit.update_key_configuration(self._key, deletion_allowed=True, mount_point=self._mount)
            self._client.secrets.transit.delete_key(self._key, mount_point=self._mount)

    def describe(self) -> KeyDescription:
        """See `KeyEncryptionKey.describe`."""
        found = self._read()
        return KeyDescription(name=self._name, version=int(found["latest_version"]), protection=f"transit {found['type']}")

    def __repr__(self) -> str:
        return f"VaultKey({self._name!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key cannot be pickled or copied; it holds a token")

    def _read(self) -> dict[str, Any]:
        with self._translated():
            answer = self._client.read(f"{self._mount}/keys/{self._key}")
        if answer is None:
            raise shredded(self._name)
        found = self._data(answer, "type", "latest_version")
        if found["type"] != _KEY_TYPE or found.get("derived"):
            raise UsageError(f"{self._name} is no plain {_KEY_TYPE} key.", next_step="Make one of that type.", code="usage.kek_type")
        return found

    def _data(self, answer: Any, *fields: str) -> dict[str, Any]:
        # Anything else, such as a redirection, which is not followed because the token would go along.
        if not isinstance(answer, dict) or not isinstance(answer.get("data"), dict) or not answer["data"].keys() >= set(fields):
            raise _failed(self._name)
        data: dict[str, Any] = answer["data"]
        return data

    @contextmanager
    def _translated(self, binding: Binding | None = None) -> Iterator[None]:
        self._client.token = _token()
        try:
            yield
        except exceptions.VaultDown:
            raise UnavailableError(
                f"The service of {self._name} is sealed.", next_step="Ask its operators to unseal it.", code="unavailable.kek.sealed"
            ) from None
        except (exceptions.Forbidden, exceptions.Unauthorized):
            raise RefusedError(
                f"The service of {self._name} does not permit this to the token that it was given.",
                next_step="Check that the token is valid, and that its policy allows this on the key.",
                code="refused.kek",
            ) from None
        except exceptions.InvalidRequest as error:
            if "key not found" in str(error):
                raise shredded(self._name) from None
            if binding is None:
                raise _failed(self._name) from None
            raise not_openable(binding) from None
        except requests.RequestException:
            raise ConnectionLostError(
                f"The service of {self._name} does not answer.",
                next_step="Check its address and certificate, and that it runs; then try again.",
                code="unavailable.connection.kek",
            ) from None
        except exceptions.VaultError:
            raise _failed(self._name) from None


def _direct() -> requests.Session:
    """Return a session that asks no proxy of the environment: over plain HTTP one would read the token and the secrets."""
    session = requests.Session()
    session.trust_env = False
    return session


def _failed(name: str) -> UnavailableError:
    return UnavailableError(f"The service of {name} cannot do this.", next_step="Look into its log.", code="unavailable.kek")


def _token() -> str:
    token, file = _environment("TOKEN"), _environment("TOKEN_FILE")
    if token is None and file is not None:
        try:
            token = Path(file).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            raise UsageError(f"The token file {file} cannot be read.", code="usage.kek_token") from None
    if not token:
        raise UsageError(
            "There is no token for OpenBao or Vault.",
            next_step="Set BAO_TOKEN_FILE, or BAO_TOKEN, for this process.",
            code="usage.kek_token",
        )
    return token


def _environment(name: str) -> str | None:
    return os.environ.get(f"BAO_{name}") or os.environ.get(f"VAULT_{name}")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _base64(data: bytes) -> str:
    return b64encode(data).decode()
