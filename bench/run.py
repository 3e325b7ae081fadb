"""``make bench``: SecureMLlib beside plaintext MLlib, on the same data and Params, in one run."""

import argparse
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from itertools import product
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

import numpy as np
from ckks import compare_scores
from columns import compare_encodings
from generators import Data
from measure import Samples, adopt_orphans
from parquet import compare_parquet
from queries import compare_queries
from report import entry, print_table, write_html, write_json
from rich.console import Console
from single_node import Library, libraries
from streaming import compare_streams
from training import Comparison, Trainer, blas, start_spark
from workers import WALL_TARGET, compare_workers, two_cores_gain
from workload import Workload, make_data
from workloads import USUAL, WORKLOADS

from securemllib.cli.deployment import LocalDeployment
from securemllib.wire.job import Mode

# Throughput is to be 0.6 of pyarrow's, so time at most this often its time.
_PARQUET_TARGET = 1.0 / 0.6
_PARQUET = "parquet"
_ENCODINGS = "encodings"
_TPCH = "tpch"
# TPC-H's scale factor at --scale 1: 600,000 rows of lineitem.
_TPCH_SCALE = 0.1
_CKKS = "ckks"
_STREAMING = "streaming"
_OTHERS = [_PARQUET, _ENCODINGS, _TPCH, _CKKS, _STREAMING]
_SCORING_TARGET = 0.5


def main(arguments: list[str] | None = None) -> None:
    """Run what was asked for and report it."""
    options = _options(arguments)
    adopt_orphans()
    console = Console(width=None if os.isatty(1) else 190)
    folder = Path(tempfile.mkdtemp(prefix="securemllib-bench-", dir=options.directory))
    facts: list[str] = []
    results: list[dict[str, Any]] = []
    try:
        for result in _results(options, folder, facts, console):
            results.append(result)
            if options.json:
                write_json(results, options.json)
            console.print(json.dumps({key: result[key] for key in ("workload", "cached", "cpu_ratio", "wall_ratio")}), highlight=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print_table(results, console, facts)
    page = write_html(results, options.html, facts)
    console.print(f"{page}", highlight=False)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/run.py", description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    parser.add_argument("--html", type=Path, default=Path("bench-results"), help="folder of the page and the chart")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the rows of every workload")
    parser.add_argument(
        "--rows-scales",
        type=_scales,
        metavar="FACTOR,FACTOR,...",
        help="several factors in the place of --scale, for a chart of time against rows",
    )
    parser.add_argument("--runs", type=int, default=5, help="measured runs of each side")
    parser.add_argument(
        "--workloads",
        nargs="+",
        choices=[*WORKLOADS, *_OTHERS],
        default=[*USUAL, *_OTHERS],
        help=f"all but these when not given: {', '.join(name for name in WORKLOADS if name not in USUAL)}",
    )
    parser.add_argument(
        "--modes", nargs="+", choices=[mode.value for mode in Mode], default=[Mode.ENCLAVE.value], help="where statistics are added"
    )
    parser.add_argument(
        "--data",
        nargs="*",
        choices=["cached", "files"],
        default=["cached", "files"],
        help="where the rows lie; MLlib is left out where none is named",
    )
    parser.add_argument("--scoring", action="store_true", help="also compare the trained models' transform")
    parser.add_argument("--single-node", action="store_true", help="also compare trainings with scikit-learn on one thread or with xgboost")
    parser.add_argument("--partitioned", action="store_true", help="also compare partitioned mode with enclave mode")
    parser.add_argument("--workers", action="store_true", help="also compare a cluster of two workers with one of one")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="Spark's task slots")
    parser.add_argument("--directory", type=Path, help="where temporary data goes; the system's place when not given")
    options = parser.parse_args(arguments)
    options.scales = options.rows_scales or [options.scale]
    if min(options.scales) <= 0.0 or options.runs < 1 or options.cores < 1:
        parser.error("scale, runs and cores are positive")
    return options


def _scales(text: str) -> list[float]:
    return sorted({float(factor) for factor in text.split(",")})


