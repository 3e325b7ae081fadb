"""Transformers and fitted features in one process, as the engine runs them, beside pyspark.ml."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from securemllib.algorithms.base import Block
from securemllib.algorithms.registry import build, build_transformer
from securemllib.algorithms.transformer import Column, Transformed
from securemllib.algorithms.vectors import SparseVector, Vector
from tests.algorithms.conftest import fit_blocks


def raw_blocks(*columns: pa.Array, parts: int = 3, arity: NDArray[np.int64] | None = None, label: Any = None) -> list[Block]:
    """Return blocks that read the columns as they are."""
    blocks = []
    for ordinal, rows in enumerate(np.array_split(np.arange(len(columns[0])), parts)):
        start, count = (int(rows[0]), len(rows)) if len(rows) else (0, 0)
        raw = {f"input{index}": column.slice(start, count) for index, column in enumerate(columns)}
        labels = None if label is None else np.asarray(label, dtype=np.float64)[rows]
        blocks.append(Block(ordinal=ordinal, features=np.zeros((count, 0)), offset=np.zeros(0), label=labels, arity=arity, raw=raw))
    return blocks


def fitted(
    operation: str, *columns: pa.Array, arity: NDArray[np.int64] | None = None, label: Any = None, parts: int = 3, **params: Any
) -> Any:
    """Return the model of an operation, trained on columns in parts, the last of them empty."""
    blocks = raw_blocks(*columns, parts=parts, arity=arity, label=label)
    empty = raw_blocks(*(column.slice(0, 0) for column in columns), parts=1, arity=arity, label=None if label is None else [])
    return fit_blocks(build(operation, params), [*blocks, *empty])


def transformed(transformer: Any, *columns: Any, **params: Any) -> Transformed:
    """Return what a model, or a transformer by its name, makes of columns."""
    made = build_transformer(transformer, params) if isinstance(transformer, str) else transformer
    return made.transform(tuple(column if isinstance(column, Column) else Column(column) for column in columns))


def listed(column: Column) -> list[Any]:
    """Return a column as plain values; vectors as lists."""
    values = column.values
    if isinstance(values, Vector | SparseVector):
        return values.matrix().tolist() if values.width else [[] for _ in range(values.rows)]
    return values.to_pylist()


def spark_frame(spark: Any, schema: str, *columns: list[Any]) -> Any:
    """Return a plain Spark frame of columns in two partitions."""
    return spark.createDataFrame(list(zip(*columns, strict=True)), schema).coalesce(2)


def collected(frame: Any, name: str) -> list[Any]:
    """Return a column of a plain Spark frame as plain values; vectors as lists."""
    rows = [row[0] for row in frame.select(name).collect()]
    return [row.toArray().tolist() if hasattr(row, "toArray") else row for row in rows]
