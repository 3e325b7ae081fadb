"""The analyst's script, a Spark driver: on the host's side, it holds no key and sees what the owner's policy lets out.

It imports nothing of the owner's or the broker's; each step is told as one line of JSON on its standard output.
"""

# Classes of securemllib.ml take pyspark.ml's keyword arguments at run time, which no type checker sees.
# mypy: disable-error-code="call-arg, call-overload, arg-type"
# pyrefly: ignore-errors

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from pyspark.sql import SparkSession

from securemllib.errors import RefusedError
from securemllib.ml import Pipeline
from securemllib.ml.classification import LogisticRegression
from securemllib.ml.evaluation import BinaryClassificationEvaluator
from securemllib.ml.feature import StandardScaler, VectorAssembler
from securemllib.spark.functions import col
from securemllib.spark.session import SecureSession

_FITS = 3


def tell(step: str, **values: Any) -> None:
    """Write a line for the process that started this one."""
    sys.stdout.write(json.dumps({"step": step, **values}) + "\n")
    sys.stdout.flush()


def timed(step: str, work: Callable[[], Any], describe: Callable[[Any], str] = lambda _: "") -> Any:
    """Return what the work returns, and tell how long it took."""
    start = time.monotonic()
    result = work()
    tell(step, seconds=time.monotonic() - start, detail=describe(result))
    return result


def started(master: str) -> SparkSession:
    """Return a Spark session whose executors have registered."""
    spark = SparkSession.builder.appName("analyst").master(master).getOrCreate()
    spark.range(2).count()
    return spark


def refused(work: Callable[[], Any]) -> str:
    """Return the error of work that must be refused; fail where it is not."""
    try:
        work()
    except RefusedError as error:
        return str(error)
    raise SystemExit("what the policy forbids was allowed")


def main(master: str, path: str, features: list[str]) -> None:
    """Train, evaluate, score and release; then wait until the starter has looked around."""
    spark = timed("start the Spark driver and two executors", lambda: started(master))
    session = SecureSession(spark)
    frame = session.read(path).withColumn("label", (col("mdvis") > 0).cast("double"))
    train, test = frame.randomSplit([0.8, 0.2], seed=7)
    logistic = LogisticRegression(featuresCol="scaled", regParam=0.01, maxIter=50)
    assembler = VectorAssembler(inputCols=features, outputCol="features")
    scaler = StandardScaler(inputCol="features", outputCol="scaled")
    pipeline = Pipeline(stages=[assembler, scaler, logistic])
    model = timed("fit Pipeline(assemble, scale, LogisticRegression)", lambda: pipeline.fit(train))
    final = model.stages[-1]
    evaluator = BinaryClassificationEvaluator()
    predictions = model.transform(test)
    timed("evaluate on the held-out fifth", lambda: evaluator.evaluate(predictions), lambda value: f"area under ROC {value:.4f}")
    timed(
        "score, release prediction columns",
        lambda: predictions.release(columns=["prediction", "probability"]).toPandas(),
        lambda table: f"{len(table)} rows of {', '.join(table.columns)}",
    )
    timed("release the plain model", final.release, lambda found: f"{len(found.coefficients)} coefficients and an intercept")
    timed("refused: release the column `lpi`", lambda: refused(lambda: predictions.release(columns=["lpi", "prediction"])), str)
    timed("refused: model.coefficients of the sealed model", lambda: refused(lambda: final.coefficients), str)
    # What is timed: all rows, so that plaintext MLlib trains on the same ones.
    whole = assembler.transform(frame)
    timing = LogisticRegression(regParam=0.01, maxIter=50)
    times: list[float] = []
    fitted: Any = None
    for _ in range(_FITS):
        start = time.monotonic()
        fitted = timing.fit(whole)
        times.append(time.monotonic() - start)
    tell(
        "done",
        load=os.getloadavg()[0],
        fits=times,
        iterations=fitted.summary.totalIterations,
        coefficients=list(fitted.release().coefficients),
    )
    sys.stdin.readline()
    session.stop()
    spark.stop()


if __name__ == "__main__":
    main(os.environ["DEMO_MASTER"], os.environ["DEMO_DATASET"], os.environ["DEMO_FEATURES"].split(","))