def _results(options: argparse.Namespace, folder: Path, facts: list[str], console: Console) -> Iterator[dict[str, Any]]:
    about = {"cores": options.cores, "machine": platform.machine(), "pyspark": version("pyspark")}
    names = [name for name in WORKLOADS if name in options.workloads]
    if names:
        with LocalDeployment(folder / "deployment") as deployment:
            for name, scale in product(names, options.scales):
                workload = WORKLOADS[name]
                console.print(f"{name}: {round(workload.rows * scale):,} x {workload.columns}", highlight=False)
                data = make_data(workload, scale, folder / name)
                yield from _trainings(options, workload, data, deployment, facts, {**about, "scale": scale})
                yield from _among_ourselves(options, workload, data, deployment, facts, {**about, "scale": scale})
                shutil.rmtree(data.path)
                if options.single_node and name in (known := libraries(options.cores)):
                    yield _single_node(options, known[name], folder, deployment, facts, {**about, "scale": scale})
    if _PARQUET in options.workloads:
        workload = WORKLOADS["logistic_regression"]
        data = make_data(workload, options.scale, folder / _PARQUET)
        yield from _throughputs(options, data, folder / "throughput", {**about, "scale": options.scale})
    if _ENCODINGS in options.workloads:
        yield from _encoded(options, {**about, "scale": options.scale})
        facts.append("Encodings: beside writing the same column as plain Parquet into memory; the target is one of CPU seconds.")
    if {_TPCH, _CKKS, _STREAMING} & set(options.workloads):
        yield from _queries_and_scores(options, folder, facts, {**about, "scale": options.scale})
    scales = ", ".join(f"{scale:g}" for scale in options.scales)
    facts.append(f"Spark {version('pyspark')}, local[{options.cores}]; scale {scales}; {options.runs} alternated runs.")
    facts.append("Files lie in the system's page cache for both sides; ours are encrypted anew for each run, so no enclave has seen them.")
    facts.append(
        "CPU seconds: user and system of driver, JVM, Python tasks, enclave, broker and agent. insecure: no TEE behind the enclave."
    )


def _queries_and_scores(options: argparse.Namespace, folder: Path, facts: list[str], about: dict[str, Any]) -> Iterator[dict[str, Any]]:
    spark = start_spark(options.cores)
    try:
        ratios = []
        if _TPCH in options.workloads:
            for result in compare_queries(spark, folder / _TPCH, scale=_TPCH_SCALE * options.scale, runs=options.runs, about=about):
                ratios.append((result["cpu_ratio"], result["wall_ratio"]))
                yield result
            cpu, wall = map(geometric_mean, zip(*ratios, strict=True))
            facts.append(
                f"TPC-H on encoded columns: geometric mean {cpu:.2f} of plain Spark's CPU seconds, {wall:.2f} of its wall seconds."
            )
        if _CKKS in options.workloads:
            scores = compare_scores(spark, folder / _CKKS, scale=options.scale, runs=options.runs, about=about)
            facts.append(f"CKKS: {scores['rows_per_cpu_second']:,.0f} rows a CPU second, Spark included.")
            yield scores
        if _STREAMING in options.workloads:
            stream = compare_streams(spark, folder / _STREAMING, scale=options.scale, runs=options.runs, about=about)
            facts.append(f"A sealed stream: {stream['rows_per_cpu_second']:,.0f} rows a CPU second, all processes included.")
            yield stream
    finally:
        spark.stop()


