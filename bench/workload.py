"""What a workload is: an estimator that both sides construct with the same Params, its rows, and the figure that it is to reach."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import generators
import numpy as np
import pyarrow.parquet as pq
from generators import Data
from quality import Fitted

__all__ = ["Workload", "make_data", "mllib_api", "secure_api"]

_FILES = 4
_SEED = 71

_CLASSES = {
    "classification": (
        "FMClassifier", "GBTClassifier", "LinearSVC", "LogisticRegression", "MultilayerPerceptronClassifier", "NaiveBayes",
        "RandomForestClassifier",
    ),
    "clustering": ("BisectingKMeans", "LDA", "GaussianMixture", "KMeans"),
    "evaluation": ("BinaryClassificationEvaluator",),
    "feature": ("PCA", "VectorAssembler"),
    "fpm": ("FPGrowth",),
    "recommendation": ("ALS",),
    "regression": ("AFTSurvivalRegression", "GeneralizedLinearRegression", "IsotonicRegression", "LinearRegression"),
    "tuning": ("CrossValidator", "ParamGridBuilder"),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One comparison.

    Attributes:
        name: Its name.
        rows: Rows at scale 1.
        columns: Feature columns, at every scale.
        generate: From a generator, rows and columns to features and label.
        estimator: From either side's classes and a seed to the estimator.
        read: From a plain model and the trained one, which has the summary, to its numbers.
        quality: The number that tells how good a model is, of the data and its numbers.
        quality_name: What that number is.
        difference: How far two models of the same data are from each other.
        target: The ratio of CPU time to reach on cached data.
        cold_target: The same from encrypted files.
        form: Whether the columns are assembled, stored as one column of sparse vectors or of lists of texts, or read as they are.
        aside: Columns among the features that are not assembled with them, because the estimator reads them by name.
        output: The column that a trained model adds to rows.
    """

    name: str
    rows: int
    columns: int
    generate: Callable[[np.random.Generator, int, int], tuple[np.ndarray, np.ndarray | None]]
    estimator: Callable[[SimpleNamespace, int], Any]
    read: Callable[[Any, Any], Fitted]
    quality: Callable[[Data, Fitted], float]
    quality_name: str
    difference: Callable[[Fitted, Fitted], float]
    target: float
    cold_target: float = 0.25
    form: Literal["assembled", "vectors", "lists", "columns"] = "assembled"
    aside: tuple[str, ...] = ()
    output: str = "prediction"


def mllib_api() -> SimpleNamespace:
    """Return the reference's classes."""
    return _api("pyspark.ml")


def secure_api() -> SimpleNamespace:
    """Return our classes of the same names."""
    return _api("securemllib.ml")


def _api(package: str) -> SimpleNamespace:
    modules = {module: import_module(f"{package}.{module}") for module in _CLASSES}
    return SimpleNamespace(**{name: getattr(modules[module], name) for module, names in _CLASSES.items() for name in names})


def make_data(workload: Workload, scale: float, directory: Path) -> Data:
    """Generate a workload's rows and write them as plain Parquet."""
    rows = max(200, round(workload.rows * scale))
    features, label = workload.generate(np.random.default_rng(_SEED), rows, workload.columns)
    tables = {"vectors": generators.vectors_table, "lists": generators.lists_table}
    table = tables.get(workload.form, generators.columns_table)(features, label)
    directory.mkdir(parents=True)
    step = -(-rows // _FILES)
    for number in range(_FILES):
        part = table.slice(number * step, step)
        pq.write_table(part, directory / f"part-{number:05d}.parquet", compression="none", use_dictionary=False, write_statistics=False)
    return Data(features=features, label=label, path=directory, table=table)
