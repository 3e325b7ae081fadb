"""Results for one recipient, sealed under a key that is wrapped for the recipient and signed by this enclave."""

import pyarrow as pa

from securemllib.crypto.aead import seal
from securemllib.crypto.keys import DataKey
from securemllib.crypto.wrapping import wrap
from securemllib.enclave.rows import Rows
from securemllib.enclave.session import Session, written_before
from securemllib.errors import PolicyError
from securemllib.wire.job import Output, OutputKind
from securemllib.wire.result import ResultKey, SealedResult, result_context, result_key_context
from securemllib.wire.signed import Signed

__all__ = ["require_group", "rows_table", "sealed_result"]


def sealed_result(session: Session, output: Output, content: bytes | memoryview, *, ordinal: int = 0) -> SealedResult:
    """Return one result of the job for the output's recipient.

    Args:
        session: The job. Its results of one output have one key in this enclave, and what is signed is the key.
        output: What leaves, and for whom.
        content: The encoding of a summary or metric, or rows.
        ordinal: Of the part, for rows.
    """
    recipient = output.recipient.fingerprint
    # Of two threads that are the first, one makes a key for nothing.
    key, told = session.result_keys.get(output) or session.result_keys.setdefault(output, _fresh_key(session, output))
    return SealedResult(
        job_id=session.job_id,
        kind=output.kind,
        ordinal=ordinal,
        recipient=recipient,
        attestation=session.attestation,
        key=told,
        content=seal(key, result_context(session.job_id, output.kind, ordinal, recipient), content),
    )


def _fresh_key(session: Session, output: Output) -> tuple[DataKey, Signed]:
    """Return a key, and what tells the output's recipient of it."""
    key, recipient = DataKey.generate(), output.recipient
    wrapped = wrap(recipient.recipient_key, result_key_context(session.job_id, output.kind, recipient.fingerprint), key.expose())
    parts, behind = (len(session.parts), written_before(session.body, session.plan)) if output.kind is OutputKind.ROWS else (1, 0)
    who = recipient.fingerprint
    told = ResultKey(job_id=session.job_id, kind=output.kind, recipient=who, parts=parts, behind=behind, wrapped=wrapped)
    return key, session.identity.sign(told)


def require_group(session: Session, kinds: tuple[OutputKind, ...], size: float) -> None:
    """Raise where the job has an output of these kinds that would be of fewer rows than the owners' policies ask for.

    Args:
        session: The job.
        kinds: The kinds of output.
        size: The rows of the smallest group that they tell of.

    Raises:
        PolicyError: There are too few.
    """
    least = session.grant.min_group_size
    if not size >= least and any(output.kind in kinds for output in session.job.outputs):
        raise PolicyError(f"An output would be of fewer than {least} rows.", code="refused.policy.group")


def rows_table(rows: Rows, columns: tuple[str, ...]) -> memoryview:
    """Return the named columns as an Arrow IPC stream; vectors become fixed-size lists of doubles, sparse ones Spark's sparse vectors."""
    table = pa.table([rows.stored(name) for name in columns], names=list(columns))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return memoryview(sink.getvalue()).cast("B")
