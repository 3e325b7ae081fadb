"""Are metrics of several labels a row, and of rankings, those of pyspark.ml's evaluators?"""

from typing import get_args

import numpy as np
import pyarrow as pa
import pytest
from pyspark.ml import evaluation

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.evaluation import multilabel, ranking
from securemllib.algorithms.evaluation.multilabel import MultilabelClassificationEvaluator
from securemllib.algorithms.evaluation.ranking import RankingEvaluator
from securemllib.algorithms.vectors import VECTOR
from securemllib.errors import DataError, UsageError

SEED = Seed(bytes(32))
COLUMNS = "prediction array<double>, label array<double>"


def _block(predictions, labels, ordinal=0):
    raw = {"input0": pa.array(predictions, pa.list_(pa.float64())), "input1": pa.array(labels, pa.list_(pa.float64()))}
    return Block(ordinal=ordinal, features=np.zeros((len(labels), 0)), offset=np.zeros(0), raw=raw)


def _blocks(rows, parts=3):
    cuts = np.array_split(np.arange(len(rows)), parts)
    return [_block([rows[row][0] for row in cut], [rows[row][1] for row in cut], number) for number, cut in enumerate(cuts)]


def _drawn(n=80):
    """Lists of up to six of eight numbers, some twice or in another order, a zero of either sign, and rows with an empty list."""
    rng = np.random.default_rng(3)
    rows = [tuple(rng.choice(8, rng.integers(0, 7)).astype(float).tolist() for _ in range(2)) for _ in range(n)]
    return [*rows, ([1.0, 2.0], [2.0, 1.0]), ([1.0, 2.0], [1.0, 2.0]), ([-0.0], [0.0]), ([], [3.0]), ([3.0], [4.0])]


@pytest.fixture(scope="module")
def labelled(spark):
    """Rows that all have labels, and Spark's frame of them: a row without has no recall."""
    rows = [(predictions, labels or [5.0]) for predictions, labels in _drawn()]
    return rows, spark.createDataFrame(rows, COLUMNS).coalesce(1).cache()


@pytest.fixture(scope="module")
def ranked(spark):
    """Rows of which some have no relevant number, and Spark's frame of them."""
    rows = [*_drawn(), ([1.0, 2.0], [])]
    return rows, spark.createDataFrame(rows, COLUMNS).coalesce(1).cache()


@pytest.mark.parametrize("metric", get_args(multilabel.Metric))
def test_every_metric_of_labels_is_mllibs(labelled, fit, metric):
    """Each metric name gives MLlib's number, of lists that name a label twice too."""
    rows, frame = labelled
    theirs = evaluation.MultilabelClassificationEvaluator(metricName=metric, metricLabel=2.0).evaluate(frame)
    ours = fit(MultilabelClassificationEvaluator(metric_name=metric, metric_label=2.0), _blocks(rows), SEED)
    # The rows' shares are added in another order.
    assert ours.value == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize("k", [1, 3, 10])
@pytest.mark.parametrize("metric", get_args(ranking.Metric))
def test_every_metric_of_rankings_is_mllibs(ranked, fit, metric, k):
    """Each metric name gives MLlib's number for ranks below, at and beyond the lists' lengths."""
    rows, frame = ranked
    theirs = evaluation.RankingEvaluator(metricName=metric, k=k).evaluate(frame)
    ours = fit(RankingEvaluator(metric_name=metric, k=k), _blocks(rows), SEED)
    assert ours.value == pytest.approx(theirs, rel=1e-12)


def test_what_is_undefined_is_so_as_in_mllib(fit):
    """A row without labels makes recall NaN; rows without any label have a Hamming loss of NaN, with one of 0."""

    def found(metric, rows):
        return fit(MultilabelClassificationEvaluator(metric_name=metric), _blocks(rows, 1), SEED).value

    rows = [([], []), ([1.0], [1.0])]
    assert np.isnan([found("recall", rows), found("accuracy", rows), found("f1Measure", rows), found("hammingLoss", rows[:1])]).all()
    assert [found("hammingLoss", rows), found("precision", rows), found("microPrecision", rows)] == [0.0, 0.5, 1.0]


def test_a_label_that_is_never_right_has_metrics_of_0(fit):
    """A label that is predicted wrong or missed has 0 by label, and one of no row is refused."""
    rows = [([1.0], [2.0])]
    for label in (1.0, 2.0):
        assert (
            fit(MultilabelClassificationEvaluator(metric_name="precisionByLabel", metric_label=label), _blocks(rows, 1), SEED).value == 0.0
        )
    with pytest.raises(DataError, match="no label"):
        fit(MultilabelClassificationEvaluator(metric_name="precisionByLabel", metric_label=3.0), _blocks(rows, 1), SEED)


def test_the_rarest_count_is_the_smallest_group(fit):
    """A summary by label tells how often its rarest count occurs, so that policies can ask for more rows."""
    rows = [([1.0], [1.0])] * 5 + [([2.0], [2.0])] * 3 + [([1.0], [2.0])] * 2
    found = fit(MultilabelClassificationEvaluator(), _blocks(rows), SEED)
    assert found.smallest_group == 2
    np.testing.assert_allclose(found.precision_by_label, [5 / 7, 1.0])
    np.testing.assert_allclose(found.recall_by_label, [1.0, 3 / 5])


@pytest.mark.parametrize("algorithm", [MultilabelClassificationEvaluator(), RankingEvaluator()])
def test_what_is_no_list_of_numbers_is_refused(fit, algorithm):
    """Lists of integers, null lists, nulls and NaN in a list, vectors and no rows are errors with a code, beside accepted lists."""
    good = _block([[1.0]], [[1.0]])
    vector = pa.array([{"type": 1, "size": None, "indices": None, "values": [1.0]}], VECTOR)
    assert fit(algorithm, [good], SEED).value == 1.0
    for prediction in (
        pa.array([[1]]),
        pa.array([None], pa.list_(pa.float64())),
        pa.array([[None]], pa.list_(pa.float64())),
        pa.array([[np.nan]]),
        vector,
    ):
        broken = Block(ordinal=0, features=good.features, offset=good.offset, raw={**good.raw, "input0": prediction})
        with pytest.raises(DataError) as refused:
            fit(algorithm, [broken], SEED)
        assert refused.value.error_code.startswith("data.")
    with pytest.raises(DataError, match="no rows"):
        fit(algorithm, [_block([], [])], SEED)


def test_params_are_checked():
    """Params outside of MLlib's domains are refused, those at its borders accepted."""
    for wrong in (
        lambda: MultilabelClassificationEvaluator(metric_name="f1"),
        lambda: MultilabelClassificationEvaluator(metric_label=-1.0),
        lambda: RankingEvaluator(metric_name="map"),
        lambda: RankingEvaluator(k=0),
    ):
        with pytest.raises(UsageError):
            wrong()
    assert RankingEvaluator(k=1).k == 1
