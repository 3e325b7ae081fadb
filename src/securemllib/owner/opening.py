"""Opening what leaves a job: every check that stands between bytes of the host and a number that the analyst believes."""

from collections.abc import Sequence
from dataclasses import dataclass

from securemllib.crypto.aead import unseal
from securemllib.crypto.identity import PrivateIdentity, verify
from securemllib.crypto.keys import DataKey
from securemllib.crypto.models import open_piece, open_root, whole_tree
from securemllib.errors import IntegrityError, RefusedError, SignatureError
from securemllib.wire.attestation import AttestationResult
from securemllib.wire.encoding import Value, decode
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.job import OutputKind
from securemllib.wire.result import (
    ResultKey,
    SealedModel,
    SealedResult,
    WrappedModelKey,
    model_key_context,
    result_context,
    result_key_context,
)
from securemllib.wire.signed import Signed

__all__ = ["OpenedModel", "OpenedResult", "open_model", "open_result"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedResult:
    """A result in the clear.

    Attributes:
        job_id: Its job.
        kind: What it is.
        ordinal: For rows the part's ordinal, else 0.
        parts: For rows how many parts there are, else 1.
        behind: For rows the latest version that wrote a part before those of the plan, else 0.
        content: For rows an Arrow IPC stream, else the encoding of a tree.
        attestation: What the broker found of the enclave that made it.
    """

    job_id: str
    kind: OutputKind
    ordinal: int
    parts: int
    behind: int
    content: bytes
    attestation: AttestationResult

    @property
    def tree(self) -> Value:
        """What a summary or metric tells."""
        return decode(self.content, limit=len(self.content))


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedModel:
    """A released model.

    Attributes:
        model: The sealed model that it was.
        tree: The model in the clear, as the tree of its algorithm's model class.
        shards: Of a sharded model the trees of its shards.
    """

    model: SealedModel
    tree: Value
    shards: tuple[Value, ...] = ()


def open_result(result: SealedResult, *, identity: PrivateIdentity, broker: PublicIdentity, job_id: str) -> OpenedResult:
    """Return what a result holds.

    1. It is of the expected job and for this identity.
    2. The expected broker signed the attestation of the enclave that made it, for the same job.
    3. The attested enclave signed its key, as one for results of this job, kind and recipient.
    4. The key opens with the identity's private key, in the context of the same.
    5. The content opens with that key, in the context of this job, kind, ordinal and recipient.

    Args:
        result: The result, from the host.
        identity: The recipient.
        broker: The broker that the recipient was told to trust, never one that came with the result.
        job_id: The job whose result the caller asked for.

    Raises:
        IntegrityError: 1, 4 or 5 does not hold, or the signed key is for something else.
        SignatureError: 2 or 3 does not hold.
        RefusedError: The result is for somebody else.
    """
    # 1
    if result.job_id != job_id:
        raise IntegrityError(f"The result is of job {result.job_id}, not of job {job_id}.", code="integrity.result")
    fingerprint = identity.public.fingerprint
    if result.recipient != fingerprint:
        raise RefusedError(f"The result is for {result.recipient}, not for {fingerprint}.", code="refused.recipient")
    # 2
    attestation = verify(result.attestation, AttestationResult, broker)
    if attestation.job_id != job_id:
        raise SignatureError(f"The enclave was attested for job {attestation.job_id}, not for job {job_id}.")
    # 3
    told = verify(result.key, ResultKey, attestation.identity)
    if (told.job_id, told.kind, told.recipient) != (job_id, result.kind, fingerprint):
        raise IntegrityError(f"The key of the result of job {job_id} is for something else than it says.", code="integrity.result")
    # 4
    key = DataKey(identity.recipient.unwrap(told.wrapped, result_key_context(job_id, told.kind, fingerprint)))
    # 5
    content = unseal(key, result_context(job_id, told.kind, result.ordinal, fingerprint), result.content)
    return OpenedResult(
        job_id=job_id,
        kind=told.kind,
        ordinal=result.ordinal,
        parts=told.parts,
        behind=told.behind,
        content=content,
        attestation=attestation,
    )


def open_model(
    model: SealedModel, key: Signed, *, identity: PrivateIdentity, broker: PublicIdentity, pieces: Sequence[bytes | memoryview] = ()
) -> OpenedModel:
    """Return a released model in the clear.

    1. The expected broker signed the wrapped key.
    2. The key is for this identity and for exactly these sealed bytes.
    3. The key opens with the identity's private key in the context of its job, model and recipient.
    4. The envelope opens in the context of its model id, operation, TEE and lineage.
    5. The pieces are those that it names, all of them, in order.

    Args:
        model: The sealed model, from the host.
        key: The broker's signed `WrappedModelKey`.
        identity: The recipient.
        broker: The broker that the recipient was told to trust.
        pieces: The sealed pieces beside the model, from the host.

    Raises:
        SignatureError: 1 does not hold.
        RefusedError: The key is for somebody else.
        IntegrityError: 2, 3, 4 or 5 does not hold.
    """
    # 1
    released = verify(key, WrappedModelKey, broker)
    # 2
    fingerprint = identity.public.fingerprint
    if released.recipient != fingerprint:
        raise RefusedError(f"The model's key is for {released.recipient}, not for {fingerprint}.", code="refused.recipient")
    if released.model != model.reference:
        raise IntegrityError(f"The key is for another model or version than the sealed model {model.model_id}.", code="integrity.model")
    # 3
    context = model_key_context(released.job_id, released.model, fingerprint)
    model_key = DataKey(identity.recipient.unwrap(released.wrapped, context))
    # 4
    root = open_root(model, model_key)
    # 5
    if len(pieces) != model.pieces:
        raise IntegrityError(f"{len(pieces)} of the {model.pieces} pieces of model {model.model_id} are here.", code="integrity.model")
    if root.tree is None:
        return OpenedModel(model=model, tree=whole_tree(model, model_key, root, pieces.__getitem__))
    opened = (open_piece(model, model_key, root, index, piece) for index, piece in enumerate(pieces))
    return OpenedModel(model=model, tree=root.tree, shards=tuple(decode(piece, limit=len(piece)) for piece in opened))
