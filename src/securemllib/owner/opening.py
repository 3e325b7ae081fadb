"""Opening what leaves a job: every check that stands between bytes of the host and a number that the analyst believes."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from securemllib.crypto.aead import unseal
from securemllib.crypto.identity import PrivateIdentity, verify
from securemllib.crypto.keys import DataKey
from securemllib.crypto.models import open_piece, open_root, whole_tree
from securemllib.errors import IntegrityError, RefusedError, SignatureError
from securemllib.wire.attestation import AttestationResult
from securemllib.wire.encoding import Value, decode
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.result import (
    ResultBody,
    SealedModel,
    SealedResult,
    WrappedModelKey,
    model_key_context,
    result_context,
    table_context,
)
from securemllib.wire.signed import Signed

__all__ = ["OpenedModel", "OpenedResult", "open_model", "open_result"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedResult:
    """A result in the clear.

    Attributes:
        body: Its job, kind and ordinal, and a summary or metric.
        table: Rows, as an Arrow IPC stream; empty for what has none.
        attestation: What the broker found of the enclave that made it.
    """

    body: ResultBody
    table: bytes
    attestation: AttestationResult


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
    3. Its key opens with the identity's private key, in the context of this job, kind, ordinal and recipient.
    4. The attested enclave signed the body.
    5. The body says the same job, kind and ordinal as the result.
    6. The rows beside it open with the same key in their own context, and are those whose digest is in the body; there are none where the
       body has no digest.

    Args:
        result: The result, from the host.
        identity: The recipient.
        broker: The broker that the recipient was told to trust, never one that came with the result.
        job_id: The job whose result the caller asked for.

    Raises:
        IntegrityError: 1, 3, 5 or 6 does not hold.
        SignatureError: 2 or 4 does not hold.
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
    context = result_context(job_id, result.kind, result.ordinal, fingerprint)
    key = DataKey(identity.recipient.unwrap(result.wrapped_key, context))
    opened = unseal(key, context, result.envelope)
    # 4
    body = verify(Signed.from_bytes(opened, limit=len(opened)), ResultBody, attestation.identity)
    # 5
    if (body.job_id, body.kind, body.ordinal) != (job_id, result.kind, result.ordinal):
        raise IntegrityError(f"The result of job {job_id} holds something else than it says.", code="integrity.result")
    # 6
    table = unseal(key, table_context(job_id, result.ordinal, fingerprint), result.table) if result.table else b""
    if body.table_digest != (sha256(table).digest() if result.table else b""):
        raise IntegrityError(f"The rows of part {result.ordinal} of job {job_id} are not those that were signed.", code="integrity.result")
    return OpenedResult(body=body, table=table, attestation=attestation)


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
