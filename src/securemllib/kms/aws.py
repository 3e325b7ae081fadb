"""A KEK in AWS KMS: a symmetric key, used with an encryption context that CloudTrail shows.

Named ``awskms:///alias/NAME``, ``awskms:///KEY_ID`` or ``awskms:///arn:aws:kms:...``. Region, credentials and another endpoint come from
where boto3 looks for them: environment, profile, instance role.

Rotation is on demand (AWS allows 25 a key); AWS keeps older key material with the key. Shredding schedules the deletion in seven days, the
least that AWS takes: from that moment the key does nothing, but whoever may cancel the deletion gets it back until then.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn
from urllib.parse import urlsplit

import boto3
from botocore import exceptions
from botocore.config import Config

from securemllib.crypto.keys import DataKey
from securemllib.errors import ConnectionLostError, RefusedError, SecureMLlibError, UnavailableError, UsageError
from securemllib.kms.key import Binding, KeyDescription, WrappedSecret, not_openable, shredded

__all__ = ["SCHEME", "AwsKey"]

SCHEME = "awskms"
_CONFIG = Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 2, "mode": "standard"})
_DELETION_DAYS = 7
_DESCRIPTION = "Key-encryption key of SecureMLlib"
# At its level DEBUG botocore writes whole requests and answers, plaintexts among them, into the log.
logging.getLogger("botocore").setLevel(logging.INFO)
_ALIAS = "alias/"
_WRONG = {"InvalidCiphertextException", "IncorrectKeyException"}
_REFUSED = {"AccessDeniedException", "UnrecognizedClientException", "InvalidSignatureException", "ExpiredTokenException"}


class AwsKey:
    """A symmetric key of AWS KMS.

    Args:
        name: ``awskms:///alias/NAME``, or a key id or ARN in the place of the alias.
    """

    __slots__ = ("_arn", "_client", "_key_id", "_name")

    def __init__(self, name: str) -> None:
        parts = urlsplit(name)
        self._key_id = parts.path.removeprefix("/")
        if parts.scheme != SCHEME or parts.netloc or parts.query or not self._key_id:
            raise UsageError("A key of AWS KMS is named awskms:///alias/NAME, or by key id or ARN.", code="usage.kek_name")
        region = self._key_id.split(":")[3] if self._key_id.startswith("arn:") and self._key_id.count(":") >= 5 else None
        self._name, self._arn = name, ""
        with self._translated():
            self._client: Any = boto3.Session(region_name=region).client("kms", config=_CONFIG)

    @classmethod
    def create(cls, name: str) -> "AwsKey":
        """Make a key and its alias; `UsageError` where the alias exists."""
        key = cls(name)
        if not key._key_id.startswith(_ALIAS):
            raise UsageError("A key that is made needs an alias: awskms:///alias/NAME.", code="usage.kek_name")
        with key._translated():
            made = key._client.create_key(Description=_DESCRIPTION, KeyUsage="ENCRYPT_DECRYPT", KeySpec="SYMMETRIC_DEFAULT")
            try:
                key._client.create_alias(AliasName=key._key_id, TargetKeyId=made["KeyMetadata"]["KeyId"])
            except key._client.exceptions.AlreadyExistsException:
                key._client.schedule_key_deletion(KeyId=made["KeyMetadata"]["KeyId"], PendingWindowInDays=_DELETION_DAYS)
                raise UsageError(f"{name} exists.", next_step="Use it, or choose another name.", code="usage.kek_exists") from None
        return cls.open(name)

    @classmethod
    def open(cls, name: str) -> "AwsKey":
        """Return the key, which must exist and be enabled. Its alias is looked up once."""
        key = cls(name)
        key._arn = key._metadata()["Arn"]
        return key

    def wrap(self, secret: DataKey, binding: Binding) -> WrappedSecret:
        """See `KeyEncryptionKey.wrap`."""
        version = self._version()
        with self._translated(binding):
            answer = self._client.encrypt(KeyId=self._arn, Plaintext=secret.expose(), EncryptionContext=_context(binding))
        return WrappedSecret(service=SCHEME, key_version=version, ciphertext=answer["CiphertextBlob"])

    def unwrap(self, wrapped: WrappedSecret, binding: Binding) -> DataKey:
        """See `KeyEncryptionKey.unwrap`."""
        if wrapped.service != SCHEME:
            raise not_openable(binding)
        with self._translated(binding):
            answer = self._client.decrypt(KeyId=self._arn, CiphertextBlob=wrapped.ciphertext, EncryptionContext=_context(binding))
        return DataKey(answer["Plaintext"])

    def rewrap(self, wrapped: WrappedSecret, binding: Binding) -> WrappedSecret:
        """See `KeyEncryptionKey.rewrap`. The secret does not leave AWS."""
        if wrapped.service != SCHEME:
            raise not_openable(binding)
        version, context = self._version(), _context(binding)
        with self._translated(binding):
            answer = self._client.re_encrypt(
                CiphertextBlob=wrapped.ciphertext,
                SourceKeyId=self._arn,
                SourceEncryptionContext=context,
                DestinationKeyId=self._arn,
                DestinationEncryptionContext=context,
            )
        return WrappedSecret(service=SCHEME, key_version=version, ciphertext=answer["CiphertextBlob"])

    def rotate(self) -> int:
        """See `KeyEncryptionKey.rotate`."""
        with self._translated():
            self._client.rotate_key_on_demand(KeyId=self._arn)
        return self._version()

    def shred(self) -> None:
        """See `KeyEncryptionKey.shred`. AWS destroys the key after seven days; until then it is disabled, and deletion can be cancelled."""
        with self._translated():
            # Nobody deletes keys of another account, so the id is name enough.
            self._client.schedule_key_deletion(KeyId=self._arn.rpartition("/")[2], PendingWindowInDays=_DELETION_DAYS)

    def describe(self) -> KeyDescription:
        """See `KeyEncryptionKey.describe`."""
        metadata = self._metadata()
        return KeyDescription(name=self._name, version=self._version(), protection=f"AWS KMS, origin {metadata['Origin']}")

    def __repr__(self) -> str:
        return f"AwsKey({self._name!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key cannot be pickled or copied; it holds credentials")

    def _metadata(self) -> dict[str, Any]:
        with self._translated():
            metadata: dict[str, Any] = self._client.describe_key(KeyId=self._arn or self._key_id)["KeyMetadata"]
        if metadata["KeyState"] == "PendingDeletion":
            raise shredded(self._name)
        if metadata["KeyState"] != "Enabled":
            raise _disabled(self._name)
        if metadata["KeySpec"] != "SYMMETRIC_DEFAULT" or metadata["KeyUsage"] != "ENCRYPT_DECRYPT":
            raise UsageError(f"{self._name} is no symmetric key for encryption.", code="usage.kek_type")
        return metadata

    def _version(self) -> int:
        # Encrypt does not say which key material it used. Asked before, so that a rotation in between never makes old look new.
        with self._translated():
            pages = self._client.get_paginator("list_key_rotations").paginate(KeyId=self._arn)
            return 1 + sum(len(page["Rotations"]) for page in pages)

    @contextmanager
    def _translated(self, binding: Binding | None = None) -> Iterator[None]:
        try:
            yield
        except exceptions.ClientError as error:
            raise self._refusal(error.response["Error"]["Code"], binding) from None
        except exceptions.ParamValidationError:
            # Ciphertexts of a length that no service makes do not even leave.
            raise _failed(self._name) if binding is None else not_openable(binding) from None
        except (exceptions.NoCredentialsError, exceptions.NoRegionError, exceptions.PartialCredentialsError, exceptions.ProfileNotFound):
            raise UsageError(
                "There are no complete credentials for AWS, or no region.",
                next_step="Give them where boto3 looks for them: environment, profile or instance role.",
                code="usage.kek_token",
            ) from None
        except exceptions.BotoCoreError:
            raise ConnectionLostError(
                f"The service of {self._name} does not answer.",
                next_step="Check region, endpoint and network; then try again.",
                code="unavailable.connection.kek",
            ) from None

    def _refusal(self, code: str, binding: Binding | None) -> SecureMLlibError:
        if code in _WRONG and binding is not None:
            return not_openable(binding)
        if code == "NotFoundException":
            return shredded(self._name)
        if code in {"KMSInvalidStateException", "DisabledException"}:
            return _disabled(self._name)
        if code in _REFUSED:
            return RefusedError(
                f"AWS does not permit this on {self._name}: {code}.",
                next_step="Check the key policy and the credentials.",
                code="refused.kek",
            )
        return _failed(self._name, code)


def _failed(name: str, code: str = "the request is not valid") -> UnavailableError:
    return UnavailableError(
        f"AWS cannot do this with {name}: {code}.", next_step="Look up the code in AWS's manual.", code="unavailable.kek"
    )


def _disabled(name: str) -> UnavailableError:
    return UnavailableError(
        f"The key-encryption key {name} is disabled, or was shredded and waits for its deletion.",
        next_step="Ask whoever administers the key in AWS.",
        code="unavailable.kek.disabled",
    )


def _context(binding: Binding) -> dict[str, str]:
    return {
        "securemllib:tenant": binding.tenant,
        "securemllib:dataset": binding.dataset_id,
        "securemllib:version": str(binding.version),
    }
