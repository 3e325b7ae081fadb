"""Runs Spark's own tests of pyspark.ml, from its source repository, against sealed training, and counts what passes.

    python -m tests.spark_suite.run SPARK_SOURCE [--commit TEXT] [--report docs/spark-tests.md] [--outcomes FILE] [FILE...]

``SPARK_SOURCE`` is a checkout of Apache Spark's repository at the release of the installed pyspark. Its test files are read, their imports
of ``pyspark.ml`` are changed, and nothing else of them is; they are not part of this repository.
"""

import argparse
import json
import logging
import os
import re
import sys
import tempfile
import traceback
import types
import unittest
from collections import Counter
from pathlib import Path
from typing import Any

import structlog
from pyspark.sql import SparkSession

from securemllib.errors import SecureMLlibError
from securemllib.spark import SecureSession
from tests.deployment import start
from tests.spark_suite.adapter import Sealing
from tests.spark_suite.reasons import REASONS

FILES = (
    "test_algorithms.py",
    "test_als.py",
    "test_classification.py",
    "test_clustering.py",
    "test_evaluation.py",
    "test_feature.py",
    "test_ovr.py",
    "test_persistence.py",
    "test_pipeline.py",
    "test_regression.py",
    "test_stat.py",
    "test_training_summary.py",
    "tuning/test_cv_io_basic.py",
    "tuning/test_tuning.py",
    "tuning/test_tvs_io_basic.py",
)
_KEPT = ("linalg", "param", "param.shared", "util", "wrapper", "common", "base", "functions", "image", "tree")
_IMPORT = re.compile(r"^(\s*)from pyspark\.(ml|errors|sql\.functions)(\.[\w.]+)? import", re.MULTILINE)
# What one test file takes from another.
_SHARED = re.compile(r"^from sealed_ml\.tests\.([\w.]+) import", re.MULTILINE)


def changed(source: str) -> str:
    """Return a test's source with the imports of pyspark.ml, of its exceptions and of functions of columns changed."""

    def change(found: re.Match[str]) -> str:
        package, module = "" if found.group(2) == "ml" else f".{found.group(2).rpartition('.')[2]}", found.group(3) or ""
        return found.group(0) if module.removeprefix(".") in _KEPT else f"{found.group(1)}from sealed_ml{package}{module} import"

    return _IMPORT.sub(change, source)


def load(path: Path) -> types.ModuleType:
    """Return the test module of a file."""
    module = types.ModuleType(f"spark_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    source = changed(path.read_text(encoding="utf-8"))
    for name in _SHARED.findall(source.partition("__main__")[0]):
        tests = next(folder for folder in path.parents if folder.name == "tests")
        sys.modules[f"sealed_ml.tests.{name}"] = load(tests.joinpath(*name.split(".")).with_suffix(".py"))
    exec(compile(source, str(path), "exec"), module.__dict__)
    return module


def why(error: BaseException) -> str:
    """Return in a few words why a test did not pass."""
    if isinstance(error, NotImplementedError):
        return str(error).splitlines()[0]
    if isinstance(error, SecureMLlibError):
        return f"refused: {error.error_code}: {error.reason}"[:140]
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).name.startswith("test_")]
    text = " ".join(str(error).split())
    return f"line {lines[-1] if lines else 0}: {type(error).__name__}: {text}"[:140]


class Result(unittest.TestResult):
    """Remembers each test's outcome."""

    def __init__(self, *, prints: bool) -> None:
        super().__init__()
        self._prints = prints
        self._classes: dict[str, type[unittest.TestCase]] = {}
        self.outcomes: dict[str, str] = {}

    def addSuccess(self, test: unittest.TestCase) -> None:
        self.outcomes[self._name(test)] = "passed"

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        self._failed(test, err)

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        self._failed(test, err)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self.outcomes[self._name(test)] = f"skipped: {reason}"

    def _name(self, test: unittest.TestCase) -> str:
        name = test.id().rpartition(".")[2]
        # Two classes of a file may have tests of one name.
        return name if self._classes.setdefault(name, type(test)) is type(test) else f"{type(test).__name__}.{name}"

    def _failed(self, test: unittest.TestCase, err: Any) -> None:
        self.outcomes[self._name(test)] = why(err[1])
        if self._prints:
            traceback.print_exception(*err)


