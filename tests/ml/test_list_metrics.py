"""Do evaluators of lists score sealed columns of lists, and refuse others?"""

import pyarrow as pa
import pytest

from securemllib.errors import UsageError
from securemllib.ml.evaluation import MultilabelClassificationEvaluator, RankingEvaluator
from securemllib.spark.functions import col


@pytest.fixture(scope="module")
def lists(deployment, session):
    """Predictions and labels of the examples in pyspark.ml's documentation, in two parts."""
    predictions = [[0.0, 1.0], [0.0, 2.0], [], [2.0], [2.0, 0.0], [0.0, 1.0, 2.0], [1.0]]
    labels = [[0.0, 2.0], [0.0, 1.0], [0.0], [2.0], [2.0, 0.0], [0.0, 1.0], [1.0, 2.0]]
    table = pa.table({"predicted": predictions, "label": labels, "narrow": pa.array(labels, pa.list_(pa.float32())), "number": range(7)})
    table = table.append_column("whole", table["label"].cast(pa.list_(pa.int64())))
    return session.read(deployment.dataset(table, "lists", rows_per_part=4))


def test_lists_are_scored_as_in_mllib(lists, tmp_path):
    """Metrics of sealed lists are the numbers of MLlib's examples, their summary has the others, and evaluators are saved."""
    evaluator = MultilabelClassificationEvaluator(predictionCol="predicted")
    assert evaluator.evaluate(lists) == pytest.approx(0.6380952380952382)
    assert evaluator.evaluate(lists, {evaluator.metricName: "accuracy"}) == pytest.approx(0.5476190476190476)
    found = evaluator.summarise(lists)
    assert (found.rows, found.labels.tolist(), found.smallest_group) == (7, [0.0, 1.0, 2.0], 1.0)
    ranking = RankingEvaluator(predictionCol="predicted", metricName="precisionAtK", k=2)
    ranking.save(str(tmp_path / "ranking"))
    loaded = RankingEvaluator.load(str(tmp_path / "ranking"))
    assert (loaded.getK(), loaded.isLargerBetter()) == (2, True)
    # Of seven rows, the first two places hold 1, 1, 0, 1, 2, 2 and 1 relevant ones.
    assert loaded.evaluate(lists) == pytest.approx(8 / 14)
    assert [evaluator.isLargerBetter(), evaluator.setMetricName("hammingLoss").isLargerBetter()] == [True, False]


@pytest.mark.parametrize("evaluator", [MultilabelClassificationEvaluator, RankingEvaluator])
def test_other_columns_are_refused(lists, evaluator):
    """A column that is no array of doubles, or is not there, is refused before a job is sent, as in MLlib."""
    for column, text in (("narrow", "array<float>"), ("whole", "array<bigint>"), ("number", "bigint"), ("nothing", "does not exist")):
        with pytest.raises(UsageError, match=text):
            evaluator(predictionCol=column).evaluate(lists)
    with pytest.raises(UsageError, match="boolean"):
        evaluator(predictionCol="truth").evaluate(lists.withColumn("truth", col("number") > 3))
