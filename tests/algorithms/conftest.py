"""A whole training in one process, and one local Spark to compare with."""

from collections.abc import Callable, Iterator
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pyspark.sql import SparkSession

from securemllib.algorithms.base import Block, Seed, idle_bounded
from securemllib.algorithms.codec import from_tree, to_tree
from securemllib.algorithms.registry import types_of
from securemllib.algorithms.summary import Summary
from tests.algorithms.exchanging import fit_shards
from tests.sparks import JAVA_OPTIONS, end

SEED = Seed(bytes(32))


def fit_blocks(algorithm: Any, blocks: list[Block], seed: Seed = SEED) -> Any:
    """Train in one process as the engine does: each state and each sum goes through its tree and back."""
    if hasattr(algorithm, "exchange"):
        return fit_shards(algorithm, blocks, seed, 2)
    state_type, statistics_type, model_type = types_of(type(algorithm))
    state = algorithm.initial(reduce(add, map(Summary.of, blocks)), seed)
    while not algorithm.is_done(state):
        state = from_tree(state_type, to_tree(state))
        total = reduce(add, (algorithm.statistics(state, block) for block in blocks))
        state = algorithm.update(state, from_tree(statistics_type, to_tree(total)))
    return from_tree(model_type, to_tree(algorithm.to_model(state)))


def cut_blocks(
    features: NDArray[np.float64],
    label: NDArray[np.float64] | None = None,
    weight: NDArray[np.float64] | None = None,
    *,
    parts: int = 3,
    dtype: type[np.floating[Any]] = np.float64,
) -> list[Block]:
    """Cut rows into blocks, each centred in float64 before the cast, and rows of weight 0 bounded, as the loader does."""
    blocks = []
    for ordinal, rows in enumerate(np.array_split(np.arange(len(features)), parts)):
        used = rows if weight is None else rows[weight[rows] != 0]
        means = features[used].mean(axis=0) if len(used) else np.zeros(features.shape[1])
        offset = np.where(np.isfinite(means), means, 0.0)
        block = Block(
            ordinal=ordinal,
            features=np.ascontiguousarray((features[rows] - offset).astype(dtype)),
            offset=offset,
            label=None if label is None else label[rows],
            weight=None if weight is None else weight[rows],
        )
        blocks.append(idle_bounded(block))
    return blocks


@pytest.fixture(scope="session")
def fit() -> Callable[..., Any]:
    """The driver of a training: ``fit(algorithm, blocks, seed)``."""
    return fit_blocks


@pytest.fixture(scope="session")
def cut() -> Callable[..., list[Block]]:
    """Rows cut into blocks: ``cut(features, label, weight, parts=, dtype=)``."""
    return cut_blocks


@pytest.fixture(scope="package")
def spark() -> Iterator[Any]:
    """One local Spark for all parity tests."""
    built = (
        SparkSession.builder.master("local[2]")
        .appName("parity")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.driver.memory", "1g")
        .config("spark.driver.extraJavaOptions", JAVA_OPTIONS)
        .getOrCreate()
    )
    built.sparkContext.setLogLevel("ERROR")
    yield built
    end(built)


@pytest.fixture(scope="package")
def frame(spark: Any) -> Callable[..., Any]:
    """A cached Spark DataFrame with columns features, label and weight; one partition, so that MLlib adds in one order."""

    def make(features: NDArray[np.float64], label: NDArray[np.float64], weight: NDArray[np.float64] | None = None) -> Any:
        from pyspark.ml.linalg import Vectors

        weights = np.ones(len(features)) if weight is None else weight
        rows = [(Vectors.dense(row), float(y), float(w)) for row, y, w in zip(features.tolist(), label, weights, strict=True)]
        return spark.createDataFrame(rows, ["features", "label", "weight"]).coalesce(1).cache()

    return make
