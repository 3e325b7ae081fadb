"""Does a sealed FPGrowth give pyspark.ml's frequent sets, rules and predictions?"""

import numpy as np
import pyarrow as pa
import pytest
from pyspark.ml import fpm

from securemllib.errors import DataError, SealedError, UsageError
from securemllib.ml.clustering import KMeans
from securemllib.ml.fpm import FPGrowth, FPGrowthModel, PrefixSpan
from securemllib.spark.functions import col

PARAMS = {"minSupport": 0.15, "minConfidence": 0.6}


def _sets(frame):
    return {frozenset(items): freq for items, freq in zip(frame["items"], frame["freq"], strict=True)}


def test_an_fpgrowth_is_that_of_mllib(deployment, session, spark, tmp_path):
    """Sets, rules and predictions are MLlib's; a loaded model predicts; what it holds is sealed."""
    held = np.random.default_rng(2).random((240, 6)) < [0.8, 0.7, 0.6, 0.4, 0.3, 0.2]
    baskets = [[f"i{item}" for item in np.flatnonzero(row)] for row in held]
    table = pa.table({"basket": pa.array(baskets, pa.list_(pa.string())), "age": np.arange(240.0)})
    sealed = session.read(deployment.dataset(table, "baskets", rows_per_part=120))
    clear = spark.createDataFrame(
        [(basket, float(age)) for age, basket in enumerate(baskets)], "basket array<string>, age double"
    ).coalesce(1)
    ours, theirs = FPGrowth(**PARAMS, itemsCol="basket").fit(sealed), fpm.FPGrowth(**PARAMS, itemsCol="basket").fit(clear)
    released = ours.release()
    assert _sets(released.freqItemsets) == _sets(theirs.freqItemsets.toPandas())
    # The rules' numbers are compared below Spark, where it costs less.
    assert released.associationRules.columns.tolist() == ["antecedent", "consequent", "confidence", "lift", "support"]
    assert released.associationRules["confidence"].min() >= 0.6
    ours.save(str(tmp_path / "model"))
    out = FPGrowthModel.load(str(tmp_path / "model")).setItemsCol("basket").setMinConfidence(0.7).transform(sealed)
    wanted = theirs.setMinConfidence(0.7).transform(clear)
    assert out.dtypes == wanted.dtypes
    predicted = out.release(columns=["age", "prediction"]).toPandas().sort_values("age")["prediction"]
    assert [set(items) for items in predicted] == [set(row.prediction) for row in wanted.collect()]
    for name in ("freqItemsets", "associationRules"):
        with pytest.raises(SealedError):
            getattr(ours, name)
    with pytest.raises(UsageError, match="array of strings"):
        FPGrowth(itemsCol="age").fit(sealed)
    with pytest.raises(UsageError) as refused:
        FPGrowth(itemsCol="basket", numPartitions=3).fit(sealed)
    assert refused.value.error_code == "usage.unsupported"


def test_lists_of_integers_are_sets_of_items(deployment, session, spark):
    """Sets, rules and predictions of integers are MLlib's, in its types, from parts that a filter left without rows too."""
    baskets = [[1, 2], [1, 2], [1, 2, 3], [1, 3], None, []] * 2
    table = pa.table({"items": pa.array(baskets, pa.list_(pa.int64())), "age": np.arange(12.0)})
    sealed = session.read(deployment.dataset(table, "numbers", rows_per_part=4)).filter(col("age") < 6.0)
    clear = spark.createDataFrame([(basket,) for basket in baskets[:6]], "items array<bigint>").coalesce(1)
    assert sealed.dtypes[0] == clear.dtypes[0]
    ours, theirs = FPGrowth().fit(sealed), fpm.FPGrowth().fit(clear)
    released, wanted = ours.release(), [list(row) for row in theirs.associationRules.collect()]
    assert _sets(released.freqItemsets) == _sets(theirs.freqItemsets.toPandas())
    assert sorted(map(repr, released.associationRules.values.tolist())) == sorted(map(repr, wanted))
    out, expected = ours.transform(sealed), theirs.transform(clear)
    assert out.dtypes[2] == expected.dtypes[1]
    rows = out.release(columns=["age", "prediction"]).toPandas().sort_values("age")["prediction"]
    assert [sorted(items) for items in rows] == [sorted(row.prediction) for row in expected.collect()]
    with pytest.raises(UsageError, match="must be a vector"):
        KMeans(featuresCol="items").fit(sealed)


def test_sequential_patterns_are_a_frame(deployment, session, tmp_path):
    """The patterns of MLlib's example are its sequences and counts; a loaded instance finds them again; other columns are refused."""
    rows = [[[1, 2], [3]], [[1], [3, 2], [1, 2]], [[1, 2], [5]], [[6]], None]
    table = pa.table({"sequence": pa.array(rows, pa.list_(pa.list_(pa.int64()))), "items": pa.array([[1]] * 5, pa.list_(pa.int64()))})
    sealed = session.read(deployment.dataset(table, "sequences", rows_per_part=2))
    assert sealed.dtypes == [("sequence", "array<array<bigint>>"), ("items", "array<bigint>")]
    search = PrefixSpan(minSupport=0.5, maxPatternLength=5)
    found = search.findFrequentSequentialPatterns(sealed)
    assert found.values.tolist() == [[[[1]], 3], [[[2]], 3], [[[3]], 2], [[[1], [3]], 2], [[[1, 2]], 3]]
    search.save(str(tmp_path / "search"))
    again = PrefixSpan.load(str(tmp_path / "search"))
    assert (again.uid, again.getMaxPatternLength()) == (search.uid, 5)
    assert again.findFrequentSequentialPatterns(sealed).equals(found)
    with pytest.raises(UsageError, match="array of arrays"):
        PrefixSpan(sequenceCol="items").findFrequentSequentialPatterns(sealed)
    with pytest.raises(UsageError) as refused:
        PrefixSpan(maxLocalProjDBSize=5).findFrequentSequentialPatterns(sealed)
    assert refused.value.error_code == "usage.unsupported"


def test_an_item_that_stands_twice_ends_a_fit(deployment, session):
    """A list with an item twice is an error of the data, as in MLlib."""
    table = pa.table({"items": [["a", "b"], ["a", "a"]]})
    with pytest.raises(DataError) as refused:
        FPGrowth().fit(session.read(deployment.dataset(table, "twice", rows_per_part=80)))
    assert refused.value.error_code == "data.items"
