"""The same training with plaintext MLlib: what it costs, and what the host sees of it."""

import json
import os
import sys
import time
from typing import Any

from pyspark.ml.classification import LogisticRegression
from pyspark.ml.feature import VectorAssembler
from pyspark.sql import SparkSession
from pyspark.sql.functions import col

_FITS = 3


def main(master: str, path: str, features: list[str]) -> None:
    """Fit from a cached data frame, as often as the analyst's script does; then wait until the starter has looked around."""
    spark = SparkSession.builder.appName("plaintext").master(master).getOrCreate()
    frame = (
        spark.read.parquet(path).withColumn("label", (col("mdvis") > 0).cast("double")).repartition(spark.sparkContext.defaultParallelism)
    )
    assembled = VectorAssembler(inputCols=features, outputCol="features").transform(frame).cache()
    assembled.count()
    logistic = LogisticRegression(regParam=0.01, maxIter=50)
    times: list[float] = []
    model: Any = None
    for _ in range(_FITS):
        start = time.monotonic()
        model = logistic.fit(assembled)
        times.append(time.monotonic() - start)
    answer = {
        "step": "done",
        "load": os.getloadavg()[0],
        "fits": times,
        "iterations": model.summary.totalIterations,
        "coefficients": list(model.coefficients),
    }
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    sys.stdin.readline()
    spark.stop()


if __name__ == "__main__":
    main(os.environ["DEMO_MASTER"], os.environ["DEMO_DATASET"], os.environ["DEMO_FEATURES"].split(","))
