"""The analyst's driver under test: it fits, transforms and releases, tells where its UI is, and waits to be looked at.

After that it takes out the planted columns themselves, which the policy of the test allows: now the search must find them.
"""

import json
import sys

from pyspark.sql import SparkSession

from securemllib.ml.classification import LogisticRegression
from securemllib.ml.evaluation import BinaryClassificationEvaluator
from securemllib.ml.feature import VectorAssembler
from securemllib.spark import SecureSession
from securemllib.spark.functions import col


def tell(values):
    """Write a line for the test, and wait until it has looked."""
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()
    sys.stdin.readline()


def main(dataset, conf):
    """Run the job on two local slots."""
    builder = SparkSession.builder.master("local[2]").appName("boundary")
    for key, value in json.loads(conf).items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    session = SecureSession(spark)
    frame = session.read(dataset).filter(col("patient") != "nobody")
    frame = VectorAssembler(inputCols=["dose", "pressure", "age"], outputCol="features").transform(frame)
    train, test = frame.randomSplit([0.75, 0.25], seed=1)
    model = LogisticRegression(labelCol="ill", maxIter=10, regParam=0.01).fit(train)
    predictions = model.transform(test)
    area = BinaryClassificationEvaluator(labelCol="ill").evaluate(predictions)
    rows = predictions.release(columns=["prediction", "probability"]).toPandas()
    coefficients = list(model.release().coefficients)
    told = {"ui": spark.sparkContext.uiWebUrl, "application": spark.sparkContext.applicationId}
    tell({**told, "area": area, "rows": len(rows), "coefficients": coefficients})
    taken = frame.release(columns=["patient", "dose"]).open()
    tell({"rows": taken.num_rows})
    session.stop()
    spark.stop()


main(*sys.argv[1:])
