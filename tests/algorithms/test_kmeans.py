"""Does K-Means find MLlib's clusters, from given centres and from drawn ones?"""

import functools
import operator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.ml.clustering import KMeans as SparkKMeans
from pyspark.ml.linalg import Vectors
from pyspark.mllib.common import _py2java
from pyspark.mllib.linalg import Vectors as RDDVectors

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.kmeans import KMeans
from securemllib.algorithms.summary import Summary
from securemllib.errors import DataError, UsageError

SEED = Seed(b"k" * 32)


def _block(rows, ordinal=0, dtype=np.float64, weight=None):
    offset = rows.mean(axis=0) if len(rows) else np.zeros(rows.shape[1])
    return Block(ordinal=ordinal, features=np.ascontiguousarray((rows - offset).astype(dtype)), offset=offset, weight=weight)


def _clusters(seed=0, n=300, k=4, d=3, spread=1.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(k, d))[rng.integers(0, k, n)] * 4 + rng.normal(size=(n, d)) * spread + 50


def _total(algorithm, state, blocks):
    return functools.reduce(operator.add, [algorithm.statistics(state, block) for block in blocks])


def _cost(rows, centers, weight=None):
    nearest = ((rows[:, None, :] - centers) ** 2).sum(axis=2).min(axis=1)
    return float(nearest.sum() if weight is None else weight @ nearest)


def _mllib_centers(spark, rows, first, iterations, measure):
    """Return MLlib's centres from given first ones: only the JVM class takes both those and a distance measure."""
    context = spark.sparkContext
    package = context._jvm.org.apache.spark.mllib
    centers = context._gateway.new_array(package.linalg.Vector, len(first))
    for index, center in enumerate(first):
        centers[index] = _py2java(context, RDDVectors.dense(center))
    trainer = package.clustering.KMeans().setK(len(first)).setMaxIterations(iterations).setEpsilon(1e-4).setDistanceMeasure(measure)
    trainer = trainer.setInitialModel(package.clustering.KMeansModel(centers))
    rdd = context.parallelize([RDDVectors.dense(row) for row in rows], 2)
    return np.array([center.toArray() for center in trainer.run(_py2java(context, rdd).rdd()).clusterCenters()])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("iterations", [1, 3, 20])
@pytest.mark.parametrize("measure", ["euclidean", "cosine"])
def test_from_the_same_centres_steps_are_mllibs(spark, fit, cut, dtype, iterations, measure):
    """From the same first centres, the centres after any number of steps equal MLlib's."""
    rows = _clusters(1) - (50 if measure == "cosine" else 0)
    first = rows[[0, 1, 2, 3]]
    theirs = _mllib_centers(spark, rows, first, iterations, measure)
    algorithm = KMeans(k=4, max_iter=iterations, distance_measure=measure, initial_centers=tuple(map(tuple, first)))
    ours = fit(algorithm, cut(rows, dtype=dtype), SEED)
    # float32 rows are rounded at 1e-7 of their distance to the block's centre; no row lies so near a border that it changes sides.
    np.testing.assert_allclose(ours.cluster_centers, theirs, atol=1e-9 if dtype == np.float64 else 1e-5)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_drawn_centres_are_as_good_as_mllibs(spark, fit, cut, weighted, dtype):
    """With k-means|| on separated clusters the cost is within 1 % of MLlib's, and the summary's cost and sizes are those of the model."""
    rows = _clusters(2, spread=0.3)
    weight = np.random.default_rng(3).integers(1, 4, len(rows)).astype(float) if weighted else np.ones(len(rows))
    frame = spark.createDataFrame([(Vectors.dense(row), float(w)) for row, w in zip(rows, weight, strict=True)], ["features", "w"])
    theirs = SparkKMeans(k=4, seed=1, maxIter=50, weightCol="w").fit(frame)
    ours = fit(KMeans(k=4, max_iter=50), cut(rows, dtype=dtype, weight=weight if weighted else None), SEED)
    assert ours.training_cost <= 1.01 * theirs.summary.trainingCost
    assert ours.training_cost == pytest.approx(_cost(rows, ours.cluster_centers, weight), rel=1e-3)
    prediction = ours.predict(rows)["prediction"].astype(int)
    np.testing.assert_array_equal(np.bincount(prediction, minlength=4), ours.cluster_sizes)


