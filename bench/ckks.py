"""Linear scores of CKKS rows by Spark's tasks, without an enclave, beside plaintext MLlib's transform of the same rows.

``run.py --scoring --workloads linear_regression`` gives the same model's scores in an enclave, beside the same reference.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from measure import alternate, measure
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.regression import LinearRegression
from pyspark.sql import SparkSession
from report import entry

from securemllib.owner.encrypted_rows import encrypt_rows, open_scores
from securemllib.owner.keystore import Keystore
from securemllib.spark.encrypted_scoring import linear_scores

__all__ = ["compare_scores"]

_FEATURES = 20
_ROWS = 200_000
# CPU seconds of one core for so many rows, which is the target, have no reference to divide by: the ratio is only reported.
_NO_TARGET = 1000.0


def compare_scores(spark: SparkSession, folder: Path, *, scale: float, runs: int, about: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of a linear model with 20 features.

    Args:
        spark: Runs both sides.
        folder: For the rows.
        scale: Factor on 200,000 rows.
        runs: How many measured runs each side has.
        about: Further members of the entry.
    """
    folder.mkdir()
    rows, names = round(_ROWS * scale), [f"x{number}" for number in range(_FEATURES)]
    random = np.random.default_rng(1)
    features, coefficients = random.normal(size=(rows, _FEATURES)), random.normal(size=_FEATURES)
    table = pa.table({**dict(zip(names, features.T, strict=True)), "y": features @ coefficients + 1.0})
    pq.write_table(table, folder / "plain.parquet")
    assembled = VectorAssembler(inputCols=names, outputCol="features").transform(spark.read.parquet(str(folder / "plain.parquet")))
    model = LinearRegression(labelCol="y").fit(assembled)
    keystore = Keystore.create(folder / "keystore", None)
    encrypting = measure(lambda: encrypt_rows(table, names, folder / "request", keystore=keystore), settle=0.0)
    fitted = dict(zip(names, map(float, model.coefficients), strict=True))
    ours, plain = folder / "scores", folder / "predictions"

    def encrypted(_: int) -> Callable[[], object]:
        shutil.rmtree(ours, ignore_errors=True)
        return lambda: linear_scores(spark, str(folder / "request"), fitted, model.intercept).write.parquet(str(ours))

    def clear(_: int) -> Callable[[], object]:
        shutil.rmtree(plain, ignore_errors=True)
        return lambda: model.transform(assembled).select("prediction").write.parquet(str(plain))

    scored, transformed = alternate(encrypted, clear, warm_up=1, runs=runs)
    opening = measure(lambda: open_scores(ours, folder / "request", keystore=keystore), settle=0.0)
    error = np.abs(open_scores(ours, folder / "request", keystore=keystore) - (features @ model.coefficients.toArray() + model.intercept))
    result = entry(
        "ckks_linear_score",
        scored,
        transformed,
        shape=(rows, _FEATURES),
        mode="ckks",
        cached=False,
        quality=("largest error", float(error.max()), 0.0),
        target=_NO_TARGET,
        encrypting_cpu_seconds=encrypting.cpu,
        opening_cpu_seconds=opening.cpu,
        **about,
    )
    return {**result, "rows_per_cpu_second": rows / result["cpu_seconds"]}
