"""Does FPGrowth find MLlib's frequent sets, rules and predictions, and do counts add up?"""

from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.ml.fpm import FPGrowth as SparkFPGrowth

from securemllib.algorithms import fp_growth_sets
from securemllib.algorithms.base import Block
from securemllib.algorithms.fp_growth import FPGrowth
from securemllib.algorithms.registry import build
from securemllib.algorithms.transformer import Column
from securemllib.algorithms.vectors import Vector
from securemllib.errors import DataError, UsageError
from securemllib.ml.fpm import PlainFPGrowthModel


def _baskets(count: int = 300) -> list[list[str] | None]:
    drawn = np.random.default_rng(12)
    rows = [[f"i{item}" for item in np.flatnonzero(drawn.random(9) < np.linspace(0.8, 0.2, 9))] for _ in range(count)]
    return [None if index % 50 == 7 else row + (["z"] if "i0" in row and "i1" in row else []) for index, row in enumerate(rows)]


def _blocks(rows: Any, parts: int = 3, kind: Any = None) -> list[Block]:
    cuts = np.array_split(np.arange(len(rows)), parts)
    return [
        Block(
            ordinal=ordinal,
            features=np.zeros((len(cut), 0)),
            offset=np.zeros(0),
            raw={"input0": pa.array([rows[index] for index in cut], kind or pa.list_(pa.string()))},
        )
        for ordinal, cut in enumerate(cuts)
    ]


def _sets(frame: Any) -> dict[Any, int]:
    return {frozenset(items): freq for items, freq in zip(frame["items"], frame["freq"], strict=True)}


@pytest.mark.parametrize(("support", "confidence"), [(0.1, 0.5), (0.0, 0.95)])
def test_sets_rules_and_predictions_are_mllibs(support: float, confidence: float, spark: Any, fit: Any) -> None:
    """Sets with their counts, rules with their measures, and what they predict are MLlib's, null lists and lists of no item included."""
    rows = _baskets()
    params = {"minSupport": support, "minConfidence": confidence}
    data = spark.createDataFrame([(row,) for row in rows], "items array<string>").coalesce(1)
    theirs = SparkFPGrowth(**params).fit(data)
    model = fit(build("FPGrowth", params), _blocks(rows))
    ours = PlainFPGrowthModel(model, confidence)
    expected = _sets(theirs.freqItemsets.toPandas())
    assert _sets(ours.freqItemsets) == expected
    assert len(ours.freqItemsets) == len(expected) > 5
    numbers = ["confidence", "lift", "support"]
    found, wanted = (
        {(frozenset(row.antecedent), row.consequent[0]): [getattr(row, name) for name in numbers] for row in frame.itertuples()}
        for frame in (ours.associationRules, theirs.associationRules.toPandas())
    )
    assert found.keys() == wanted.keys()
    for rule, values in wanted.items():
        assert found[rule] == pytest.approx(values, rel=1e-12)
    predicted = model.transform((Column(pa.array(rows)),)).columns["prediction"].values.to_pylist()
    assert [set(items) for items in predicted] == [set(row.prediction) for row in theirs.transform(data).collect()]
    assert all(len(items) == len(set(items)) for items in predicted)


def test_the_least_frequent_item_comes_first(fit: Any) -> None:
    """Sets name their items as in Spark's own test of these rows; a list without a rule predicts no item."""
    model = fit(FPGrowth(), _blocks([["1", "2"], ["1", "2"], ["1", "2", "3"], ["1", "3"]], 2))
    frame = PlainFPGrowthModel(model, 0.8).freqItemsets
    expected = [(["1"], 4), (["2"], 3), (["2", "1"], 3), (["3"], 2), (["3", "1"], 2)]
    assert sorted(zip(frame["items"], frame["freq"], strict=True)) == expected
    out = model.transform((Column(pa.array([["2"], ["3"], [], ["1", "2"]])),)).columns["prediction"].values
    assert (out.type, out.to_pylist()) == (pa.list_(pa.string()), [["1"], ["1"], [], []])


