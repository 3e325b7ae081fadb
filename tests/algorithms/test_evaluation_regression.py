"""Are regression metrics those of pyspark.ml's RegressionEvaluator?"""

import functools
import operator
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.ml.evaluation import RegressionEvaluator as SparkEvaluator

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.evaluation.regression import RegressionEvaluator, RegressionState
from securemllib.errors import DataError, UsageError

SEED = Seed(bytes(32))


def _block(label, prediction, weight=None, ordinal=0):
    return Block(ordinal=ordinal, features=np.zeros((len(label), 0)), offset=np.zeros(0), label=label, prediction=prediction, weight=weight)


def _blocks(label, prediction, weight=None, parts=3):
    cuts = np.array_split(np.arange(len(label)), parts)
    return [_block(label[cut], prediction[cut], None if weight is None else weight[cut], number) for number, cut in enumerate(cuts)]


def _predicted(seed=0, n=100):
    rng = np.random.default_rng(seed)
    label = rng.normal(size=n) * 3 + 20
    return label, label + rng.normal(size=n) + 0.5, rng.random(n) * 3


@pytest.mark.parametrize("metric", ["rmse", "mse", "r2", "mae", "var"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("through_origin", [False, True])
def test_every_metric_is_mllibs(spark, fit, metric, weighted, through_origin):
    """Each metric name, with and without weights and through the origin, gives MLlib's number."""
    label, prediction, weight = _predicted(1)
    frame = spark.createDataFrame(
        list(zip(label.tolist(), prediction.tolist(), weight.tolist(), strict=True)), ["label", "prediction", "w"]
    )
    theirs = SparkEvaluator(metricName=metric, throughOrigin=through_origin)
    if weighted:
        theirs.setWeightCol("w")
    algorithm = RegressionEvaluator(metric_name=metric, through_origin=through_origin)
    ours = fit(algorithm, _blocks(label, prediction, weight if weighted else None), SEED)
    assert ours.value == pytest.approx(theirs.evaluate(frame), rel=1e-9)


@pytest.mark.parametrize(("label", "prediction"), [(1e200, 1.0), (1.0, -1e200), (1e300, -1e300), (1e-300, 2e-300)])
def test_numbers_without_a_square_give_what_mllib_gives(spark, fit, label, prediction):
    """Errors whose squares are no numbers are infinite, undefined or 0, as in MLlib, and no error."""
    label, prediction = label * np.linspace(0.5, 2.0, 30), prediction * np.linspace(2.0, 0.5, 30)
    frame = spark.createDataFrame(list(zip(label.tolist(), prediction.tolist(), strict=True)), ["label", "prediction"])
    for metric in ("rmse", "mse", "r2", "mae", "var"):
        theirs = SparkEvaluator(metricName=metric).evaluate(frame)
        assert fit(RegressionEvaluator(metric_name=metric), _blocks(label, prediction), SEED).value == pytest.approx(theirs, nan_ok=True)


def test_the_other_metrics_come_along(fit):
    """Whichever metric is asked for, the evaluation holds all of them, and the number of rows whose weight is not 0."""
    label, prediction, weight = _predicted(2)
    blocks = _blocks(label, prediction)
    asked = {name: fit(RegressionEvaluator(metric_name=name), blocks, SEED).value for name in ("rmse", "mse", "r2", "mae", "var")}
    found = fit(RegressionEvaluator(), blocks, SEED)
    assert (found.root_mean_squared_error, found.mean_squared_error, found.r2) == (asked["rmse"], asked["mse"], asked["r2"])
    assert (found.mean_absolute_error, found.explained_variance, found.rows) == (asked["mae"], asked["var"], 100)
    assert fit(RegressionEvaluator(), _blocks(label, prediction, np.where(weight > 1, weight, 0)), SEED).rows == (weight > 1).sum()


def test_one_row_gives_what_mllib_gives(spark, fit):
    """A dataset of one row has no variance: r2 is minus infinity as in MLlib, the error a number."""
    frame = spark.createDataFrame([(1.0, 2.0)], ["label", "prediction"])
    found = fit(RegressionEvaluator(metric_name="r2"), _blocks(np.array([1.0]), np.array([2.0]), parts=1), SEED)
    assert found.value == SparkEvaluator(metricName="r2").evaluate(frame) == -np.inf
    assert found.mean_squared_error == 1.0


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(0, 30), st.integers(0, 30))
def test_moments_of_a_union_are_the_sum_and_a_weight_is_a_repetition(seed, first, second):
    """Moments add up over blocks in any order of rows, and, but for the sum of squared weights, a row of weight w counts as w rows."""
    rng = np.random.default_rng(seed)
    label, prediction = rng.normal(size=(2, first + second)) + 3
    weight = rng.integers(0, 4, first + second).astype(float)
    algorithm, state, order = RegressionEvaluator(), RegressionState(), rng.permutation(first + second)
    whole = algorithm.statistics(state, _block(label[order], prediction[order], weight[order]))
    cuts = (slice(0, first), slice(first, None))
    parts = functools.reduce(operator.add, [algorithm.statistics(state, _block(label[cut], prediction[cut], weight[cut])) for cut in cuts])
    repeated = algorithm.statistics(state, _block(*(np.repeat(column, weight.astype(int)) for column in (label, prediction))))
    for field in fields(whole):
        name = field.name
        assert getattr(whole, name) == pytest.approx(getattr(parts, name), abs=1e-9)
        if name not in ("rows", "weight_squares"):
            assert getattr(whole, name) == pytest.approx(getattr(repeated, name), abs=1e-9)


def test_unusable_input_is_refused(fit):
    """No rows, no labels, NaN, weights of 0 and an unknown metric are refused; the same mended are not."""
    label, prediction, weight = _predicted(3, n=10)
    nan = np.where(np.arange(10) == 4, np.nan, label)
    missing = Block(ordinal=0, features=np.zeros((10, 0)), offset=np.zeros(0), prediction=prediction)
    for blocks in (_blocks(label[:0], label[:0], parts=1), [missing], _blocks(nan, prediction), _blocks(label, prediction, weight * 0)):
        with pytest.raises(DataError):
            fit(RegressionEvaluator(), blocks, SEED)
    with pytest.raises(UsageError):
        RegressionEvaluator(metric_name="mape")
    assert fit(RegressionEvaluator(), _blocks(label, prediction, weight), SEED).value > 0
