"""Does power iteration clustering walk as MLlib's does, and find the groups that it finds?"""

from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.ml.clustering import PowerIterationClustering as SparkClustering

from securemllib.algorithms import power_iteration_clustering
from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.power_iteration_clustering import PowerIterationClustering
from securemllib.algorithms.registry import build
from securemllib.algorithms.summary import Summary
from securemllib.errors import DataError, UsageError

SEED = Seed(b"p" * 32)
LARGE = 2**60  # which float64 does not tell from the next integer


def _edges() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three rings of 20 nodes with a weak tie between neighbours, edges of nodes to themselves and one that stands twice."""
    drawn = np.random.default_rng(3)
    pairs = [(20 * ring + i, 20 * ring + j) for ring in range(3) for i in range(20) for j in range(i) if drawn.random() < 0.5]
    pairs += [(0, 25), (30, 55), (7, 7), pairs[0]]
    first, second = np.array(pairs).T
    return first + LARGE, second + LARGE, np.append(drawn.uniform(0.8, 1.2, len(pairs) - 4), [0.01, 0.01, 5.0, 1.0])


def _blocks(first: Any, second: Any, weight: Any, parts: int = 3) -> list[Block]:
    return [
        Block(
            ordinal=ordinal,
            features=np.zeros((len(cut), 0)),
            offset=np.zeros(0),
            weight=None if weight is None else np.asarray(weight)[cut],
            raw={"input0": pa.array(first).take(pa.array(cut)), "input1": pa.array(second).take(pa.array(cut))},
        )
        for ordinal, cut in enumerate(np.array_split(np.arange(len(first)), parts))
    ]


def _groups(ids: Any, clusters: Any) -> set[frozenset[int]]:
    return {frozenset(int(node) for node in np.asarray(ids)[np.asarray(clusters) == cluster]) for cluster in set(clusters)}


def test_steps_are_those_of_the_dense_matrix() -> None:
    """Vectors equal those of the whole matrix, step by step, from the degrees, whatever the cut; the first round finds the nodes."""
    first, second, weight = _edges()
    matrix = np.zeros((60, 60))
    np.add.at(matrix, (first - LARGE, second - LARGE), weight)
    np.fill_diagonal(matrix, 0.0)
    matrix += matrix.T
    vector = matrix.sum(axis=1) / matrix.sum()
    algorithm, blocks = PowerIterationClustering(init_mode="degree", max_iter=5), _blocks(first, second, weight)
    state = algorithm.initial(reduce(add, map(Summary.of, blocks)), SEED)
    for _ in range(2):
        state = algorithm.update(state, reduce(add, (algorithm.statistics(state, block) for block in blocks)))
    assert state.ids.tolist() == (LARGE + np.arange(60)).tolist()
    while not algorithm.is_done(state):
        np.testing.assert_allclose(state.vector, vector, rtol=1e-12)
        vector = matrix @ vector / matrix.sum(axis=1)
        vector /= np.abs(vector).sum()
        state = algorithm.update(state, reduce(add, (algorithm.statistics(state, block) for block in blocks)))
    assert state.step == 5


def test_groups_are_those_of_mllib(spark: Any, fit: Any) -> None:
    """Groups that hardly touch are found as MLlib finds them, whichever first vectors either drew, by their 64-bit ids."""
    first, second, weight = _edges()
    rows = list(zip(first.tolist(), second.tolist(), weight.tolist(), strict=True))
    data = spark.createDataFrame(rows, "src long, dst long, weight double").coalesce(1)
    theirs = SparkClustering(k=3, maxIter=15, weightCol="weight").assignClusters(data).toPandas()
    expected = _groups(theirs["id"], theirs["cluster"])
    algorithm = build("PowerIterationClustering", {"k": 3, "maxIter": 15})
    found = [fit(algorithm, _blocks(first, second, weight), Seed(bytes([seed]) * 32)) for seed in range(4)]
    assert expected in [_groups(each.ids, each.clusters) for each in found]
    assert all(each.clusters.min() >= 0 and each.clusters.max() < 3 for each in found)


def test_walks_end_where_steps_hardly_change(fit: Any) -> None:
    """A walk ends by its tolerance before the most steps; the same seed gives the same bytes."""
    first, second, weight = _edges()
    long, longer = (fit(PowerIterationClustering(k=3, max_iter=steps), _blocks(first, second, weight), SEED) for steps in (10_000, 20_000))
    assert long.clusters.tobytes() == longer.clusters.tobytes()


@pytest.mark.parametrize(
    ("first", "weight", "code"),
    [
        ([0, 1], [-1.0, 1.0], "data.weight"),
        ([0, None], None, "data.null"),
        ([0.5, 1.0], None, "data.type"),
        ([0, 1], [0.0, 0.0], "data.no_rows"),
        ([1, 2], None, "data.no_rows"),
    ],
    ids=["negative", "null", "fractions", "zeros", "loops"],
)
def test_what_is_no_graph_is_refused(first: Any, weight: Any, code: str, fit: Any) -> None:
    """Negative affinities, ends that are no integers, and graphs without an affinity are errors of the data, beside one edge."""
    assert fit(PowerIterationClustering(), _blocks([0, 1], [1, 2], None, 1)).ids.tolist() == [0, 1, 2]
    with pytest.raises(DataError) as refused:
        fit(PowerIterationClustering(), _blocks(first, [1, 2], weight, 1))
    assert refused.value.error_code == code


def test_too_many_nodes_are_refused(monkeypatch: Any, fit: Any) -> None:
    """A graph with more nodes than the bound ends with a code, beside one that has as many."""
    first, second, weight = _edges()
    monkeypatch.setattr(power_iteration_clustering, "_MOST_NODES", 60)
    fit(PowerIterationClustering(), _blocks(first, second, weight))
    monkeypatch.setattr(power_iteration_clustering, "_MOST_NODES", 59)
    with pytest.raises(DataError) as refused:
        fit(PowerIterationClustering(), _blocks(first, second, weight))
    assert refused.value.error_code == "data.nodes"


@pytest.mark.parametrize("params", [{"k": 1}, {"maxIter": -1}, {"initMode": "ones"}, {"tol": 0.1}])
def test_params_out_of_their_domain_are_refused(params: dict[str, Any]) -> None:
    """What MLlib refuses is refused, beside the defaults."""
    build("PowerIterationClustering", {})
    with pytest.raises(UsageError):
        build("PowerIterationClustering", params)
