"""Do string indexing, one-hot and target encoding give what pyspark.ml gives, and refuse what it refuses?"""

from functools import reduce
from operator import add

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.ml import feature

from securemllib.algorithms.feature import counts
from securemllib.algorithms.feature.counts import TextCounts
from securemllib.algorithms.feature.values import java_text
from securemllib.algorithms.registry import build
from securemllib.algorithms.transformer import Column
from securemllib.errors import DataError, UsageError
from tests.algorithms.feature.running import collected, fitted, listed, raw_blocks, spark_frame, transformed

# Ties, a null, an empty text, and texts that Java and UTF-8 order differently.
NAMES = ["b", "a", None, "b", "ä", "\U0001f600", "\uffff", "", "a", "c", "\U0001f600", "\uffff"]
OTHER = ["x", "y", "y", None, "x", "z", "z", "z", "x", "x", "y", "q"]
ORDERS = ("frequencyDesc", "frequencyAsc", "alphabetDesc", "alphabetAsc")


@pytest.mark.parametrize("order", ORDERS)
def test_labels_are_those_of_mllib(spark, order):
    """Labels of two columns come in MLlib's order, whatever the tie and the script."""
    plain = spark_frame(spark, "a string, b string", NAMES, OTHER)
    theirs = feature.StringIndexer(inputCols=["a", "b"], outputCols=["c", "d"], stringOrderType=order).fit(plain)
    ours = fitted("StringIndexer", pa.array(NAMES), pa.array(OTHER), stringOrderType=order)
    assert [list(labels) for labels in ours.labels] == [list(labels) for labels in theirs.labelsArray]


@pytest.mark.parametrize("mode", ["keep", "skip"])
def test_unseen_labels_are_handled_as_in_mllib(spark, mode):
    """Unseen labels and nulls become a category of their own or drop their rows, as in MLlib."""
    plain = spark_frame(spark, "a string, b string", ["u", "v", "u"], ["x", "y", "x"])
    params = {"inputCols": ["a", "b"], "outputCols": ["c", "d"], "handleInvalid": mode}
    new = (["v", None, "w", "u"], ["y", "x", "x", "q"])
    theirs = feature.StringIndexer(**params).fit(plain).transform(spark_frame(spark, "a string, b string", *new))
    model = fitted("StringIndexer", pa.array(["u", "v", "u"]), pa.array(["x", "y", "x"]), handleInvalid=mode)
    ours = transformed(model, *map(pa.array, new))
    kept = np.ones(4, bool) if ours.keep is None else ours.keep
    for stem, name in (("output0", "c"), ("output1", "d")):
        assert np.array(listed(ours.columns[stem]))[kept].tolist() == collected(theirs, name)


def test_unseen_labels_are_an_error_by_default():
    """A null or unseen label is refused by default, and a label that was seen is not."""
    model = fitted("StringIndexer", pa.array(["u", "v", "u"]))
    assert listed(transformed(model, pa.array(["v", "u"])).columns["output0"]) == [1.0, 0.0]
    for wrong in (["w"], ["u", None]):
        with pytest.raises(DataError) as caught:
            transformed(model, pa.array(wrong))
        assert caught.value.error_code == "data.invalid"


@pytest.mark.parametrize(
    ("kind", "schema", "values"),
    [
        (pa.int64(), "bigint", [3, 1, 3, None, -2]),
        (pa.float64(), "double", [1.0, 1e7, 1e-4, None, 1.0, 123456.789, float("nan"), float("inf"), -0.5]),
        (pa.float32(), "float", [0.1, 2.5, 0.1, 16777216.0, None]),
    ],
)
def test_numbers_are_indexed_as_spark_writes_them(spark, kind, schema, values):
    """Numbers are labels under the text that Spark's cast gives them."""
    theirs = feature.StringIndexer(inputCol="a", outputCol="b").fit(spark_frame(spark, f"a {schema}", values))
    ours = fitted("StringIndexer", pa.array(values, kind))
    assert list(ours.labels[0]) == list(theirs.labels)
    known = pa.array([value for value in values if value is not None and value == value], kind)
    found = [ours.labels[0][int(index)] for index in listed(transformed(ours, known).columns["output0"])]
    assert np.array(found).astype(known.to_numpy().dtype).tolist() == known.to_pylist()


def test_java_writes_numbers_so():
    """Java's text of a double changes to scientific notation at 1e7 and below 1e-3."""
    written = {1.0: "1.0", 0.001: "0.001", 9999999.0: "9999999.0", 1e7: "1.0E7", 1.5e-4: "1.5E-4", -2e300: "-2.0E300"}
    assert {value: java_text(np.float64(value)) for value in written} == written


