"""Does a training that goes on from a model do what MLlib's streaming algorithms do?"""

from dataclasses import replace
from functools import reduce
from operator import add

import numpy as np
import pytest
from pyspark.mllib.clustering import StreamingKMeansModel

from securemllib.algorithms.codec import from_tree, to_tree
from securemllib.algorithms.kmeans import KMeans
from securemllib.algorithms.linear_regression import LinearRegression
from securemllib.algorithms.logistic_regression import LogisticRegression
from securemllib.algorithms.naive_bayes import NaiveBayes
from securemllib.algorithms.registry import sums_of, types_of
from securemllib.algorithms.summary import Summary
from securemllib.errors import DataError, UsageError
from securemllib.wire.encoding import encode
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


def carry(algorithm, batches, decay=None):
    """Return the model of batches, one after the other, each going on from the sums behind the model before it, as the engine does."""
    algorithm, kind, sums = replace(algorithm, decay_factor=decay), sums_of(type(algorithm)), None
    for blocks in batches:
        behind = None if sums is None or decay == 0.0 else from_tree(kind, sums).decayed(1.0 if decay is None else decay)
        state = algorithm.going_on(reduce(add, map(Summary.of, blocks)), SEED, behind)
        while not algorithm.is_done(state):
            state = from_tree(types_of(type(algorithm))[0], to_tree(state))
            total = reduce(add, (algorithm.statistics(state, block) for block in blocks))
            state = algorithm.update(state, total if behind is None else total + algorithm.behind(state, behind))
        sums = to_tree(algorithm.sums(state))
    return algorithm.to_model(state)


def drifting(cut, targets, decay=1.0, rows=150, count=3):
    """Return batches whose means drift, and all their rows at once, each with its weight times the decay for every later batch."""
    generator, parts = np.random.default_rng(8), []
    for number in range(count):
        features = generator.normal(size=(rows, 4)) * [1.0, 5.0, 0.1, 2.0] + [10.0, 100.0 * number, 3.0, -number]
        parts.append((features, targets(features, generator), generator.uniform(0.5, 2.0, rows)))
    whole = [np.concatenate(columns) for columns in zip(*parts, strict=True)]
    whole[2] = np.concatenate([weight * decay ** (count - 1 - number) for number, (_, _, weight) in enumerate(parts)])
    return [cut(*part) for part in parts], cut(*whole)


def linear(features, generator):
    """Return a noisy linear function of the features."""
    return features @ [2.0, -0.5, 3.0, 1.0] + 20.0 * generator.normal(size=len(features))


def close(one, other, rtol):
    """Compare two models, field by field, to a tolerance."""
    for name in type(one).__slots__:
        first, second = getattr(one, name), getattr(other, name)
        if isinstance(first, str) or first is None or second is None:
            assert first == second, name
        else:
            np.testing.assert_allclose(first, second, rtol=rtol, atol=rtol, err_msg=name)


LINEAR = {
    "normal": {},
    "ridge": {"reg_param": 0.3, "fit_intercept": False},
    "lasso": {"reg_param": 0.3, "elastic_net_param": 0.5},
    "l-bfgs": {"solver": "l-bfgs", "reg_param": 0.1, "standardization": False},
}


@pytest.mark.parametrize("decay", [None, 0.5, 0.0])
@pytest.mark.parametrize("params", LINEAR.values(), ids=LINEAR)
def test_a_linear_regression_over_batches_is_that_over_all_rows(fit, cut, params, decay):
    """Whatever the solver, batches with drifting means give the model and errors of all rows, each decayed once for a later batch."""
    batches, whole = drifting(cut, linear, decay=1.0 if decay is None else decay)
    algorithm = LinearRegression(**params)
    # Sums of float64 in another order; an iterative search ends within its tolerance of the same minimum.
    close(carry(algorithm, batches, decay), fit(algorithm, whole, SEED), 1e-9 if params.get("solver") != "l-bfgs" else 1e-7)


def test_more_features_than_a_local_search_takes_go_on_from_moments(fit, cut):
    """With l-bfgs and more features than are searched on moments otherwise, batches find the minimum that rows give."""
    generator = np.random.default_rng(3)
    rows = generator.normal(size=(60, 520))
    label = rows[:, :5].sum(axis=1) + generator.normal(size=60)
    algorithm = LinearRegression(solver="l-bfgs", reg_param=1.0, tol=1e-12)
    found = carry(algorithm, [cut(rows[:20], label[:20]), cut(rows[20:], label[20:])])
    # Two searches of one convex function, which end where it changes by less than 1e-12.
    np.testing.assert_allclose(found.coefficients, fit(algorithm, cut(rows, label), SEED).coefficients, atol=1e-5)