@pytest.mark.parametrize("mode", ["k-means||", "random"])
@pytest.mark.parametrize("measure", ["euclidean", "cosine"])
def test_fewer_distinct_rows_than_k_give_fewer_centres(fit, cut, mode, measure):
    """Three distinct rows, repeated in float32 blocks of different centres, give at most three centres, and cost 0."""
    points = np.array([[1.0, 2.0, 0.1], [5.0, -1.0, 7.3], [-3.0, 3.3, 3.0]])
    rows = np.random.default_rng(4).permutation(np.repeat(points, [7, 5, 20], axis=0))
    model = fit(KMeans(k=8, init_mode=mode, distance_measure=measure), cut(rows, parts=4, dtype=np.float32), SEED)
    assert 1 <= len(model.cluster_centers) <= 3
    if mode == "k-means||":
        assert len(model.cluster_centers) == 3
        assert model.training_cost < 1e-9


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [2.0**-40, 2.0**20, 2.0**50])
def test_directions_are_drawn_at_any_length(fit, cut, dtype, scale):
    """With cosine distance the centres are those of the same rows at another length: what rounding moved is measured on directions."""
    rows, algorithm = _clusters(1) - 50, KMeans(k=4, distance_measure="cosine")
    expected, found = (fit(algorithm, cut(each, dtype=dtype), SEED) for each in (rows, rows * scale))
    assert expected.cluster_sizes.tolist() == found.cluster_sizes.tolist()
    np.testing.assert_allclose(found.cluster_centers, expected.cluster_centers, rtol=1e-12)
    assert len(found.cluster_sizes) == 4


@pytest.mark.parametrize("mode", ["k-means||", "random"])
def test_a_seed_names_one_training(fit, cut, mode):
    """The same seed gives the same bytes, another seed other first centres."""
    rows = _clusters(5)
    algorithm = KMeans(k=4, max_iter=0, init_mode=mode)
    one, same, other = (fit(algorithm, cut(rows), seed).cluster_centers for seed in (SEED, SEED, Seed(b"o" * 32)))
    assert one.tobytes() == same.tobytes()
    assert one.shape == other.shape == (4, 3)
    assert one.tobytes() != other.tobytes()


def test_an_empty_cluster_keeps_its_centre(fit, cut):
    """A centre that no row is nearest to stays where it was, the others move."""
    rows = _clusters(6)
    far = (1e6, 1e6, 1e6)
    start = (tuple(rows[0]), tuple(rows[1]), far)
    model = fit(KMeans(k=3, max_iter=5, initial_centers=start), cut(rows), SEED)
    np.testing.assert_array_equal(model.cluster_centers[2], far)
    assert model.cluster_sizes[2] == 0
    assert not np.array_equal(model.cluster_centers[:2], start[:2])


def test_training_stops_when_no_centre_moves_more_than_tol(fit, cut):
    """Steps end at the first one that moves every centre by at most tol, and at max_iter otherwise."""
    rows = _clusters(7)
    start = tuple(map(tuple, rows[:4]))
    stopped = fit(KMeans(k=4, max_iter=200, tol=1e-4, initial_centers=start), cut(rows), SEED)
    assert 1 < stopped.num_iter < 200
    assert fit(KMeans(k=4, max_iter=200, tol=1e9, initial_centers=start), cut(rows), SEED).num_iter == 1
    before = fit(KMeans(k=4, max_iter=stopped.num_iter - 1, tol=0.0, initial_centers=start), cut(rows), SEED)
    assert before.num_iter == stopped.num_iter - 1
    shift = np.sqrt(((before.cluster_centers - stopped.cluster_centers) ** 2).sum(axis=1)).max()
    assert shift <= 1e-4
    # MLlib's cost is that of the centres which the last step started from.
    assert stopped.training_cost == pytest.approx(_cost(rows, before.cluster_centers), rel=1e-12)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(0, 30), st.integers(1, 30), st.sampled_from(["euclidean", "cosine"]))