@pytest.mark.parametrize("kind", [pa.int64(), pa.int8()], ids=str)
def test_sets_of_integers_are_those_of_texts(kind: Any, fit: Any) -> None:
    """Integers have the sets, rules and predictions of their texts, in the column's type; of equally frequent ones the larger is first."""
    rows = [row and [int(item[1:]) + 95 for item in row if item != "z"] for row in _baskets()]
    texts = [row and [str(item) for item in row] for row in rows]
    of_integers, of_texts = (
        fit(FPGrowth(min_support=0.1), [*_blocks(each, 2, pa.list_(item)), *_blocks([], 1, pa.list_(pa.float64()))])
        for each, item in ((rows, kind), (texts, pa.string()))
    )
    ours, theirs = (PlainFPGrowthModel(model, 0.8) for model in (of_integers, of_texts))
    assert {frozenset(map(str, items)): freq for items, freq in _sets(ours.freqItemsets).items()} == _sets(theirs.freqItemsets)
    assert all(type(item) is int for items in ours.freqItemsets["items"] for item in items)
    assert ours.associationRules["lift"].sum() == pytest.approx(theirs.associationRules["lift"].sum(), rel=1e-12)
    predicted, wanted = (
        model.transform((Column(pa.array(each, pa.list_(item))),)).columns["prediction"].values
        for model, each, item in ((of_integers, rows, kind), (of_texts, texts, pa.string()))
    )
    assert predicted.type == pa.list_(kind)
    assert [{str(item) for item in items} for items in predicted.to_pylist()] == [set(items) for items in wanted.to_pylist()]
    tied = PlainFPGrowthModel(fit(FPGrowth(), _blocks([[2, 10], [10, 2]], 1, pa.list_(kind))), 0.8).freqItemsets
    assert tied["items"].tolist() == [[2], [10], [10, 2]]


def test_lists_of_another_kind_are_not_predicted(fit: Any) -> None:
    """A model of integers refuses texts, one of texts integers, and integers that the column's type does not hold; its own kind passes."""
    large = [[1, 300], [1, 300]]
    model = fit(FPGrowth(), _blocks(large, 1, pa.list_(pa.int64())))
    assert model.transform((Column(pa.array([[300]])),)).columns["prediction"].values.to_pylist() == [[1]]
    for other in (pa.array([["1"]]), pa.array([[1]], pa.list_(pa.int8()))):
        with pytest.raises(DataError) as refused:
            model.transform((Column(other),))
        assert refused.value.error_code == "data.type"
    with pytest.raises(DataError, match="texts"):
        fit(FPGrowth(), _blocks([["1", "2"]], 1)).transform((Column(pa.array([[1]])),))


def test_bits_count_what_a_loop_counts(monkeypatch: Any) -> None:
    """Rows that hold a set are those that a loop finds, whatever the number of rows and of sets that are laid out at once."""
    rows = [row or [] for row in _baskets(150)]
    vocabulary = tuple(f"i{item}" for item in range(6))
    expected = {some: sum(set(some) <= set(row) for row in rows) for some in combinations(vocabulary, 3)}
    wanted = np.array([[vocabulary.index(item) for item in some] for some in expected])
    for at_once, step in ((1 << 13, 1 << 21), (64, 48)):
        monkeypatch.setattr(fp_growth_sets, "_ROWS", at_once)
        monkeypatch.setattr(fp_growth_sets, "_STEP_BYTES", step)
        bits = fp_growth_sets.bits_of(pa.array(rows, pa.large_list(pa.large_string())), vocabulary)
        assert fp_growth_sets.supports(bits, wanted).tolist() == list(expected.values())
        ends, items = fp_growth_sets.lists_of(bits, len(rows))
        lists = [{vocabulary[item] for item in items[start:stop]} for start, stop in pairwise(ends)]
        assert lists == [set(row) & set(vocabulary) for row in rows]


@pytest.mark.parametrize(
    ("rows", "kind", "code"),
    [
        ([["a", "a"]], None, "data.items"),
        ([["a", None]], None, "data.null"),
        ([[1.0]], pa.list_(pa.float64()), "data.type"),
        (["a"], pa.string(), "data.type"),
    ],
    ids=["twice", "null", "numbers", "no list"],
)
def test_what_is_no_set_is_refused(rows: Any, kind: Any, code: str, fit: Any) -> None:
    """An item that stands twice in a list or is null, and columns of other types are errors of the data, beside rows that train."""
    model = fit(FPGrowth(), _blocks([["a", "b"]], 1))
    with pytest.raises(DataError, match="vectors"):
        model.transform((Column(Vector.of(np.ones((1, 2)))),))
    with pytest.raises(DataError) as refused:
        fit(FPGrowth(), _blocks(rows, 1, kind))
    assert refused.value.error_code == code


def test_too_many_sets_are_refused(monkeypatch: Any, fit: Any) -> None:
    """A level that proposes more sets than the bound ends with a code that says what to do."""
    rows = [row for row in _baskets() if row]
    monkeypatch.setattr(fp_growth_sets, "MOST_SETS", 60)
    assert len(fit(FPGrowth(min_support=0.6), _blocks(rows)).itemsets.counts) < 60
    with pytest.raises(DataError, match="sets of items") as refused:
        fit(FPGrowth(min_support=0.0), _blocks(rows))
    assert refused.value.error_code == "data.items"


@pytest.mark.parametrize("params", [{"minSupport": -0.1}, {"minSupport": 1.1}, {"minConfidence": 2.0}, {"numPartitions": 2}])
def test_params_out_of_their_domain_are_refused(params: dict[str, Any]) -> None:
    """What MLlib refuses is refused, beside the defaults."""
    build("FPGrowth", {})
    with pytest.raises(UsageError):
        build("FPGrowth", params)
