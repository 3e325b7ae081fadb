"""Rows that a sealed stream scores a CPU second, beside plain Structured Streaming with MLlib's model.

A logistic regression over 50 features scores rows in micro-batches; ours are sealed parts, and predictions are sealed for the analyst.
Each run is a new query that goes on from its checkpoint with the rows that came since.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from measure import alternate
from pyspark.ml.classification import LogisticRegression as PlainRegression
from pyspark.ml.feature import VectorAssembler as PlainAssembler
from pyspark.sql import SparkSession
from report import entry

from securemllib.cli.deployment import LocalDeployment
from securemllib.ml.classification import LogisticRegression
from securemllib.ml.feature import VectorAssembler
from securemllib.spark import SealedStream

__all__ = ["compare_streams"]

_FEATURES = [f"x{index}" for index in range(50)]
_ROWS = 500_000
_PARTS, _PARTS_A_BATCH = 25, 25
# Rows a second of one core, which is the target, have no reference to divide by: the ratio is only reported.
_NO_TARGET = 1000.0


def compare_streams(spark: SparkSession, folder: Path, *, scale: float, runs: int, about: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of a stream of 50 features.

    Args:
        spark: Runs both sides.
        folder: For the rows.
        scale: Factor on 500,000 rows a run.
        runs: How many measured runs each side has.
        about: Further members of the entry.
    """
    rows = max(_PARTS, round(_ROWS * scale))
    per_part = -(-rows // _PARTS)
    clear = folder / "clear"
    clear.mkdir(parents=True)
    with LocalDeployment(folder / "deployment") as deployment:
        session = deployment.session(spark, {"spark.securemllib.storage": str(folder / "storage")})
        path = deployment.dataset(_table(rows, 0), "stream", rows_per_part=per_part)
        frame = VectorAssembler(inputCols=_FEATURES, outputCol="features").transform(session.read(str(path)))
        scored = LogisticRegression(maxIter=5).fit(frame).transform(frame).select("id", "prediction")
        _write_files(_table(rows, 0), clear, per_part, 0)
        assembler = PlainAssembler(inputCols=_FEATURES, outputCol="features")
        model = PlainRegression(maxIter=5).fit(assembler.transform(spark.read.parquet(str(clear))))
        source = spark.readStream.schema(spark.read.parquet(str(clear)).schema).option("maxFilesPerTrigger", _PARTS_A_BATCH)
        plain = model.transform(assembler.transform(source.parquet(str(clear)))).select("id", "prediction")

        def ours(number: int) -> Callable[[], object]:
            deployment.extend(path, _table(rows, number + 1), rows_per_part=per_part)
            writer = scored.writeStream.option("checkpointLocation", str(folder / "ours")).option("maxPartsPerTrigger", _PARTS_A_BATCH)
            return lambda: writer.trigger(availableNow=True).start(str(folder / "sealed")).awaitTermination()

        def theirs(number: int) -> Callable[[], object]:
            _write_files(_table(rows, number + 1), clear, per_part, number + 1)
            writer = plain.writeStream.format("parquet").option("checkpointLocation", str(folder / "theirs"))
            return lambda: writer.trigger(availableNow=True).start(str(folder / "scored")).awaitTermination()

        try:
            samples = alternate(ours, theirs, warm_up=1, runs=runs)
            counted = SealedStream(session, str(folder / "sealed")).open().num_rows, spark.read.parquet(str(folder / "scored")).count()
        finally:
            session.stop()
    result = entry(
        "streaming_logistic_regression",
        *samples,
        shape=(rows, len(_FEATURES)),
        mode="enclave",
        cached=False,
        quality=("rows in all", *map(float, counted)),
        target=_NO_TARGET,
        **about,
    )
    return {**result, "rows_per_cpu_second": rows / result["cpu_seconds"]}


def _table(count: int, seed: int) -> pa.Table:
    generator = np.random.default_rng(seed)
    columns = {name: generator.normal(size=count) for name in _FEATURES}
    label = (columns["x0"] - columns["x1"] + generator.normal(size=count) > 0).astype(np.float64)
    return pa.table({"id": np.arange(count) + seed * 10**9, **columns, "label": label})


def _write_files(table: pa.Table, directory: Path, rows: int, number: int) -> None:
    for start in range(0, table.num_rows, rows):
        pq.write_table(table.slice(start, rows), directory / f"{number}-{start}.parquet")
