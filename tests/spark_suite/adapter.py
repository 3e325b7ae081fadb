"""A plain test DataFrame becomes a sealed one in one call, and what enclaves made of it is opened again.

Spark's tests build a DataFrame, fit, and look at the model and at transformed rows. `Sealing.installed` lets them do so against this
package: the rows are encrypted and enrolled under a policy that allows their analyst everything, training runs in enclaves, and whatever
the test reads is released to the analyst and opened by the agent. Nothing is computed outside of enclaves.
"""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from types import MethodType, ModuleType
from typing import Any
from unittest import mock

import pandas as pd
import pyarrow as pa
import pyspark.errors
import pyspark.ml
import pyspark.sql.functions
from pyspark.ml import base as spark_base
from pyspark.ml.linalg import DenseVector, SparseVector, VectorUDT
from pyspark.ml.wrapper import JavaParams
from pyspark.sql import Row, SparkSession
from pyspark.sql.classic.dataframe import DataFrame
from pyspark.sql.types import ArrayType, DataType, StructField, StructType

import securemllib.ml
import securemllib.spark.functions
from securemllib.algorithms.vectors import VECTOR
from securemllib.errors import SealedError, SecureMLlibError
from securemllib.ml import base, checks, clustering, fpm, recommendation, stat
from securemllib.ml.persistence import KINDS
from securemllib.ml.summaries import Summary
from securemllib.spark.dataframe import SecureDataFrame

__all__ = ["Sealing"]

_MODULES = ("classification", "clustering", "evaluation", "feature", "fpm", "pipeline", "recommendation", "regression", "stat", "tuning")

# The number of each row: encryption deals rows to parts in a random order, and tests read them in theirs.
_ORDER = "__order"


class Sealing:
    """Seals plain frames and opens sealed ones, for one deployment and session.

    Args:
        deployment: Has ``dataset(table, name)``, which encrypts, enrols and allows.
        session: The analyst's `SecureSession`.
    """

    def __init__(self, deployment: Any, session: Any) -> None:
        self._deployment = deployment
        self._session = session
        self._sealed: dict[int, tuple[DataFrame, SecureDataFrame]] = {}

    def seal(self, frame: DataFrame) -> SecureDataFrame:
        """Return the sealed rows of a plain frame: the same handle for the same frame."""
        held = self._sealed.get(id(frame))
        if held is None:
            path = self._deployment.dataset(_table(frame), f"frame-{len(self._sealed)}")
            held = self._sealed[id(frame)] = (frame, self._session.read(str(path)))
        return held[1]

    def open(self, frame: SecureDataFrame) -> DataFrame:
        """Return the rows of a sealed frame in the clear, released to the analyst."""
        table = frame.release(columns=frame.columns).open()
        table = table.sort_by(_ORDER) if _ORDER in table.column_names else table
        fields = [StructField(field.name, field.dataType, True) for field in frame.schema if field.name != _ORDER]
        columns = [_values(table.column(field.name), field.dataType) for field in fields]
        rows = [tuple(row) for row in zip(*columns, strict=True)]
        return SparkSession.active().createDataFrame(rows, StructType(fields)).coalesce(1)

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Let this package's estimators, models and evaluators take plain frames, as those of pyspark.ml do."""
        with contextlib.ExitStack() as stack:
            require = checks.require_sealed

            def require_sealed(dataset: Any, what: str) -> SecureDataFrame:
                return require(self.seal(dataset) if isinstance(dataset, DataFrame) else dataset, what)

            for module in [module for name, module in sys.modules.items() if name.startswith("securemllib.ml")]:
                if getattr(module, "require_sealed", None) is require:
                    stack.enter_context(mock.patch.object(module, "require_sealed", require_sealed))
            stack.enter_context(mock.patch.object(spark_base.Transformer, "transform", self._opening(spark_base.Transformer.transform)))
            stack.enter_context(mock.patch.object(base.SecureModel, "__getattr__", self._released(base.SecureModel.__getattr__)))
            stack.enter_context(mock.patch.object(base.SecureModel, "summary", self._summary(base.SecureModel.summary)))
            released = [(stat.ChiSquareTest, "test"), (stat.Correlation, "corr")]
            released += [(clustering.PowerIterationClustering, "assignClusters")]
            released += [(recommendation.ALSModel, name) for name in vars(recommendation.ALSModel) if name.startswith("recommendFor")]
            released += [(fpm.PrefixSpan, "findFrequentSequentialPatterns")]
            for kind, name in released:
                stack.enter_context(mock.patch.object(kind, name, self._evaluated(getattr(kind, name))))
            for kind in KINDS.values():
                if "evaluate" in vars(kind):
                    stack.enter_context(mock.patch.object(kind, "evaluate", self._evaluated(kind.evaluate)))
            stack.enter_context(mock.patch.object(SecureDataFrame, "__getattr__", self._opened(SecureDataFrame.__getattr__)))
            for name in ("collect", "head", "first", "take", "show", "toPandas"):
                stack.enter_context(mock.patch.object(SecureDataFrame, name, self._method(name)))
            # Spark's test cases stop Spark when they end.
            stack.enter_context(mock.patch.object(SparkSession, "stop", return_value=None))
            yield

    def _opening(self, transform: Any) -> Any:
        def opening(model: Any, dataset: Any, params: Any = None) -> Any:
            # A test's own transformer builds expressions, of the functions that its changed imports gave it.
            seals = type(dataset) is DataFrame and not isinstance(model, JavaParams)
            found = transform(model, self.seal(dataset) if seals else dataset, params)
            return self.open(found) if isinstance(found, SecureDataFrame) and isinstance(dataset, DataFrame) else found

        return opening

    def _shown(self, value: Any) -> Any:
        """Return what a test reads: sealed rows and tables as data frames of Spark, of a summary one attribute at a time."""
        if isinstance(value, SecureDataFrame):
            return self.open(value)
        if isinstance(value, pd.DataFrame):
            rows = list(value.itertuples(index=False, name=None))
            return SparkSession.active().createDataFrame(rows, list(value.columns))
        if isinstance(value, Row) or (isinstance(value, list) and value and all(isinstance(row, Row) for row in value)):
            return SparkSession.active().createDataFrame([value] if isinstance(value, Row) else value)
        if isinstance(value, Summary):
            names = {"__init__": lambda shown: None, "__getattribute__": lambda shown, name: self._shown(getattr(value, name))}
            return type(type(value).__name__, (type(value),), names)()
        if isinstance(value, MethodType):
            return lambda *arguments, **named: self._shown(value(*arguments, **named))
        return value

    def _summary(self, original: Any) -> property:
        return property(lambda model: self._shown(original.fget(model)))

    def _evaluated(self, original: Any) -> Any:
        return lambda *arguments, **named: self._shown(original(*arguments, **named))

    def _released(self, original: Any) -> Any:
        def attribute(model: Any, name: str) -> Any:
            try:
                return original(model, name)
            except SealedError:
                return self._shown(getattr(_plain_of(model), name))

        return attribute

    def _opened(self, original: Any) -> Any:
        def attribute(frame: SecureDataFrame, name: str) -> Any:
            try:
                return original(frame, name)
            except SealedError:
                return getattr(self.open(frame), name)

        return attribute

    def _method(self, name: str) -> Any:
        return lambda frame, *arguments: getattr(self.open(frame), name)(*arguments)

    @staticmethod
    def modules() -> dict[str, ModuleType]:
        """Return modules that stand for those of pyspark.ml, by the names that changed imports use (``sealed_ml.feature``)."""
        made: dict[str, ModuleType] = {"sealed_ml": _Stand("sealed_ml", securemllib.ml, pyspark.ml)}
        made["sealed_ml.functions"] = _Stand("sealed_ml.functions", securemllib.spark.functions, pyspark.sql.functions)
        errors = made["sealed_ml.errors"] = ModuleType("sealed_ml.errors")
        errors.__dict__.update(vars(pyspark.errors) | {"PySparkException": SecureMLlibError})
        for name in _MODULES:
            original = importlib.import_module(f"pyspark.ml.{name}")
            try:
                ours = importlib.import_module(f"securemllib.ml.{name}")
            except ModuleNotFoundError:
                ours = ModuleType(name)
            made[f"sealed_ml.{name}"] = _Stand(f"sealed_ml.{name}", ours, original)
        return made


