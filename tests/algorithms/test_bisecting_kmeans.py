"""Does bisecting K-Means divide the clusters that MLlib divides, into the same halves?"""

from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pytest
from pyspark.ml.clustering import BisectingKMeans as SparkBisecting
from scipy.sparse import csr_array

from securemllib.algorithms.base import Scratch, Seed
from securemllib.algorithms.bisecting_kmeans import BisectingKMeans, BisectingKMeansModel
from securemllib.algorithms.codec import from_tree, to_tree
from securemllib.algorithms.registry import build
from securemllib.algorithms.summary import Summary
from securemllib.errors import DataError, FormatError, UsageError

SEED = Seed(b"b" * 32)


class JavaNoise:
    """The doubles of ``java.util.Random``, for the clusters of a level in the order of Spark's maps of up to two: the later one first."""

    def __init__(self, seed: int) -> None:
        self._state = (seed ^ 0x5DEECE66D) % 2**48

    def generator(self, *position: Any) -> "JavaNoise":
        """Return this, whatever the position: MLlib has one generator for a whole training."""
        del position
        return self

    def random(self, shape: tuple[int, int]) -> np.ndarray:
        """Return doubles in [0, 1)."""
        return np.array([(self._bits(26) * 2**27 + self._bits(27)) / 2**53 for _ in range(shape[0] * shape[1])]).reshape(shape)[::-1]

    def _bits(self, count: int) -> int:
        self._state = (self._state * 0x5DEECE66D + 0xB) % 2**48
        return self._state >> (48 - count)


def _rows() -> tuple[np.ndarray, np.ndarray]:
    drawn = np.random.default_rng(0)
    rows = drawn.normal(size=(300, 3)) + drawn.integers(0, 3, (300, 3)) * 2 + np.array([1.0, 2.0, 3.0])
    return rows, drawn.integers(1, 4, 300).astype(float)


def _run(algorithm: Any, blocks: Any, seed: Any) -> tuple[Any, int]:
    """Train, and count the rounds."""
    state, rounds = algorithm.initial(reduce(add, map(Summary.of, blocks)), seed), 0
    while not algorithm.is_done(state):
        state = algorithm.update(state, reduce(add, (algorithm.statistics(state, block) for block in blocks)))
        rounds += 1
    return algorithm.to_model(state), rounds


@pytest.mark.parametrize(
    ("measure", "k", "steps", "least"),
    [("euclidean", 2, 4, 1.0), ("euclidean", 5, 2, 0.4), ("cosine", 5, 3, 1.0)],
)
def test_from_the_same_noise_trees_are_mllibs(measure: str, k: int, steps: int, least: float, spark: Any, cut: Any, frame: Any) -> None:
    """With MLlib's own noise centres, their order, sizes, cost and predictions are MLlib's after any number of steps."""
    rows, weight = _rows()
    params = {"k": k, "maxIter": steps, "distanceMeasure": measure, "minDivisibleClusterSize": least}
    data = frame(rows, np.zeros(len(rows)), weight)
    theirs = SparkBisecting(**params, weightCol="weight", seed=7).fit(data)
    ours, _ = _run(build("BisectingKMeans", params), cut(rows, weight=weight), JavaNoise(7))
    # Sums of 300 rows, in another order.
    np.testing.assert_allclose(ours.cluster_centers, np.array(theirs.clusterCenters()), atol=1e-12)
    assert ours.training_cost == pytest.approx(theirs.summary.trainingCost, rel=1e-12)
    sizes = theirs.summary.clusterSizes
    assert ours.cluster_sizes.tolist() == sizes[: len(ours.cluster_sizes)]
    assert not any(sizes[len(ours.cluster_sizes) :])
    predicted = [row.prediction for row in theirs.transform(data).select("prediction").collect()]
    assert ours.predict(rows)["prediction"].tolist() == predicted
    with pytest.warns(FutureWarning):
        assert replace(ours, cost=True).predict(rows)["cost"].sum() == pytest.approx(theirs.computeCost(data), rel=1e-12)


