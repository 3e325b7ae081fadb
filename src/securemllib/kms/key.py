"""What every key-encryption key (KEK) does, wherever it lives, and what it makes."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

from securemllib.crypto.keys import DataKey
from securemllib.errors import FormatError, UnavailableError, UnsealError
from securemllib.wire.encoding import length_prefixed
from securemllib.wire.record import Record

__all__ = ["Binding", "KeyDescription", "KeyEncryptionKey", "WrappedSecret", "not_openable", "shredded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """What a wrapped secret belongs to: associated data that whoever unwraps it builds from what they expect.

    Attributes:
        tenant: Whose secret it is.
        dataset_id: The dataset.
        version: The dataset's version.
    """

    tenant: str
    dataset_id: str
    version: int

    @property
    def associated_data(self) -> bytes:
        """The binding as bytes, under the authentication tag of what is wrapped."""
        return length_prefixed("securemllib/kek-binding/v1", self.tenant, self.dataset_id, self.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class WrappedSecret(Record):
    """A dataset secret as a database may hold it.

    Attributes:
        service: The kind of service that wrapped it: the scheme of its name.
        key_version: The version of the KEK.
        ciphertext: What the service made.
    """

    TYPE: ClassVar[str] = "securemllib/kek-wrapped-secret/v1"

    service: str
    key_version: int
    ciphertext: bytes

    def __post_init__(self) -> None:
        if self.key_version < 1:
            raise FormatError("The versions of a key-encryption key count from 1.")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyDescription:
    """What may be told of a KEK.

    Attributes:
        name: How it was opened.
        version: Its latest version.
        protection: What keeps it.
    """

    name: str
    version: int
    protection: str


class KeyEncryptionKey(Protocol):
    """The KEK of one tenant, or of one broker.

    Every method raises `ConnectionLostError` where its service does not answer within seconds, `RefusedError` where the service does not
    permit it, and `UnavailableError` where the key is sealed away, disabled or shredded.
    """

    def wrap(self, secret: DataKey, binding: Binding) -> WrappedSecret:
        """Return the secret wrapped under the latest version, for one place only."""

    def unwrap(self, wrapped: WrappedSecret, binding: Binding) -> DataKey:
        """Return the secret; `UnsealError` where the key, a byte or the binding is another one."""

    def rewrap(self, wrapped: WrappedSecret, binding: Binding) -> WrappedSecret:
        """Return the same secret wrapped under the latest version, in the same place."""

    def rotate(self) -> int:
        """Make a new version, under which secrets are wrapped from now on, and return it. Older versions still unwrap."""

    def shred(self) -> None:
        """Destroy all versions: nothing that was wrapped opens again, anywhere."""

    def describe(self) -> KeyDescription:
        """Return what may be told of the key, as its service knows it now."""


def not_openable(binding: Binding) -> UnsealError:
    """Return the error of a wrapped secret that the KEK does not open in the expected place."""
    return UnsealError(
        f"The secret of dataset {binding.dataset_id} version {binding.version} does not open under this key-encryption key.",
        next_step="It was wrapped under another key or for another place, or was changed: restore it, or choose the key that wrapped it.",
        code="integrity.unseal.kek",
    )


def shredded(name: str) -> UnavailableError:
    """Return the error of a KEK that is no more."""
    return UnavailableError(
        f"The key-encryption key {name} is gone: it was shredded, or never made under this name.",
        next_step="Check the name. What a shredded key wrapped does not open again.",
        code="unavailable.kek.shredded",
    )