def test_sums_of_a_union_are_the_sum_and_a_weight_is_a_repetition(seed, first, second, measure):
    """A Lloyd step's sums add up over blocks, do not depend on the order of rows, and count a row of weight w as w rows."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(first + second, 3)) + 1
    weight = rng.integers(0, 4, len(rows)).astype(float)
    algorithm = KMeans(k=3, distance_measure=measure, initial_centers=tuple(map(tuple, rng.normal(size=(3, 3)))))
    state = algorithm.initial(Summary.of(_block(rows)), SEED)
    order = rng.permutation(len(rows))
    whole = algorithm.statistics(state, _block(rows[order], weight=weight[order]))
    parts = _total(algorithm, state, [_block(rows[:first], weight=weight[:first]), _block(rows[first:], 1, weight=weight[first:])])
    repeated = algorithm.statistics(state, _block(np.repeat(rows, weight.astype(int), axis=0)))
    for other in (parts, repeated):
        np.testing.assert_allclose(whole.weight, other.weight, atol=1e-9)
        np.testing.assert_allclose(whole.sums, other.sums, atol=1e-9)
        assert whole.cost == pytest.approx(other.cost, abs=1e-9)
    np.testing.assert_array_equal(whole.rows, parts.rows)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 9), min_size=1, max_size=5))
def test_the_winners_of_a_union_are_the_winners_of_its_parts(seed, sizes):
    """A draw's winners do not depend on how statistics are grouped, are at most the quota, and are rows of the data."""
    rng = np.random.default_rng(seed)
    rows = [rng.normal(size=(size, 2)) for size in sizes]
    blocks = [_block(part, ordinal) for ordinal, part in enumerate(rows)]
    algorithm = KMeans(k=3, init_mode="random")
    state = algorithm.initial(Summary.of(_block(np.zeros((1, 2)))), SEED)
    one_by_one = [algorithm.statistics(state, block) for block in blocks]
    left = functools.reduce(operator.add, one_by_one)
    right = functools.reduce(lambda total, found: found + total, reversed(one_by_one))
    assert left.keys.tobytes() == right.keys.tobytes()
    assert left.candidates.tobytes() == right.candidates.tobytes()
    assert len(left.keys) == min(3, sum(sizes))
    everything = np.concatenate(rows)
    assert all(np.isclose(everything, winner, atol=1e-12).all(axis=1).any() for winner in left.candidates)


def test_rows_are_drawn_in_proportion_to_weight_and_cost():
    """Over many seeds a row of three times the weight is drawn three times as often, and one of weight 0 never."""
    weight = np.array([1.0, 3.0, 0.0])
    algorithm = KMeans(k=2)
    block = _block(np.array([[0.0], [1.0], [2.0]]), weight=weight)
    drawn = np.zeros(3)
    for number in range(2000):
        state = algorithm.initial(Summary.of(block), Seed(number.to_bytes(32, "big")))
        drawn[round(float(algorithm.statistics(state, block).candidates[0, 0]))] += 1
    assert drawn[2] == 0
    # Five standard deviations of a binomial with n = 2000, p = 3/4.
    assert abs(drawn[1] - 1500) < 5 * np.sqrt(2000 * 0.75 * 0.25)


