"""Rows as a statement of SQL selects them."""

from secrets import token_hex
from typing import TYPE_CHECKING, Any, ClassVar

from pyspark.errors import PySparkException
from pyspark.ml import feature as original
from pyspark.sql import types as spark_types
from pyspark.sql.types import DataType

from securemllib.errors import UsageError
from securemllib.ml.checks import require_sealed
from securemllib.ml.features.base import SecureTransformer
from securemllib.ml.mirror import mirrors
from securemllib.spark.column import Column
from securemllib.spark.dataframe import SecureDataFrame
from securemllib.wire import dataset

if TYPE_CHECKING:
    from securemllib.sql.enclave_plan import EnclaveQuery

__all__ = ["SQLTransformer"]

_THIS = "__THIS__"
_NAMED = "Give each expression a name of its own: write `a + 1 AS total`."
# What the translation of expressions tells apart; a column of any other type is only taken over.
_KINDS: tuple[tuple[type[DataType], str], ...] = (
    (spark_types.BooleanType, "bool"),
    (spark_types.StringType, "string"),
    (spark_types.NumericType, "double"),
    (spark_types.DateType, "date32[day]"),
    (spark_types.TimestampType, "timestamp[us, tz=UTC]"),
    (spark_types.TimestampNTZType, "timestamp[us]"),
)


@mirrors(original.SQLTransformer)
class SQLTransformer(SecureTransformer):
    """``SELECT ... FROM __THIS__ WHERE ...``, as ``pyspark.ml.feature.SQLTransformer``, of expressions that enclaves evaluate.

    These are the expressions of `SecureSession.sql` in enclaves. Aggregates, groups, joins, sorts and other functions are refused. An
    expression without a name, as ``a + 1``, is called as Spark calls it: ``(a + 1)``.
    """

    WITHOUT: ClassVar[tuple[str, ...]] = ("statements that [enclaves do not run](sql.md)",)

    def _transform(self, dataset: Any) -> Any:
        frame = require_sealed(dataset, "SQLTransformer.transform")
        if not self.isDefined("statement"):
            raise UsageError("A SQLTransformer needs a statement.", code="usage.param")
        statement = str(self.getOrDefault("statement"))
        query = _query(statement, frame)
        rows = frame if query.predicate is None else frame.filter(Column(query.predicate))
        names = _names(statement, frame, len(query.outputs))
        return rows.select(*(Column(output.expression, name) for output, name in zip(query.outputs, names, strict=True)))


def _names(statement: str, frame: SecureDataFrame, number: int) -> list[str]:
    """Return what Spark calls the columns of a statement, which it reads over a table of the same columns without rows."""
    spark = frame.session.spark
    view = f"securemllib_{token_hex(8)}"
    spark.createDataFrame([], frame.schema).createOrReplaceTempView(view)
    try:
        names = spark.sql(statement.replace(_THIS, view)).columns
    except PySparkException as error:
        raise _refused(f"Spark has no name for an expression ({error.getCondition()}).", _NAMED) from None
    finally:
        spark.catalog.dropTempView(view)
    if not len(set(names)) == len(names) == number:
        raise _refused("Two expressions have one name.", _NAMED)
    return list(names)


def _query(statement: str, frame: SecureDataFrame) -> "EnclaveQuery":
    """Return what enclaves do for a statement; `UsageError` where they do not run it."""
    try:
        query = _planned(statement, frame)
    except ModuleNotFoundError as error:
        # The parser of SQL is an extra's: only statements need it.
        raise UsageError(
            f"A SQLTransformer needs {error.name}.", next_step="Install securemllib[sql].", code="usage.missing_package"
        ) from None
    except UsageError as error:
        raise _refused(error.reason, error.next_step, error.error_code) from error
    if query.summaries:
        raise _refused("Aggregates are no sealed rows.", "Use securemllib.ml.stat.", "usage.enclave_query")
    return query


def _planned(statement: str, frame: SecureDataFrame) -> "EnclaveQuery":
    from sqlglot import exp

    from securemllib.sql.catalog import NamedColumns
    from securemllib.sql.enclave_plan import plan_for_enclave
    from securemllib.sql.parsing import parse_query, parse_select

    columns = [dataset.Column(name=f.name, type=_kind(f.dataType), nullable=f.nullable, encoding="sealed") for f in frame.schema]
    select = parse_select(statement)
    if {table.name for table in select.find_all(exp.Table)} != {_THIS}:
        raise UsageError(f"It reads {_THIS} and nothing else.", code="usage.table")
    # The parser would call different expressions by one name; Spark has one of its own for each.
    named = [
        item if isinstance(item, exp.Alias | exp.Column | exp.Star) else exp.alias_(item, f"_{i}")
        for i, item in enumerate(select.expressions)
    ]
    select.set("expressions", named)
    return plan_for_enclave(parse_query(select, {_THIS: NamedColumns(name=_THIS, columns=tuple(frame.columns))}), columns)


def _refused(reason: str, next_step: str, code: str = "usage.query") -> UsageError:
    return UsageError(f"The statement of a SQLTransformer is not one that enclaves run. {reason}", next_step=next_step, code=code)


def _kind(kind: DataType) -> str:
    return next((text for known, text in _KINDS if isinstance(kind, known)), kind.simpleString())
