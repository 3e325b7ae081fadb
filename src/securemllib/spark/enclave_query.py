"""Queries that enclaves run on sealed rows: signed jobs under the owner's policy, whose results the analyst's agent opens."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from securemllib.algorithms.codec import from_tree
from securemllib.algorithms.expressions import evaluate
from securemllib.algorithms.stat.summarizer import SummarizerResult
from securemllib.errors import DataError, FormatError, UsageError
from securemllib.spark.column import Column
from securemllib.spark.column_types import VECTOR, schema_of
from securemllib.spark.dataframe import SecureDataFrame
from securemllib.spark.jobs import Request
from securemllib.spark.rows import SealedRows
from securemllib.spark.source import Source
from securemllib.sql.enclave_plan import EnclaveQuery, Measure, Summary
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.job import OutputKind
from securemllib.wire.plan import Assemble, Expression, HandleInvalid, Literal

if TYPE_CHECKING:
    import pandas as pd

    from securemllib.spark.session import SecureSession

__all__ = ["EnclaveFrame"]

_OPERATION = "Summarizer"
_VALUE = "securemllib_value"
_VALUES = "securemllib_values"
# Of fewer rows than two there is no deviation, which Spark calls null.
_NEED_TWO = frozenset({"std", "variance"})


class EnclaveFrame:
    """A query that enclaves run; made by `SecureSession.sql`. Nothing runs, and no policy counts a run, before `open` or `release`.

    Args:
        session: The session.
        query: What enclaves do.
        source: The dataset.
        because: Why no encoding answers the query, where that decided the route.
    """

    def __init__(self, session: "SecureSession", query: EnclaveQuery, source: Source, because: str = "") -> None:
        self.session = session
        self._query = query
        self._because = because
        columns = source.manifest.columns
        rows = SecureDataFrame(session, source, schema_of(columns) if columns else None)
        self._rows = rows if query.predicate is None else rows.filter(Column(query.predicate))

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return [output.name for output in self._query.outputs]

    @property
    def frame(self) -> SecureDataFrame:
        """The selection as sealed rows, for estimators and further steps; `UsageError` for aggregates."""
        if self._query.summaries:
            raise UsageError(
                "Aggregates are no sealed rows.", next_step="Open them, or select the rows.", code="usage.enclave_query"
            )  # fmt: skip
        return self._rows.select(*(Column(output.expression, output.name) for output in self._query.outputs))

    def explain(self) -> str:
        """Return the route, the jobs with the rows that each reads, what leaves them, and what the host sees of the query."""
        source = self._rows.source.manifest
        lines = [
            "route: enclave" + (f", because the encodings do not answer: {self._because}" if self._because else ""),
            f"runs: {self._query.jobs} of the owner's policy, on dataset {source.dataset_id} version {source.version}",
            f"enclaves announce the TEE {self.session.settings.enclave.announced}",
        ]
        for number, summary in enumerate(self._query.summaries, 1):
            of = ", ".join(Column(value).name for value in summary.values) or "nothing but their number"
            lines.append(f"job {number}: {_OPERATION} of {of}{self._chosen(summary.conditions)}; a summary leaves, for the analyst")
        if not self._query.summaries:
            lines.append(f"job 1: Rows {', '.join(self.columns)}{self._chosen(())}; these columns leave, for their recipient")
        lines.append(
            "the host sees: the signed jobs, with the query's constants in the clear; sizes and timing; no row, and not which rows"
        )
        return "\n".join(lines)

    def _chosen(self, conditions: tuple[Expression, ...]) -> str:
        """Return the words for which rows a job is of."""
        predicates = [predicate for predicate in (self._query.predicate, *conditions) if predicate is not None]
        return f" WHERE {' AND '.join(Column(predicate).name for predicate in predicates)}" if predicates else ", of all rows"

    def open(self) -> pa.Table:
        """Return the result, opened by the analyst's agent; jobs run once, however often it is asked for.

        Raises:
            PolicyError: The owner's policy does not allow a job.
            IntegrityError: A result is of another job, or rows are missing.
            DataError: An aggregate is of no rows (``data.no_rows``), or a value is not a number.
        """
        return self._opened

    def toPandas(self) -> "pd.DataFrame":
        """Return the result, opened by the analyst's agent, as a pandas data frame."""
        return self.open().to_pandas()

    def release(self, *, to: PublicIdentity | None = None) -> SealedRows:
        """Return the selected rows, sealed for a recipient, the analyst when not given; each call is a job."""
        return self.frame.release(to=to, columns=self.columns)

    @cached_property
    def _opened(self) -> pa.Table:
        if not self._query.summaries:
            return self.release().open().select(self.columns)
        wanted = [self._summarised(summary) for summary in self._query.summaries]
        outcomes = self.session.run_together([(frame, _request(frame)) for frame in wanted])
        results = [from_tree(SummarizerResult, outcome.trees.get(OutputKind.SUMMARY)) for outcome in outcomes]
        measured = _Measured(values={measure.name: _measured(measure, results[measure.summary]) for measure in self._query.measures})
        return pa.table({output.name: evaluate(output.expression, measured) for output in self._query.outputs})

    def _summarised(self, summary: Summary) -> SecureDataFrame:
        """Return the rows of a summary with its values in one vector column."""
        frame = self._rows
        for condition in summary.conditions:
            frame = frame.filter(Column(condition))
        # Rows that are only counted have one constant.
        values = summary.values or (Literal(value=0.0),)
        names = tuple(f"{_VALUE}{number}" for number in range(len(values)))
        for name, value in zip(names, values, strict=True):
            frame = frame.withColumn(name, Column(value))
        # A null that the manifest rules out is refused in the enclave.
        step = Assemble(input_columns=names, output_column=_VALUES, handle_invalid=HandleInvalid.ERROR)
        return frame.apply(step, {_VALUES: VECTOR})


def _request(frame: SecureDataFrame) -> Request:
    outputs = ((OutputKind.SUMMARY, None, ()),)
    return Request(operation=_OPERATION, params={}, inputs={"input0": _VALUES}, plan=frame.plan, outputs=outputs, dtype="float64")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """The measures of an aggregation, as one row."""

    values: dict[str, pa.Array]
    count: int = 1

    def scalar(self, name: str) -> pa.Array:
        return self.values[name]

    def drawn(self, purpose: str, seed: int) -> NDArray[np.float64]:
        raise DataError(f"An opened result draws no random numbers, {purpose} of the seed {seed} neither.", code="data.expression")


def _measured(measure: Measure, result: SummarizerResult) -> pa.Array:
    if measure.metric == "count":
        return pa.array([result.count], pa.int64())
    values = getattr(result, measure.metric)
    if measure.value >= len(values):
        raise FormatError(f"A summary of {len(values)} values came, not of {measure.value + 1}.")
    return pa.array([None if measure.metric in _NEED_TWO and result.count < 2 else float(values[measure.value])], pa.float64())
