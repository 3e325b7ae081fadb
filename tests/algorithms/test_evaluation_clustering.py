"""Is the silhouette that of pyspark.ml's ClusteringEvaluator?"""

import functools
import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.ml.evaluation import ClusteringEvaluator as SparkEvaluator
from pyspark.ml.linalg import Vectors

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.evaluation.clustering import ClusteringEvaluator, ClusteringState
from securemllib.errors import DataError, UsageError

SEED = Seed(bytes(32))


def _block(rows, prediction, weight=None, ordinal=0, offset=0.0):
    return Block(ordinal=ordinal, features=rows - offset, offset=np.full(rows.shape[1], offset), prediction=prediction, weight=weight)


def _blocks(rows, prediction, weight=None, parts=3, offset=0.0):
    cuts = np.array_split(np.arange(len(rows)), parts)
    return [
        _block(rows[cut], prediction[cut], None if weight is None else weight[cut], number, offset) for number, cut in enumerate(cuts)
    ]  # fmt: skip


def _clustered(seed=0, n=120):
    """Four clusters, one of which is a single row, with some rows in the wrong one."""
    rng = np.random.default_rng(seed)
    prediction = rng.integers(0, 3, n).astype(float)
    rows = rng.normal(size=(n, 3)) + np.array([[0, 3, 1], [4, 0, 1], [2, 2, 6]])[prediction.astype(int)]
    prediction[5] = 9.0
    return rows, prediction, rng.integers(1, 4, n) * 0.5


@pytest.mark.parametrize("measure", ["squaredEuclidean", "cosine"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_silhouette_is_mllibs(spark, fit, measure, weighted):
    """Both measures, with and without weights, with a cluster of one row, give MLlib's number."""
    rows, prediction, weight = _clustered(1)
    columns = list(zip(map(Vectors.dense, rows), prediction.tolist(), weight.tolist(), strict=True))
    theirs = SparkEvaluator(distanceMeasure=measure)
    if weighted:
        theirs.setWeightCol("w")
    ours = fit(ClusteringEvaluator(distance_measure=measure), _blocks(rows, prediction, weight if weighted else None), SEED)
    expected = theirs.evaluate(spark.createDataFrame(columns, ["features", "prediction", "w"]))
    assert ours.value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("measure", ["squaredEuclidean", "cosine"])
def test_the_silhouette_is_that_of_all_pairs(fit, measure):
    """The metric equals the definition computed from every pair of rows."""
    rows, prediction, _ = _clustered(2, n=40)
    scaled = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    pairs = ((rows[:, None] - rows) ** 2).sum(axis=2) if measure == "squaredEuclidean" else 1 - scaled @ scaled.T
    values = []
    for row in range(40):
        mine = (prediction == prediction[row]) & (np.arange(40) != row)
        if not mine.any():
            values.append(0.0)
            continue
        inner = pairs[row, mine].mean()
        outer = min(pairs[row, prediction == other].mean() for other in set(prediction) - {prediction[row]})
        values.append((outer - inner) / max(outer, inner))
    found = fit(ClusteringEvaluator(distance_measure=measure), _blocks(rows, prediction), SEED)
    assert found.value == pytest.approx(np.mean(values), abs=1e-12)


def test_the_offset_is_honoured(fit):
    """Centred blocks give the same silhouette."""
    rows, prediction, _ = _clustered(3)
    for measure in ("squaredEuclidean", "cosine"):
        algorithm = ClusteringEvaluator(distance_measure=measure)
        plain, centred = (fit(algorithm, _blocks(rows, prediction, offset=offset), SEED).value for offset in (0.0, 4.0))
        assert plain == pytest.approx(centred, abs=1e-12)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(0, 30), st.integers(0, 30))
def test_moments_of_a_union_are_the_sum_and_a_weight_is_a_repetition(seed, first, second):
    """Moments by cluster add up over blocks in any order of rows, and a row of weight w counts as w rows."""
    rng = np.random.default_rng(seed)
    n = first + second
    rows, prediction, weight = rng.normal(size=(n, 2)) + 3, rng.integers(0, 4, n).astype(float), rng.integers(1, 4, n).astype(float)
    algorithm, state, order = ClusteringEvaluator(), ClusteringState(), rng.permutation(n)
    whole = algorithm.statistics(state, _block(rows[order], prediction[order], weight[order]))
    cuts = (slice(0, first), slice(first, None))
    parts = functools.reduce(operator.add, [algorithm.statistics(state, _block(rows[cut], prediction[cut], weight[cut])) for cut in cuts])
    times = weight.astype(int)
    repeated = algorithm.statistics(state, _block(np.repeat(rows, times, axis=0), np.repeat(prediction, times)))
    assert whole.rows == parts.rows
    for other in (parts, repeated):
        np.testing.assert_array_equal(whole.clusters, other.clusters)
        np.testing.assert_array_equal(whole.weight, other.weight)
        np.testing.assert_allclose(whole.mean, other.mean, atol=1e-12)
        np.testing.assert_allclose(whole.squares, other.squares, atol=1e-9)


def test_unusable_input_is_refused(fit):
    """One cluster, no rows, a zero vector under cosine and unknown Params are refused; the same mended are not."""
    rows, prediction, _ = _clustered(4, n=20)
    zero = rows.copy()
    zero[3] = 0
    cosine = ClusteringEvaluator(distance_measure="cosine")
    for algorithm, blocks in (
        (ClusteringEvaluator(), _blocks(rows, prediction * 0)),
        (ClusteringEvaluator(), _blocks(rows[:0], prediction[:0], parts=1)),
        (cosine, _blocks(zero, prediction)),
    ):
        with pytest.raises(DataError):
            fit(algorithm, blocks, SEED)
    for params in ({"metric_name": "dunn"}, {"distance_measure": "euclidean"}):
        with pytest.raises(UsageError):
            ClusteringEvaluator(**params)
    assert fit(ClusteringEvaluator(), _blocks(zero, prediction), SEED).value > 0
    assert fit(cosine, _blocks(rows, prediction), SEED).value > 0


def test_a_cluster_of_rows_of_weight_0_is_none(spark, fit):
    """Rows of weight 0 make no cluster of their own, and wherever they lie they change nothing, as in MLlib."""
    rows, prediction, weight = _clustered(4, n=60)
    prediction[:5], weight[:5] = 7.0, 0.0
    data = [(Vectors.dense(row), each, one) for row, each, one in zip(rows.tolist(), prediction.tolist(), weight.tolist(), strict=True)]
    theirs = SparkEvaluator(weightCol="w").evaluate(spark.createDataFrame(data, ["features", "prediction", "w"]))
    found = fit(ClusteringEvaluator(), _blocks(rows, prediction, weight), SEED)
    assert found.value == pytest.approx(theirs, rel=1e-9)
    assert (found.rows, 7.0 in found.clusters) == (60, False)
    assert found.value == pytest.approx(fit(ClusteringEvaluator(), _blocks(rows[5:], prediction[5:], weight[5:]), SEED).value)