def test_columns_that_are_missing_are_passed_over():
    """A model of two columns indexes one of them, where the rows lack the other."""
    model = fitted("StringIndexer", pa.array(["u", "v", "u"]), pa.array(["x", "y", "y"]))
    from dataclasses import replace

    only = replace(model, present=(1,))
    assert listed(transformed(only, pa.array(["y", "x"])).columns["output1"]) == [0.0, 1.0]
    with pytest.raises(UsageError):
        replace(model, present=(2,))


@given(st.lists(st.lists(st.one_of(st.none(), st.text(max_size=3)), max_size=6), min_size=2, max_size=3))
def test_counts_add_up(parts):
    """Counts of a union are the sum of the counts, in any order of the rows."""
    arrays = [pa.array([text and text.encode("utf-8", "ignore").decode() for text in part], pa.string()) for part in parts]
    total, whole = reduce(add, map(TextCounts.of, arrays)), TextCounts.of(pa.concat_arrays(arrays[::-1]))
    assert total.values.equals(whole.values)
    assert np.array_equal(total.counts, whole.counts)
    assert whole.values.to_pylist() == sorted(whole.values.to_pylist(), key=str.encode)


def test_a_vocabulary_has_a_bound(monkeypatch):
    """A column with more distinct values than the bound is refused, and one at the bound is not."""
    monkeypatch.setattr(counts, "MAX_VALUES", 2)
    assert len(fitted("StringIndexer", pa.array(["a", "b", "a"])).labels[0]) == 2
    with pytest.raises(DataError) as caught:
        fitted("StringIndexer", pa.array(["a", "b", "c"]))
    assert caught.value.error_code == "data.vocabulary"


@pytest.mark.parametrize("drop", [True, False])
@pytest.mark.parametrize("mode", ["error", "keep"])
def test_encodings_are_those_of_mllib(spark, drop, mode):
    """Sparse vectors have MLlib's width and place for each index, an invalid one included."""
    first, second = [0.0, 2.0, 1.0, 2.0], [0, 0, 1, 0]
    plain = spark_frame(spark, "a double, b int", first, second)
    encoder = feature.OneHotEncoder(inputCols=["a", "b"], outputCols=["c", "d"], dropLast=drop, handleInvalid=mode)
    theirs = encoder.fit(plain)
    model = fitted("OneHotEncoder", pa.array(first), pa.array(second, pa.int32()), dropLast=drop, handleInvalid=mode)
    assert model.sizes.tolist() == list(theirs.categorySizes)
    new = ([2.0, 0.0, 5.0, -1.0], [1, 0, 7, 0]) if mode == "keep" else ([2.0, 0.0], [1, 0])
    out = theirs.transform(spark_frame(spark, "a double, b int", *new))
    ours = transformed(model, pa.array(new[0]), pa.array(new[1], pa.int32()))
    for stem, name in (("output0", "c"), ("output1", "d")):
        assert listed(ours.columns[stem]) == collected(out, name)


def test_declared_categories_are_all_encoded():
    """A column that declares its categories has a slot for each, also for one that no row has."""
    model = fitted("OneHotEncoder", pa.array([0.0, 1.0]), arity=np.array([4]))
    assert model.sizes.tolist() == [4]
    indexer = fitted("StringIndexer", pa.array(["u", "v", "w"]), handleInvalid="keep")
    assert transformed(indexer, pa.array(["w"])).columns["output0"].arity.tolist() == [4]


@pytest.mark.parametrize("wrong", [[0.5], [-1.0], [None], [float("nan")], [3e9]])
def test_only_indices_are_encoded(wrong):
    """A fit refuses what is no category index and accepts its neighbour."""
    assert fitted("OneHotEncoder", pa.array([0.0, 1.0])).sizes.tolist() == [2]
    with pytest.raises(DataError):
        fitted("OneHotEncoder", pa.array([0.0, *wrong], pa.float64()))


@pytest.mark.parametrize("wrong", [[2.0], [-1.0], [None]])
def test_unseen_indices_are_an_error_by_default(wrong):
    """A model refuses an index beyond its categories, a negative one and a null."""
    model = fitted("OneHotEncoder", pa.array([0.0, 1.0]))
    assert listed(transformed(model, pa.array([0.0])).columns["output0"]) == [[1.0]]
    with pytest.raises(DataError):
        transformed(model, pa.array(wrong, pa.float64()))


FIRST = [0, 1, None, 1, 0, None, 2, 2, 1, 0]
SECOND = [5.0, 5.0, 7.0, 7.0, 5.0, 7.0, 0.0, 7.0, 5.0, 3.0]
BINARY = [1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, None, float("nan"), 0.0]
CONTINUOUS = [1.5, -2.0, 7.25, 0.0, 3.0, 1e3, 2.0, None, float("nan"), -1.5]


