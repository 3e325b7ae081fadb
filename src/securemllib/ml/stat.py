"""Statistics, named as in ``pyspark.ml.stat``: each is one job, and its result leaves where the policy has the output ``summary``.

What is released is for the analyst, and Spark is the host: results are rows and lists in the analyst's program, never Spark data frames.
"""

from typing import TYPE_CHECKING, Any

from pyspark.ml.linalg import DenseMatrix, Vectors
from pyspark.sql import Row

from securemllib.algorithms.codec import from_tree
from securemllib.algorithms.registry import ALGORITHMS, build, types_of
from securemllib.algorithms.stat.summarizer import SummarizerResult
from securemllib.errors import UsageError
from securemllib.ml.checks import require_columns, require_sealed
from securemllib.ml.features.base import VECTORS, require_kind
from securemllib.spark.column_types import VECTOR
from securemllib.spark.dataframe import SecureDataFrame
from securemllib.spark.jobs import Request
from securemllib.wire.job import OutputKind
from securemllib.wire.plan import Assemble, HandleInvalid, ParamValue

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ChiSquareTest", "Correlation", "Summarizer", "SummaryBuilder", "describe", "summarised"]

_DESCRIBED = "securemllib_described"
# MLlib's names of metrics, and the fields that hold them.
_METRICS = {
    "mean": "mean",
    "sum": "sum",
    "variance": "variance",
    "std": "std",
    "count": "count",
    "numNonZeros": "num_non_zeros",
    "max": "max",
    "min": "min",
    "normL1": "norm_l1",
    "normL2": "norm_l2",
}


def _run(dataset: Any, operation: str, params: dict[str, ParamValue], column: str, others: dict[str, str]) -> Any:
    """Return the result of one job over a vector column."""
    frame = require_sealed(dataset, operation)
    build(operation, params)
    require_kind(frame, [column], VECTORS)
    require_columns(frame, others)
    inputs = {"input0": column, **others}
    outputs = ((OutputKind.SUMMARY, None, ()),)
    request = Request(operation=operation, params=params, inputs=inputs, plan=frame.plan, outputs=outputs, dtype="float64")
    released = frame.session.run(frame, request).trees.get(OutputKind.SUMMARY)
    return from_tree(types_of(ALGORITHMS[operation])[2], released)


class Correlation:
    """Correlations of the slots of vectors, as ``pyspark.ml.stat.Correlation``."""

    @staticmethod
    def corr(dataset: Any, column: str, method: str = "pearson") -> Row:
        """Return a row with the matrix, named as MLlib's: ``pearson(features)``.

        Args:
            dataset: Sealed rows.
            column: A vector column.
            method: ``pearson`` or ``spearman``.

        Raises:
            PolicyError: No rule has the output ``summary`` for this operation.
        """
        found = _run(dataset, "Correlation", {"method": method}, column, {}).matrix
        return Row(**{f"{method}({column})": DenseMatrix(found.shape[0], found.shape[1], found.ravel(order="F"))})


class ChiSquareTest:
    """Pearson's test of independence, as ``pyspark.ml.stat.ChiSquareTest``."""

    @staticmethod
    def test(dataset: Any, featuresCol: str, labelCol: str, flatten: bool = False) -> Any:
        """Return a row with ``pValues``, ``degreesOfFreedom`` and ``statistics``; flattened, a list with a row for each slot.

        Args:
            dataset: Sealed rows.
            featuresCol: A vector column.
            labelCol: A column of numbers.
            flatten: Whether each slot has a row of its own.

        Raises:
            PolicyError: No rule has the output ``summary`` for this operation.
        """
        found = _run(dataset, "ChiSquareTest", {}, featuresCol, {"label": labelCol})
        freedom = [int(each) for each in found.degrees_of_freedom]
        if not flatten:
            return Row(pValues=Vectors.dense(found.p_values), degreesOfFreedom=freedom, statistics=Vectors.dense(found.statistics))
        slots = enumerate(zip(found.p_values.tolist(), freedom, found.statistics.tolist(), strict=True))
        return [Row(featureIndex=slot, pValue=p, degreesOfFreedom=free, statistic=value) for slot, (p, free, value) in slots]


class SummaryBuilder:
    """Chosen metrics of vectors; made by `Summarizer.metrics`.

    Args:
        metrics: MLlib's names.
    """

    def __init__(self, metrics: tuple[str, ...]) -> None:
        self._metrics = metrics

    def summary(self, dataset: Any, featuresCol: str, weightCol: str | None = None) -> Row:
        """Return a row with the metrics; it takes the rows and their columns' names, where MLlib makes a column to be selected.

        Args:
            dataset: Sealed rows.
            featuresCol: A vector column.
            weightCol: A column of weights; every row weighs 1 without.

        Raises:
            PolicyError: No rule has the output ``summary`` for this operation.
        """
        found = _run(dataset, "Summarizer", {}, featuresCol, {} if weightCol is None else {"weight": weightCol})
        values = {name: getattr(found, _METRICS[name]) for name in self._metrics}
        return Row(**{name: value if name == "count" else Vectors.dense(value) for name, value in values.items()})


class Summarizer:
    """Column statistics of vectors, as ``pyspark.ml.stat.Summarizer``."""

    @staticmethod
    def metrics(*metrics: str) -> SummaryBuilder:
        """Return what computes some metrics: mean, sum, variance, std, count, numNonZeros, max, min, normL1, normL2."""
        if unknown := [name for name in metrics if name not in _METRICS]:
            raise UsageError(f"No metric is called {unknown[0]!r}; there are {', '.join(_METRICS)}.", code="usage.param")
        if not metrics:
            raise UsageError("A summary has at least one metric.", code="usage.param")
        return SummaryBuilder(metrics)


def describe(dataset: Any, *columns: str) -> "pd.DataFrame":
    """Return count, mean, std, min and max of numeric columns, in the form of pandas' ``describe``: one job, released as its summary.

    Args:
        dataset: Sealed rows.
        *columns: Columns of numbers without nulls; filter those with nulls first.

    Raises:
        PolicyError: No rule has the output ``summary`` for the operation ``Summarizer``.
        DataError: A column has nulls.
    """
    import pandas as pd

    if not columns:
        raise UsageError("Name the columns to describe.", code="usage.column")
    found = summarised(require_sealed(dataset, "describe"), *columns)
    rows = {name: getattr(found, name) for name in ("mean", "std", "min", "max")}
    return pd.DataFrame({"count": float(found.count), **rows}, index=list(columns)).T


def summarised(frame: SecureDataFrame, *columns: str) -> SummarizerResult:
    """Return the `Summarizer`'s metrics of numeric columns, in their order; errors as those of `describe`."""
    step = Assemble(input_columns=columns, output_column=_DESCRIBED, handle_invalid=HandleInvalid.ERROR)
    result: SummarizerResult = _run(frame.apply(step, {_DESCRIBED: VECTOR}), "Summarizer", {}, _DESCRIBED, {})
    return result
