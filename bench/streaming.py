"""Rows that a sealed stream scores a CPU second: ``.venv/bin/python bench/streaming.py``.

A logistic regression over 50 features scores rows in micro-batches, and its predictions are sealed for the analyst. Counted is the CPU time
of every process: driver, JVM, Python tasks, enclave, broker and agent. A first query, which starts enclaves and compiles Spark's plans, is
not counted.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from measure import adopt_orphans, measure
from training import start_spark

from securemllib.cli.deployment import LocalDeployment
from securemllib.ml.classification import LogisticRegression
from securemllib.ml.feature import VectorAssembler
from securemllib.spark import SealedStream, SecureSession

_FEATURES = [f"x{index}" for index in range(50)]
_ROWS_PER_PART = 20_000


def main() -> None:
    """Train, warm up, score, and print."""
    parser = argparse.ArgumentParser(prog="bench/streaming.py", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--parts-per-trigger", type=int, default=25)
    parser.add_argument("--cores", type=int, default=2)
    options = parser.parse_args()
    adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="securemllib-bench-") as name, LocalDeployment(Path(name) / "deployment") as deployment:
        spark = start_spark(options.cores)
        session = deployment.session(spark, {"spark.securemllib.storage": f"{name}/storage"})
        path = deployment.dataset(_rows(2 * _ROWS_PER_PART, 0), "stream", rows_per_part=_ROWS_PER_PART)
        _bench(deployment, session, path, options, Path(name))
        session.stop()
        spark.stop()


def _bench(deployment: LocalDeployment, session: SecureSession, path: Path, options: argparse.Namespace, folder: Path) -> None:
    rows = VectorAssembler(inputCols=_FEATURES, outputCol="features").transform(session.read(str(path)))
    scored = LogisticRegression(maxIter=5).fit(rows).transform(rows).select("id", "prediction")

    def run() -> None:
        writer = scored.writeStream.option("checkpointLocation", str(folder / "checkpoint")).trigger(availableNow=True)
        query = writer.option("maxPartsPerTrigger", options.parts_per_trigger).start(str(folder / "sink"))
        query.awaitTermination()

    run()
    deployment.extend(path, _rows(options.rows, 1), rows_per_part=_ROWS_PER_PART)
    cost = measure(run)
    scored_rows = SealedStream(session, str(folder / "sink")).open().num_rows - 2 * _ROWS_PER_PART
    if scored_rows != options.rows:
        raise SystemExit(f"{scored_rows} rows came of {options.rows}")
    roles = ", ".join(f"{role} {seconds:.2f} s" for role, seconds in sorted(cost.roles.items()))
    print(f"{options.rows} rows of {len(_FEATURES)} features in batches of {options.parts_per_trigger * _ROWS_PER_PART}")
    print(
        f"  {options.rows / cost.cpu:,.0f} rows/s a core, all processes; {options.rows / cost.roles['enclave']:,.0f} in the enclave alone"
    )
    print(f"  {cost.cpu:.2f} CPU s, {cost.wall:.2f} s by the clock: {roles}")


def _rows(count: int, seed: int) -> pa.Table:
    generator = np.random.default_rng(seed)
    columns = {name: generator.normal(size=count) for name in _FEATURES}
    label = (columns["x0"] - columns["x1"] + generator.normal(size=count) > 0).astype(np.float64)
    return pa.table({"id": np.arange(count) + seed * 10**9, **columns, "label": label})


if __name__ == "__main__":
    main()
