"""Statements beside a policy: an approver's word for one model's release, and an owner's that a policy is over."""

from typing import Annotated, Self

import rfc8785
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from securemllib.errors import FormatError
from securemllib.policy.model import Person, Text
from securemllib.wire.job import JobSpecification, OutputKind

__all__ = ["ReleaseApproval", "Revocation"]

_STRICT = ConfigDict(extra="forbid", strict=True)


class _Statement:
    """Canonical JSON, read strictly."""

    __slots__ = ()

    def to_json(self) -> bytes:
        """Return the statement's only encoding."""
        return rfc8785.dumps(TypeAdapter(type(self)).dump_python(self, mode="json"))

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Return the statement whose only encoding is ``data``; `FormatError` otherwise."""
        try:
            found = TypeAdapter(cls).validate_json(data)
            encoded = found.to_json()
        except (ValidationError, rfc8785.CanonicalizationError):
            # Canonical JSON has no integers beyond 2**53.
            raise FormatError(f"{len(data)} bytes are no {cls.__name__}.") from None
        if encoded != data:
            raise FormatError(f"The {cls.__name__} is not in its canonical encoding.")
        return found


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class ReleaseApproval(_Statement):
    """One model may go to these recipients.

    Attributes:
        broker: The fingerprint of the broker that may count it.
        model_id: The id of the job that trained the model. It settles the datasets behind the model.
        model_digest: The digest of its sealed bytes, in hexadecimal.
        recipients: Fingerprints of those who may open it.
        expires: Seconds since 1970, after which it counts no more.
    """

    broker: Person
    model_id: Text
    model_digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    recipients: Annotated[tuple[Person, ...], Field(min_length=1)]
    expires: Annotated[int, Field(ge=0)]

    def is_of(self, job: JobSpecification, now: int) -> bool:
        """Return whether it approves what a job asks for: this very model, and no recipient beyond its own."""
        wanted = {output.recipient.fingerprint for output in job.outputs}
        return (
            job.model is not None
            and (job.model.model_id, job.model.digest.hex(), job.broker) == (self.model_id, self.model_digest, self.broker)
            and all(output.kind is OutputKind.PLAIN_MODEL for output in job.outputs)
            and wanted <= set(self.recipients)
            and now <= self.expires
        )


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Revocation(_Statement):
    """The dataset's policy is over: nothing is allowed until the next one.

    Attributes:
        dataset_id: Which dataset.
        owner: The owner's fingerprint; the signer.
        serial: Above that of the policy that it ends.
        reason: For the audit log.
    """

    dataset_id: Text
    owner: Person
    serial: Annotated[int, Field(ge=1)]
    reason: str = ""