def run(source: Path, files: list[str], *, prints: bool) -> dict[str, dict[str, str]]:
    """Return the outcome of each test by file."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    tests = source / "python" / "pyspark" / "ml" / "tests"
    outcomes: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        deployment, stop = start(Path(folder))
        # Tests read data files by paths that are relative to the checkout, in Spark's own process too.
        os.chdir(source)
        spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
        spark.sparkContext.setLogLevel("OFF")
        settings = {"spark.securemllib.dtype": "float64", "spark.securemllib.storage": str(Path(folder) / "storage")}
        session = SecureSession(spark, deployment.url, settings)
        sys.modules.update(Sealing.modules())
        try:
            with Sealing(deployment, session).installed():
                for name in files:
                    outcomes[name] = _run_file(tests / name, spark, prints=prints)
                    print(name, Counter("passed" if text == "passed" else "other" for text in outcomes[name].values()), flush=True)
        finally:
            session.stop()
            stop()
    return outcomes


def _run_file(path: Path, spark: SparkSession, *, prints: bool) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        module = load(path)
    except Exception as error:  # noqa: BLE001 - an import of something that is not there fails the whole file
        return {"(the file)": why(error)}
    result = Result(prints=prints)
    run_module(module, spark, result)
    return result.outcomes


def run_module(module: types.ModuleType, spark: SparkSession, result: unittest.TestResult) -> None:
    """Run the test cases of a module on a session."""
    for case in unittest.defaultTestLoader.loadTestsFromModule(module):
        for test in case:
            cls = type(test)
            # Spark's base classes bring tests of their own, which are of no file.
            if cls.__module__ != module.__name__ or test.id().rpartition(".")[2].startswith("test_assert_"):
                continue
            # One Spark for all: Spark's own base classes would stop it between classes.
            cls.setUpClass, cls.tearDownClass = classmethod(lambda cls: None), classmethod(lambda cls: None)
            cls.spark, cls.sc = spark, spark.sparkContext
            test.run(result)


def report(outcomes: dict[str, dict[str, str]], version: str, commit: str) -> str:
    """Return the page that lists what passes; tests that Spark itself skips are left out."""
    outcomes = {name: {test: text for test, text in tests.items() if not text.startswith("skipped")} for name, tests in outcomes.items()}
    counts = {name: Counter(map(_kind, tests.values())) for name, tests in outcomes.items()}
    total = sum(counts.values(), Counter())
    lines = [
        "# Spark's own tests",
        "",
        f"Tests of pyspark.ml from Spark's repository against pyspark {version}, with changed imports only:",
        f"**{total['passed']} of {total.total()} pass**. The rows of each test are encrypted, training runs in enclaves, and what the test",
        "reads is released to its analyst. `python -m tests.spark_suite.run SPARK_SOURCE` repeats it. Changed are imports of",
        "pyspark.ml, of its exceptions, and of functions of columns from `pyspark.sql.functions`.",
        "",
        f"The files below test estimators and transformers; they are those of Spark's repository at {commit}. Not run:",
        f"{', '.join(f'`{name}`' for name in FILES if name not in outcomes) or 'none of them'}. Tests that Spark skips are left out.",
        "",
        "| file | tests | pass | need a class that is not built | differ |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, count in counts.items():
        lines.append(f"| {name} | {count.total()} | {count['passed']} | {count['not built']} | {count['differs']} |")
    lines.append(f"| all | {total.total()} | {total['passed']} | {total['not built']} | {total['differs']} |")
    for name, tests in outcomes.items():
        reasons = REASONS.get(name, {})
        lines += ["", f"## {name}", "", "| test | outcome | why |", "|---|---|---|"]
        for test, text in sorted(tests.items()):
            reason = reasons.get(test.rpartition(".")[2], "") if _kind(text) == "differs" else ""
            lines.append(f"| {test} | {text.replace('|', '/')} | {reason} |")
    return "\n".join([*lines, ""])


def _kind(outcome: str) -> str:
    return outcome if outcome == "passed" else "not built" if outcome.startswith("not built") else "differs"


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="a checkout of Apache Spark's repository")
    parser.add_argument("--commit", default="some commit", help="what the page says that the checkout is of")
    parser.add_argument("--report", type=Path, help="write the counted list here")
    parser.add_argument("--outcomes", type=Path, help="keep outcomes here, beside those of earlier runs of other files")
    parser.add_argument("--trace", action="store_true", help="print the traceback of what does not pass")
    parser.add_argument("files", nargs="*", default=list(FILES), help="files below python/pyspark/ml/tests")
    arguments = parser.parse_intermixed_args()
    import pyspark

    target = arguments.report.absolute() if arguments.report else None
    kept = arguments.outcomes.absolute() if arguments.outcomes else None
    outcomes = json.loads(kept.read_text(encoding="utf-8")) if kept and kept.is_file() else {}
    outcomes |= run(arguments.source.absolute(), arguments.files, prints=arguments.trace)
    outcomes = dict(sorted(outcomes.items()))
    if kept:
        kept.write_text(json.dumps(outcomes), encoding="utf-8")
    text = report(outcomes, pyspark.__version__, arguments.commit)
    if target:
        target.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
