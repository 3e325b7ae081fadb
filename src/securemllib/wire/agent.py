"""Requests to the analyst's agent and its replies: it alone holds the analyst's keys.

The agent listens on a local UNIX socket and speaks the frames of `securemllib.wire.framing`; one connection may carry many requests.
Large bytes travel as the frame's payload::

    Identify                                        Identified
    Sign (a job's encoding)                         Signature
    SignEnd                                         Signature
    Open (payload: a SealedResult's encoding)       Opened (payload: the tree's encoding; for rows an Arrow IPC stream)
    OpenModel (payload: a SealedModel's encoding,   Opened (payload: the encoding of the model's tree, and of a list of those of its
               then its pieces)                             shards)
    EncodeLiterals                                  EncodedLiterals
    any                                             Declined
"""

from dataclasses import dataclass
from typing import ClassVar

from securemllib.wire.identity import PublicIdentity
from securemllib.wire.job import OutputKind
from securemllib.wire.query import LiteralCodes, QueryLiteral
from securemllib.wire.record import Record
from securemllib.wire.signed import Signed

__all__ = [
    "REPLIES",
    "REQUESTS",
    "Declined",
    "EncodeLiterals",
    "EncodedLiterals",
    "Identified",
    "Identify",
    "Open",
    "OpenModel",
    "Opened",
    "Sign",
    "SignEnd",
    "Signature",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identify(Record):
    """Asks whose agent this is."""

    TYPE: ClassVar[str] = "agent-identify"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identified(Record):
    """The agent's analyst, and the broker that the agent was told to trust, if it was told one."""

    TYPE: ClassVar[str] = "agent-identified"

    identity: PublicIdentity
    broker: PublicIdentity | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign(Record):
    """Asks for a signature under a job: ``job`` is the encoding of a `JobSpecification` whose analyst is the agent's."""

    TYPE: ClassVar[str] = "agent-sign"

    job: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SignEnd(Record):
    """Asks for a signature under a `JobEnd` for the broker of that fingerprint."""

    TYPE: ClassVar[str] = "agent-sign-end"

    job_id: str
    broker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature(Record):
    """The signed job, or the signed end of one."""

    TYPE: ClassVar[str] = "agent-signature"

    signed: Signed


@dataclass(frozen=True, slots=True, kw_only=True)
class Open(Record):
    """Asks to open the result in the payload, a `SealedResult` of the job that the caller expects."""

    TYPE: ClassVar[str] = "agent-open"

    job_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenModel(Record):
    """Asks to open the sealed model in the payload with its released key, a signed `WrappedModelKey`.

    Attributes:
        key: The key.
        lengths: Bytes of the model, and of each of its pieces, which follow it.
    """

    TYPE: ClassVar[str] = "agent-open-model"

    key: Signed
    lengths: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened(Record):
    """What was opened; the payload holds it.

    Attributes:
        job_id: The job that made it; for a model the job that trained it.
        kind: What it is; ``plain_model`` for a model.
        ordinal: For rows the part's ordinal, else 0.
        parts: For rows how many parts there are; else 1.
        behind: For rows the latest dataset version that wrote a part before theirs; else 0.
        operation: For a model the pyspark.ml name of its estimator, else empty.
        tee: The TEE of the enclave that made it; ``insecure`` means none.
    """

    TYPE: ClassVar[str] = "agent-opened"

    job_id: str
    kind: OutputKind
    ordinal: int
    parts: int
    behind: int
    operation: str
    tee: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeLiterals(Record):
    """Asks for the codes of a query's literals in the columns of one companion; without literals, whether the companion is genuine.

    Attributes:
        directory: The dataset's directory, on a path that the agent can read.
        companion: The digest of the companion's record that the asker read.
        literals: The literals.
    """

    TYPE: ClassVar[str] = "agent-encode-literals"

    directory: str
    companion: bytes
    literals: tuple[QueryLiteral, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedLiterals(Record):
    """The codes of the literals, in their order."""

    TYPE: ClassVar[str] = "agent-encoded-literals"

    codes: tuple[LiteralCodes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Declined(Record):
    """Why the agent did not do it: an error's code, reason and next step, for the analyst's own machine."""

    TYPE: ClassVar[str] = "agent-declined"

    code: str
    reason: str
    next_step: str


REQUESTS: tuple[type[Record], ...] = (Identify, Sign, SignEnd, Open, OpenModel, EncodeLiterals)
REPLIES: tuple[type[Record], ...] = (Identified, Signature, Opened, EncodedLiterals, Declined)