@pytest.mark.parametrize("measure", ["euclidean", "cosine"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_sparse_rows_are_dense_ones(measure: str, dtype: Any, fit: Any, cut: Any) -> None:
    """Sparse rows give the tree, sizes, costs and predictions of the same rows with their zeros, and are not filled with them."""
    drawn = np.random.default_rng(3)
    rows = (drawn.exponential(size=(200, 8)) * (drawn.random((200, 8)) < 0.4)).astype(dtype).astype(float)
    rows[:, 0] += 0.5
    algorithm = BisectingKMeans(k=4, distance_measure=measure)
    dense = cut(rows.astype(dtype).astype(float))
    sparse = [
        replace(block, features=np.zeros((block.rows, 0)), offset=np.zeros(8), sparse=csr_array(true.astype(dtype)), scratch=Scratch())
        for block, true in zip(dense, np.array_split(rows, 3), strict=True)
    ]
    one, other = (replace(fit(algorithm, blocks, SEED), cost=True) for blocks in (dense, sparse))
    # Values of float32 are exact in float64; sums are about another centre.
    np.testing.assert_allclose(other.centers, one.centers, atol=1e-9)
    assert other.cluster_sizes.tolist() == one.cluster_sizes.tolist()
    assert other.training_cost == pytest.approx(one.training_cost, rel=1e-9)
    expected = one.predict(rows)
    assert expected["prediction"].max() == 3
    for name, values in other.predict(csr_array(rows)).items():
        np.testing.assert_allclose(values, expected[name], atol=1e-9)


def test_a_level_ends_where_nothing_moves(cut: Any) -> None:
    """More steps than a level needs neither are made nor change the tree, for float32 rows far from zero too."""
    rows = np.repeat(np.array([[0.0, 1.0], [5.0, 5.0], [50.0, 0.0], [50.0, 9.0]]), 30, axis=0)
    rows = rows + np.random.default_rng(4).normal(size=rows.shape) * 0.1 + 1000.0
    some, rounds = _run(BisectingKMeans(k=4, max_iter=8), cut(rows, dtype=np.float32), SEED)
    many, more = _run(BisectingKMeans(k=4, max_iter=500), cut(rows, dtype=np.float32), SEED)
    assert rounds == more <= 2 + 2 * 5
    np.testing.assert_array_equal(some.centers, many.centers)
    assert some.cluster_sizes.tolist() == [30] * 4


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_equal_rows_are_one_cluster(dtype: Any, cut: Any, fit: Any) -> None:
    """Rows that only rounding tells apart are not divided; two that differ are, and clusters that are too small are not."""
    equal = np.tile([0.1, 1e4 / 3, 0.7], (60, 1))
    assert len(fit(BisectingKMeans(k=3), cut(equal, dtype=dtype), SEED).cluster_sizes) == 1
    equal[0, 0] += 100.0
    assert fit(BisectingKMeans(k=3), cut(equal, dtype=dtype), SEED).cluster_sizes.tolist() in ([1, 59], [59, 1])
    assert len(fit(BisectingKMeans(k=3, min_divisible_cluster_size=61.0), cut(equal, dtype=dtype), SEED).cluster_sizes) == 1


def test_a_centre_at_the_origin_is_not_divided(spark: Any, cut: Any, frame: Any, fit: Any) -> None:
    """Where the centre has no length there is nothing to move it by, and all rows stay together as in MLlib."""
    rows = np.array([[-1.0, 2.0], [1.0, -2.0]] * 4)
    assert len(SparkBisecting(k=2).fit(frame(rows, np.zeros(8))).clusterCenters()) == 1
    assert fit(BisectingKMeans(k=2), cut(rows, parts=1), SEED).cluster_sizes.tolist() == [8]


def test_a_seed_names_one_training_and_blocks_may_forget(fit: Any, cut: Any) -> None:
    """The same seed gives the same bytes, also from blocks that hold nothing of an earlier round; another seed another noise."""
    rows, weight = _rows()
    blocks = cut(rows, weight=weight)
    one, same, other = (fit(BisectingKMeans(k=6, max_iter=1), blocks, Seed(name * 32)).centers for name in (b"a", b"a", b"b"))
    assert one.tobytes() == same.tobytes()
    assert one.tobytes() != other.tobytes()


@pytest.mark.parametrize(
    "params", [{"k": 1}, {"maxIter": 0}, {"minDivisibleClusterSize": 0.0}, {"distanceMeasure": "manhattan"}, {"tol": 0.1}, {"k": 2.5}]
)
def test_params_out_of_their_domain_are_refused(params: dict[str, Any]) -> None:
    """What MLlib refuses is refused, beside the defaults."""
    build("BisectingKMeans", {})
    with pytest.raises(UsageError):
        build("BisectingKMeans", params)


def test_rows_without_length_have_no_cosine(fit: Any, cut: Any) -> None:
    """A row of zeros is an error of the data with cosine distance, and none with Euclidean."""
    rows = np.concatenate([_rows()[0], np.zeros((1, 3))])
    assert fit(BisectingKMeans(k=2), cut(rows), SEED).cluster_sizes.sum() == 301
    with pytest.raises(DataError) as refused:
        fit(BisectingKMeans(k=2, distance_measure="cosine"), cut(rows), SEED)
    assert refused.value.error_code == "data.zero_vector"


@pytest.mark.parametrize(
    "children", [[[0, 1], [-1, -1], [-1, -1]], [[1, 3], [-1, -1], [-1, -1]], [[1, 2], [0, -1], [-1, -1]], [[1, 2]], [[-2, 1]] * 3]
)
def test_a_tree_that_leads_elsewhere_is_none(children: list[list[int]]) -> None:
    """Rows follow a model's children, so one that leads out of the tree, or around, does not come to be."""
    tree = {
        "centers": np.zeros((3, 2)),
        "children": np.array([[1, 2], [-1, -1], [-1, -1]]),
        "distance_measure": "euclidean",
        "training_cost": 0.0,
        "num_iter": 1,
        "cluster_sizes": np.ones(2, dtype=np.int64),
    }
    sealed = to_tree(BisectingKMeansModel(**tree))
    assert from_tree(BisectingKMeansModel, sealed).cluster_centers.shape == (2, 2)
    with pytest.raises(FormatError):
        from_tree(BisectingKMeansModel, {**sealed, "children": np.array(children)})


@pytest.mark.parametrize("least", [1.0, 25.0, 0.45])
def test_rows_of_weight_0_are_counted_as_in_mllib(least: float, spark: Any, cut: Any, frame: Any) -> None:
    """Which clusters are divided follows from their numbers of rows, those of weight 0 included, as sizes do."""
    drawn = np.random.default_rng(3)
    rows = np.concatenate([drawn.normal(size=(10, 2)), drawn.normal(size=(11, 2)) + 20, drawn.normal(size=(30, 2))])
    weight = np.repeat([1.0, 0.0], [21, 30])
    params = {"k": 3, "minDivisibleClusterSize": least}
    for used in (slice(None), slice(21)):
        theirs = SparkBisecting(**params, weightCol="weight", seed=7).fit(frame(rows[used], np.zeros(51)[used], weight[used]))
        ours, _ = _run(build("BisectingKMeans", params), cut(rows[used], weight=weight[used]), JavaNoise(7))
        np.testing.assert_allclose(ours.cluster_centers, np.array(theirs.clusterCenters()), atol=1e-12)
        assert ours.cluster_sizes.tolist() == theirs.summary.clusterSizes[: len(ours.cluster_sizes)]
