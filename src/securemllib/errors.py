"""Every error that SecureMLlib raises, sorted by what the caller must do next.

::

    SecureMLlibError              code, reason, next step
    ├── UsageError                fix the call (also a ValueError)
    │   └── DataError             fix the data: nulls, one class, no rows ...
    ├── IntegrityError            stop: bytes are not what their owner or enclave made
    │   ├── FormatError           the bytes are no message of ours at all
    │   ├── UnsealError           wrong key, or bytes or their context were changed
    │   ├── SignatureError        not signed by the expected identity
    │   ├── FreshnessError        an older version, a replay, or a stale checkpoint
    │   └── CoverError            rows were dropped, duplicated or relabelled
    ├── RefusedError              look at the policy: somebody may, you may not
    │   ├── AttestationError      the evidence does not satisfy the appraisal policy
    │   ├── PolicyError           the owner's policy does not allow it
    │   └── SealedError           the value is sealed; a release would open it
    └── UnavailableError          try again or ask the operator
        ├── CapacityError         a bound is too small for the work
        ├── RateLimitError        too many requests; the same one is answered later
        └── ConnectionLostError   a process did not answer in time

Only an error's *code* crosses the enclave's boundary; messages name ids and sizes, never rows, keys or gradients.
"""

from typing import ClassVar

__all__ = [
    "AttestationError", "CapacityError", "ConnectionLostError", "CoverError", "DataError", "FormatError", "FreshnessError",
    "IntegrityError", "PolicyError", "RateLimitError", "RefusedError", "SealedError", "SecureMLlibError", "SignatureError",
    "UnavailableError", "UnsealError", "UsageError", "error_from_code",
]  # fmt: skip


class SecureMLlibError(Exception):
    """An error with a stable code, a reason and a next step.

    Args:
        reason: What is wrong, in one sentence that names ids and sizes only.
        next_step: What the caller can do about it; the class's own advice when not given.
        code: A stable name finer than the class's own, for example ``data.one_class``.
    """

    code: ClassVar[str] = "error"
    advice: ClassVar[str] = "See the documentation of this error's code."

    def __init__(self, reason: str, *, next_step: str | None = None, code: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.next_step = next_step or self.advice
        self.error_code = code or self.code

    def __str__(self) -> str:
        return f"[{self.error_code}] {self.reason} {self.next_step}"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.reason, self.next_step, self.error_code)


def _rebuild(cls: type[SecureMLlibError], reason: str, next_step: str, code: str) -> SecureMLlibError:
    return cls(reason, next_step=next_step, code=code)


class UsageError(SecureMLlibError, ValueError):
    """The call is wrong."""

    code = "usage"
    advice = "Correct the call."


class DataError(UsageError):
    """The rows do not fit the algorithm."""

    code = "data"
    advice = "Correct the data, or filter the rows out before training."


class IntegrityError(SecureMLlibError):
    """Bytes are not what their owner or an enclave made: somebody changed, moved or replayed them."""

    code = "integrity"
    advice = "Do not use these bytes; fetch them again from their owner."


class FormatError(IntegrityError):
    """The bytes are not a message of the expected type in its only encoding."""

    code = "integrity.format"


class UnsealError(IntegrityError):
    """The key is wrong, or the sealed bytes or their context were changed."""

    code = "integrity.unseal"


class SignatureError(IntegrityError):
    """The signature is not one of the expected identity over these bytes."""

    code = "integrity.signature"


class FreshnessError(IntegrityError):
    """The bytes were genuine once, but are not the latest."""

    code = "integrity.freshness"
    advice = "Use the latest version that the broker knows."


class CoverError(IntegrityError):
    """The statistics do not cover each part of the dataset exactly once."""

    code = "integrity.cover"


class RefusedError(SecureMLlibError):
    """The request was understood and refused."""

    code = "refused"
    advice = "Ask the data owner."


class AttestationError(RefusedError):
    """The evidence does not satisfy the appraisal policy."""

    code = "refused.attestation"
    advice = "Compare `securemllib doctor` on that node with the appraisal policy."


class PolicyError(RefusedError):
    """The owner's policy does not allow it."""

    code = "refused.policy"
    advice = "Ask the data owner for a policy that allows it."


class SealedError(RefusedError):
    """The value exists in the clear only inside enclaves."""

    code = "refused.sealed"
    advice = "Use `release(to=...)` with a recipient that the owner's policy names."


class UnavailableError(SecureMLlibError):
    """A process or resource that the work needs is not there."""

    code = "unavailable"
    advice = "Try again, or ask the operator of the cluster."


class CapacityError(UnavailableError):
    """A bound is too small for the work.

    Attributes:
        needed: Bytes that did not fit, 0 where nobody knows.
    """

    code = "unavailable.capacity"
    advice = "Raise the bound that the reason names."
    needed: int = 0


class RateLimitError(UnavailableError):
    """Too many requests came from one address or one identity.

    Attributes:
        retry_after: Seconds after which a request is answered again.
    """

    code = "unavailable.rate"
    advice = "Wait, then send the same request again."
    retry_after: int = 1


class ConnectionLostError(UnavailableError):
    """A process did not answer in time."""

    code = "unavailable.connection"


def _tree(cls: type[SecureMLlibError]) -> list[type[SecureMLlibError]]:
    return [cls, *(below for child in cls.__subclasses__() for below in _tree(child))]


def error_from_code(code: str, reason: str, next_step: str | None = None) -> SecureMLlibError:
    """Return the error whose class has the longest code that ``code`` starts with.

    A process that receives a code from another one (an enclave, the broker) raises the same class the other raised.
    """
    fitting = [cls for cls in _tree(SecureMLlibError) if code == cls.code or code.startswith(f"{cls.code}.")]
    cls = max(fitting, key=lambda found: len(found.code), default=SecureMLlibError)
    return cls(reason, next_step=next_step, code=code)
