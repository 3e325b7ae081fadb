"""Short signed notices to a broker: what a key holder says about their own job, key, or the broker's store."""

from dataclasses import dataclass
from typing import ClassVar

from securemllib.wire.record import Record

__all__ = ["JobEnd"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnd(Record):
    """The results of a job that leaves no model have come: it needs no more keys. Signed by the job's analyst.

    Attributes:
        job_id: The job.
        broker: The fingerprint of the broker that accepted it.
    """

    TYPE: ClassVar[str] = "securemllib/job-end/v1"

    job_id: str
    broker: str