def _trainings(
    options: argparse.Namespace, workload: Workload, data: Data, deployment: LocalDeployment, facts: list[str], about: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    for mode in options.modes:
        spark = start_spark(options.cores)
        library = blas(spark)
        if (fact := f"MLlib's BLAS: {library}; one thread a task on both sides.") not in facts:
            facts.append(fact)
        trainer = Trainer(workload=workload, data=data, spark=spark, deployment=deployment, mode=mode)
        try:
            for where in options.data:
                comparison = trainer.cached(options.runs) if where == "cached" else trainer.cold(options.runs)
                yield _training(workload, data, comparison, mode=mode, cached=where == "cached", about={**about, "blas": library})
            for cached in [where == "cached" for where in options.data if options.scoring]:
                yield _scoring(workload, data, trainer.scoring(options.runs, cached=cached), mode=mode, cached=cached, about=about)
        finally:
            trainer.close()


def _among_ourselves(
    options: argparse.Namespace, workload: Workload, data: Data, deployment: LocalDeployment, facts: list[str], about: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Compare our own trainings: modes, and numbers of workers."""
    shape = data.features.shape
    if options.partitioned:
        spark = start_spark(options.cores)
        trainer = Trainer(workload=workload, data=data, spark=spark, deployment=deployment, mode=Mode.PARTITIONED.value)
        try:
            partitioned, enclave = trainer.modes(options.runs)
        finally:
            trainer.close()
        quality = ("fits/s", *(1.0 / median(samples.wall) for samples in (partitioned, enclave)))
        name = f"{workload.name}_beside_enclave_mode"
        yield entry(name, partitioned, enclave, shape=shape, mode=Mode.PARTITIONED.value, cached=True, quality=quality, target=1.0, **about)
        facts.append(f"{name}: the reference is enclave mode on the same rows.")
    if options.workers:
        gain = two_cores_gain()
        for mode in options.modes:
            two, one = compare_workers(workload, data, deployment, mode, options.runs)
            quality = ("fits/s", *(1.0 / median(samples.wall) for samples in (two, one)))
            name = f"{workload.name}_two_workers"
            yield entry(name, two, one, shape=shape, mode=mode, cached=True, quality=quality, target=WALL_TARGET, cores_gain=gain, **about)
            facts.append(
                f"{name}, {mode}: the reference is one worker, and the target one of wall seconds. Two workers are "
                f"{median(one.wall) / median(two.wall):.2f} times as fast; two processes that only read rows gain {gain:.2f} here."
            )


def _single_node(
    options: argparse.Namespace, library: Library, folder: Path, deployment: LocalDeployment, facts: list[str], about: dict[str, Any]
) -> dict[str, Any]:
    workload = library.workload
    data = make_data(workload, about["scale"], folder / f"{workload.name}-single-node")
    features = np.ascontiguousarray(data.features, dtype=np.float32)
    spark = start_spark(options.cores)
    trainer = Trainer(workload=workload, data=data, spark=spark, deployment=deployment, mode=Mode.ENCLAVE.value)
    try:
        ours, theirs, fitted, models = trainer.beside(lambda number: library.fit(features, data.label, number), options.runs)
    finally:
        trainer.close()
        shutil.rmtree(data.path)
    facts.append(f"{workload.name}_single_node: beside {library.name}; its target is one of wall seconds.")
    qualities = (median(workload.quality(data, each) for each in fitted), median(library.quality(data, each) for each in models))
    return entry(
        f"{workload.name}_single_node",
        ours,
        theirs,
        shape=data.features.shape,
        mode=Mode.ENCLAVE.value,
        cached=True,
        quality=(workload.quality_name, *qualities),
        target=library.target,
        library=library.name,
        **about,
    )


def _training(workload: Workload, data: Data, comparison: Comparison, *, mode: str, cached: bool, about: dict[str, Any]) -> dict[str, Any]:
    ours, reference = comparison.fitted, comparison.reference_fitted
    # Files come later and in new datasets: the peak of an enclave that held several is not one training's.
    memory = {
        "enclave_peak_bytes": comparison.peak,
        "enclave_memory_target_bytes": int(1.5 * 4 * data.features.size) + 200_000_000,
    }
    return entry(
        workload.name,
        comparison.ours,
        comparison.reference,
        shape=data.features.shape,
        mode=mode,
        cached=cached,
        # Random starts differ, so the quality of both is the median of the runs, each with a seed of its own.
        quality=(workload.quality_name, *(median(workload.quality(data, fitted) for fitted in side) for side in (ours, reference))),
        target=workload.target if cached else workload.cold_target,
        difference=median(map(workload.difference, ours, reference)),
        iterations=ours[-1].iterations,
        reference_iterations=reference[-1].iterations,
        **(memory if cached else {}),
        **about,
    )


def _scoring(
    workload: Workload, data: Data, sides: tuple[Samples, Samples], *, mode: str, cached: bool, about: dict[str, Any]
) -> dict[str, Any]:
    rows = data.features.shape[0]
    speeds = [rows / median(samples.wall) for samples in sides]
    return entry(
        f"{workload.name}_transform",
        *sides,
        shape=data.features.shape,
        mode=mode,
        cached=cached,
        quality=("rows/s", *speeds),
        target=_SCORING_TARGET,
        **about,
    )


def _throughputs(options: argparse.Namespace, data: Data, directory: Path, about: dict[str, Any]) -> Iterator[dict[str, Any]]:
    directory.mkdir()
    size = data.table.nbytes
    for name, (ours, reference) in compare_parquet(data, directory, runs=options.runs).items():
        yield entry(
            name,
            ours,
            reference,
            shape=(data.table.num_rows, data.table.num_columns),
            mode="owner",
            cached=name != "parquet_decrypt",
            quality=("MB/s", _speed(size, ours.wall), _speed(size, reference.wall)),
            target=_PARQUET_TARGET,
            throughput_ratio=_speed(size, ours.wall) / _speed(size, reference.wall),
            **about,
        )


def _encoded(options: argparse.Namespace, about: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for found in compare_encodings(options.scale, options.runs):
        yield entry(
            found.name,
            found.ours,
            found.plain,
            shape=(found.rows, 1),
            mode="owner",
            cached=True,
            quality=("Mrows/s", *(found.rows / median(side.cpu) / 1e6 for side in (found.ours, found.plain))),
            target=found.target_seconds / median(found.plain.cpu),
            target_cpu_seconds=found.target_seconds,
            **about,
        )


def _speed(size: int, seconds: list[float]) -> float:
    return size / sorted(seconds)[len(seconds) // 2] / 1e6


if __name__ == "__main__":
    main()
