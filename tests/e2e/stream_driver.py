"""An analyst's script that streams a dataset's parts to a folder, one a batch, and prints what its recipient reads there."""

import json
import sys
from pathlib import Path

from pyspark.sql import SparkSession

from securemllib.spark import SealedStream, SecureSession
from securemllib.spark.functions import col


def main() -> None:
    """Run the query to the end of what is there."""
    broker, dataset, folder, parts = sys.argv[1:]
    conf = {"spark.ui.enabled": "false", "spark.driver.host": "127.0.0.1", "spark.python.unix.domain.socket.enabled": "true"}
    builder = SparkSession.builder.master("local[2]")
    for key, value in conf.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    session = SecureSession(
        spark, broker, {"spark.securemllib.enclave.idle": "10", "spark.securemllib.storage": str(Path(folder) / "storage")}
    )
    rows = session.read(dataset).withColumn("twice", col("a") * 2.0).select("row", "twice")
    writer = rows.writeStream.option("checkpointLocation", str(Path(folder) / "checkpoint")).option("maxPartsPerTrigger", 1)
    writer.trigger(availableNow=True).start(str(Path(folder) / "sink")).awaitTermination()
    table = SealedStream(session, str(Path(folder) / "sink")).open(parts=int(parts))
    print(json.dumps(table.to_pydict()))
    session.stop()
    spark.stop()


if __name__ == "__main__":
    main()
