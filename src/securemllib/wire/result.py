"""What leaves a job: sealed models, and results wrapped for one recipient and signed by the enclave that made them."""

from dataclasses import dataclass
from typing import ClassVar

from securemllib.errors import FormatError
from securemllib.wire.dataset import DatasetRef
from securemllib.wire.encoding import length_prefixed
from securemllib.wire.job import OutputKind
from securemllib.wire.plan import ModelRef
from securemllib.wire.record import Record
from securemllib.wire.signed import Signed

__all__ = [
    "ResultKey", "SealedModel", "SealedResult", "WrappedModelKey", "model_context", "model_key_context", "piece_context", "piece_name",
    "result_context", "result_key_context", "statistics_name", "statistics_operation",
]  # fmt: skip

# What a root can name within one message of 64 MiB, with room to spare.
_MOST_PIECES = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedModel(Record):
    """A model that only enclaves with its key can use.

    Attributes:
        model_id: The id of the job that trained it.
        operation: The pyspark.ml name of its estimator.
        tee: Of the enclave that trained it; ``insecure`` means none.
        lineage: The datasets that it was trained on.
        pieces: How many sealed pieces lie beside this record; 0 where it holds the whole model.
        envelope: Sealed under the model key: the model's tree; with pieces a map of ``tree``, which is None where the pieces together are
            the tree's encoding, and ``pieces``, the SHA-256 of each one's plaintext.
    """

    TYPE: ClassVar[str] = "securemllib/sealed-model/v2"

    model_id: str
    operation: str
    tee: str
    lineage: tuple[DatasetRef, ...]
    pieces: int = 0
    envelope: bytes

    def __post_init__(self) -> None:
        if not 0 <= self.pieces <= _MOST_PIECES:
            raise FormatError(f"A sealed model has 0 to {_MOST_PIECES} pieces, not {self.pieces}.")

    @property
    def reference(self) -> ModelRef:
        """The model's name."""
        return ModelRef(model_id=self.model_id, digest=self.content_digest())


def model_context(model_id: str, operation: str, tee: str, lineage: tuple[DatasetRef, ...]) -> bytes:
    """Return the associated data of a sealed model's envelope."""
    return length_prefixed(SealedModel.TYPE, model_id, operation, tee, *(dataset.digest for dataset in lineage))


def piece_context(model_id: str, index: int) -> bytes:
    """Return the associated data of one of a sealed model's pieces."""
    return length_prefixed("securemllib/model-piece/v1", model_id, index)


def piece_name(index: int) -> str:
    """Return the name under which a host keeps one of a sealed model's pieces."""
    return f"model-{index}"


def statistics_operation(operation: str) -> str:
    """Return what the sealed statistics beside a model of an operation are called, which are sealed as another model is."""
    return f"{operation} statistics"


def statistics_name(index: int) -> str:
    """Return the name under which a host keeps the statistics beside a model: 0 is their `SealedModel`, and its pieces follow."""
    return f"statistics-{index}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultKey(Record):
    """The key that an enclave seals its results of one kind for one recipient under, signed by the enclave's identity.

    Attributes:
        job_id: The job.
        kind: What the results are.
        recipient: The fingerprint of who can open them.
        parts: For rows how many parts all enclaves together hand out, so that a missing one is noticed; else 1.
        behind: For rows of a plan that begins behind a dataset's first parts, the latest version that wrote one of these; else 0.
        wrapped: A fresh data key, HPKE-wrapped for the recipient with `result_key_context`.
    """

    TYPE: ClassVar[str] = "securemllib/result-key/v1"

    job_id: str
    kind: OutputKind
    recipient: str
    parts: int
    behind: int
    wrapped: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedResult(Record):
    """A result that one recipient can open.

    Attributes:
        job_id: The job.
        kind: What it is.
        ordinal: For rows the part's ordinal, else 0.
        recipient: The fingerprint of who can open it.
        attestation: The broker's signed `AttestationResult` of the enclave that made it.
        key: The enclave's signed `ResultKey`.
        content: Sealed under that key with `result_context`: for rows an Arrow IPC stream; else the encoding of a tree of numbers, lists
            and maps.
    """

    TYPE: ClassVar[str] = "securemllib/sealed-result/v3"

    job_id: str
    kind: OutputKind
    ordinal: int
    recipient: str
    attestation: Signed
    key: Signed
    content: bytes


def result_key_context(job_id: str, kind: OutputKind, recipient: str) -> bytes:
    """Return the HPKE ``info`` of a result's key."""
    return length_prefixed(ResultKey.TYPE, job_id, kind.value, recipient)


def result_context(job_id: str, kind: OutputKind, ordinal: int, recipient: str) -> bytes:
    """Return the associated data of a result's content."""
    return length_prefixed(SealedResult.TYPE, job_id, kind.value, ordinal, recipient)


@dataclass(frozen=True, slots=True, kw_only=True)
class WrappedModelKey(Record):
    """A model's key, released to one recipient by the broker, which signs this record.

    Attributes:
        job_id: The release job.
        model: The model.
        recipient: The fingerprint of who can open it.
        wrapped: The model key, HPKE-wrapped with `model_key_context`.
    """

    TYPE: ClassVar[str] = "securemllib/wrapped-model-key/v1"

    job_id: str
    model: ModelRef
    recipient: str
    wrapped: bytes


def model_key_context(job_id: str, model: ModelRef, recipient: str) -> bytes:
    """Return the HPKE ``info`` of a released model key."""
    return length_prefixed(WrappedModelKey.TYPE, job_id, model.model_id, model.digest, recipient)