@pytest.mark.parametrize(
    ("label", "params"),
    [
        (BINARY, {}),
        (BINARY, {"smoothing": 2.5, "handleInvalid": "keep"}),
        (CONTINUOUS, {"targetType": "continuous", "smoothing": 1.0, "handleInvalid": "keep"}),
    ],
)
def test_targets_are_those_of_mllib(spark, label, params):
    """Encodings of two columns are MLlib's to 1e-12, those of nulls and of new categories too; rows without a label count for nothing."""
    plain = spark_frame(spark, "a int, b double, y double", FIRST, SECOND, label)
    theirs = feature.TargetEncoder(inputCols=["a", "b"], outputCols=["c", "d"], labelCol="y", **params).fit(plain)
    ours = fitted("TargetEncoder", pa.array(FIRST, pa.int32()), pa.array(SECOND), pa.array(label), **params)
    new = ([None, 1, 2], [7.0, 3.0, 0.0]) if not params else ([None, 9, -1, 2], [None, -1.0, 2.5, float("nan")])
    made = transformed(ours, pa.array(new[0], pa.int32()), pa.array(new[1])).columns
    out = theirs.transform(spark_frame(spark, "a int, b double", *new))
    assert np.allclose(listed(made["output0"]), collected(out, "c"), rtol=1e-12, atol=0)
    assert np.allclose(listed(made["output1"]), collected(out, "d"), rtol=1e-12, atol=0)


@pytest.mark.parametrize("wrong", [[9], [None], [-1]])
def test_unseen_targets_are_an_error_by_default(wrong):
    """A category that no row with a label had, and a null where none had one, are refused; a category that was seen is not."""
    model = fitted("TargetEncoder", pa.array([0, 1, 9]), pa.array([1.0, 0.0, None]))
    assert listed(transformed(model, pa.array([1, 0])).columns["output0"]) == [0.0, 1.0]
    with pytest.raises(DataError) as caught:
        transformed(model, pa.array(wrong, pa.int64()))
    assert caught.value.error_code == "data.invalid"


@pytest.mark.parametrize(
    ("values", "label", "kind"),
    [
        ([0.0, 1.0], [0.0, 2.0], "binary"),
        ([0.0, 1.0], [0.0, float("inf")], "continuous"),
        ([0.0, -1.0], [0.0, 1.0], "binary"),
        ([0.0, 0.5], [0.0, 1.0], "binary"),
        ([0.0, float("nan")], [0.0, 1.0], "binary"),
        ([0.0, 2.0**31], [0.0, 1.0], "binary"),
        ([0.0, 1.0], [None, float("nan")], "binary"),
    ],
)
def test_what_is_no_target_is_refused(values, label, kind):
    """Labels of another kind, categories that are no indices and columns without a label are refused, and the first row alone is not."""
    assert fitted("TargetEncoder", pa.array(values[:1]), pa.array([0.0]), targetType=kind).mean == 0.0
    with pytest.raises(DataError):
        fitted("TargetEncoder", pa.array(values), pa.array(label, pa.float64()), targetType=kind)


def test_statistics_do_not_depend_on_the_parts():
    """The model of one part is that of many, single rows and empty parts included."""
    for operation, column in (("StringIndexer", pa.array(NAMES)), ("OneHotEncoder", pa.array([0.0, 3.0, 1.0]))):
        many = fitted(operation, column, parts=len(column))
        one = fitted(operation, column, parts=1)
        assert str(many) == str(one)


@pytest.mark.parametrize(
    ("operation", "wrong"),
    [
        ("StringIndexer", {"stringOrderType": "random"}),
        ("StringIndexer", {"handleInvalid": "drop"}),
        ("OneHotEncoder", {"handleInvalid": "skip"}),
        ("OneHotEncoder", {"dropLast": 1}),
        ("TargetEncoder", {"handleInvalid": "skip"}),
        ("TargetEncoder", {"targetType": "nominal"}),
        ("TargetEncoder", {"smoothing": -1.0}),
    ],
)
def test_params_out_of_their_domain_are_refused(operation, wrong):
    """A value outside of a Param's domain is refused, and the defaults are accepted."""
    build(operation, {})
    with pytest.raises(UsageError):
        build(operation, wrong)


def test_vectors_are_no_labels():
    """A vector column is refused where texts are read."""
    from securemllib.algorithms.vectors import Vector

    model = fitted("StringIndexer", pa.array(["u"]))
    with pytest.raises(DataError):
        transformed(model, Column(Vector.of(np.ones((1, 2)))))
    assert raw_blocks(pa.array(["u"]))[0].rows == 1
