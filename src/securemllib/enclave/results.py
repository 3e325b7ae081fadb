"""Results for one recipient: signed by this enclave, sealed under a fresh key that is wrapped for the recipient."""

from hashlib import sha256

import pyarrow as pa

from securemllib.algorithms.vectors import to_stored
from securemllib.crypto.aead import seal
from securemllib.crypto.keys import DataKey
from securemllib.crypto.wrapping import wrap
from securemllib.enclave.rows import Rows
from securemllib.enclave.session import Session
from securemllib.errors import DataError, PolicyError
from securemllib.wire.encoding import Value
from securemllib.wire.job import Output, OutputKind
from securemllib.wire.result import ResultBody, SealedResult, result_context, table_context

__all__ = ["require_group", "rows_table", "sealed_result"]


def sealed_result(
    session: Session, output: Output, *, ordinal: int = 0, tree: Value = None, table: memoryview | None = None
) -> SealedResult:
    """Return one result of the job for the output's recipient.

    Args:
        session: The job.
        output: What leaves, and for whom.
        ordinal: Of the part, for rows.
        tree: A summary or metric.
        table: Rows. Their digest is signed: an Ed25519 signature hashes what it signs twice, and by a slower function.
    """
    parts = len(session.parts) if output.kind is OutputKind.ROWS else 1
    digest = b"" if table is None else sha256(table).digest()
    body = ResultBody(job_id=session.job_id, kind=output.kind, ordinal=ordinal, parts=parts, tree=tree, table_digest=digest)
    recipient = output.recipient.fingerprint
    context = result_context(session.job_id, output.kind, ordinal, recipient)
    key = DataKey.generate()
    return SealedResult(
        job_id=session.job_id,
        kind=output.kind,
        ordinal=ordinal,
        recipient=recipient,
        attestation=session.attestation,
        wrapped_key=wrap(output.recipient.recipient_key, context, key.expose()),
        envelope=seal(key, context, session.identity.sign(body).to_bytes()),
        table=b"" if table is None else seal(key, table_context(session.job_id, ordinal, recipient), table),
    )


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
    arrays = []
    for name in columns:
        if name in rows.vectors:
            arrays.append(to_stored(rows.vectors[name]))
        elif name in rows.scalars:
            arrays.append(rows.scalars[name])
        else:
            raise DataError(f"The rows have no column {name!r}.", code="data.column")
    table = pa.table(arrays, names=list(columns))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return memoryview(sink.getvalue()).cast("B")
