"""An analyst's script on Spark Connect: a fit and an evaluation, as on any other session. Prints one line of JSON."""

import json
import os
import sys

from pyspark.sql import SparkSession

from securemllib.ml.clustering import KMeans
from securemllib.ml.evaluation import ClusteringEvaluator
from securemllib.ml.feature import VectorAssembler
from securemllib.spark import SecureSession


def main() -> None:
    """Train, evaluate and release."""
    dataset, storage, idle = sys.argv[1:]
    spark = SparkSession.builder.remote("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    conf = {"dtype": "float64", "shares": "2", "storage": storage, "enclave.idle": idle}
    session = SecureSession(spark, os.environ["SECUREMLLIB_BROKER"], {f"spark.securemllib.{key}": value for key, value in conf.items()})
    rows = VectorAssembler(inputCols=["a", "b", "c"], outputCol="features").transform(session.read(dataset))
    model = KMeans(k=12, maxIter=4, tol=0.0, seed=3).fit(rows)
    silhouette = ClusteringEvaluator().evaluate(model.transform(rows))
    centers = [center.tolist() for center in model.release().clusterCenters()]
    print(json.dumps({"session": type(spark).__module__, "silhouette": silhouette, "centers": centers}))
    session.stop()
    spark.stop()


if __name__ == "__main__":
    main()