def test_constant_columns_and_labels_may_begin_to_vary(fit, cut):
    """A label and a column that were constant so far, and others that stay so, give the model of all rows."""
    generator = np.random.default_rng(2)
    rows = np.column_stack([generator.normal(size=90), np.repeat([4.0, 5.0], 45), np.full(90, 0.1)])
    label = np.concatenate([np.full(45, 7.0), 7.0 + rows[45:, 0] + generator.normal(size=45) * 0.1])
    batches = [cut(rows[:45], label[:45]), cut(rows[45:], label[45:])]
    close(carry(LinearRegression(), batches), fit(LinearRegression(), cut(rows, label), SEED), 1e-9)
    close(carry(LinearRegression(), batches[:1]), fit(LinearRegression(), batches[0], SEED), 1e-9)


def test_residuals_below_rounding_leave_no_errors(fit, cut):
    """Where residuals vanish in the rounding of sums, which a second pass tells otherwise, the coefficients are there and no errors."""
    batches, whole = drifting(cut, lambda features, _: features @ [2.0, -0.5, 3.0, 1.0] + 1.0)
    found, expected = carry(LinearRegression(), batches), fit(LinearRegression(), whole, SEED)
    np.testing.assert_allclose(found.coefficients, expected.coefficients, rtol=1e-9)
    assert found.coefficient_standard_errors is None
    assert expected.coefficient_standard_errors is not None


@pytest.mark.parametrize("decay", [None, 0.5, 0.0])
@pytest.mark.parametrize("kind", ["multinomial", "complement", "bernoulli", "gaussian"])
def test_naive_bayes_over_batches_is_that_over_all_rows(fit, cut, kind, decay):
    """Of every type, with classes that only some batches have, batches give the model of all rows, each decayed once for a later batch."""

    def labels(features, generator):
        return generator.integers(0, 3 if features[0, 1] < 50.0 else 2, len(features)).astype(float)

    batches, whole = drifting(cut, labels, decay=1.0 if decay is None else decay)
    algorithm = NaiveBayes(model_type=kind)
    if kind != "gaussian":
        batches, whole = [[counted(block, kind) for block in blocks] for blocks in batches], [counted(block, kind) for block in whole]
    found, expected = carry(algorithm, batches, decay), fit(algorithm, whole, SEED)
    if decay == 0.0:
        # Rows of weight 0 have no class of their own either, and their place among the features is what centres sums.
        assert len(found.pi) == 2
    close(found, expected, 1e-9)


def counted(block, kind):
    """Return a block of numbers that count something, exactly."""
    rows = np.abs(np.rint(block.features + block.offset))
    rows = rows % 2 if kind == "bernoulli" else rows
    return replace(block, features=rows, offset=np.zeros(block.columns))


def test_counts_add_up_to_the_bit(fit, cut):
    """Naive Bayes over batches of whole numbers without weights has the very bytes of one fit: their sums are exact."""
    batches, whole = drifting(cut, lambda features, generator: generator.integers(0, 4, len(features)).astype(float))
    batches, whole = (
        [[replace(counted(block, ""), weight=None) for block in blocks] for blocks in (*batches, whole)][at] for at in (slice(0, 3), 3)
    )
    assert encode(to_tree(carry(NaiveBayes(), batches))) == encode(to_tree(fit(NaiveBayes(), whole, SEED)))


def test_thresholds_are_of_all_classes(cut):
    """A later batch may lack classes that thresholds are given for; a first one may not."""
    generator = np.random.default_rng(5)
    rows = generator.integers(0, 9, (40, 3)).astype(float)
    algorithm = NaiveBayes(thresholds=(0.5, 0.5, 0.5))
    three, two = cut(rows, np.arange(40.0) % 3), cut(rows, np.arange(40.0) % 2)
    assert carry(algorithm, [three, two]).thresholds == (0.5, 0.5, 0.5)
    with pytest.raises(UsageError):
        carry(algorithm, [two, three])


def test_sums_that_do_not_fit_are_refused(cut):
    """Another type of naive Bayes, other columns, the Huber loss and decay beyond 1 are refused; what fits is taken."""
    generator = np.random.default_rng(5)
    rows, label = generator.integers(0, 2, (40, 3)).astype(float), np.arange(40.0) % 2
    first, second = cut(rows, label), cut(rows, label)
    counts, algorithm = summed(NaiveBayes(), first), NaiveBayes(model_type="bernoulli")
    summary = reduce(add, map(Summary.of, second))
    assert NaiveBayes().going_on(summary, SEED, counts).classes == 2
    with pytest.raises(UsageError):
        algorithm.going_on(summary, SEED, counts)
    with pytest.raises(DataError):
        NaiveBayes().going_on(reduce(add, map(Summary.of, cut(rows[:, :2], label))), SEED, counts)
    with pytest.raises(UsageError):
        LinearRegression(loss="huber").going_on(summary, SEED, None)
    for kind in (LinearRegression, NaiveBayes):
        assert kind(decay_factor=1).decay_factor == 1.0
        with pytest.raises(UsageError):
            kind(decay_factor=1.5)


def summed(algorithm, blocks):
    """Return the sums of one batch."""
    state = algorithm.going_on(reduce(add, map(Summary.of, blocks)), SEED, None)
    return algorithm.sums(algorithm.update(state, reduce(add, (algorithm.statistics(state, block) for block in blocks))))
