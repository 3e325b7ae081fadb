"""An analyst's script on a cluster with settings of its own: a fit, and a scoring. Prints one line of JSON."""

import json
import os
import sys

from pyspark.sql import SparkSession

from securemllib.ml.clustering import KMeans
from securemllib.ml.feature import VectorAssembler
from securemllib.spark import SecureSession


def main() -> None:
    """Train, release, score."""
    master, dataset, storage, idle, settings = sys.argv[1:]
    builder = SparkSession.builder.master(master)
    for key, value in json.loads(settings).items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    conf = {"dtype": "float64", "shares": "2", "tasks": "2", "storage": storage, "enclave.idle": idle, "checkpoint.interval": "1"}
    session = SecureSession(spark, os.environ["SECUREMLLIB_BROKER"], {f"spark.securemllib.{key}": value for key, value in conf.items()})
    rows = VectorAssembler(inputCols=["a", "b", "c"], outputCol="features").transform(session.read(dataset))
    model = KMeans(k=12, maxIter=4, tol=0.0, seed=3).fit(rows)
    jobs = len(spark.sparkContext.statusTracker().getJobIdsForGroup(None))
    centers = [center.tolist() for center in model.release().clusterCenters()]
    scored = model.transform(rows).release(columns=["prediction"])
    print(json.dumps({"centers": centers, "jobs": jobs, "rows": scored.open().num_rows}))
    session.stop()
    spark.stop()


if __name__ == "__main__":
    main()