class _Stand(ModuleType):
    """Our module, and for each public class that it does not have one that says so when it is used."""

    def __init__(self, name: str, ours: ModuleType, original: ModuleType) -> None:
        super().__init__(name)
        self._ours, self._original = ours, original
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or not hasattr(self._original, name):
            raise AttributeError(name)
        found = getattr(self._original, name)
        if hasattr(self._ours, name):
            return getattr(self._ours, name)
        is_operation = (
            "." in self.__name__ and hasattr(self._original, "__all__") and isinstance(found, type) and name in self._original.__all__
        )
        return type(name, (_NotBuilt,), {"NAME": name}) if is_operation else found


class _NotBuilt:
    NAME = ""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        raise NotImplementedError(f"not built: {self.NAME}")


def _plain_of(model: Any) -> Any:
    held = model.__dict__.get("_released_model")
    if held is None:
        held = model.__dict__["_released_model"] = model.release()
    return held


def _table(frame: DataFrame) -> pa.Table:
    rows = frame.collect()
    arrays = {}
    for field in frame.schema:
        values = [row[field.name] for row in rows]
        if isinstance(field.dataType, VectorUDT):
            arrays[field.name] = pa.array([_stored(value) for value in values], VECTOR)
        else:
            arrays[field.name] = frame.select(field.name).toArrow().column(0)
    return pa.table({**arrays, _ORDER: pa.array(range(len(rows)), pa.int64())})


def _stored(vector: Any) -> dict[str, Any] | None:
    if vector is None:
        return None
    if isinstance(vector, SparseVector):
        return {"type": 0, "size": vector.size, "indices": vector.indices.tolist(), "values": vector.values.tolist()}
    return {"type": 1, "size": None, "indices": None, "values": DenseVector(vector).toArray().tolist()}


def _values(column: pa.ChunkedArray, kind: DataType) -> list[Any]:
    values = column.to_pylist()
    if isinstance(kind, ArrayType) and isinstance(kind.elementType, VectorUDT):
        return [None if value is None else [_vector(vector) for vector in value] for value in values]
    return [_vector(value) for value in values] if isinstance(kind, VectorUDT) else values


def _vector(value: Any) -> Any:
    if isinstance(value, dict):
        sparse = value["type"] == 0
        return SparseVector(value["size"], value["indices"], value["values"]) if sparse else DenseVector(value["values"])
    return None if value is None else DenseVector(value)
