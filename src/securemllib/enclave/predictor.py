"""The predictor: the rows of a part after the job's plan, models applied, for one recipient."""

from securemllib.enclave.cache import BlockCache
from securemllib.enclave.host import Host
from securemllib.enclave.reading import Reading
from securemllib.enclave.results import rows_table, sealed_result
from securemllib.enclave.session import Session
from securemllib.errors import FormatError
from securemllib.wire.job import OutputKind

__all__ = ["materialise"]


def materialise(session: Session, *, ordinal: int, output: int, cache: BlockCache, host: Host) -> bytes:
    """Return the sealed rows of one of the plan's parts: a `SealedResult` for the recipient of the job's rows at index ``output``."""
    outputs = session.job.output(OutputKind.ROWS)
    if not 0 <= ordinal < len(session.parts) or not 0 <= output < len(outputs):
        raise FormatError(f"The job has {len(session.parts)} parts and {len(outputs)} outputs of rows.")
    rows = Reading(session.parts[ordinal], cache, host).scored(session)
    table = rows_table(rows, outputs[output].columns)
    return sealed_result(session, outputs[output], table, ordinal=ordinal).to_bytes()