def test_a_row_that_is_a_candidate_is_not_drawn_again():
    """Once every distinct row is a candidate a draw has no winner, in a float32 block of any centre; before that it has."""
    points = np.array([[1.0, 2.0], [5.1, -1.3], [-3.7, 3.3]])
    block = _block(np.repeat(points, [7, 5, 20], axis=0), dtype=np.float32)
    algorithm = KMeans(k=3)
    state = algorithm.initial(Summary.of(block), SEED)
    state = algorithm.update(state, algorithm.statistics(state, block))
    assert len(algorithm.statistics(state, block).keys) == 6
    # Candidates of another block carry that block's rounding.
    candidates = (points - 3.3).astype(np.float32).astype(np.float64) + 3.3
    assert (candidates != points).any()
    assert len(algorithm.statistics(replace(state, centers=candidates), block).keys) == 0


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_equally_near_centres_share_no_row(fit, cut, dtype):
    """A row as near to two centres belongs to the first of them only, as in MLlib."""
    rows = _clusters(11)
    start = (tuple(rows[0]), tuple(rows[0]), tuple(rows[1]))
    model = fit(KMeans(k=3, max_iter=0, initial_centers=start), cut(rows, dtype=dtype), SEED)
    assert model.cluster_sizes[1] == 0
    assert model.cluster_sizes.sum() == len(rows)
    assert set(model.predict(rows)["prediction"]) == {0.0, 2.0}


def test_tight_clusters_far_apart_have_an_exact_cost(fit, cut):
    """The cost of clusters a million times tighter than their distance is not lost to cancellation."""
    rng = np.random.default_rng(8)
    rows = np.tile([[0.0, 0.0], [1e4, 1e4]], (50, 1)) + rng.normal(size=(100, 2)) * 1e-2
    start = ((0.0, 0.0), (1e4, 1e4))
    model = fit(KMeans(k=2, initial_centers=start, max_iter=3), cut(rows, parts=2, dtype=np.float32), SEED)
    # float32 rounds these rows by up to 2.5e-4 a coordinate, an error of 1 in 1000 of the cost; cancellation would leave no digit of it.
    assert model.training_cost == pytest.approx(_cost(rows, model.cluster_centers), rel=1e-2)


@pytest.mark.parametrize(
    "params",
    [{"k": 1}, {"max_iter": -1}, {"tol": -1.0}, {"tol": float("nan")}, {"init_steps": 0}, {"init_mode": "x"}, {"distance_measure": "x"},
     {"initial_centers": ((1.0,),)}, {"initial_centers": ((1.0,), (float("nan"),))}, {"initial_centers": ((1.0,), (1.0, 2.0))}],
)  # fmt: skip
def test_params_outside_their_domain_are_refused(params):
    """A Param outside MLlib's domain, NaN included, raises UsageError; the defaults and the edges of the domain do not."""
    with pytest.raises(UsageError):
        KMeans(**params)
    assert KMeans(k=2, max_iter=0, tol=0.0, init_steps=1, initial_centers=((1.0,), (2.0,))).k == 2


def test_unusable_rows_are_refused(fit, cut):
    """No rows, a negative weight, only weights of 0, and a zero vector under cosine raise DataError; the same rows mended do not."""
    rows, weight = _clusters(9, n=20), np.ones(20)
    with pytest.raises(DataError):
        fit(KMeans(), cut(rows[:0], parts=1), SEED)
    for bad in (np.where(np.arange(20) == 3, -1.0, 1.0), np.zeros(20)):
        with pytest.raises(DataError):
            fit(KMeans(), cut(rows, weight=bad), SEED)
    zero = rows - 50
    zero[3] = 0
    with pytest.raises(DataError):
        fit(KMeans(distance_measure="cosine"), cut(zero, parts=20), SEED)
    assert fit(KMeans(), cut(zero, weight=weight), SEED).cluster_sizes.sum() == 20
    with pytest.raises(DataError):
        fit(KMeans(), cut(rows), SEED).predict(rows[:, :2])


def test_the_state_holds_no_more_rows_than_candidates(fit, cut):
    """Between rounds the state holds at most 1 + 2 k init_steps rows, however many the dataset has."""
    rows = _clusters(10, n=500)
    algorithm, blocks = KMeans(k=3, init_steps=2), cut(rows)
    state = algorithm.initial(functools.reduce(operator.add, map(Summary.of, blocks)), SEED)
    largest = 0
    while not algorithm.is_done(state):
        largest = max(largest, len(state.centers))
        state = algorithm.update(state, _total(algorithm, state, blocks))
    assert 3 < largest <= 1 + 2 * 3 * 2
