"""The job specification: everything that decides what an enclave does, signed by the analyst."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import ClassVar

from securemllib.errors import FormatError
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.plan import ModelRef, ParamValue, Plan
from securemllib.wire.record import Record

__all__ = ["RELEASE_OPERATION", "ROWS_OPERATION", "JobSpecification", "Mode", "Output", "OutputKind"]

# Operations that are no algorithm: rows of a plan go to a recipient; a sealed model's key goes to a recipient.
ROWS_OPERATION = "Rows"
RELEASE_OPERATION = "ReleaseModel"

_NONCE_BYTES = 16
_SHARE_LIMIT = 100_000


class Mode(StrEnum):
    """Where statistics are added: by enclaves (SML-1), or by the host where they are masked sums (SML-2)."""

    ENCLAVE = "enclave"
    PARTITIONED = "partitioned"


class OutputKind(StrEnum):
    """What may leave a job."""

    SEALED_MODEL = "sealed_model"
    SEALED_STATISTICS = "sealed_statistics"
    PLAIN_MODEL = "plain_model"
    SUMMARY = "summary"
    METRIC = "metric"
    ROWS = "rows"


@dataclass(frozen=True, slots=True, kw_only=True)
class Output(Record):
    """One thing that leaves a job and the identity that can open it.

    Attributes:
        kind: What leaves.
        recipient: Who opens it; for a sealed model, and the sealed statistics beside it from which a training goes on, nobody: the broker
            keeps their keys, and the recipient is the analyst.
        columns: For rows: the columns that leave.
    """

    TYPE: ClassVar[str] = "output"

    kind: OutputKind
    recipient: PublicIdentity
    columns: tuple[str, ...] = ()


# Without slots: the id is kept, because each step of a job asks for it, and a plan of many columns takes long to digest.
@dataclass(frozen=True, kw_only=True)
class JobSpecification(Record):
    """A job.

    Attributes:
        operation: A pyspark.ml class name (an estimator or evaluator), or one of the two operations that are no algorithm.
        params: The operation's Params by their pyspark.ml names; column Params excepted.
        inputs: The plan's columns by role: ``features``, ``label``, ``weight``, ``prediction``, and what else the operation reads.
        plan: The rows; None when only a model's key is asked for.
        model: The model to release; or the one from which a training goes on, whose parts end where the plan's begin.
        mode: Where statistics are added.
        dtype: ``float32`` or ``float64``, of the blocks.
        seed: The analyst's seed: position of the job's randomness, whose key the analyst does not know.
        shares: Into how many shares the parts are dealt; share ``k`` holds the parts whose ordinal is ``k`` modulo ``shares``.
        checkpoint_interval: Rounds between checkpoints.
        outputs: What leaves, to whom.
        analyst: Who signs.
        broker: The fingerprint of the broker that may grant keys.
        measurements: The enclave measurements that the analyst accepts; empty leaves it to the owners.
        created: Seconds since 1970.
        nonce: 16 random bytes: the same job twice has two ids.
    """

    TYPE: ClassVar[str] = "securemllib/job/v1"

    operation: str
    params: dict[str, ParamValue]
    inputs: dict[str, str]
    plan: Plan | None
    model: ModelRef | None
    mode: Mode
    dtype: str
    seed: int
    shares: int
    checkpoint_interval: int
    outputs: tuple[Output, ...]
    analyst: PublicIdentity
    broker: str
    measurements: tuple[bytes, ...]
    created: int
    nonce: bytes

    def __post_init__(self) -> None:
        if len(self.nonce) != _NONCE_BYTES:
            raise FormatError(f"A job's nonce has {_NONCE_BYTES} bytes.")
        if self.dtype not in {"float32", "float64"}:
            raise FormatError("A job's dtype is float32 or float64.")
        if not 1 <= self.shares <= _SHARE_LIMIT or self.checkpoint_interval < 1:
            raise FormatError("A job has at least one share and one round between checkpoints.")
        released = self.operation == RELEASE_OPERATION
        if (self.plan is None) != released or (self.model is None and released):
            raise FormatError(f"{RELEASE_OPERATION} names a model and no plan, every other operation a plan.")
        if self.model is not None and self.plan is not None and self.plan.parts is None:
            raise FormatError("A training that goes on from a model names the parts that it reads.")
        if self.output(OutputKind.SEALED_STATISTICS) and not self.output(OutputKind.SEALED_MODEL):
            raise FormatError("Sealed statistics lie beside a sealed model.")

    @cached_property
    def job_id(self) -> str:
        """The digest of the specification, in hexadecimal."""
        return self.content_digest().hex()

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """Every sealed model that the job needs the key of."""
        own = () if self.model is None else (self.model,)
        return tuple(dict.fromkeys((*own, *(self.plan.models if self.plan is not None else ()))))

    def output(self, kind: OutputKind) -> tuple[Output, ...]:
        """Return the outputs of one kind."""
        return tuple(output for output in self.outputs if output.kind is kind)

    @property
    def result_columns(self) -> frozenset[str]:
        """The columns of the plan's result that the job reads."""
        rows = (column for output in self.output(OutputKind.ROWS) for column in output.columns)
        return frozenset(self.inputs.values()) | frozenset(rows)
