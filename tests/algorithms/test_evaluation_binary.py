"""Are areas under ROC and precision-recall curves those of pyspark.ml's BinaryClassificationEvaluator?"""

import functools
import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.ml.evaluation import BinaryClassificationEvaluator as SparkEvaluator
from pyspark.ml.linalg import Vectors

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.evaluation.binary import BinaryClassificationEvaluator, BinaryState
from securemllib.errors import DataError, UsageError

SEED = Seed(bytes(32))


def _block(score, label, weight=None, ordinal=0, offset=0.0):
    raw = np.column_stack([-score, score])
    return Block(ordinal=ordinal, features=raw - offset, offset=np.full(2, offset), label=label, weight=weight)


def _blocks(score, label, weight=None, parts=3, offset=0.0):
    cuts = np.array_split(np.arange(len(score)), parts)
    return [
        _block(score[cut], label[cut], None if weight is None else weight[cut], ordinal, offset) for ordinal, cut in enumerate(cuts)
    ]  # fmt: skip


def _scored(seed=0, n=300, steps=40):
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < 0.4).astype(float)
    # MLlib takes 0.0 and -0.0 for two scores; adding 0.0 leaves the first only.
    return np.round((rng.normal(size=n) + label) * steps / 4) / 8 + 0.0, label, rng.integers(0, 4, n) + 0.5


