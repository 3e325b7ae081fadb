"""Does a training that goes on from a model do what MLlib's streaming algorithms do?"""

from functools import reduce
from operator import add

import numpy as np
import pytest
from pyspark.mllib.clustering import StreamingKMeansModel

from securemllib.algorithms.codec import from_tree, to_tree
from securemllib.algorithms.kmeans import KMeans
from securemllib.algorithms.logistic_regression import LogisticRegression
from securemllib.algorithms.registry import types_of
from securemllib.algorithms.summary import Summary
from securemllib.errors import DataError, UsageError
from tests.algorithms.conftest import SEED


def go_on(algorithm, blocks, model):
    """Train in one process, going on from a model, as the engine does."""
    state_type = types_of(type(algorithm))[0]
    state = algorithm.resumed(algorithm.initial(reduce(add, map(Summary.of, blocks)), SEED), model)
    while not algorithm.is_done(state):
        state = from_tree(state_type, to_tree(state))
        state = algorithm.update(state, reduce(add, (algorithm.statistics(state, block) for block in blocks)))
    return algorithm.to_model(state)


def batches(count=3, rows=200):
    """Return batches of rows around three centres that drift."""
    generator = np.random.default_rng(4)
    centers = generator.normal(size=(3, 2)) * 8
    return [centers[generator.integers(0, 3, rows)] + generator.normal(size=(rows, 2)) + drift for drift in range(count)]


@pytest.mark.parametrize("decay", [1.0, 0.5, 0.0])
def test_clusters_follow_a_stream_as_mllibs_do(spark, fit, cut, decay):
    """From the same first model, three batches move the centres to those of MLlib's StreamingKMeans, whatever the decay."""
    first, *rest = batches(4)
    ours = fit(KMeans(k=3, max_iter=10), cut(first), SEED)
    theirs = StreamingKMeansModel(ours.cluster_centers.tolist(), ours.cluster_sizes.astype(float).tolist())
    for batch in rest:
        ours = go_on(KMeans(k=3, max_iter=1, decay_factor=decay), cut(batch), ours)
        theirs.update(spark.sparkContext.parallelize([row.tolist() for row in batch], 2), decay, "batches")
    # Weights are kept as whole rows, which with a decay between 0 and 1 rounds them to a half in at least sixty.
    tolerance = 1e-9 if decay in {0.0, 1.0} else 1e-2
    np.testing.assert_allclose(ours.cluster_centers, np.array([list(center) for center in theirs.clusterCenters]), rtol=tolerance)
    if decay in {0.0, 1.0}:
        assert ours.cluster_sizes.sum() == (600 + 200 if decay else 200)


def test_a_cluster_without_new_rows_stays_where_it_is(fit, cut):
    """A centre far from a batch's rows keeps its place, also without decay of its weight, and also where its weight is gone."""
    rows = np.concatenate([np.zeros((20, 2)), np.full((20, 2), 100.0)]) + np.random.default_rng(0).normal(size=(40, 2))
    model = fit(KMeans(k=2), cut(rows), SEED)
    far = int(model.cluster_centers[:, 0].argmax())
    for decay in (1.0, 0.0):
        moved = go_on(KMeans(k=2, max_iter=1, decay_factor=decay), cut(rows[:20]), model)
        np.testing.assert_allclose(moved.cluster_centers[far], model.cluster_centers[far], rtol=1e-12)


@pytest.mark.parametrize("decay", [None, 1.0, 0.5])
def test_a_batch_does_not_hide_a_small_cluster_among_the_models_rows(fit, cut, decay):
    """The smallest group is one of the batch's rows, which summaries before and after tell apart, or of the rows before if smaller."""
    rows = np.concatenate([np.zeros((50, 2)), np.full((50, 2), 100.0)]) + np.random.default_rng(0).normal(size=(100, 2))
    model = fit(KMeans(k=2), cut(rows), SEED)
    assert model.smallest_group == 50
    moved = go_on(KMeans(k=2, max_iter=1, decay_factor=decay), cut(rows[47:]), model)
    assert (moved.smallest_group, moved.cluster_sizes.min() > 3) == (3, True)
    alone = go_on(KMeans(k=2, max_iter=1, decay_factor=decay), cut(rows[50:]), model)
    assert alone.smallest_group == (25 if decay == 0.5 else 50)


def labelled(seed, rows=300, classes=2):
    """Return features and labels."""
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(rows, 3)) * [1.0, 5.0, 0.1] + [10.0, 0.0, 3.0]
    return features, ((features - features.mean(axis=0)) @ [1.0, 0.3, 4.0] + generator.normal(size=rows) > 0).astype(float) * (classes - 1)


@pytest.mark.parametrize("intercept", [True, False])
def test_a_logistic_regression_starts_at_the_models_coefficients(fit, cut, intercept):
    """Without an iteration the coefficients are those of before, whatever the new rows' means and deviations; at its optimum it stays."""
    model = fit(LogisticRegression(fit_intercept=intercept, reg_param=0.1), cut(*labelled(1)), SEED)
    unmoved = go_on(LogisticRegression(fit_intercept=intercept, reg_param=0.1, max_iter=0), cut(*labelled(2)), model)
    np.testing.assert_allclose(unmoved.coefficients, model.coefficients, rtol=1e-9)
    np.testing.assert_allclose(unmoved.intercepts, model.intercepts, rtol=1e-9, atol=1e-12)
    again = go_on(LogisticRegression(fit_intercept=intercept, reg_param=0.1), cut(*labelled(1)), model)
    assert len(again.objective_history) < len(model.objective_history)
    # Both stop where the objective changes by less than a millionth.
    np.testing.assert_allclose(again.coefficients, model.coefficients, rtol=1e-2)


def test_what_does_not_fit_the_model_is_refused(fit, cut):
    """Other columns, another distance, other classes and a batch of one class are refused; what fits is taken."""
    model = fit(KMeans(k=3), cut(batches(1)[0]), SEED)
    assert go_on(KMeans(k=3, max_iter=1), cut(batches(1)[0]), model).num_iter == 1
    with pytest.raises(UsageError):
        go_on(KMeans(k=3), cut(np.ones((10, 4))), model)
    with pytest.raises(UsageError):
        go_on(KMeans(k=3, distance_measure="cosine"), cut(batches(1)[0]), model)
    with pytest.raises(UsageError):
        KMeans(decay_factor=1.5)
    features, label = labelled(1)
    binary = fit(LogisticRegression(max_iter=2), cut(features, label), SEED)
    with pytest.raises(DataError):
        go_on(LogisticRegression(max_iter=2), cut(features, label + (features[:, 0] > 11)), binary)
    with pytest.raises(DataError):
        go_on(LogisticRegression(max_iter=2), cut(features, np.zeros(len(label))), binary)
