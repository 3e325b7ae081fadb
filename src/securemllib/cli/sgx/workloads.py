"""The published system's eight workloads at small scale: the shapes of HiBench 7.1's data, made from a seed."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = ["WORKLOADS", "Workload"]

Table = dict[str, NDArray[np.float64]]
_SEED = 71
_SIGNAL = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One training.

    Attributes:
        operation: The estimator's name.
        module: Where it is in `securemllib.ml`.
        rows: At scale 1.
        columns: Feature columns; users and items for ratings.
        make: From a generator, rows and columns to features and other columns.
        params: Of the estimator.
        table_bytes: From the rows to the bytes of the table that is accessed at random (see `access`).
        is_assembled: Whether the features become one vector column.
    """

    operation: str
    module: str
    rows: int
    columns: int
    make: Callable[[np.random.Generator, int, int], tuple[NDArray[np.float64], Table]]
    params: dict[str, Any]
    table_bytes: Callable[[int], int] = lambda _: 0
    is_assembled: bool = True

    def table(self, scale: float) -> pa.Table:
        """Return the rows."""
        features, others = self.make(np.random.default_rng(_SEED), max(200, round(self.rows * scale)), self.columns)
        named = {f"f{index}": np.ascontiguousarray(features[:, index]) for index in range(features.shape[1])}
        return pa.table({**named, **others})

    def fit(self, frame: Any) -> Any:
        """Return the model of a sealed frame's rows."""
        if self.is_assembled:
            assembler = import_module("securemllib.ml.feature").VectorAssembler
            frame = assembler(inputCols=[f"f{index}" for index in range(self.columns)], outputCol="features").transform(frame)
        estimator = getattr(import_module(f"securemllib.ml.{self.module}"), self.operation)
        return estimator(**self.params).fit(frame)


def _classes(generator: np.random.Generator, rows: int, columns: int) -> tuple[NDArray[np.float64], Table]:
    label = (np.arange(rows) % 2).astype(np.float64)
    return generator.standard_normal((rows, columns)) + _SIGNAL * label[:, None], {"label": label}


def _response(generator: np.random.Generator, rows: int, columns: int) -> tuple[NDArray[np.float64], Table]:
    features = generator.uniform(-1.0, 1.0, (rows, columns))
    return features, {"label": features @ generator.uniform(-0.5, 0.5, columns) + 0.1 * generator.standard_normal(rows)}


def _clusters(generator: np.random.Generator, rows: int, columns: int) -> tuple[NDArray[np.float64], Table]:
    centres = generator.uniform(0.0, 10.0, (10, columns))
    return centres[generator.integers(10, size=rows)] + 4.0 * generator.standard_normal((rows, columns)), {}


def _dense(generator: np.random.Generator, rows: int, columns: int) -> tuple[NDArray[np.float64], Table]:
    return generator.standard_normal((rows, columns)) / np.sqrt(np.arange(1, columns + 1)), {}


def _pages(generator: np.random.Generator, rows: int, columns: int) -> tuple[NDArray[np.float64], Table]:
    law = 1.0 / np.arange(1, columns + 1)
    rates = np.array([law + law[generator.permutation(columns)] for _ in range(20)])
    label = generator.integers(20, size=rows)
    return generator.poisson(60.0 * (rates / rates.sum(axis=1, keepdims=True))[label]).astype(np.float64), {
        "label": label.astype(np.float64)
    }


def _ratings(generator: np.random.Generator, rows: int, columns: int) -> tuple[NDArray[np.float64], Table]:
    del columns
    count = _ids(rows)
    user, item = generator.integers(count, size=rows), generator.integers(count, size=rows)
    left, right = generator.standard_normal((2, count, 5))
    rating = np.clip(np.rint(3.0 + 0.6 * np.einsum("ij,ij->i", left[user], right[item])), 1.0, 5.0)
    return np.zeros((rows, 0)), {"user": user.astype(np.float64), "item": item.astype(np.float64), "rating": rating}


def _ids(rows: int) -> int:
    """Return how many users, and items, so many ratings are of."""
    return max(rows // 180, 20)


WORKLOADS = (
    Workload(operation="LogisticRegression", module="classification", rows=300_000, columns=50, make=_classes,
             params={"maxIter": 50, "regParam": 0.01}),
    Workload(operation="LinearRegression", module="regression", rows=300_000, columns=50, make=_response, params={"regParam": 0.01}),
    Workload(operation="KMeans", module="clustering", rows=500_000, columns=20, make=_clusters, params={"k": 10, "maxIter": 10, "seed": 1}),
    Workload(operation="PCA", module="feature", rows=30_000, columns=300, make=_dense,
             params={"k": 10, "inputCol": "features", "outputCol": "components"}),
    Workload(operation="NaiveBayes", module="classification", rows=60_000, columns=200, make=_pages, params={},
             # Float64 sums of each class and term.
             table_bytes=lambda _: 20 * 200 * 8),
    Workload(operation="GBTClassifier", module="classification", rows=60_000, columns=50, make=_classes,
             params={"maxIter": 10, "maxDepth": 5, "seed": 1},
             # Three float64 sums of each node of the deepest level that is split, feature and bin.
             table_bytes=lambda _: 16 * 50 * 32 * 3 * 8),
    Workload(operation="ALS", module="recommendation", rows=600_000, columns=2, make=_ratings,
             params={"rank": 10, "maxIter": 10, "regParam": 0.1, "seed": 1}, is_assembled=False,
             # The other side's factors, float32; ratings are kept in the order of the side that is solved.
             table_bytes=lambda rows: _ids(rows) * 10 * 4),
    Workload(operation="LDA", module="clustering", rows=10_000, columns=300, make=_pages,
             params={"k": 20, "maxIter": 20, "subsamplingRate": 0.2, "seed": 1},
             # Float64 topics of each term.
             table_bytes=lambda _: 300 * 20 * 8),
)  # fmt: skip