@pytest.mark.parametrize("metric", ["areaUnderROC", "areaUnderPR"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("num_bins", "steps"), [(0, 40), (1000, 40), (20, 10**6), (7, 10**6)])
def test_areas_are_mllibs(spark, fit, metric, weighted, num_bins, steps):
    """Both areas equal MLlib's with ties, weights, and with scores merged into bins."""
    score, label, weight = _scored(1, steps=steps)
    data = [(Vectors.dense(-s, s), y, w) for s, y, w in zip(score.tolist(), label.tolist(), weight.tolist(), strict=True)]
    # One partition: MLlib bins each partition for itself.
    frame = spark.createDataFrame(data, ["raw", "y", "w"]).coalesce(1)
    theirs = SparkEvaluator(rawPredictionCol="raw", labelCol="y", metricName=metric, numBins=num_bins)
    if weighted:
        theirs.setWeightCol("w")
    algorithm = BinaryClassificationEvaluator(metric_name=metric, num_bins=num_bins)
    ours = fit(algorithm, _blocks(score, label, weight if weighted else None), SEED)
    assert ours.value == pytest.approx(theirs.evaluate(frame), abs=1e-9)


def test_curves_are_mllibs(spark, fit):
    """Points of both curves and thresholds equal MLlib's."""
    score, label, _ = _scored(2)
    frame = spark.createDataFrame(list(zip(score.tolist(), label.tolist(), strict=True)), ["score", "label"])
    # pyspark's own class offers no curves.
    theirs = spark._jvm.org.apache.spark.mllib.evaluation.BinaryClassificationMetrics(frame._jdf)
    ours = fit(BinaryClassificationEvaluator(num_bins=0), _blocks(score, label), SEED)
    by_threshold = {
        "precisionByThreshold": ours.precision,
        "recallByThreshold": ours.recall,
        "fMeasureByThreshold": ours.f_measure(),
    }
    curves = {"roc": ours.roc, "pr": ours.pr} | {name: np.column_stack([ours.thresholds, found]) for name, found in by_threshold.items()}
    for name, mine in curves.items():
        curve = getattr(theirs, name)()
        points = np.array([[point._1(), point._2()] for point in curve.collect()])
        np.testing.assert_allclose(mine, points, atol=1e-12)


def test_a_column_of_numbers_is_a_score(fit):
    """A score column of one number a row gives the areas of the vector's second entry."""
    score, label, _ = _scored(3)
    block = Block(ordinal=0, features=score[:, None].copy(), offset=np.zeros(1), label=label)
    assert (
        fit(BinaryClassificationEvaluator(), [block], SEED).value == fit(BinaryClassificationEvaluator(), _blocks(score, label), SEED).value
    )


def test_the_offset_is_honoured(fit):
    """Blocks that are centred by a power of two give the same curves."""
    score, label, _ = _scored(4)
    plain, centred = (fit(BinaryClassificationEvaluator(), _blocks(score, label, offset=offset), SEED) for offset in (0.0, 4.0))
    np.testing.assert_array_equal(plain.roc, centred.roc)
    np.testing.assert_array_equal(plain.thresholds, centred.thresholds)


@pytest.mark.parametrize("only", [0.0, 1.0])
def test_one_class_gives_what_mllib_gives(spark, fit, only):
    """Where all labels are equal, the areas are MLlib's and no division fails."""
    score, _, _ = _scored(5, n=30)
    label = np.full(30, only)
    frame = spark.createDataFrame([(Vectors.dense(-s, s), only) for s in score.tolist()], ["raw", "y"]).coalesce(1)
    for metric in ("areaUnderROC", "areaUnderPR"):
        theirs = SparkEvaluator(rawPredictionCol="raw", labelCol="y", metricName=metric).evaluate(frame)
        assert fit(BinaryClassificationEvaluator(metric_name=metric), _blocks(score, label), SEED).value == pytest.approx(theirs, abs=1e-12)


def test_zero_and_minus_zero_are_one_score(fit):
    """Rows scored 0.0 and -0.0 are tied: no order between them counts."""
    label = np.array([1.0, 0.0])
    found = [
        fit(BinaryClassificationEvaluator(), _blocks(np.array(score), label, parts=1), SEED).value for score in ([0.0, -0.0], [-0.0, 0.0])
    ]
    assert found == [0.5, 0.5]


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(0, 30), st.integers(0, 30))
def test_counts_of_a_union_are_the_sum_and_a_weight_is_a_repetition(seed, first, second):
    """Counts by score add up over blocks in any order of rows, and a row of weight w counts as w rows."""
    rng = np.random.default_rng(seed)
    score = rng.integers(0, 6, first + second) / 4
    label, weight = rng.integers(0, 2, len(score)).astype(float), rng.integers(1, 4, len(score)).astype(float)
    algorithm, state, order = BinaryClassificationEvaluator(), BinaryState(), rng.permutation(len(score))
    whole = algorithm.statistics(state, _block(score[order], label[order], weight[order]))
    cuts = (slice(0, first), slice(first, None))
    parts = functools.reduce(operator.add, [algorithm.statistics(state, _block(score[cut], label[cut], weight[cut])) for cut in cuts])
    times = weight.astype(int)
    repeated = algorithm.statistics(state, _block(np.repeat(score, times), np.repeat(label, times)))
    assert whole.rows == parts.rows
    for other in (parts, repeated):
        np.testing.assert_array_equal(whole.scores, other.scores)
        np.testing.assert_array_equal(whole.positives, other.positives)
        np.testing.assert_array_equal(whole.negatives, other.negatives)


def test_unusable_input_is_refused(fit):
    """No rows, three raw predictions, a missing label, a NaN score and a negative weight are refused; the same mended are not."""
    score, label, weight = _scored(6, n=20)
    algorithm = BinaryClassificationEvaluator()
    three = Block(ordinal=0, features=np.ones((20, 3)), offset=np.zeros(3), label=label)
    nan = np.where(np.arange(20) == 2, np.nan, score)
    for blocks in ([three], _blocks(score[:0], label[:0], parts=1), _blocks(nan, label), _blocks(score, label, -weight)):
        with pytest.raises(DataError):
            fit(algorithm, blocks, SEED)
    with pytest.raises(DataError):
        fit(algorithm, [Block(ordinal=0, features=np.ones((2, 2)), offset=np.zeros(2))], SEED)
    for params in ({"metric_name": "areaUnderX"}, {"num_bins": -1}):
        with pytest.raises(UsageError):
            BinaryClassificationEvaluator(**params)
    assert 0 <= fit(algorithm, _blocks(score, label, weight), SEED).value <= 1
