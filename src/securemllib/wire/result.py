"""What leaves a job: sealed models, and results wrapped for one recipient and signed by the enclave that made them."""

from dataclasses import dataclass
from typing import ClassVar

from securemllib.errors import FormatError
from securemllib.wire.dataset import DatasetRef
from securemllib.wire.encoding import Value, length_prefixed
from securemllib.wire.job import OutputKind
from securemllib.wire.plan import ModelRef
from securemllib.wire.record import Record
from securemllib.wire.signed import Signed

__all__ = [
    "ResultBody", "SealedModel", "SealedResult", "WrappedModelKey", "model_context", "model_key_context", "piece_context", "piece_name",
    "result_context", "statistics_name", "statistics_operation", "table_context",
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
class ResultBody(Record):
    """The inside of a result, signed by the enclave's identity.

    Attributes:
        job_id: The job.
        kind: What it is.
        ordinal: For rows the part's ordinal, else 0.
        parts: For rows how many parts there are, so that a missing one is noticed; else 1.
        tree: For a summary or metric: a tree of numbers, lists and maps; else None.
        table_digest: For rows: the SHA-256 of their Arrow IPC stream, which is sealed beside the body; else empty.
    """

    TYPE: ClassVar[str] = "securemllib/result-body/v2"

    job_id: str
    kind: OutputKind
    ordinal: int
    parts: int
    tree: Value
    table_digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedResult(Record):
    """A result that one recipient can open.

    Attributes:
        job_id: The job.
        kind: What it is.
        ordinal: For rows the part's ordinal, else 0.
        recipient: The fingerprint of who can open it.
        attestation: The broker's signed `AttestationResult` of the enclave that made it.
        wrapped_key: A fresh data key, HPKE-wrapped for the recipient with `result_context`.
        envelope: A `Signed` `ResultBody`, sealed under that data key with `result_context`.
        table: For rows: an Arrow IPC stream, sealed under that data key with `table_context`; else empty.
    """

    TYPE: ClassVar[str] = "securemllib/sealed-result/v2"

    job_id: str
    kind: OutputKind
    ordinal: int
    recipient: str
    attestation: Signed
    wrapped_key: bytes
    envelope: bytes
    table: bytes


def result_context(job_id: str, kind: OutputKind, ordinal: int, recipient: str) -> bytes:
    """Return the context of a result, for its wrapped key and for its envelope."""
    return length_prefixed(SealedResult.TYPE, job_id, kind.value, ordinal, recipient)


def table_context(job_id: str, ordinal: int, recipient: str) -> bytes:
    """Return the associated data of the rows of a result."""
    return length_prefixed(f"{SealedResult.TYPE}/table", job_id, ordinal, recipient)


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
