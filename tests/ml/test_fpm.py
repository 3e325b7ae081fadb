"""Does a sealed FPGrowth give pyspark.ml's frequent sets, rules and predictions?"""

import numpy as np
import pyarrow as pa
import pytest
from pyspark.ml import fpm

from securemllib.errors import DataError, SealedError, UsageError
from securemllib.ml.fpm import FPGrowth, FPGrowthModel

PARAMS = {"minSupport": 0.15, "minConfidence": 0.6}


def _found(frame, *values):
    keys = [name for name in ("items", "antecedent", "consequent") if name in frame]
    return {tuple(frozenset(row[name]) for name in keys): tuple(row[name] for name in values) for _, row in frame.iterrows()}


def test_an_fpgrowth_is_that_of_mllib(deployment, session, spark, tmp_path):
    """Sets, rules and predictions are MLlib's; a loaded model predicts; what it holds is sealed."""
    held = np.random.default_rng(2).random((240, 6)) < [0.8, 0.7, 0.6, 0.4, 0.3, 0.2]
    baskets = [[f"i{item}" for item in np.flatnonzero(row)] for row in held]
    table = pa.table({"basket": pa.array(baskets, pa.list_(pa.string())), "age": np.arange(240.0)})
    sealed = session.read(deployment.dataset(table, "baskets", rows_per_part=80))
    clear = spark.createDataFrame(
        [(basket, float(age)) for age, basket in enumerate(baskets)], "basket array<string>, age double"
    ).coalesce(1)
    ours, theirs = FPGrowth(**PARAMS, itemsCol="basket").fit(sealed), fpm.FPGrowth(**PARAMS, itemsCol="basket").fit(clear)
    released = ours.release()
    assert _found(released.freqItemsets, "freq") == _found(theirs.freqItemsets.toPandas(), "freq")
    rules, expected = (
        _found(frame, "confidence", "lift", "support") for frame in (released.associationRules, theirs.associationRules.toPandas())
    )
    assert rules.keys() == expected.keys()
    assert all(rules[rule] == pytest.approx(expected[rule], rel=1e-12) for rule in rules)
    ours.save(str(tmp_path / "model"))
    out = FPGrowthModel.load(str(tmp_path / "model")).setItemsCol("basket").setMinConfidence(0.7).transform(sealed)
    wanted = theirs.setMinConfidence(0.7).transform(clear)
    assert out.dtypes == wanted.dtypes
    predicted = out.release(columns=["age", "prediction"]).toPandas().sort_values("age")["prediction"]
    assert [set(items) for items in predicted] == [set(row.prediction) for row in wanted.orderBy("age").collect()]
    for name in ("freqItemsets", "associationRules"):
        with pytest.raises(SealedError):
            getattr(ours, name)
    with pytest.raises(UsageError, match="array of strings"):
        FPGrowth(itemsCol="age").fit(sealed)
    with pytest.raises(UsageError) as refused:
        FPGrowth(itemsCol="basket", numPartitions=3).fit(sealed)
    assert refused.value.error_code == "usage.unsupported"


def test_an_item_that_stands_twice_ends_a_fit(deployment, session):
    """A list with an item twice is an error of the data, as in MLlib."""
    table = pa.table({"items": [["a", "b"], ["a", "a"]]})
    with pytest.raises(DataError) as refused:
        FPGrowth().fit(session.read(deployment.dataset(table, "twice", rows_per_part=80)))
    assert refused.value.error_code == "data.items"
