"""Are classification metrics those of pyspark.ml's MulticlassClassificationEvaluator?"""

import functools
import operator
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.ml.evaluation import MulticlassClassificationEvaluator as SparkEvaluator
from pyspark.ml.linalg import Vectors

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.evaluation.multiclass import Metric, MulticlassClassificationEvaluator, MulticlassState
from securemllib.errors import DataError, UsageError

SEED = Seed(bytes(32))


def _block(label, prediction, probability=None, weight=None, ordinal=0):
    features = np.zeros((len(label), 0)) if probability is None else probability
    return Block(ordinal=ordinal, features=features, offset=np.zeros(features.shape[1]), label=label, prediction=prediction, weight=weight)


def _blocks(label, prediction, probability=None, weight=None, parts=3):
    cuts = np.array_split(np.arange(len(label)), parts)
    return [
        _block(
            label[cut], prediction[cut], None if probability is None else probability[cut], None if weight is None else weight[cut], number
        )
        for number, cut in enumerate(cuts)
    ]


def _classified(seed=0, n=120):
    """Four labels; predictions with a fifth class, which no row has; probabilities of exactly 0 and 1 among them."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 4, n).astype(float)
    prediction = np.where(rng.random(n) < 0.5, label, rng.integers(0, 5, n)).astype(float)
    probability = rng.dirichlet(np.full(5, 0.05), n)
    probability[0] = [1, 0, 0, 0, 0]
    label[0], label[1] = 0.0, 1.0
    probability[1] = [1, 0, 0, 0, 0]
    return label, prediction, probability, rng.integers(1, 4, n) * 0.5


@pytest.mark.parametrize("metric", get_args(Metric))
@pytest.mark.parametrize("weighted", [False, True])
def test_every_metric_is_mllibs(spark, fit, metric, weighted):
    """Each metric name, with and without weights, with beta, metric label and eps, gives MLlib's number."""
    label, prediction, probability, weight = _classified(1)
    columns = zip(label.tolist(), prediction.tolist(), map(Vectors.dense, probability), weight.tolist(), strict=True)
    frame = spark.createDataFrame(list(columns), ["label", "prediction", "probability", "w"])
    theirs = SparkEvaluator(metricName=metric, beta=2.0, metricLabel=2.0, eps=1e-3)
    if weighted:
        theirs.setWeightCol("w")
    algorithm = MulticlassClassificationEvaluator(metric_name=metric, beta=2.0, metric_label=2.0, eps=1e-3)
    ours = fit(algorithm, _blocks(label, prediction, probability, weight if weighted else None), SEED)
    assert ours.value == pytest.approx(theirs.evaluate(frame), abs=1e-9)


def test_the_confusion_matrix_counts_labels_by_predictions(fit):
    """Rows of the matrix are labels, columns predictions, ascending; a prediction that is no label has no column but counts as wrong."""
    label, prediction = np.array([0.0, 0.0, 2.0, 2.0, 2.0]), np.array([0.0, 2.0, 2.0, 2.0, 7.0])
    found = fit(MulticlassClassificationEvaluator(metric_name="accuracy"), _blocks(label, prediction, parts=2), SEED)
    np.testing.assert_array_equal(found.labels, [0, 2])
    np.testing.assert_array_equal(found.confusion_matrix, [[1, 1], [0, 2]])
    assert found.value == found.accuracy == pytest.approx(3 / 5)
    assert found.hamming_loss == pytest.approx(2 / 5)


def test_one_label_has_no_false_positive_rate(fit):
    """Where all rows have one label, its false positive rate is NaN, as in MLlib, and the other metrics are numbers."""
    label = np.ones(4)
    found = fit(MulticlassClassificationEvaluator(), _blocks(label, label, parts=1), SEED)
    assert np.isnan(found.weighted_false_positive_rate)
    assert found.value == found.weighted_precision == found.weighted_recall == 1.0


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(0, 30), st.integers(0, 30), st.sampled_from(["f1", "logLoss"]))
def test_counts_of_a_union_are_the_sum_and_a_weight_is_a_repetition(seed, first, second, metric):
    """Counts by pair and losses add up over blocks in any order of rows, and a row of weight w counts as w rows."""
    rng = np.random.default_rng(seed)
    n = first + second
    label, prediction = rng.integers(0, 3, n).astype(float), rng.integers(0, 4, n).astype(float)
    probability, weight = rng.dirichlet(np.ones(3), n).reshape(n, 3), rng.integers(1, 4, n).astype(float)
    algorithm, state, order = MulticlassClassificationEvaluator(metric_name=metric), MulticlassState(), rng.permutation(n)
    whole = algorithm.statistics(state, _block(label[order], prediction[order], probability[order], weight[order]))
    cuts = (slice(0, first), slice(first, None))
    found = [algorithm.statistics(state, _block(label[cut], prediction[cut], probability[cut], weight[cut])) for cut in cuts]
    parts = functools.reduce(operator.add, found)
    times = weight.astype(int)
    repeated = algorithm.statistics(state, _block(*(np.repeat(column, times, axis=0) for column in (label, prediction, probability))))
    assert whole.rows == parts.rows == n
    for other in (parts, repeated):
        np.testing.assert_array_equal(whole.pairs, other.pairs)
        np.testing.assert_array_equal(whole.weights, other.weights)
        assert whole.loss == pytest.approx(other.loss, abs=1e-9)


def test_unusable_input_is_refused(fit):
    """No rows, no predictions, an unknown metric label and a label without a probability raise DataError; the same mended do not."""
    label, prediction, probability, _ = _classified(2)
    by_label = {"metric_name": "recallByLabel", "metric_label": 4.0}
    for algorithm, blocks in (
        (MulticlassClassificationEvaluator(), _blocks(label[:0], prediction[:0], parts=1)),
        (MulticlassClassificationEvaluator(), [Block(ordinal=0, features=probability, offset=np.zeros(5), label=label)]),
        (MulticlassClassificationEvaluator(**by_label), _blocks(label, prediction)),
        (MulticlassClassificationEvaluator(metric_name="logLoss"), _blocks(label, prediction, probability[:, :3].copy())),
        (MulticlassClassificationEvaluator(metric_name="logLoss"), _blocks(label + 0.5, prediction, probability)),
    ):
        with pytest.raises(DataError):
            fit(algorithm, blocks, SEED)
    assert fit(MulticlassClassificationEvaluator(metric_name="recallByLabel", metric_label=3.0), _blocks(label, prediction), SEED).value > 0
    assert fit(MulticlassClassificationEvaluator(metric_name="logLoss"), _blocks(label, prediction, probability), SEED).value > 0


@pytest.mark.parametrize(
    "params", [{"metric_name": "f2"}, {"metric_label": -1.0}, {"beta": 0.0}, {"beta": float("nan")}, {"eps": 0.0}, {"eps": 0.5}]
)
def test_params_outside_their_domain_are_refused(params):
    """A Param outside MLlib's domain, NaN included, raises UsageError; values just inside do not."""
    with pytest.raises(UsageError):
        MulticlassClassificationEvaluator(**params)
    assert MulticlassClassificationEvaluator(metric_label=0.0, beta=0.1, eps=0.49).metric_name == "f1"
