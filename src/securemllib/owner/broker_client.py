"""The owner's view of a key broker over HTTP; the broker's fingerprint is given by the owner, never taken from the broker."""

import json
import os
import time
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from types import TracebackType
from typing import Any, Self

import httpx

from securemllib.crypto.identity import PrivateIdentity
from securemllib.crypto.wrapping import wrap
from securemllib.errors import ConnectionLostError, FormatError, SignatureError, UsageError, error_from_code
from securemllib.owner.reading import OpenDataset, read_manifest
from securemllib.wire.attestation import Challenge, Evidence
from securemllib.wire.enrolment import AuditRequest, Enrolment, enrolment_context
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.notices import KeyRevocation, KeyRotation, StoreAcceptance, broker_challenge
from securemllib.wire.signed import Signed

__all__ = ["BrokerClient"]

_TIMEOUT_SECONDS = 30.0
_ANSWER_LIMIT = 64 * 2**20
_NONCE_BYTES = 32

_ADVICE = "Check the address, http or https, and that the broker runs, then try again."
_TLS_ADVICE = "Give the certificate that the broker's operator gave you with --ca-file, and the address that it names."


class BrokerClient:
    """A connection to one broker.

    Args:
        address: For example ``https://broker.example:8460``.
        fingerprint: The broker's fingerprint, learnt from its operator and not over this connection.
        timeout: Seconds to wait for an answer.
        ca_file: Certificates to trust for TLS, where the system's are not those.
        transport: How requests travel; the network when not given.
    """

    __slots__ = ("_address", "_client", "_fingerprint", "_identity")

    def __init__(
        self,
        address: str,
        fingerprint: str,
        *,
        timeout: float = _TIMEOUT_SECONDS,
        ca_file: str | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        if not fingerprint:
            raise UsageError(
                "The broker's fingerprint is missing.", next_step="Ask the broker's operator: `securemllib broker identity` shows it."
            )
        self._address = address.rstrip("/")
        self._fingerprint = fingerprint
        self._identity: PublicIdentity | None = None
        try:
            self._client = httpx.Client(base_url=self._address, timeout=timeout, verify=ca_file or True, transport=transport)
        except OSError:  # what SSL raises is one, too
            raise UsageError(f"{ca_file} holds no certificates.", next_step="Give --ca-file a PEM file.", code="usage.ca_file") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._client.close()

    def identity(self) -> PublicIdentity:
        """Return the broker's identity; `SignatureError` if its fingerprint is not the expected one."""
        if self._identity is None:
            identity = PublicIdentity.from_bytes(_decoded(self._request("GET", "/v1/identity"), "identity"))
            if identity.fingerprint != self._fingerprint:
                raise SignatureError(
                    f"The broker at {self._address} is {identity.fingerprint}, not {self._fingerprint}.",
                    next_step="Ask the broker's operator which it is; send it nothing.",
                    code="integrity.signature.broker",
                )
            self._identity = identity
        return self._identity

    def enrol(self, dataset: OpenDataset, identity: PrivateIdentity) -> int:
        """Hand a dataset's signed manifest and its secret, wrapped for this broker, to the broker; return the version it now has."""
        manifest = dataset.manifest
        broker = self.identity()
        if dataset.body.brokers and broker.fingerprint not in dataset.body.brokers:
            raise UsageError(
                f"Dataset {manifest.dataset_id} is for other brokers than {broker.fingerprint}.",
                next_step="Endorse this one and name it: `securemllib attest endorse`, then `securemllib data brokers`.",
                code="usage.broker",
            )
        signed, _ = read_manifest(dataset.directory)
        info = enrolment_context(manifest.dataset_id, manifest.version, identity.public.fingerprint)
        wrapped = wrap(broker.recipient_key, info, dataset.secret.expose())
        enrolment = identity.sign(Enrolment(owner=identity.public, manifest=signed, secret=wrapped))
        answer = self._request("PUT", f"/v1/datasets/{manifest.dataset_id}", {"enrolment": _encoded(enrolment)})
        if answer.get("version") != manifest.version:
            raise FormatError(f"The broker answered the enrolment of version {manifest.version} with another version.")
        return manifest.version

    def submit_policy(self, dataset_id: str, envelope: bytes) -> None:
        """Hand a signed policy to the broker, in its DSSE envelope."""
        self.identity()
        self._request("PUT", f"/v1/datasets/{dataset_id}/policy", {"envelope": json.loads(envelope)})

    def revoke_policy(self, dataset_id: str, envelope: bytes) -> None:
        """Hand the signed revocation of a dataset's policy to the broker."""
        self.identity()
        self._request("POST", f"/v1/datasets/{dataset_id}/policy/revocation", {"envelope": json.loads(envelope)})

    def approve_release(self, envelope: bytes) -> list[str]:
        """Hand a signed approval of a model's release to the broker; return the datasets whose policies count it."""
        self.identity()
        found = self._request("POST", "/v1/approvals", {"envelope": json.loads(envelope)}).get("datasets")
        if not isinstance(found, list):
            raise FormatError("The broker's answer holds no datasets.")
        return [str(dataset_id) for dataset_id in found]

    def rotate(self, old: PrivateIdentity, new: PrivateIdentity) -> None:
        """Let a new identity take the old one's place: where policies name the old one, and as the owner of its datasets."""
        rotation = KeyRotation(old=old.public, new=new.public, broker=self.identity().fingerprint, created=int(time.time()))
        body = {"rotation": _encoded(old.sign(rotation)), "confirmation": _encoded(new.sign(rotation))}
        self._request("POST", "/v1/keys/rotate", body)

    def revoke(self, identity: PrivateIdentity) -> None:
        """Revoke an identity: nothing that it signed counts any more. It cannot be undone."""
        revocation = KeyRevocation(revoked=identity.public, broker=self.identity().fingerprint, created=int(time.time()))
        self._request("POST", "/v1/keys/revoke", {"revocation": _encoded(identity.sign(revocation))})

    def accept_store(self, identity: PrivateIdentity, sequence: int, entry: bytes) -> list[str]:
        """Accept that the broker's store was restored up to an entry of its log; return the ids of the datasets that are used again."""
        broker = self.identity().fingerprint
        acceptance = StoreAcceptance(broker=broker, sequence=sequence, entry=entry, created=int(time.time()))
        return [
            str(name)
            for name in self._request("POST", "/v1/store/accept", {"acceptance": _encoded(identity.sign(acceptance))}).get("datasets", ())
        ]

    def evidence(self) -> tuple[Challenge, Evidence]:
        """Return a fresh challenge to the broker and its evidence; `SignatureError` for evidence of another identity than the expected.

        Whether the evidence is genuine, fits the challenge and satisfies a policy is for `verify_evidence` and its findings.
        """
        broker, nonce = self.identity(), os.urandom(_NONCE_BYTES)
        answer = self._request("POST", "/v1/evidence", {"nonce": b64encode(nonce).decode()})
        evidence = Evidence.from_bytes(_decoded(answer, "evidence"))
        if evidence.identity != broker:
            raise SignatureError(f"The broker {broker.fingerprint} answers with evidence of {evidence.identity.fingerprint}.")
        return broker_challenge(nonce, broker), evidence

    def audit(self, identity: PrivateIdentity) -> list[Any]:
        """Return the audit entries of the owner's datasets."""
        request = AuditRequest(owner=identity.public, broker=self.identity().fingerprint, created=int(time.time()))
        entries = self._request("POST", "/v1/audit", {"request": _encoded(identity.sign(request))}).get("entries")
        if not isinstance(entries, list):
            raise FormatError("The broker's answer holds no entries.")
        return entries

    def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            with self._client.stream(method, path, json=body) as response:
                content = _bounded(response)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise UsageError(f"{self._address!r} is no broker's address.", next_step="Write it like https://broker.example:8460.") from None
        except httpx.HTTPError as error:
            raise ConnectionLostError(
                f"The broker at {self._address} did not answer ({type(error).__name__}: {error}).",
                next_step=_TLS_ADVICE if "CERTIFICATE_VERIFY_FAILED" in str(error) else _ADVICE,
                code="unavailable.connection.broker",
            ) from error
        try:
            answer = json.loads(content)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise FormatError(f"The server at {self._address} answered {response.status_code} without JSON: it is no broker.")
        if response.is_error:
            raise error_from_code(
                str(answer.get("code", "error")), str(answer.get("reason", "The broker refused.")), answer.get("next_step")
            )
        return answer


def _bounded(response: httpx.Response) -> bytes:
    """Return an answer's content, which is read no further than the bound."""
    content = bytearray()
    for piece in response.iter_bytes():
        content += piece
        if len(content) > _ANSWER_LIMIT:
            raise FormatError(f"The broker answers with more than {_ANSWER_LIMIT} bytes.")
    return bytes(content)


def _encoded(signed: Signed) -> str:
    return b64encode(signed.to_bytes()).decode()


def _decoded(answer: dict[str, Any], field: str) -> bytes:
    try:
        return b64decode(answer[field], validate=True)
    except (KeyError, TypeError, Base64Error):
        raise FormatError(f"The broker's answer has no {field} in base64.") from None
