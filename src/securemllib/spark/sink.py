"""A folder of sealed results that a stream fills batch by batch, and its recipient's reading of it.

::

    batch-00000000/rows-00000.sml   a `SealedResult` for each part of the batch
    batch-00000000/job.sml          the batch's job specification, written last: without it there is no batch

The host can delete and exchange files. So the recipient takes nothing on the folder's word: a result opens only for the job that an
attested enclave made it for, the broker attests enclaves only for jobs that their analyst signed, and the jobs say which parts they read.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

import pyarrow as pa

from securemllib.errors import CoverError, FreshnessError, IntegrityError, UsageError
from securemllib.spark.relay_job import rows_file
from securemllib.spark.storage import Folder
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.job import ROWS_OPERATION, JobSpecification
from securemllib.wire.plan import Parts, Plan, Step

if TYPE_CHECKING:
    from securemllib.spark.dataframe import SecureDataFrame
    from securemllib.spark.session import SecureSession

__all__ = ["SealedSink", "SealedStream"]

_JOB = "job.sml"


class SealedSink:
    """Writes batches so that each part's rows are there once, however often a batch is repeated.

    Args:
        session: The session.
        path: The folder.
        recipient: Who can open the rows; the analyst when not given.
    """

    def __init__(self, session: "SecureSession", path: str, recipient: PublicIdentity | None) -> None:
        self._session, self._recipient = session, recipient
        self._folder = Folder.of(path)

    def write(self, frame: "SecureDataFrame", number: int) -> None:
        """Write a batch that is not there yet.

        Raises:
            IntegrityError: The checkpoint does not go on where the folder ends, or the folder is another stream's.
        """
        first, end = frame.reads
        if self._folder.child(_name(number)).exists(_JOB):
            there = _job(self._folder, number)
            _require_same(there.plan, frame.plan, number)
            if _range(there) != (first, end):
                raise IntegrityError(
                    f"Batch {number} of the checkpoint has the parts {first} to {end - 1}, that of the folder {_range(there)}.",
                    next_step="Use the checkpoint that this folder was written with, or a new folder and a new checkpoint.",
                    code="integrity.stream",
                )
            return
        before = 0
        if number and not self._folder.child(_name(number - 1)).exists(_JOB):
            raise IntegrityError(
                f"The checkpoint goes on with batch {number}, the folder {self._folder.root} has no batch {number - 1}.",
                next_step="Use the checkpoint that this folder was written with, or a new folder and a new checkpoint.",
                code="integrity.stream",
            )
        if number:
            previous = _job(self._folder, number - 1)
            _require_same(previous.plan, frame.plan, number)
            before = _range(previous)[1]
        if first != before:
            raise IntegrityError(
                f"The checkpoint goes on at part {first}, the folder ends before part {before}.",
                next_step="Use the checkpoint that this folder was written with, or a new folder and a new checkpoint.",
                code="integrity.stream",
            )
        job, results = self._session.sealed_rows(frame, self._recipient, tuple(frame.columns))
        folder = self._folder.child(_name(number))
        for ordinal, result in enumerate(results):
            folder.write(rows_file(ordinal), result)
        folder.write(_JOB, job.to_bytes())


class SealedStream:
    """What a stream wrote, read by the recipient's agent.

    Args:
        session: A session whose agent is the recipient's.
        path: The folder.
        analyst: Whose stream it is; the recipient's own when not given.
        of: The frame that the stream was started on. Where it is not given, another stream of the same analyst, with another model or
            filter, which a host puts in the place of this one, is not noticed.
    """

    def __init__(
        self, session: "SecureSession", path: str, analyst: PublicIdentity | None = None, *, of: "SecureDataFrame | None" = None
    ) -> None:
        self._session, self._analyst, self._of = session, analyst, of
        self._folder = Folder.of(path)

    def open(self, *, parts: int | None = None) -> pa.Table:
        """Return the rows of all batches, in the order of the dataset's parts.

        Args:
            parts: How many parts the owner has written; where it is not given, a tail that the host holds back is not noticed.

        Raises:
            CoverError: Parts are missing, or there twice.
            IntegrityError: A batch is of another stream, or of rows that no attested enclave made for its job.
            FreshnessError: A later batch read an earlier version of the dataset, or one in which parts of the batches before were written
                anew.
        """
        tables = list(self.tables(parts=parts))
        if not tables:
            raise CoverError(f"There is no batch in {self._folder.root}.")
        return pa.concat_tables(tables, promote_options="permissive")

    def tables(self, *, parts: int | None = None) -> Iterator[pa.Table]:
        """Yield the rows of each part; see `open`."""
        end = before = 0
        for number, job, plan in self._jobs():
            first, after = _range(job)
            if first != end:
                raise CoverError(f"Batch {number} begins with part {first}, the one before ended before part {end}.")
            for ordinal in range(after - first):
                result = self._folder.child(_name(number)).read(rows_file(ordinal))
                reply, payload = self._session.agent.open_table(job.job_id, result)
                if (reply.ordinal, reply.parts) != (ordinal, after - first):
                    raise CoverError(f"Batch {number} has the rows of part {first + reply.ordinal} in the place of part {first + ordinal}.")
                if reply.behind > before:
                    raise FreshnessError(
                        f"Version {reply.behind} of the dataset wrote parts before batch {number} anew, after they were read: "
                        "rows of this batch may have been handed out before.",
                        next_step="Start a new stream, with a new checkpoint, on the dataset that was written anew.",
                    )
                yield pa.ipc.open_stream(pa.py_buffer(payload)).read_all()
            end, before = after, plan.source.version
        if parts is not None and end != parts:
            raise CoverError(f"The stream holds the rows of {end} parts, not of {parts}.")

    def _jobs(self) -> Iterator[tuple[int, JobSpecification, Plan]]:
        """Yield the batches' jobs with their plans, all of them the analyst's and of one stream."""
        analyst = self._analyst or self._session.agent.identify().identity
        first: JobSpecification | None = None
        version = 0
        expected = None if self._of is None else (self._of.plan, tuple(self._of.columns))
        for number in count():
            if not self._folder.child(_name(number)).exists(_JOB):
                return
            job = _job(self._folder, number)
            first = first or job
            if job.analyst != analyst or job.operation != ROWS_OPERATION or job.outputs != first.outputs or job.plan is None:
                raise IntegrityError(f"Batch {number} is of another stream.", code="integrity.stream")
            _require_same(first.plan, job.plan, number)
            if expected is not None:
                _require_same(expected[0], job.plan, number)
                if {output.columns for output in job.outputs} != {expected[1]}:
                    raise IntegrityError(f"Batch {number} hands out other columns.", code="integrity.stream")
            if job.plan.source.version < version:
                raise FreshnessError(f"Batch {number} read version {job.plan.source.version} of the dataset, the one before {version}.")
            version = job.plan.source.version
            yield number, job, job.plan


def _require_same(first: Plan | None, other: Plan, number: int) -> None:
    """Raise unless two plans do the same to rows of the same dataset, whatever version and parts they read."""
    if first is None or replace(first, source=other.source, steps=_steps(first)) != replace(other, steps=_steps(other)):
        raise IntegrityError(f"Batch {number} does something else to the rows.", code="integrity.stream")
    if first.source.dataset_id != other.source.dataset_id:
        raise IntegrityError(f"Batch {number} is of dataset {other.source.dataset_id}.", code="integrity.stream")


def _steps(plan: Plan) -> tuple[Step, ...]:
    return tuple(step for step in plan.steps if not isinstance(step, Parts))


def _range(job: JobSpecification) -> tuple[int, int]:
    chosen = job.plan.parts if job.plan is not None else None
    if chosen is None:
        raise UsageError(f"Job {job.job_id} is no batch of a stream.", code="integrity.stream")
    return chosen.first, chosen.end


def _job(folder: Folder, number: int) -> JobSpecification:
    return JobSpecification.from_bytes(folder.child(_name(number)).read(_JOB))


def _name(number: int) -> str:
    return f"batch-{number:08d}"
