"""TPC-H on encoded columns beside plain Spark on the clear ones: the same queries, both writing their result to Parquet.

Our side asks the owner's agent for the literals, in a thread of this process, and lets Spark work on codes. Opening the result, which
happens where the keys are, is measured apart. Files of both sides are Parquet as pyarrow writes it by default, in the same number.
"""

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from measure import alternate, measure
from pyspark.sql import SparkSession
from report import entry
from tpch import ENCODINGS, QUERIES, make_tables

from securemllib.crypto.identity import PrivateIdentity
from securemllib.owner.agent import Agent, AgentServer
from securemllib.owner.companion import OpenCompanion, open_companion
from securemllib.owner.dataset import encrypt
from securemllib.owner.encoding_schema import schema_from_text
from securemllib.owner.keystore import Keystore
from securemllib.owner.query_literals import LiteralEncoder
from securemllib.owner.query_results import open_query_result
from securemllib.spark import SecureSession

__all__ = ["GROUPS", "compare_queries"]

GROUPS = ("region", "nation", "supplier", "customer", "part", "orders")
# The geometric mean over the queries is to be at most this.
_TARGET = 1.5
_ROWS_PER_PART = 500_000
_WARM_UP_SECONDS = 5.0
_LITERALS = 100_000


def compare_queries(spark: SparkSession, folder: Path, *, scale: float, runs: int, about: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield one entry a query.

    Args:
        spark: Runs both sides.
        folder: For the tables.
        scale: The scale factor of TPC-H.
        runs: How many measured runs each side has.
        about: Further members of each entry.
    """
    folder.mkdir()
    identity, keystore = PrivateIdentity.generate("owner"), Keystore.create(folder / "keystore", None)
    for group in GROUPS:
        keystore.add_join_group(group)
    socket = Path(tempfile.mkdtemp(prefix="sml-")) / "s"
    literals = LiteralEncoder(identity.public, keystore, limit=_LITERALS)
    server = AgentServer(Agent(identity, None, show=lambda _: None, literals=literals), socket)
    threading.Thread(target=server.serve, daemon=True).start()
    os.environ["SECUREMLLIB_AGENT_SOCK"] = str(socket)
    session = SecureSession(spark, "http://127.0.0.1:9")
    try:
        tables = make_tables(scale)
        rows = tables["lineitem"].num_rows
        companions = []
        for name, table in tables.items():
            _plain(spark, table, folder / f"{name}-plain", name)
            schema = schema_from_text(f"columns: {ENCODINGS[name]}")
            path = folder / name
            options = {"encodings": schema, "rows_per_part": _ROWS_PER_PART, "accept_leakage": table.column_names}
            encrypt(table, path, name=name, identity=identity, keystore=keystore, **options)
            session.readEncoded(str(path)).createOrReplaceTempView(name)
            companions.append(open_companion(path, owner=identity.public, keystore=keystore))
        for number in QUERIES:
            yield _compare(session, number, companions, folder, rows, runs, about)
    finally:
        session.stop()
        server.close()
        shutil.rmtree(socket.parent, ignore_errors=True)


def _compare(
    session: SecureSession, number: int, companions: list[OpenCompanion], folder: Path, rows: int, runs: int, about: dict[str, Any]
) -> dict[str, Any]:
    text, ours, plain = QUERIES[number].text, folder / "ours", folder / "theirs"

    def encoded(_: int) -> Callable[[], object]:
        shutil.rmtree(ours, ignore_errors=True)
        return lambda: session.sql(text).save(str(ours))

    def clear(_: int) -> Callable[[], object]:
        shutil.rmtree(plain, ignore_errors=True)
        return lambda: session.spark.sql(text).write.parquet(str(plain))

    # A run of few calls is a trial and shall not take long; in longer ones the JVM has compiled what either side runs.
    ours_costs, plain_costs = alternate(encoded, clear, warm_up=2, runs=runs, warm_up_seconds=min(_WARM_UP_SECONDS, float(runs)))
    opened = measure(lambda: open_query_result(ours, companions), settle=0.0)
    counted = open_query_result(ours, companions).num_rows, pq.read_table(plain).num_rows
    return entry(
        f"tpch_q{number}",
        ours_costs,
        plain_costs,
        shape=(rows, len(text.split())),
        mode="encoded",
        cached=False,
        quality=("rows", *map(float, counted)),
        target=_TARGET,
        opening_cpu_seconds=opened.cpu,
        differs=QUERIES[number].differs,
        **about,
    )


def _plain(spark: SparkSession, table: Any, directory: Path, name: str) -> None:
    directory.mkdir()
    for number, start in enumerate(range(0, table.num_rows, _ROWS_PER_PART)):
        pq.write_table(table.slice(start, _ROWS_PER_PART), directory / f"part-{number:05d}.parquet")
    spark.read.parquet(str(directory)).createOrReplaceTempView(name)
